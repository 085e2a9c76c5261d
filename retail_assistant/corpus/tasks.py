"""What adapters and later training stages learn from beside dialogues: the catalog's own texts.

A task is a partition of the prompt corpus. `product_description`: name, category and brand in, the
shop's description out. `domain_text`: the catalog and the store's documents as plain text.
`sentiment` (`retail_assistant.corpus.sentiment`): labelled texts, for a classifier.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, field_validator

from retail_assistant.corpus.dialogues import Subset
from retail_assistant.corpus.encoding import ConversationStyle, Encoder
from retail_assistant.corpus.knowledge import DocumentBrief
from retail_assistant.corpus.rendering import (
    PROMPT_VERSION,
    plain_text,
    render_completion,
    render_description_prompt,
    render_product_text,
)
from retail_assistant.corpus.splits import APART

Task = Literal["assistant", "product_description", "domain_text", "sentiment"]
TASKS: tuple[Task, ...] = get_args(Task)
MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))

LeftOutReason = Literal["apart", "missing", "boilerplate", "too_short", "too_long", "repeated"]
_SUBSET_OF_SPLIT: dict[str, Subset] = {
    "train": "train",
    "validation": "validation",
    "test": "unseen",
}
_ROWS: dict[str, pl.DataType | type[pl.DataType]] = {
    "product_id": pl.String,
    "subset": pl.String,
    "prompt": MESSAGES,
    "completion": MESSAGES,
}
_SUBSETS = (*_SUBSET_OF_SPLIT.values(), APART)
_LEFT_OUT = {"product_id": pl.String, "subset": pl.String, "reason": pl.String}
# As much of a description as is looked at; the rest would be over any limit.
_CHARACTERS_READ = 10_000
_SENTENCE_END = re.compile(r"(?<!\bRs\.)(?<=[.!?])\s+")


class RenderingPolicy(BaseModel):
    """How texts become what a model reads and learns to write."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    style: ConversationStyle = Field(
        "chat",
        description="chat: the base model's own chat template; alpaca: ### Instruction, ### Input,"
        " ### Response, for base models that have no chat template",
    )
    boilerplate: tuple[str, ...] = Field(
        (
            # Of the public sample: headings with a price, tables, advertising for the shop.
            r"^.{0,400}?\bPrice: Rs\.? ?[\d,.]+ ?",
            r"\bSpecifications of .*$",
            r"^Key Features of .*$",
            r"^.{0,200}? - Buy .*$",
            r"\bBuy .{0,300}?\b(online|Flipkart\.com)\b.*$",
        ),
        description="regular expressions (no distinction of case); what they match in a description"
        " is the shop's, not the product's, and is taken out",
    )
    min_description: int = Field(40, ge=1, description="characters of a description, at least")
    max_description: int = Field(
        800,
        ge=40,
        le=4_000,
        description="characters; a longer one ends with its last sentence that fits",
    )

    @field_validator("boilerplate")
    @classmethod
    def _are_expressions(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for expression in value:
            try:
                re.compile(expression)
            except re.error as error:
                raise ValueError(f"{expression!r} is no regular expression: {error}") from error
        return value


class Description(NamedTuple):
    """A product's usable description, or why there is none."""

    text: str | None
    reason: LeftOutReason | None


def usable_description(text: str | None, policy: RenderingPolicy) -> Description:
    """What of a catalog's description says something about the product, as one harmless line."""
    whole = plain_text(text or "", _CHARACTERS_READ)
    if not whole:
        return Description(None, "missing")
    own = whole
    for expression in policy.boilerplate:
        own = re.sub(expression, " ", own, flags=re.IGNORECASE)
    own = _without_repetition(" ".join(own.split()).strip(" ,-"))
    if len(own) < policy.min_description:
        return Description(None, "too_short" if own == whole else "boilerplate")
    shortened = _whole_sentences(own, policy.max_description)
    if len(shortened) < policy.min_description:
        return Description(None, "too_long")
    return Description(shortened, None)


def product_descriptions(
    assortment: pl.DataFrame, splits: pl.DataFrame, policy: RenderingPolicy, encoder: Encoder
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(rows, left out): every product of the assortment is in one of the two.

    Rows: product_id, subset (train, validation, unseen), prompt and completion (message lists),
    prompt_tokens, completion_tokens, prompt_version, prompt_style; sorted by subset and id. Left
    out: product_id, subset, reason. A description that another product has too is learned once, and
    not asked for where it was learned.
    """
    rows: list[dict[str, Any]] = []
    left_out: list[tuple[str, str, str]] = []
    seen: set[str] = set()
    for product in _products_in_order(assortment, splits):
        if product["subset"] == APART:
            left_out.append((product["product_id"], APART, APART))
            continue
        found = usable_description(product["description"], policy)
        reason = found.reason or ("repeated" if str(found.text).casefold() in seen else None)
        if found.text is None or reason is not None:
            left_out.append((product["product_id"], product["subset"], str(reason)))
            continue
        seen.add(found.text.casefold())
        rows.append(
            {
                "product_id": product["product_id"],
                "subset": product["subset"],
                "prompt": render_description_prompt(product),
                "completion": render_completion(found.text),
            }
        )
    return _with_lengths(rows, encoder), pl.DataFrame(left_out, schema=_LEFT_OUT, orient="row")


def domain_texts(
    assortment: pl.DataFrame,
    splits: pl.DataFrame,
    documents: Iterable[DocumentBrief],
    policy: RenderingPolicy,
    encoder: Encoder,
) -> pl.DataFrame:
    """What the shop says, as plain text: columns text, tokens, source.

    Of the products only those of the train side, so that nothing is learned of a product that is
    asked about later; then the documents, excerpt by excerpt. `source` is `product/<id>` or
    `document/<name>`. Equal texts come once.
    """
    texts = [
        (f"product/{product['product_id']}", _product_text(product, policy))
        for product in _products_in_order(assortment, splits)
        if product["subset"] == "train"
    ]
    texts += [(f"document/{brief.name}", brief.text) for brief in documents]
    frame = pl.DataFrame(texts, schema={"source": pl.String, "text": pl.String}, orient="row")
    unique = frame.unique("text", keep="first", maintain_order=True)
    tokens = pl.Series("tokens", list(encoder.lengths(unique["text"])), pl.UInt32)
    return unique.select("text", tokens, "source")


def _products_in_order(assortment: pl.DataFrame, splits: pl.DataFrame) -> Iterable[dict[str, Any]]:
    """Rows of the products with their subset: train, validation, unseen, then those APART."""
    subset = pl.col("split").replace(_SUBSET_OF_SPLIT)
    sided = assortment.join(
        splits.select("product_id", subset=subset), on="product_id", validate="1:1"
    )
    order = pl.col("subset").cast(pl.Enum(_SUBSETS))
    return sided.sort(order, "product_id").iter_rows(named=True)


def _product_text(product: dict[str, Any], policy: RenderingPolicy) -> str:
    return render_product_text(product, usable_description(product["description"], policy).text)


def _with_lengths(rows: Sequence[dict[str, Any]], encoder: Encoder) -> pl.DataFrame:
    examples = encoder.examples((row["prompt"], row["completion"]) for row in rows)
    lengths = [(one.prompt_length, len(one.ids) - one.prompt_length) for one in examples]
    frame = pl.DataFrame(rows, schema=_ROWS, orient="row")
    return frame.with_columns(
        pl.Series("prompt_tokens", [prompt for prompt, _ in lengths], pl.UInt32),
        pl.Series("completion_tokens", [completion for _, completion in lengths], pl.UInt32),
        pl.lit(PROMPT_VERSION).alias("prompt_version"),
        pl.lit(encoder.style).alias("prompt_style"),
    )


def _without_repetition(text: str) -> str:
    """Sellers paste a description twice, and sentences more than once: each once."""
    words = text.split()
    half = len(words) // 2
    if words[:half] == words[half:]:
        return _without_repetition(" ".join(words[:half])) if half else text
    return " ".join(dict.fromkeys(_SENTENCE_END.split(text)))


def _whole_sentences(text: str, limit: int) -> str:
    """As many of the first sentences as fit; nothing where the first is too long."""
    if len(text) <= limit:
        return text
    ends = [match.start() for match in _SENTENCE_END.finditer(text[: limit + 1])]
    return text[: ends[-1]] if ends else ""

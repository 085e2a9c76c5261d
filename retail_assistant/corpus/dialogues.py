"""Dialogues about products and the store: their contract.

Products are split before anything is generated, and what may be asked depends on the product's
side: see `retail_assistant.corpus.planning` for what is asked and `corpus.generators` for what
finds the words.
"""

from collections.abc import Iterable
from typing import Literal

import dataframely as dy
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.corpus.draws import stable_digest

Intent = Literal["attribute", "overview", "alternative", "complement", "unanswerable", "knowledge"]
Subset = Literal["train", "validation", "recall", "unseen", "unanswerable"]

INTENTS: tuple[Intent, ...] = (
    "attribute",
    "overview",
    "alternative",
    "complement",
    "unanswerable",
    "knowledge",
)
SUBSETS: tuple[Subset, ...] = ("train", "validation", "recall", "unseen", "unanswerable")
EVALUATION_SUBSETS: tuple[Subset, ...] = ("recall", "unseen", "unanswerable")


class Evidence(BaseModel):
    """What supports an answer: attributes of the product, products of the catalog, documents."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attributes: tuple[str, ...] = ()
    product_ids: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()


class Dialogue(BaseModel):
    """One question about the assortment with its answer; a row of the dialogues frame."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    product_id: str | None = Field(None, description="null where no real product is meant")
    product_name: str | None = None
    reference: str | None = Field(None, description="how the question refers to the product")
    intent: Intent
    subset: Subset
    question: str
    answer: str
    asked_attribute: str | None = None
    gold_value: str | None = None
    evidence: Evidence = Evidence()
    paraphrase_of: str | None = None
    phrasing: str
    generator: str
    generator_version: str

    @property
    def dialogue_id(self) -> str:
        """16 hexadecimal digits; the same question and answer always have the same id."""
        return stable_digest(self.product_id, self.intent, self.question, self.answer)


class DialogueSchema(dy.Schema):
    """The dialogues frame."""

    dialogue_id = dy.String(primary_key=True)
    product_id = dy.String(nullable=True)
    product_name = dy.String(nullable=True)
    reference = dy.String(nullable=True)
    intent = dy.String(check=lambda column: column.is_in(INTENTS))
    subset = dy.String(check=lambda column: column.is_in(SUBSETS))
    question = dy.String(min_length=1)
    answer = dy.String(min_length=1)
    asked_attribute = dy.String(nullable=True)
    gold_value = dy.String(nullable=True)
    evidence = dy.Struct(
        {
            "attributes": dy.List(dy.String(nullable=False), nullable=False),
            "product_ids": dy.List(dy.String(nullable=False), nullable=False),
            "documents": dy.List(dy.String(nullable=False), nullable=False),
        }
    )
    paraphrase_of = dy.String(nullable=True)
    phrasing = dy.String()
    generator = dy.String()
    generator_version = dy.String()


DIALOGUE_SOURCES: dict[str, list[str]] = {
    "dialogue_id": ["product_id", "name", "attributes"],
    "product_id": ["product_id"],
    "product_name": ["name"],
    "reference": ["product_id", "name"],
    "intent": [],
    "subset": ["product_id"],
    "question": ["product_id", "name", "attributes"],
    "answer": ["product_id", "name", "category", "subcategory", "attributes"],
    "asked_attribute": ["attributes"],
    "gold_value": ["attributes"],
    "evidence": ["product_id", "attributes"],
    "paraphrase_of": ["product_id", "name", "attributes"],
    "phrasing": [],
    "generator": [],
    "generator_version": [],
}
"""The columns of the assortment behind each column of the dialogues."""


def dialogues_frame(dialogues: Iterable[Dialogue]) -> pl.DataFrame:
    """The dialogues as a valid, sorted frame; of equal dialogues in one subset the first stays."""
    rows = [{"dialogue_id": one.dialogue_id, **one.model_dump()} for one in dialogues]
    schema = DialogueSchema.create_empty().schema
    frame = pl.DataFrame(rows, schema=schema, orient="row") if rows else pl.DataFrame(schema=schema)
    unique = frame.unique("dialogue_id", keep="first", maintain_order=True)
    return DialogueSchema.validate(sorted_dialogues(unique))


def sorted_dialogues(dialogues: pl.DataFrame) -> pl.DataFrame:
    """Dialogues in their one order: by subset (train first), then product, then id."""
    subset_order = pl.col("subset").cast(pl.Enum(SUBSETS))
    return dialogues.sort(subset_order, "product_id", "dialogue_id", nulls_last=True)

"""A dialogue as the screens read it: which products its texts name, what its answer states."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from retail_assistant.corpus.reading.answers import AnswerReading, read_answer
from retail_assistant.corpus.reading.names import NamedText, Question, read_names
from retail_assistant.corpus.screens.catalog_text import CatalogText

Row = Mapping[str, Any]

_ITEM_CODE = re.compile(r"\s*\(item [^()\s]{1,64}\)")


@dataclass(frozen=True)
class Spoken:
    """A dialogue's row with what its question and answer say.

    `evidence` are the ids of the products that the dialogue may speak of.
    """

    row: Row
    question: NamedText
    answer: AnswerReading
    evidence: frozenset[str]

    @classmethod
    def of(cls, row: Row, catalog: CatalogText) -> Self:
        """Read a row of the dialogues frame."""
        asked = Question.from_row(row)
        ids = {*row["evidence"]["product_ids"], row["product_id"]}
        return cls(
            row=row,
            question=read_names(row["question"], asked, catalog.facts),
            answer=read_answer(row["answer"], asked, catalog.facts),
            evidence=frozenset(ids & catalog.lookup.products.keys()),
        )

    def without_names(self, place: str, catalog: CatalogText) -> str:
        """The question or the answer with "it" for the products that the dialogue may name."""
        names = {catalog.lookup.products[product_id]["name"] for product_id in self.evidence}
        names |= {self.row["reference"], self.row["product_name"]} - {None}
        text: str = self.row[place]
        for name in sorted(names, key=len, reverse=True):
            text = text.replace(name, "it")
        return _ITEM_CODE.sub("", text)

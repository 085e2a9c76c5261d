"""Which catalog records a question is answered from: one rule for training, evaluation, serving."""

import re
from collections.abc import Sequence
from typing import Any, Protocol

RECORDS = 2
SUGGESTIONS = 2

_ALTERNATIVE = re.compile(
    r"\b(alternatives?|similar|something like|anything like|instead of|else like|other than"
    r"|comparable|in place of)\b",
    re.IGNORECASE,
)
_COMPLEMENT = re.compile(
    r"\b(go(es)? (well )?with|pairs? (well )?with|wear with|match(es)?|outfit|combine with"
    r"|complete the look|along with|together with|style with)\b",
    re.IGNORECASE,
)


class RecordSource(Protocol):
    """What a catalog index offers to retrieval; records are PRODUCTS rows as dicts."""

    def search_many(self, queries: Sequence[str], k: int = 2) -> list[list[dict[str, Any]]]:
        """For each query its `k` best products."""
        ...

    def alternatives(self, product_id: str, k: int = 2) -> list[dict[str, Any]]:
        """Products to take instead of a product."""
        ...

    def complements(self, product_id: str, k: int = 2) -> list[dict[str, Any]]:
        """Products to wear together with a product."""
        ...


def retrieve(questions: Sequence[str], index: RecordSource) -> list[list[dict[str, Any]]]:
    """The records for each question, best first.

    A question for alternatives or for something to go with a product gets that product and the
    index's suggestions; any other question the products that fit it best.
    """
    found = index.search_many(list(questions), k=RECORDS)
    return [
        _with_suggestions(question, records, index)
        for question, records in zip(questions, found, strict=True)
    ]


def _with_suggestions(
    question: str, records: list[dict[str, Any]], index: RecordSource
) -> list[dict[str, Any]]:
    if not records:
        return records
    product_id = records[0]["product_id"]
    if _ALTERNATIVE.search(question):
        return [records[0], *index.alternatives(product_id, k=SUGGESTIONS)]
    if _COMPLEMENT.search(question):
        return [records[0], *index.complements(product_id, k=SUGGESTIONS)]
    return records

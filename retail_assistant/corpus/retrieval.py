"""Which catalog records a question is answered from: one rule for training, evaluation, serving."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

RECORDS = 2
SUGGESTIONS = 2
NAMED_BY = frozenset({"item", "name"})

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


class Retrieved(NamedTuple):
    """The records for a question, best first; `named`: the question names the first of them."""

    records: list[dict[str, Any]]
    named: bool


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


def retrieve(questions: Sequence[str], index: RecordSource) -> list[Retrieved]:
    """The records for each question.

    A question that names a product, or gives its item code, gets just the products of that name;
    if it asks for alternatives or for something to go with it, the index's suggestions, too. A
    question that names none gets the nearest records: to be offered, not to be answered from.
    """
    found = index.search_many(list(questions), k=RECORDS)
    return [
        _with_suggestions(question, records, index)
        for question, records in zip(questions, found, strict=True)
    ]


def asks_for_suggestions(question: str) -> bool:
    """Whether a question wants other products: instead of one, or to go with it."""
    return bool(_ALTERNATIVE.search(question) or _COMPLEMENT.search(question))


def _with_suggestions(question: str, found: list[dict[str, Any]], index: RecordSource) -> Retrieved:
    named = [record for record in found if record["match"] in NAMED_BY]
    if not named:
        return Retrieved(found, named=False)
    product_id = named[0]["product_id"]
    if _ALTERNATIVE.search(question):
        return Retrieved([named[0], *index.alternatives(product_id, k=SUGGESTIONS)], named=True)
    if _COMPLEMENT.search(question):
        return Retrieved([named[0], *index.complements(product_id, k=SUGGESTIONS)], named=True)
    return Retrieved(named, named=True)

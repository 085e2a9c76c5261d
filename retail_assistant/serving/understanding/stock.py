"""One version of the index with what is read off it once: shelves, vocabulary, references."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from retail_assistant.catalog.index import CatalogIndex, Match
from retail_assistant.corpus.rendering import MAX_NAME_CHARACTERS, item_code, plain_text
from retail_assistant.serving.understanding.shelves import Shelves
from retail_assistant.serving.understanding.shop_vocabulary import ShopVocabulary

_REMEMBERED = 2048
MOST_SUGGESTED = 12

Scored = tuple[tuple[str, float], ...]
"""Product ids with their scores, the best first."""


class Stock:
    """What the shop has: the index, and what is looked up in it over and over.

    A `corpus.retrieval.RecordSource` that gives what the index gives, from memory where a question
    names its product.
    """

    def __init__(self, index: CatalogIndex) -> None:
        self.index = index
        self.shelves = Shelves(index)
        self.vocabulary = ShopVocabulary(self.shelves)
        self.reference = lru_cache(maxsize=_REMEMBERED)(self._reference)
        self._alternatives = lru_cache(maxsize=_REMEMBERED)(self._ranked_alternatives)
        self._complements = lru_cache(maxsize=_REMEMBERED)(self._ranked_complements)

    def products(self, product_ids: Iterable[str]) -> list[dict[str, Any]]:
        """PRODUCTS rows in the order of their ids; unknown ids are left out."""
        return self.shelves.records(self.shelves.rows(product_ids))

    def search_many(self, queries: Sequence[str], k: int = 2) -> list[list[dict[str, Any]]]:
        """As the index, but that places behind named products are not filled with others."""
        return [self._search(query, k) for query in queries]

    def _search(self, query: str, k: int) -> list[dict[str, Any]]:
        return self._matched(self.index.named(query, k) or self.index.found(query, k))

    def search(self, query: str, k: int) -> list[dict[str, Any]]:
        """As the index."""
        return self._matched(self.index.found(query, k))

    def alternatives(self, product_id: str, k: int = 2) -> list[dict[str, Any]]:
        """As the index, up to MOST_SUGGESTED."""
        found = self._alternatives(product_id)[:k]
        return self._matched([(one, score, "alternative") for one, score in found])

    def complements(self, product_id: str, k: int = 2) -> list[dict[str, Any]]:
        """As the index, up to MOST_SUGGESTED."""
        found = self._complements(product_id)[:k]
        return self._matched([(one, score, "complement") for one, score in found])

    def may_suggest(self, product_id: str) -> tuple[bool, bool]:
        """Whether a product has alternatives, and complements."""
        return bool(self._alternatives(product_id)), bool(self._complements(product_id))

    def _matched(self, found: Sequence[tuple[str, float, Match]]) -> list[dict[str, Any]]:
        rows = self.products(product_id for product_id, _, _ in found)
        return [
            {**row, "score": score, "match": match}
            for row, (_, score, match) in zip(rows, found, strict=True)
        ]

    def _reference(self, product_id: str) -> str:
        """How a product is called so that retrieval finds just it: its name, or name and code."""
        row = self.shelves.rows([product_id])
        if not len(row):
            return item_code(product_id)
        name = plain_text(self.shelves.name(int(row[0])), MAX_NAME_CHARACTERS)
        if self.index.mentioned(name) == [[product_id]]:
            return name
        return f"{name} (item {item_code(product_id)})"

    def _ranked_alternatives(self, product_id: str) -> Scored:
        return tuple(self.index.neighbours.alternatives(product_id, MOST_SUGGESTED))

    def _ranked_complements(self, product_id: str) -> Scored:
        return tuple(self.index.neighbours.complements(product_id, MOST_SUGGESTED))

"""One version of the index with what is read off it once: shelves, vocabulary, references."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from retail_assistant.catalog.index import CatalogIndex
from retail_assistant.corpus.rendering import MAX_NAME_CHARACTERS, item_code, plain_text
from retail_assistant.serving.shelves import Shelves
from retail_assistant.serving.shop_vocabulary import ShopVocabulary

_REMEMBERED = 2048
MOST_SUGGESTED = 12


class Stock:
    """What the shop has: the index, and what is looked up in it over and over."""

    def __init__(self, index: CatalogIndex) -> None:
        self.index = index
        self.shelves = Shelves(index)
        self.vocabulary = ShopVocabulary(self.shelves)
        self.reference = lru_cache(maxsize=_REMEMBERED)(self._reference)
        self.alternatives = lru_cache(maxsize=_REMEMBERED)(self._alternatives)
        self.complements = lru_cache(maxsize=_REMEMBERED)(self._complements)

    def products(self, product_ids: Iterable[str]) -> list[dict[str, Any]]:
        """PRODUCTS rows in the order of their ids; unknown ids are left out."""
        wanted = list(product_ids)
        rows = self.index.products(wanted)
        return [rows[product_id] for product_id in wanted if product_id in rows]

    def _reference(self, product_id: str) -> str:
        """How a product is called so that retrieval finds just it: its name, or name and code."""
        row = self.shelves.rows([product_id])
        if not len(row):
            return item_code(product_id)
        name = plain_text(self.shelves.name(int(row[0])), MAX_NAME_CHARACTERS)
        if self.index.mentioned(name) == [[product_id]]:
            return name
        return f"{name} (item {item_code(product_id)})"

    def _alternatives(self, product_id: str) -> tuple[str, ...]:
        """Ids of products to take instead, the best first."""
        rows = self.index.alternatives(product_id, k=MOST_SUGGESTED)
        return tuple(row["product_id"] for row in rows)

    def _complements(self, product_id: str) -> tuple[str, ...]:
        """Ids of products to wear with it, the best first."""
        rows = self.index.complements(product_id, k=MOST_SUGGESTED)
        return tuple(row["product_id"] for row in rows)

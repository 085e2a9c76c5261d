"""The whole assortment as the dialogue generator looks things up in it."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any

import polars as pl

from retail_assistant.catalog import garments
from retail_assistant.corpus.rendering import (
    MAX_NAME_CHARACTERS,
    item_code,
    plain_text,
    rendered_attributes,
)
from retail_assistant.corpus.wording import comparable_text, comparable_words

Product = Mapping[str, Any]

_COLUMNS = (
    "product_id",
    "name",
    "brand",
    "description",
    "department",
    "category",
    "subcategory",
    "attributes",
    "retail_price",
    "discounted_price",
    "content_hash",
)


def attribute_key(name: str) -> str:
    """An attribute's name as it is compared: sellers write "Fabric" and "fabric "."""
    return " ".join(name.casefold().split())


class CatalogLookup:
    """Products by id, how each is called, and which names and values the assortment has."""

    def __init__(self, catalog: pl.DataFrame) -> None:
        garment = (garments.kind(), garments.audience())
        rows = catalog.select(*_COLUMNS, *garment).sort("product_id").to_dicts()
        self.products: dict[str, Product] = {row["product_id"]: row for row in rows}
        self._names = {i: comparable_text(row["name"]) for i, row in self.products.items()}
        self._name_counts = Counter(self._names.values())
        self._coded_counts = Counter((name, item_code(i)) for i, name in self._names.items())

    def reference(self, product_id: str) -> str | None:
        """How a question refers to the product: its name, with the item code if names are shared.

        None where even the code does not tell the products of that name apart.
        """
        name = self._names[product_id]
        called = plain_text(self.products[product_id]["name"], MAX_NAME_CHARACTERS)
        if not name or self._coded_counts[name, item_code(product_id)] > 1:
            return None
        if self._name_counts[name] == 1:
            return called
        return self.coded_reference(product_id)

    def coded_reference(self, product_id: str) -> str:
        """The product's name with its item code, as suggestions state it."""
        name = plain_text(self.products[product_id]["name"], MAX_NAME_CHARACTERS)
        return f"{name} (item {item_code(product_id)})"

    def has_name(self, name: str) -> bool:
        """Does any product have this name, up to case, punctuation and plurals?"""
        return comparable_text(name) in self._name_counts

    def has_word(self, word: str) -> bool:
        """Does the word stand in any product's name or brand?"""
        return all(part in self._name_words for part in comparable_words(word))

    def value_share(self, attribute: str, value: str) -> float:
        """The share of products with this attribute that have this value, 0 to 1."""
        values = self._values[attribute_key(attribute)]
        return values[comparable_text(value)] / max(values.total(), 1)

    def value_count(self, attribute: str) -> int:
        """How many values the assortment states for the attribute."""
        return self._values[attribute_key(attribute)].total()

    def vocabulary(self, attribute: str) -> Collection[str]:
        """The attribute's different values over the assortment, in comparable words."""
        return self._values[attribute_key(attribute)].keys()

    def attribute_counts(self, subcategory: str | None) -> Counter[str]:
        """How many products of the subcategory have each attribute (as its sellers spell it)."""
        return self._counts_by_subcategory[subcategory]

    @cached_property
    def _name_words(self) -> frozenset[str]:
        brands = (product["brand"] or "" for product in self.products.values())
        texts = (*self._names.values(), *map(comparable_text, brands))
        return frozenset(word for text in texts for word in text.split())

    @cached_property
    def _values(self) -> defaultdict[str, Counter[str]]:
        values: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for product in self.products.values():
            for name, value in rendered_attributes(product):
                values[attribute_key(name)][comparable_text(value)] += 1
        return values

    @cached_property
    def _counts_by_subcategory(self) -> defaultdict[str | None, Counter[str]]:
        counts: defaultdict[str | None, Counter[str]] = defaultdict(Counter)
        for product in self.products.values():
            counts[product["subcategory"]].update(
                {name for name, _ in rendered_attributes(product)}
            )
        return counts

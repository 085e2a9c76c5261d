"""The catalog as the screens compare texts with it."""

from collections import defaultdict
from functools import cache, cached_property

import polars as pl

from retail_assistant.corpus.facts import is_askable_attribute
from retail_assistant.corpus.lookup import CatalogLookup, Product
from retail_assistant.corpus.reading.catalog_facts import CatalogFacts
from retail_assistant.corpus.reading.text import normalise


class CatalogText:
    """Names, values and records of a catalog in normal form (see `corpus.reading.text`)."""

    def __init__(self, catalog: pl.DataFrame) -> None:
        """`catalog` is a PRODUCTS frame."""
        self.lookup = CatalogLookup(catalog)
        self.facts = CatalogFacts.from_products(catalog)
        self.record_text = cache(self._record_text)

    def name(self, product_id: str) -> str:
        """The product's name in normal form."""
        return self._names.get(product_id, "")

    @cached_property
    def words(self) -> frozenset[str]:
        """Every word of the catalog's names, categories, attributes and values."""
        facts = self.facts
        texts = {*facts.names, *facts.category_names, *facts.vocabulary, *facts.value_phrases}
        return frozenset(word for text in texts for word in text.split(" "))

    def kind_attributes(self, product_id: str) -> frozenset[str]:
        """Attributes in normal form that products of the product's category have, and the brand."""
        return self._attributes[self.facts.products[product_id].category]

    @cached_property
    def _attributes(self) -> dict[str | None, frozenset[str]]:
        found: defaultdict[str | None, set[str]] = defaultdict(lambda: {"brand"})
        for product in self.facts.products.values():
            found[product.category].update(product.attributes)
        return {
            category: frozenset(name for name in names if is_askable_attribute(name))
            for category, names in found.items()
        }

    @cached_property
    def _names(self) -> dict[str, str]:
        return {i: name for name, ids in self.facts.names.items() for i in ids}

    def _record_text(self, product_id: str) -> str:
        """All that the catalog says about a product, as one text in normal form."""
        product = self.lookup.products[product_id]
        facts = self.facts.products[product_id]
        levels = (product["department"], product["category"], product["subcategory"])
        values = (
            f"{name} {value}" for name, values in facts.attributes.items() for value in values
        )
        parts = (facts.name, *map(_text, levels), *values, *facts.notes, *_prices(product))
        lines = [normalise(part) for part in (*parts, _text(product["description"]))]
        return f" {' | '.join(line for line in lines if line)} "


def _text(value: str | None) -> str:
    return value or ""


def _prices(product: Product) -> list[str]:
    """Prices as they may be written: 1299 for 1299.0, 12.5 and 12.50."""
    prices = (product["retail_price"], product["discounted_price"])
    return [
        written
        for price in prices
        if price is not None
        for written in (f"{price:.2f}", f"{price:.2f}".rstrip("0").rstrip("."))
    ]

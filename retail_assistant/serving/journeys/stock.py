"""The catalog as journeys and their checks see it: records from the index, in comparable forms."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import polars as pl

from retail_assistant.catalog.garments import NOUNS
from retail_assistant.catalog.index import CatalogIndex
from retail_assistant.catalog.schema import ATTRIBUTE
from retail_assistant.corpus.lookup import CatalogLookup
from retail_assistant.corpus.reading.catalog_facts import CatalogFacts, value_atoms
from retail_assistant.corpus.reading.text import normalise
from retail_assistant.serving.journeys.scenario import Dimension

Record = Mapping[str, Any]

COLOURS = ("color", "brand color", "primary color")
# Two spellings of one word.
_GARMENTS = {noun.strip() for nouns in NOUNS.values() for noun in nouns.split(",")} - {"tshirt"}
_LISTS: dict[str, Any] = {
    "description_keywords": pl.List(pl.String),
    "categories": pl.List(pl.String),
    "attributes": pl.List(ATTRIBUTE),
    "image_urls": pl.List(pl.String),
    "retail_price": pl.Float64,
    "discounted_price": pl.Float64,
}
_TEXTS = ("name", "brand", "description", "department", "category", "subcategory")


@dataclass(frozen=True)
class Wish:
    """What a shopper wants: what is None does not matter; prices in the catalog's currency."""

    nouns: str | None = None
    subcategory: str | None = None
    max_price: float | None = None
    min_price: float | None = None
    colour: str | None = None
    audience: str | None = None
    brand: str | None = None
    attribute: str | None = None
    value: str | None = None


@dataclass(frozen=True)
class Stock:
    """Every record of an index, and the facts that answers are read against."""

    frame: pl.DataFrame

    @classmethod
    def of(cls, index: CatalogIndex) -> Self:
        """The stock of an index."""
        rows = list(index.products(index.product_ids()).values())
        schema: dict[str, Any] = {**dict.fromkeys(_TEXTS, pl.String), **_LISTS}
        present = {name: kind for name, kind in schema.items() if rows and name in rows[0]}
        return cls(pl.DataFrame(rows, schema_overrides=present).sort("product_id"))

    @cached_property
    def records(self) -> dict[str, Record]:
        """PRODUCTS rows by id."""
        return {row["product_id"]: row for row in self.frame.iter_rows(named=True)}

    @cached_property
    def facts(self) -> CatalogFacts:
        """What answers are read against, as in evaluation."""
        return CatalogFacts.from_products(self.frame)

    @cached_property
    def lookup(self) -> CatalogLookup:
        """How products are called."""
        return CatalogLookup(self.frame)

    @cached_property
    def name_counts(self) -> Counter[str]:
        """How many products have a name, in normal form."""
        return Counter(normalise(one["name"]) for one in self.records.values())

    @cached_property
    def nouns(self) -> dict[str, str | None]:
        """Product id -> what a shopper calls its kind: the last garment of its name, singular."""
        return {key: _noun(one["name"]) for key, one in self.records.items()}

    @cached_property
    def _kind_words(self) -> dict[str, str]:
        """Product id -> the words in which its kind stands."""
        return {key: _kind_text(self.facts, one) for key, one in self.records.items()}

    def price(self, product_id: str) -> float | None:
        """What a product costs now."""
        record = self.records[product_id]
        price = record["discounted_price"] or record["retail_price"]
        return float(price) if price else None

    def audience(self, product_id: str) -> frozenset[str]:
        """Whom it is for; empty where nothing says it."""
        return frozenset(self.facts.products[product_id].audience.split())

    def values(self, product_id: str, attribute: str) -> tuple[str, ...]:
        """The record's values of an attribute."""
        return self.facts.products[product_id].attributes.get(normalise(attribute), ())

    def colours(self, product_id: str) -> tuple[str, ...]:
        """The colours that its record gives."""
        return tuple(value for name in COLOURS for value in self.values(product_id, name))

    def has(self, product_id: str, wish: Wish) -> list[str]:
        """What of a wish a product does not have; [] where it has it all."""
        record, price = self.records[product_id], self.price(product_id)
        wrong = []
        if wish.nouns and not self._is_a(product_id, wish.nouns):
            wrong.append(f"is no {wish.nouns}")
        if wish.subcategory and wish.subcategory != record["subcategory"]:
            wrong.append(f"is in {record['subcategory']}, not {wish.subcategory}")
        if wish.max_price is not None and (price is None or price > wish.max_price):
            wrong.append(f"costs {price}, more than {wish.max_price:g}")
        if wish.min_price is not None and (price is None or price < wish.min_price):
            wrong.append(f"costs {price}, less than {wish.min_price:g}")
        if wish.colour and not _any_has_words(self.colours(product_id), wish.colour):
            wrong.append(f"is {', '.join(self.colours(product_id)) or 'of no colour'}")
        if wish.audience and not set(wish.audience.split()) & self.audience(product_id):
            wrong.append(f"is for {' '.join(self.audience(product_id)) or 'nobody stated'}")
        if wish.brand and normalise(wish.brand) != normalise(record["brand"] or ""):
            wrong.append(f"is by {record['brand']}")
        if wish.attribute and wish.value:
            atoms = self.facts.products[product_id].atoms(wish.attribute)
            values = self.values(product_id, wish.attribute)
            wanted = value_atoms(wish.attribute, wish.value)
            if not wanted <= atoms and not _any_has_words(values, wish.value):
                wrong.append(f"has {wish.attribute} {', '.join(values) or 'unknown'}")
        return wrong

    def fitting(self, wish: Wish, *, by_name: bool = False) -> list[str]:
        """Ids of all products that have all of a wish.

        A shirt may be what the name, the type or the category says it is; `by_name`: by the name's
        last garment alone, which a T-shirt is no shirt by.
        """
        found = [key for key in self.records if not self.has(key, wish)]
        if by_name and wish.nouns:
            return [key for key in found if self.nouns[key] == wish.nouns]
        return found

    def _is_a(self, product_id: str, noun: str) -> bool:
        words = f" {self._kind_words[product_id]} "
        return any(f" {form} " in words for form in noun_forms(noun))


def noun_forms(noun: str) -> set[str]:
    """Singular and plural of a noun, in normal form."""
    return {normalise(form) for form in (noun, f"{noun}s", f"{noun}es")}


def plural(noun: str) -> str:
    """How many of a noun are called: "dress" -> "dresses"."""
    if noun.endswith(("ss", "sh", "ch", "x")):
        return f"{noun}es"
    return noun if noun.endswith("s") else f"{noun}s"


def _noun(name: str) -> str | None:
    """The last garment that a name says, as it writes it, before any "with"."""
    before = re.split(r"\swith\s", name, flags=re.IGNORECASE)[0]
    words = f" {normalise(before)} "
    found = [
        (words.rfind(f" {form} ") + len(form), len(form), noun)
        for noun in _GARMENTS
        for form in noun_forms(noun)
        if f" {form} " in words
    ]
    return max(found)[2] if found else None


def _kind_text(facts: CatalogFacts, record: Record) -> str:
    types = facts.products[record["product_id"]].attributes.get("type", ())
    texts = [record["name"], *types, *(record["categories"] or [])[2:]]
    return normalise(" | ".join(texts))


def _any_has_words(values: tuple[str, ...], wanted: str) -> bool:
    words = set(normalise(wanted).split())
    return any(words <= set(normalise(value).split()) for value in values)


def rounded_up(price: float) -> float:
    """A budget that a price is within: the next hundred (below 100: the next ten)."""
    step = 100 if price >= 100 else 10
    return float((int(price) // step + 1) * step)


def wish_of(stock: Stock, product_id: str, by: list[Dimension], attribute: str | None) -> Wish:
    """What a product has, as somebody would ask for it.

    Raises:
        KeyError: the product does not have what is asked for; names it.
    """
    found: dict[str, Any] = {}
    record, price = stock.records[product_id], stock.price(product_id)
    for name in by:
        if name == "nouns":
            found["nouns"] = stock.nouns[product_id]
        elif name in ("max_price", "min_price"):
            above = rounded_up(price) if price else None
            below = max(0.0, rounded_up(price) - 100) if price else None
            found[name] = above if name == "max_price" else below
        elif name == "colour":
            found["colour"] = next(iter(stock.colours(product_id)), None)
        elif name == "audience":
            found["audience"] = next(iter(sorted(stock.audience(product_id))), None)
        elif name == "brand":
            found["brand"] = record["brand"]
        else:
            found["attribute"] = attribute
            values = stock.values(product_id, attribute) if attribute else ()
            found["value"] = values[0] if values else None
    missing = [name for name, value in found.items() if value is None]
    if missing:
        raise KeyError(missing[0])
    return Wish(**found)

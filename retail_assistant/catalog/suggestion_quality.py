"""How good the index's suggestions are, measured on a sample of its products.

The rules are judged by what the suggested records say, beside a random pick of the same category:
a rate that chance reaches as well says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from statistics import median
from typing import Any, NamedTuple

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.catalog.filters import facets, price
from retail_assistant.catalog.garments import APART, INSTEAD_OF, WORN_WITH, audience, clash, kind
from retail_assistant.catalog.index import CatalogIndex
from retail_assistant.catalog.schema import ATTRIBUTE

SAMPLE = 100
SUGGESTIONS = 2

Record = Mapping[str, Any]
Pairs = list[tuple[Record, Record]]
"""A product and what is suggested for it."""


class Share(BaseModel):
    """A part of a whole."""

    model_config = ConfigDict(frozen=True)

    of: int = Field(description="The denominator.")
    count: int
    rate: float | None = Field(description="count / of; None where there is nothing to count.")


class Closeness(BaseModel):
    """How alike the products of pairs are."""

    model_config = ConfigDict(frozen=True)

    pairs: int
    price_ratio: float | None = Field(description="Median of dearer / cheaper, where both cost.")
    same_brand: Share
    shared_attributes: float | None = Field(
        description="Mean share of the product's attribute values that the other has, too."
    )


class KindOfSuggestion(BaseModel):
    """The measure of alternatives, or of complements."""

    model_config = ConfigDict(frozen=True)

    covered: Share = Field(description="Of the sampled products, those with a suggestion.")
    valid: Share = Field(description="Of the suggestions, those that keep the rule.")
    valid_at_random: Share = Field(description="The same of a random pick of the category.")
    closeness: Closeness
    closeness_at_random: Closeness


class SuggestionQuality(BaseModel):
    """What `suggestion_quality` found."""

    model_config = ConfigDict(frozen=True)

    sample: int = Field(description="Products that suggestions were asked for.")
    k: int = Field(description="Suggestions asked for at a time.")
    alternatives: KindOfSuggestion
    complements: KindOfSuggestion


def suggestion_quality(
    index: CatalogIndex, sample: int = SAMPLE, k: int = SUGGESTIONS
) -> SuggestionQuality:
    """Measure `alternatives` and `complements` on `sample` products, drawn by a hash of their ids.

    An alternative is valid if it is another product of the index, of the same department and
    category (and subcategory, where both have one), for a shared audience, of a kind of garment
    that can stand in; a complement, if it is of another subcategory of the same department and
    category, for a shared audience, of a kind that is worn with it, and not one for sports and the
    other for dressing up. A random pick is another product of the sample, of the same category;
    for complements, of another subcategory.
    """
    drawn = sorted(index.product_ids(), key=_place)[:sample]
    rows = index.products(drawn)
    records = _described([rows[product_id] for product_id in drawn])

    def measured(
        suggest: Callable[..., list[dict[str, Any]]],
        is_valid: Callable[[Record, Record], bool],
        *,
        other_shelf: bool,
    ) -> KindOfSuggestion:
        suggested = [suggest(record["product_id"], k) for record in records]
        found = _described([row for rows in suggested for row in rows])
        owners = [r for r, rows in zip(records, suggested, strict=True) for _ in rows]
        pairs: Pairs = list(zip(owners, found, strict=True))
        chance = _random_pairs(records, other_shelf=other_shelf)
        there = index.products(row["product_id"] for row in found)
        return KindOfSuggestion(
            covered=_share([bool(rows) for rows in suggested]),
            valid=_share([b["product_id"] in there and is_valid(a, b) for a, b in pairs]),
            valid_at_random=_share([is_valid(a, b) for a, b in chance]),
            closeness=_closeness(pairs),
            closeness_at_random=_closeness(chance),
        )

    return SuggestionQuality(
        sample=len(records),
        k=k,
        alternatives=measured(index.alternatives, is_alternative, other_shelf=False),
        complements=measured(index.complements, is_complement, other_shelf=True),
    )


class _Described(NamedTuple):
    kind: str
    audience: str
    facets: str
    price: float | None


def _described(records: Sequence[dict[str, Any]]) -> list[Record]:
    """The records with kind, audience, facets and price, read off them anew."""
    columns = ("name", "brand", "department", "category", "subcategory")
    schema: dict[str, Any] = {
        **dict.fromkeys(columns, pl.String),
        "categories": pl.List(pl.String),
        "attributes": pl.List(ATTRIBUTE),
        "retail_price": pl.Float64,
        "discounted_price": pl.Float64,
    }
    frame = pl.DataFrame([{name: r[name] for name in schema} for r in records], schema=schema)
    read = frame.select(kind(), audience(), facets(), price())
    return [
        {**record, **_Described(*row)._asdict()}
        for record, row in zip(records, read.iter_rows(), strict=True)
    ]


def is_alternative(product: Record, other: Record) -> bool:
    """Whether one described record can stand in for another."""
    shelves = (product["subcategory"], other["subcategory"])
    same_kind = other["kind"] in INSTEAD_OF.get(product["kind"], (product["kind"],))
    return (
        _same_floor(product, other)
        and (None in shelves or shelves[0] == shelves[1])
        and (same_kind if product["kind"] else other["kind"] not in APART)
    )


def is_complement(product: Record, other: Record) -> bool:
    """Whether one described record is worn together with another."""
    shelves = (product["subcategory"], other["subcategory"])
    worn_with = other["kind"] in WORN_WITH.get(product["kind"], ())
    return (
        _same_floor(product, other)
        and None not in shelves
        and shelves[0] != shelves[1]
        and not clash(product, other)
        and (worn_with if product["kind"] else other["kind"] not in APART)
    )


def _same_floor(product: Record, other: Record) -> bool:
    """Two products of one department and category, and for somebody whom both are for."""
    for_whom = set(product["audience"].split()), set(other["audience"].split())
    return (
        product["product_id"] != other["product_id"]
        and (product["department"], product["category"]) == (other["department"], other["category"])
        and (not all(for_whom) or bool(for_whom[0] & for_whom[1]))
    )


def _random_pairs(records: Sequence[Record], *, other_shelf: bool) -> Pairs:
    """Each record with another of its category (and of another subcategory), drawn by hash."""
    pairs: Pairs = []
    for record in records:
        mates = [
            other
            for other in records
            if other["category"] == record["category"]
            and other["product_id"] != record["product_id"]
            and not (other_shelf and other["subcategory"] == record["subcategory"])
        ]
        if mates:
            place = int(_place(record["product_id"]), 16)
            pairs.append((record, mates[place % len(mates)]))
    return pairs


def _closeness(pairs: Pairs) -> Closeness:
    prices = [(a["price"], b["price"]) for a, b in pairs if a["price"] and b["price"]]
    brands = [a["brand"] == b["brand"] for a, b in pairs if a["brand"] and b["brand"]]
    shared = [len(own & _attributes(b)) / len(own) for a, b in pairs if (own := _attributes(a))]
    ratio = median(math.exp(abs(math.log(a / b))) for a, b in prices) if prices else None
    return Closeness(
        pairs=len(pairs),
        price_ratio=None if ratio is None else round(ratio, 3),
        same_brand=_share(brands),
        shared_attributes=round(sum(shared) / len(shared), 4) if shared else None,
    )


def _attributes(record: Record) -> set[str]:
    """A record's attribute values as facets, its levels and brand left out."""
    return {facet for facet in record["facets"].split("|") if facet and facet[0] != ":"}


def _share(hits: Sequence[bool]) -> Share:
    count, of = sum(hits), len(hits)
    return Share(of=of, count=count, rate=round(count / of, 4) if of else None)


def _place(product_id: str) -> str:
    return blake2b(product_id.encode(), digest_size=8).hexdigest()

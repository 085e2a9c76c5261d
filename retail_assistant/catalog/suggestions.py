"""What a shopper is offered instead of a product, or to wear with it: the rules.

Both rules keep to the catalog's own levels, to the audience and to kinds of garments
(`catalog.garments`): of a top the alternative is a top and the complement is no second top, no
bra, and nothing for another audience. Where no noun tells a product's kind, only the levels and
the audience decide, and what is worn apart is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import zip_longest
from typing import Any

import polars as pl

from retail_assistant.catalog.garments import (
    APART,
    INSTEAD_OF,
    WORN_WITH,
    clash,
    occasions,
    shared_audiences,
)

Ranking = list[tuple[str, float]]
"""(product_id, score) pairs, best first; higher is better."""

# On the scale of cosine similarity, where two garments of one shop are 0.4 to 0.9 apart.
_SHARED_OCCASION = 0.15
_SAME_BRAND = 0.1
_SAME_NAME = 95
"""Names whose similarity (rapidfuzz ratio, 0 to 100) reaches this are one name to a shopper."""


def alternatives_to(row: Mapping[str, Any]) -> pl.Expr | None:
    """Which rows of the index are alternatives to one of them; None where none can be."""
    level = next((name for name in ("subcategory", "category") if row[name] is not None), None)
    if level is None:
        return None
    where = _others(row) & _equals(level, row[level])
    kinds = INSTEAD_OF.get(row["kind"], (row["kind"],))
    return where & _among("kind", kinds) if row["kind"] else where & ~_among("kind", APART)


def complements_to(row: Mapping[str, Any]) -> pl.Expr | None:
    """Which rows of the index complement one of them; None where none can.

    Null, as for a product without a subcategory, is no.
    """
    if row["subcategory"] is None or row["kind"] in APART:
        return None
    where = _others(row) & ~_equals("subcategory", row["subcategory"])
    kinds = WORN_WITH.get(row["kind"], ())
    return where & _among("kind", kinds) if kinds else where & ~_among("kind", APART)


def is_alternative(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether `other` is an alternative to `row`: `alternatives_to`, for two rows at hand.

    Rows are PRODUCTS rows with `kind` and `audience` (see `catalog.garments`).
    """
    level = next((name for name in ("subcategory", "category") if row[name] is not None), None)
    if level is None or row[level] != other[level] or not _is_other(row, other):
        return False
    if not row["kind"]:
        return other["kind"] not in APART
    return other["kind"] in INSTEAD_OF.get(row["kind"], (row["kind"],))


def is_complement(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether `other` complements `row`: `complements_to` without a clash, for two rows at hand."""
    levels = (row["subcategory"], other["subcategory"])
    if None in levels or levels[0] == levels[1] or row["kind"] in APART:
        return False
    kinds = WORN_WITH.get(row["kind"], ())
    fits = other["kind"] in kinds if kinds else other["kind"] not in APART
    return fits and _is_other(row, other) and not clash(row, other)


def affinity(row: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """What speaks for wearing two products together, on the scale of cosine similarity."""
    same_brand = row["brand"] is not None and row["brand"] == other["brand"]
    shared = bool(occasions(row) & occasions(other))
    return _SHARED_OCCASION * shared + _SAME_BRAND * same_brand


def ranked(pairs: Iterable[tuple[str, float]]) -> Ranking:
    """Pairs with the highest score first, ties by product_id."""
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


def in_turn(groups: Iterable[Ranking]) -> Ranking:
    """First of each group, then second of each, …; every product once."""
    rounds = zip_longest(*groups)
    pairs = (pair for turn in rounds for pair in turn if pair is not None)
    return list({product_id: (product_id, score) for product_id, score in pairs}.values())


def fresh_names_first(nearest: Ranking, names: Mapping[str, str], own: str, k: int) -> Ranking:
    """The first `k` pairs, those behind whose name repeats `own` or one that stands before it.

    Names are in normal form.
    """
    from rapidfuzz import fuzz, process

    seen, fresh, repeated = [own], [], []
    for product_id, score in nearest:
        if len(fresh) == k:
            break
        name = names[product_id]
        if process.extractOne(name, seen, scorer=fuzz.ratio, score_cutoff=_SAME_NAME):
            repeated.append((product_id, score))
        else:
            fresh.append((product_id, score))
            seen.append(name)
    return (fresh + repeated)[:k]


def _is_other(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """As `_others`, for two rows at hand."""
    return (
        row["product_id"] != other["product_id"]
        and row["department"] == other["department"]
        and row["category"] in (None, other["category"])
        and other["audience"] in shared_audiences(row["audience"])
    )


def _others(row: Mapping[str, Any]) -> pl.Expr:
    """Other products of the same department and category, for somebody whom the product is for."""
    where = ~_equals("product_id", row["product_id"]) & _equals("department", row["department"])
    if row["category"] is not None:
        where &= _equals("category", row["category"])
    return where & _among("audience", shared_audiences(row["audience"]))


def _equals(column: str, value: str) -> pl.Expr:
    return pl.col(column) == pl.lit(value)


def _among(column: str, values: Iterable[str]) -> pl.Expr:
    return pl.col(column).is_in(list(values))

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

from retail_assistant.catalog.garments import (
    APART,
    INSTEAD_OF,
    WORN_WITH,
    clash,
    occasions,
    shared_audiences,
)

SHELF = ("department", "category", "subcategory", "kind", "audience")
"""Where a product hangs: all that `stands_in_for` and `goes_with` read of it."""

Ranking = list[tuple[str, float]]
"""(product_id, score) pairs, best first; higher is better."""

# On the scale of cosine similarity, where two garments of one shop are 0.4 to 0.9 apart.
_SHARED_OCCASION = 0.15
_SAME_BRAND = 0.1
_SAME_NAME = 95
"""Names whose similarity (rapidfuzz ratio, 0 to 100) reaches this are one name to a shopper."""


def is_alternative(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether `other` is an alternative to `row`.

    Rows are PRODUCTS rows with `kind` and `audience` (see `catalog.garments`).
    """
    return row["product_id"] != other["product_id"] and stands_in_for(row, other)


def is_complement(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether `other` complements `row`; rows as for `is_alternative`."""
    is_other = row["product_id"] != other["product_id"]
    return is_other and goes_with(row, other) and not clash(row, other)


def stands_in_for(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether what hangs on a SHELF may be taken instead of what hangs on another."""
    level = next((name for name in ("subcategory", "category") if row[name] is not None), None)
    if level is None or row[level] != other[level] or not _is_near(row, other):
        return False
    if not row["kind"]:
        return other["kind"] not in APART
    return other["kind"] in INSTEAD_OF.get(row["kind"], (row["kind"],))


def goes_with(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether what hangs on a SHELF may be worn with what hangs on another."""
    levels = (row["subcategory"], other["subcategory"])
    if None in levels or levels[0] == levels[1] or row["kind"] in APART:
        return False
    kinds = WORN_WITH.get(row["kind"], ())
    fits = other["kind"] in kinds if kinds else other["kind"] not in APART
    return fits and _is_near(row, other)


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

    seen = [own]
    fresh: Ranking = []
    repeated: Ranking = []
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


def _is_near(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Of the same department and category, for somebody whom the product is for."""
    return (
        row["department"] == other["department"]
        and row["category"] in (None, other["category"])
        and other["audience"] in shared_audiences(row["audience"])
    )

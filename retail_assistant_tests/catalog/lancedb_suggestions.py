"""Suggestions and nearness by queries to LanceDB alone: what the index's memory has to agree with.

Slow and plain: every question scans the table again and reads the whole records of its candidates.
"""

from collections.abc import Mapping
from typing import Any

from lancedb.expr import Expr, col, lit  # noqa: TID253 (no code location is loaded here)
from lancedb.table import Table  # noqa: TID253

from retail_assistant.catalog.embedding import normalise
from retail_assistant.catalog.garments import (
    APART,
    INSTEAD_OF,
    WORN_WITH,
    clash,
    shared_audiences,
)
from retail_assistant.catalog.suggestions import Ranking, affinity, in_turn, ranked

CANDIDATES = 64
ROUNDING = 2e-5
"""Scores are rounded to five decimals, of sums in float32: the last one may differ."""


def alternatives(table: Table, product_id: str, k: int) -> Ranking:
    """What `CatalogIndex.alternatives` has to find."""
    row = _row(table, product_id)
    level = next((name for name in ("subcategory", "category") if row[name] is not None), None)
    if level is None:
        return []
    where = _others(row) & col(level).eq(lit(row[level]))
    kinds = INSTEAD_OF.get(row["kind"], (row["kind"],))
    where &= col("kind").isin(list(kinds)) if row["kind"] else ~col("kind").isin(list(APART))
    found = nearest(table, row["vector"], CANDIDATES, where)
    return _fresh_first(found, _records(table, found), row["name"])[:k]


def complements(table: Table, product_id: str, k: int) -> Ranking:
    """What `CatalogIndex.complements` has to find."""
    row = _row(table, product_id)
    if row["subcategory"] is None or row["kind"] in APART:
        return []
    kinds = WORN_WITH.get(row["kind"], ())
    where = _others(row) & ~col("subcategory").eq(lit(row["subcategory"]))
    where &= col("kind").isin(list(kinds)) if kinds else ~col("kind").isin(list(APART))
    found = nearest(table, row["vector"], CANDIDATES, where)
    records = _records(table, found)
    fitting = ranked(
        (one, score + affinity(row, records[one]))
        for one, score in found
        if not clash(row, records[one])
    )
    groups: dict[str, Ranking] = {}
    for one, score in fitting:
        groups.setdefault(records[one]["subcategory"], []).append((one, score))
    return _fresh_first(in_turn(groups.values()), records, row["name"])[:k]


def nearest(table: Table, vector: Any, limit: int, where: Expr | None = None) -> Ranking:
    """The products nearest to a vector: an exact scan, sorted here."""
    query: Any = table.search(list(vector), query_type="vector").distance_type("cosine")
    query = query.bypass_vector_index().select(["product_id", "_distance"])
    if where is not None:
        query = query.where(where, prefilter=True)
    rows = query.limit(table.count_rows()).to_list()
    near = ((row["product_id"], round(1.0 - row["_distance"], 5)) for row in rows)
    return ranked(near)[:limit]


def agree(found: Ranking, expected: Ranking) -> bool:
    """Whether two rankings differ at most in the order of what is equally near."""
    return len(found) == len(expected) and all(
        abs(one - other) <= ROUNDING for (_, one), (_, other) in zip(found, expected, strict=True)
    )


def _row(table: Table, product_id: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = (
        table.search().where(col("product_id").eq(lit(product_id))).limit(1).to_list()
    )
    return found[0]


def _records(table: Table, ranking: Ranking) -> dict[str, dict[str, Any]]:
    ids = [found for found, _ in ranking]
    if not ids:
        return {}
    rows = table.search().where(col("product_id").isin(ids)).limit(len(ids)).to_list()
    return {row["product_id"]: row for row in rows}


def _others(row: Mapping[str, Any]) -> Expr:
    where = ~col("product_id").eq(lit(row["product_id"]))
    where &= col("department").eq(lit(row["department"]))
    if row["category"] is not None:
        where &= col("category").eq(lit(row["category"]))
    return where & col("audience").isin(list(shared_audiences(row["audience"])))


def _fresh_first(found: Ranking, records: Mapping[str, Mapping[str, Any]], own: str) -> Ranking:
    from rapidfuzz import fuzz

    seen, fresh, repeated = [normalise(own)], [], []
    for product_id, score in found:
        name = normalise(records[product_id]["name"])
        if max(fuzz.ratio(name, other) for other in seen) >= 95:
            repeated.append((product_id, score))
        else:
            fresh.append((product_id, score))
            seen.append(name)
    return fresh + repeated

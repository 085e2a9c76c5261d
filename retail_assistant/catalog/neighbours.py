"""What lies near a product, or near a text: shelves and vectors of a whole index in memory.

Suggestions look at every product of a category, and need of most of them only where they hang and
how near they are. In memory that is one product of matrices, where queries to LanceDB are three
scans and sixty-four whole records (`benchmarks/index.py`). It takes about 2 kB a product, three
quarters of it the vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from retail_assistant.catalog.garments import OCCASION_ATTRIBUTES, clash
from retail_assistant.catalog.publication import CatalogIndexError
from retail_assistant.catalog.suggestions import (
    SHELF,
    Ranking,
    affinity,
    fresh_names_first,
    goes_with,
    in_turn,
    ranked,
    stands_in_for,
)

CANDIDATES = 64
"""How many of the nearest are looked at."""

READ = ("product_id", "name_key", "name", "brand", "attributes", *SHELF, "vector")
"""The columns of an index that `Neighbours` is made of."""

_DECIMALS = 5

Vector = Sequence[float] | npt.NDArray[np.float32]
_Rows = npt.NDArray[np.intp]
_Rule = Callable[[Mapping[str, Any], Mapping[str, Any]], bool]


class Neighbours:
    """Every product of an index, as suggestions and searches by meaning choose among them."""

    def __init__(self, products: pl.DataFrame) -> None:
        """`products`: the columns READ, a row a product; vectors (384,) of unit length, float32."""
        order = products["product_id"].arg_sort().to_numpy()
        self._vectors: npt.NDArray[np.float32] = products["vector"].to_numpy()[order]
        rows = products.select(pl.exclude("vector").exclude("attributes"), _occasions())[order]
        self._table = rows.rechunk()
        self._ids: list[str] = rows["product_id"].to_list()
        self._names: list[str] = rows["name_key"].to_list()
        self._row_of = {product_id: row for row, product_id in enumerate(self._ids)}
        placed = rows.select(*SHELF, row=pl.int_range(pl.len(), dtype=pl.Int64))
        shelves = placed.group_by(*SHELF, maintain_order=True).agg("row")
        self._shelves = shelves.select(*SHELF).to_dicts()
        self._rows_on: list[_Rows] = [some.to_numpy() for some in shelves["row"]]
        self._fitting: dict[tuple[_Rule, int], list[int]] = {}
        self._shelf_of = np.empty(len(self._ids), dtype=np.intp)
        for number, some in enumerate(self._rows_on):
            self._shelf_of[some] = number

    def nearest(
        self, vector: Vector, limit: int = CANDIDATES, among: Iterable[str] | None = None
    ) -> Ranking:
        """The `limit` products nearest to a vector by cosine similarity, ties by product_id.

        `among`: ids of the products to choose from; None: all.
        """
        rows = None
        if among is not None:
            rows = np.array(sorted(self._row_of[one] for one in among), dtype=np.intp)
        return self._ranked(np.asarray(vector, dtype=np.float32), rows, limit)

    def alternatives(self, product_id: str, k: int) -> Ranking:
        """Up to `k` products to take instead of one, as `CatalogIndex.alternatives` has them.

        Raises:
            CatalogIndexError: there is no such product.

        """
        row = self._row(product_id)
        nearest = self._nearest_to(row, stands_in_for)
        return fresh_names_first(nearest, self._names_of(nearest), self._names[row], k)

    def complements(self, product_id: str, k: int) -> Ranking:
        """Up to `k` products to wear with one, as `CatalogIndex.complements` has them.

        Raises:
            CatalogIndexError: there is no such product.

        """
        row = self._row(product_id)
        nearest = self._nearest_to(row, goes_with)
        own = self._table.row(row, named=True)
        others = self._records(nearest)
        fitting = ranked(
            (found, score + affinity(own, others[found]))
            for found, score in nearest
            if not clash(own, others[found])
        )
        groups: dict[str, Ranking] = {}
        for found, score in fitting:
            groups.setdefault(others[found]["subcategory"], []).append((found, score))
        chosen = in_turn(groups.values())
        return fresh_names_first(chosen, self._names_of(chosen), self._names[row], k)

    def _row(self, product_id: str) -> int:
        row = self._row_of.get(product_id)
        if row is None:
            raise CatalogIndexError(f"The catalog index has no product {product_id!r}.")
        return row

    def _names_of(self, ranking: Ranking) -> dict[str, str]:
        return {found: self._names[self._row_of[found]] for found, _ in ranking}

    def _records(self, ranking: Ranking) -> dict[str, dict[str, Any]]:
        rows = self._table[[self._row_of[found] for found, _ in ranking]].to_dicts()
        return {row["product_id"]: row for row in rows}

    def _nearest_to(self, row: int, fits: _Rule) -> Ranking:
        """The products nearest to one of them, of the shelves that fit to its own."""
        shelf = int(self._shelf_of[row])
        if (fits, shelf) not in self._fitting:
            own = self._shelves[shelf]
            found = [number for number, other in enumerate(self._shelves) if fits(own, other)]
            self._fitting[fits, shelf] = found
        hung = [self._rows_on[number] for number in self._fitting[fits, shelf]]
        rows = np.sort(np.concatenate(hung)) if hung else np.empty(0, dtype=np.intp)
        return self._ranked(self._vectors[row], rows[rows != row], CANDIDATES)

    def _ranked(self, vector: npt.NDArray[np.float32], rows: _Rows | None, limit: int) -> Ranking:
        """The rows (ascending; None: all) nearest to a vector, with their similarity."""
        vectors = self._vectors if rows is None else self._vectors[rows]
        # Not `@`: its sums depend on where a row stands, and equal vectors must score alike.
        near = np.vecdot(vectors, vector).astype(np.float64).round(_DECIMALS)
        best = np.arange(len(near))
        if limit < len(near):
            best = np.flatnonzero(near >= np.partition(near, -limit)[-limit])
        # Rows are in the order of product_id, and the sort is stable: so are ties.
        best = best[np.argsort(-near[best], kind="stable")][:limit]
        owners = best if rows is None else rows[best]
        return [
            (self._ids[row], score)
            for row, score in zip(owners.tolist(), near[best].tolist(), strict=True)
        ]


def _occasions() -> pl.Expr:
    """The attributes that say an occasion: all that `affinity` and `clash` read of them."""
    name = pl.element().struct.field("name").str.to_lowercase()
    is_occasion = name.is_in(OCCASION_ATTRIBUTES).fill_null(value=False)
    return pl.col("attributes").list.eval(pl.element().filter(is_occasion))

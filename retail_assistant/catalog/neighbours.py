"""What lies near a product, or near a text: shelves and vectors of a whole index in memory.

Suggestions look at every product of a category, and need of most of them only where they hang and
how near they are. In memory that is a few comparisons and one product of matrices; as queries to
LanceDB it is three scans and sixty-four whole records (`benchmarks/index.py`). It takes about 2 kB
a product, three quarters of it the vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from retail_assistant.catalog.garments import clash
from retail_assistant.catalog.publication import CatalogIndexError
from retail_assistant.catalog.suggestions import (
    Ranking,
    affinity,
    alternatives_to,
    complements_to,
    fresh_names_first,
    in_turn,
    ranked,
)

CANDIDATES = 64
"""How many of the nearest are looked at."""

READ = (
    "product_id",
    "name",
    "name_key",
    "brand",
    "department",
    "category",
    "subcategory",
    "attributes",
    "kind",
    "audience",
    "vector",
)
"""The columns of an index that `Neighbours` is made of."""

_DECIMALS = 5

Vector = Sequence[float] | npt.NDArray[np.float32]
_Rows = npt.NDArray[np.intp]


class Neighbours:
    """Every product of an index, as suggestions and searches by meaning choose among them."""

    def __init__(self, products: pl.DataFrame) -> None:
        """`products`: the columns READ, a row a product; vectors (384,) of unit length, float32."""
        order = products["product_id"].arg_sort().to_numpy()
        self._vectors: npt.NDArray[np.float32] = products["vector"].to_numpy()[order]
        self._shelves = products.drop("vector")[order]
        self._ids: list[str] = self._shelves["product_id"].to_list()
        self._row_of = {product_id: row for row, product_id in enumerate(self._ids)}

    def nearest(
        self, vector: Vector, limit: int = CANDIDATES, among: Iterable[str] | None = None
    ) -> Ranking:
        """The `limit` products nearest to a vector by cosine similarity, ties by product_id.

        `among`: ids of the products to choose from; None: all.
        """
        rows = None if among is None else self._rows(sorted(among))
        return self._ranked(np.asarray(vector, dtype=np.float32), rows, limit)

    def alternatives(self, product_id: str, k: int) -> Ranking:
        """Up to `k` products to take instead of one, as `CatalogIndex.alternatives` has them.

        Raises:
            CatalogIndexError: there is no such product.

        """
        row = self._row(product_id)
        nearest = self._nearest_to(product_id, alternatives_to(row))
        names = {other["product_id"]: other["name_key"] for other in self._records(nearest)}
        return fresh_names_first(nearest, names, row["name_key"], k)

    def complements(self, product_id: str, k: int) -> Ranking:
        """Up to `k` products to wear with one, as `CatalogIndex.complements` has them.

        Raises:
            CatalogIndexError: there is no such product.

        """
        row = self._row(product_id)
        nearest = self._nearest_to(product_id, complements_to(row))
        others = {other["product_id"]: other for other in self._records(nearest)}
        fitting = ranked(
            (found, score + affinity(row, others[found]))
            for found, score in nearest
            if not clash(row, others[found])
        )
        groups: dict[str, Ranking] = {}
        for found, score in fitting:
            groups.setdefault(others[found]["subcategory"], []).append((found, score))
        names = {found: others[found]["name_key"] for found, _ in fitting}
        return fresh_names_first(in_turn(groups.values()), names, row["name_key"], k)

    def _row(self, product_id: str) -> Mapping[str, Any]:
        row = self._row_of.get(product_id)
        if row is None:
            raise CatalogIndexError(f"The catalog index has no product {product_id!r}.")
        return self._shelves.row(row, named=True)

    def _rows(self, product_ids: Iterable[str]) -> _Rows:
        return np.array([self._row_of[one] for one in product_ids], dtype=np.intp)

    def _records(self, ranking: Ranking) -> list[dict[str, Any]]:
        return self._shelves[self._rows(found for found, _ in ranking)].to_dicts()

    def _nearest_to(self, product_id: str, where: pl.Expr | None) -> Ranking:
        """The nearest products among those that an expression over READ lets pass."""
        if where is None:
            return []
        rows = self._shelves.select(pl.arg_where(where)).to_series().to_numpy().astype(np.intp)
        return self._ranked(self._vectors[self._row_of[product_id]], rows, CANDIDATES)

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

"""Every product of an index in memory, by row number: what searches and comparisons go by.

A search over the whole shop (the cheapest of all kurtas, how many are left without one wish) is a
few comparisons of NumPy arrays, where a query to the index takes some milliseconds each.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from retail_assistant.catalog.index import CatalogIndex
from retail_assistant.corpus.rendering import MAX_NAME_CHARACTERS, plain_text

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

DERIVED = ("name_key", "price", "kind", "audience")
"""What the index knows of a product beside its record."""

NO_ROWS: Rows = np.empty(0, dtype=np.int64)


class Shelves:
    """The products of an index; a row's number is its place in the order of product_id."""

    def __init__(self, index: CatalogIndex) -> None:
        self._record_columns = index.record_columns
        wanted = dict.fromkeys((*self._record_columns, *DERIVED))
        self.frame: pl.DataFrame = index.columns(list(wanted)).sort("product_id")
        self.ids: list[str] = self.frame["product_id"].to_list()
        self.prices = self.frame["price"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        self._row_of = {product_id: row for row, product_id in enumerate(self.ids)}

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, product_ids: Iterable[str]) -> Rows:
        """Row numbers of products, in the order given; unknown ids are left out."""
        found = (self._row_of.get(product_id) for product_id in product_ids)
        return np.array([row for row in found if row is not None], dtype=np.int64)

    def ids_of(self, rows: Iterable[int]) -> list[str]:
        """Ids of products by row number."""
        return [self.ids[row] for row in rows]

    def records(self, rows: Rows) -> list[dict[str, Any]]:
        """PRODUCTS rows as dicts."""
        return self.frame[rows].select(self._record_columns).to_dicts()

    def name(self, row: int) -> str:
        """A product's name in plain text."""
        return plain_text(self.frame["name"][row], MAX_NAME_CHARACTERS)

    def price(self, product_id: str) -> float | None:
        """What a product costs, in rupees; None where the catalog does not say, or has no such."""
        row = self._row_of.get(product_id)
        price = float("nan") if row is None else float(self.prices[row])
        return None if np.isnan(price) else price

    def audiences(self, product_id: str) -> list[str]:
        """Whom a product is for: words of `catalog.garments.AUDIENCES`."""
        row = self._row_of.get(product_id)
        return [] if row is None else str(self.frame["audience"][row]).split()

    def mask(self, rows: Rows) -> Mask:
        """Whether each product is among some rows."""
        mask = np.zeros(len(self), dtype=np.bool_)
        mask[rows] = True
        return mask

    def by_price(self, rows: Rows, *, dearest_first: bool = False) -> Rows:
        """Rows by price, ties by product_id; those without a price last."""
        prices = self.prices[rows]
        key = np.where(np.isnan(prices), np.inf, -prices if dearest_first else prices)
        return rows[np.lexsort((rows, key))]

    def fresh_names_first(self, rows: Rows) -> Rows:
        """The same rows; those whose name an earlier one has go behind: equal names help nobody."""
        codes = self._name_codes[rows]
        first = np.zeros(len(rows), dtype=np.bool_)
        first[np.unique(codes, return_index=True)[1]] = True
        return np.concatenate((rows[first], rows[~first]))

    @cached_property
    def _name_codes(self) -> Rows:
        codes: Rows = self.frame["name_key"].rank("dense").to_numpy().astype(np.int64)
        return codes

    @cached_property
    def rows_by_name_word(self) -> dict[str, Rows]:
        """Word of a name (in the index's normal form) -> rows."""
        words = (
            self.frame.select(row=pl.int_range(pl.len(), dtype=pl.Int64), word="name_key")
            .with_columns(pl.col("word").str.split(" "))
            .explode("word")
            .unique()
            .group_by("word")
            .agg(pl.col("row").sort())
        )
        return {word: np.array(rows, dtype=np.int64) for word, rows in words.iter_rows() if word}

    def rows_named(self, phrase: Sequence[str]) -> Rows:
        """Rows whose names hold all words of a phrase."""
        found = [self.rows_by_name_word.get(word, NO_ROWS) for word in phrase]
        if not found:
            return NO_ROWS
        rows = found[0]
        for more in found[1:]:
            rows = np.intersect1d(rows, more, assume_unique=True)
        return rows

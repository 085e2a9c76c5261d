"""Which ids came before: for telling repeated products in a stream of millions."""

import numpy as np
import polars as pl

from retail_assistant.catalog.schema import SOURCE_ROW

LONGEST_MERGED = 1 << 20
"""Longer runs stay as they are: merging them would take several times their memory."""


class SeenIds:
    """The ids of all products so far, as sorted 64-bit hashes with their rows: 12 bytes each.

    Sorted runs are merged when they have grown alike (as in a log-structured merge tree), so that
    adding n ids costs n log n in all. Two ids of ten million share a hash with probability 3e-6.
    """

    def __init__(self) -> None:
        self._runs: list[tuple[np.ndarray, np.ndarray]] = []

    def split(self, products: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the products whose id is new, and source_row, product_id, reason and detail of
        the others. The first of several in ``products`` (in row order) is the new one.
        """
        hashes = products["product_id"].hash(seed=1).to_numpy()
        rows = products[SOURCE_ROW].to_numpy()
        winner = self._rows_of(hashes)
        unseen = np.flatnonzero(winner == 0)
        _, first, inverse = np.unique(hashes[unseen], return_index=True, return_inverse=True)
        winner[unseen] = rows[unseen[first]][inverse]
        is_new = winner == rows
        self._add(hashes[is_new], rows[is_new])
        repeated = products.select(SOURCE_ROW, "product_id", winner=pl.Series(winner)).filter(
            ~pl.Series(is_new)
        )
        return products.filter(pl.Series(is_new)), repeated.select(
            SOURCE_ROW,
            "product_id",
            reason=pl.lit("duplicate_id"),
            detail=pl.format("the id is that of row {}", "winner"),
        )

    def _rows_of(self, hashes: np.ndarray) -> np.ndarray:
        """The row of each hash, 0 where it is new."""
        found = np.zeros(len(hashes), dtype=np.uint32)
        for known, rows in self._runs:
            place = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
            hit = known[place] == hashes
            found[hit] = rows[place[hit]]
        return found

    def _add(self, hashes: np.ndarray, rows: np.ndarray) -> None:
        if not len(hashes):
            return
        run = (hashes, rows)
        while True:
            order = np.argsort(run[0], kind="stable")
            run = (run[0][order], run[1][order])
            if not self._runs or len(self._runs[-1][0]) > min(2 * len(run[0]), LONGEST_MERGED):
                break
            last = self._runs.pop()
            run = (np.concatenate((last[0], run[0])), np.concatenate((last[1], run[1])))
        self._runs.append(run)

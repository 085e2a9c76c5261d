"""What a product is called and described by, as numbers that can be compared by the million.

A product's terms are the words of its name and its attributes as "name=value". Whole attributes
count, not their words: else the names that all tops share ("Sleeve", "Fabric") would make strangers
look alike. Terms are hashed with xxHash, which is the same on every machine.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from xxhash import xxh64_intdigest

TERM_HASHES = (1 << 31) - 1
"""How many hashes of terms there are: of 10^7 pairs of products about one has a collision."""

_NO_TERM = np.uint32((1 << 32) - 1)


@dataclass(frozen=True)
class ProductTerms:
    """Names and term sets of some products, in their order.

    names: u64 a product, equal for equal names up to case and punctuation, 0 for a name without
    letters and digits. counts: u32, distinct terms a product. terms: u32, the hashes of all
    products' terms, one product after the other, sorted within each.
    """

    names: np.ndarray
    counts: np.ndarray
    terms: np.ndarray

    def signatures(self, factors: np.ndarray, addends: np.ndarray) -> np.ndarray:
        """MinHash signatures, u32 (permutations, products): the smallest permuted term of each.

        The permutations are those of datasketch's scheme "affine32", h -> factor * fmix(h) + addend
        mod 2^32, and so are the signatures. 2^32 - 1 for a product without terms.
        """
        mixed = self._mixed()
        signatures = np.full((len(factors), len(self.counts)), _NO_TERM, dtype=np.uint32)
        filled, starts = self._filled()
        if len(starts):
            for row, factor, addend in zip(signatures, factors, addends, strict=True):
                row[filled] = np.minimum.reduceat(mixed * factor + addend, starts)
        return signatures

    def set_keys(self) -> np.ndarray:
        """u64 a product, equal for equal term sets, 0 for a product without terms."""
        spread = self._mixed().astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        spread ^= spread >> np.uint64(32)
        keys = np.zeros(len(self.counts), dtype=np.uint64)
        filled, starts = self._filled()
        if len(starts):
            keys[filled] = np.add.reduceat(spread * np.uint64(0xD6E8FEB86659FD93), starts)
        return keys

    def _filled(self) -> tuple[np.ndarray, np.ndarray]:
        """Which products have terms, and where these start."""
        filled = self.counts > 0
        return filled, (np.cumsum(self.counts, dtype=np.int64) - self.counts)[filled]

    def _mixed(self) -> np.ndarray:
        """The terms' hashes with their bits spread: MurmurHash3's finalizer."""
        mixed = self.terms.copy()
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            mixed ^= mixed >> np.uint32(shift)
            mixed *= np.uint32(factor)
        return mixed ^ (mixed >> np.uint32(16))


def product_terms(products: pl.DataFrame) -> ProductTerms:
    """Return the names and terms of ``products`` (name, attributes) as numbers."""
    spelled = products.select(
        name=pl.col("name").str.to_lowercase().str.replace_all(r"[\W_]+", " ").str.strip_chars(),
        attributes=pl.col("attributes")
        .list.eval(
            pl.concat_str(
                pl.element().struct.field("name").fill_null(""),
                pl.element().struct.field("value"),
                separator="=",
            ).str.to_lowercase()
        )
        .fill_null([]),
    ).with_columns(words=pl.col("name").replace("", None).str.split(" ").fill_null([]))
    rows = np.concatenate([_rows(spelled[column]) for column in ("words", "attributes")])
    hashes = np.concatenate([_hashes(spelled[column]) for column in ("words", "attributes")])
    keyed = np.sort((rows << np.uint64(32)) | hashes)
    keyed = keyed[np.diff(keyed, prepend=~keyed[:1]) != 0]
    counts = np.bincount(keyed >> np.uint64(32), minlength=products.height).astype(np.uint32)
    return ProductTerms(
        names=_name_keys(spelled["name"]), counts=counts, terms=keyed.astype(np.uint32)
    )


def similarities(
    terms: np.ndarray, counts: np.ndarray, ends: np.ndarray, left: np.ndarray, right: np.ndarray
) -> np.ndarray:
    """Return the Jaccard similarity (f64, 0 to 1) of the products ``left`` and ``right``, by pair.

    ``terms`` and ``counts`` are those of ProductTerms, ``ends`` is where each product's terms end.
    Products without terms are like none.
    """
    first, second = (_rows_of(terms, counts, ends, rows) for rows in (left, right))
    common = np.diff(first.multiply(second).indptr)
    union = counts[left].astype(np.int64) + counts[right] - common
    return common / np.maximum(union, 1)


def _rows_of(terms: np.ndarray, counts: np.ndarray, ends: np.ndarray, rows: np.ndarray) -> Any:
    """A sparse matrix with the term sets of ``rows`` as its rows."""
    from scipy.sparse import csr_array

    sizes = counts[rows].astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    places = np.arange(starts[-1]) + np.repeat(ends[rows] - sizes - starts[:-1], sizes)
    columns = terms[places].astype(np.int32)
    ones = np.ones(len(columns), dtype=np.int8)
    shape = (len(rows), TERM_HASHES)
    return csr_array((ones, columns, starts.astype(np.int32)), shape=shape)


def _rows(lists: pl.Series) -> np.ndarray:
    """The position of the product that each entry of ``lists`` belongs to."""
    positions = np.arange(len(lists), dtype=np.uint64)
    return np.repeat(positions, lists.list.len().to_numpy())


def _hashes(lists: pl.Series) -> np.ndarray:
    filled = lists.filter(lists.list.len() > 0)
    spelled = filled.explode().cast(pl.Binary).to_list()
    hashes = np.fromiter(map(xxh64_intdigest, spelled), dtype=np.uint64, count=len(spelled))
    return hashes % np.uint64(TERM_HASHES)


def _name_keys(names: pl.Series) -> np.ndarray:
    spelled = names.fill_null("").cast(pl.Binary).to_list()
    return np.fromiter(
        (xxh64_intdigest(name) if name else 0 for name in spelled),
        dtype=np.uint64,
        count=len(spelled),
    )

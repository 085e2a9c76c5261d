"""Which products are the same thing listed again.

Shops list one garment many times: sizes, colours, re-listings. Two products belong together when
their names are equal (up to case and punctuation), or when the Jaccard similarity of their name
words and whole attributes is high; clusters are the connected components of that relation.

Candidates come from MinHash signatures and locality-sensitive hashing (Broder 1997; Leskovec,
Rajaraman & Ullman, "Mining of Massive Datasets", chapter 3), with the hash family of the datasketch
library applied to a whole batch of products at a time; every candidate pair is then measured
exactly, on its terms' hashes. What is needed of a catalog is streamed to files in a scratch folder
and looked at one band at a time: memory is about a hundred bytes a product, whatever its text.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.catalog.term_sets import product_terms, similarities

SIMILARITY = 0.8
"""Least Jaccard similarity of two products that are the same thing."""

SCHEMA = {
    "product_id": pl.String,
    "cluster_id": pl.String,
    "size": pl.UInt32,
    "similarity": pl.Float32,
}

_ROWS_A_BAND = 6
# Of pairs that are exactly as similar as wanted, at most this share is missed.
_MISSED = 0.001
_SEED = 1
_BATCH_PRODUCTS = 50_000
# Products of one bucket are each compared with this many neighbours, so that a bucket of a million
# is not a trillion pairs; buckets up to this size are compared whole.
_NEIGHBOURS = 16
_PRODUCTS_AT_A_TIME = 1 << 17
_BITS = 128
_MIX = np.uint64(0x9E3779B97F4A7C15)  # the odd multiplier of Fibonacci hashing (Knuth, vol. 3, 6.4)
_LOW_HALF = np.uint64((1 << 32) - 1)
_MIX_32 = np.uint32(0x9E3779B1)


class NearDuplicateSummary(BaseModel):
    """What was found, in counts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    products: int = Field(ge=0, description="products looked at")
    clusters: int = Field(ge=0, description="clusters of at least two products")
    clustered: int = Field(ge=0, description="products in them")
    largest: int = Field(ge=0, description="products in the largest of them")
    compared: int = Field(ge=0, description="pairs whose similarity was measured")


def near_duplicates(products: pl.LazyFrame, *, similarity: float = SIMILARITY) -> pl.DataFrame:
    """Return product_id, cluster_id, size, similarity of the products that have a near duplicate.

    The frame that ``write_near_duplicates`` writes, for catalogs whose result fits into memory.
    """
    with TemporaryDirectory(prefix="near-duplicates-") as folder:
        file = Path(folder) / "near_duplicates.parquet"
        write_near_duplicates(products, file, similarity=similarity)
        return pl.read_parquet(file, memory_map=False)


def write_near_duplicates(
    products: pl.LazyFrame, file: Path, *, similarity: float = SIMILARITY
) -> NearDuplicateSummary:
    """Write the products that have a near duplicate to ``file`` (parquet), in their order.

    Read are product_id, name and attributes. Columns: product_id, cluster_id (the smallest
    product_id of the cluster), size (products in the cluster), similarity (Jaccard, to the product
    whose id names the cluster). A product without a row is its own cluster. Scratch files, about
    250 bytes a product, lie beside ``file`` while this runs. The result depends on the products
    alone, not on the machine. Raises ValueError for a similarity outside (0, 1].
    """
    if not 0 < similarity <= 1:
        raise ValueError(f"similarity={similarity!r} must be above 0 and at most 1")
    file.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".near-duplicates-", dir=file.parent) as folder:
        scratch = _Scratch(Path(folder), bands=_bands(similarity))
        _sketch(products, scratch)
        clusters = _Clusters.of_equal(scratch)
        for band in range(scratch.bands):
            clusters.join_similar(band, similarity)
        return _written(clusters, scratch, file)


@dataclass(frozen=True)
class _Scratch:
    """Files of plain numbers, an entry a product in catalog order."""

    folder: Path
    bands: int

    def append(self, name: str, values: np.ndarray) -> None:
        with (self.folder / name).open("ab") as stream:
            values.tofile(stream)

    def read(self, name: str, dtype: Any) -> np.ndarray:
        path = self.folder / name
        return np.fromfile(path, dtype=dtype) if path.exists() else np.empty(0, dtype=dtype)

    def mapped(self, name: str, dtype: Any) -> np.ndarray:
        path = self.folder / name
        if not path.exists() or not path.stat().st_size:
            return np.empty(0, dtype=dtype)
        return np.memmap(path, dtype=dtype, mode="r")


def _bands(similarity: float) -> int:
    """How many bands miss at most ``_MISSED`` of the pairs that are just similar enough."""
    shared = similarity**_ROWS_A_BAND
    return 1 if shared >= 1 else math.ceil(math.log(_MISSED) / math.log(1 - shared))


def _most_bits_apart(similarity: float) -> int:
    """In how many of ``_BITS`` bits two products that are just similar enough hardly ever differ.

    The mean of that binomial and 3.5 standard deviations, which 1 pair in 2,500 exceeds.
    """
    share = (1 - similarity) / 2
    return math.ceil(_BITS * share + 3.5 * math.sqrt(_BITS * share * (1 - share)))


def _sketch(products: pl.LazyFrame, scratch: _Scratch) -> None:
    """Write what is compared: ids, names and term sets as numbers, and the key of each band."""
    from datasketch import MinHash

    banded = scratch.bands * _ROWS_A_BAND
    family = MinHash(max(banded, _BITS), seed=_SEED, scheme="affine32").permutations
    read = products.select("product_id", "name", "attributes")
    batches = read.collect_batches(
        chunk_size=_BATCH_PRODUCTS, maintain_order=True, engine="streaming"
    )
    for number, batch in enumerate(batches):
        batch.select("product_id").write_ipc(scratch.folder / f"ids-{number:06}.arrow")
        terms = product_terms(batch)
        scratch.append("names", terms.names)
        scratch.append("counts", terms.counts)
        scratch.append("terms", terms.terms)
        scratch.append("sets", terms.set_keys())
        signatures = terms.signatures(*family)
        scratch.append("bits", _one_bit_signatures(signatures))
        for band, rows in enumerate(np.split(signatures[:banded], scratch.bands)):
            scratch.append(f"band-{band}", _band_keys(rows))


def _one_bit_signatures(signatures: np.ndarray) -> np.ndarray:
    """One bit of each of the first ``_BITS`` smallest terms, as u64 words: (products, words).

    Two products differ in about half of (1 - similarity) of the bits (Li & Koenig, "b-Bit Minwise
    Hashing", WWW 2010), which is far quicker to look at than their terms.
    """
    bits = (signatures[:_BITS] * _MIX_32) >> np.uint32(31)
    packed = np.packbits(bits.astype(np.uint8), axis=0)
    return np.ascontiguousarray(packed.T).view(np.uint64)


def _band_keys(signatures: np.ndarray) -> np.ndarray:
    """One u32 a product: a hash of the rows of ``signatures`` that are one band.

    Two products get the same key where all rows agree (and once in 2^32 by chance).
    """
    key = np.zeros(signatures.shape[1], dtype=np.uint64)
    for row in signatures:
        key = (key + row) * _MIX
        key ^= key >> np.uint64(29)
    return (key >> np.uint64(32)).astype(np.uint32)


class _Clusters:
    """A label a product; products with one label are one cluster."""

    def __init__(self, scratch: _Scratch, labels: np.ndarray, variants: np.ndarray) -> None:
        self.labels = labels
        self.compared = 0
        self._scratch = scratch
        self._variants = variants
        self._counts = scratch.read("counts", np.uint32)
        self._ends = np.cumsum(self._counts, dtype=np.int64)
        self._terms = scratch.mapped("terms", np.uint32)
        words = scratch.read("bits", np.uint64).reshape(-1, _BITS // 64)
        self._bits = [np.ascontiguousarray(word) for word in words.T]

    @classmethod
    def of_equal(cls, scratch: _Scratch) -> "_Clusters":
        """Products of equal names, and those of equal terms. One of each term set is looked at."""
        labels = _numbered(scratch.read("names", np.uint64))
        sets = scratch.read("sets", np.uint64)
        values, variants, which = np.unique(sets, return_index=True, return_inverse=True)
        described = sets != 0
        labels = _merged(labels, labels[described], labels[variants[which[described]]])
        # Neighbours in a large bucket are those that agree on the last band too, then those of near
        # hashes: the order of the products does not matter.
        variants = variants[values != 0]
        finer = scratch.read(f"band-{scratch.bands - 1}", np.uint32)[variants]
        return cls(scratch, labels, variants[np.argsort(finer, kind="stable")])

    def join_similar(self, band: int, similarity: float) -> None:
        """Join clusters of which two products share the band's key and are similar enough."""
        keys = self._scratch.read(f"band-{band}", np.uint32)[self._variants]
        placed = np.sort(
            keys.astype(np.uint64) << np.uint64(32) | np.arange(len(keys), dtype=np.uint64)
        )
        keys, rows = placed >> np.uint64(32), self._variants[placed & _LOW_HALF]
        joined = [rows[:0]], [rows[:0]]
        for left, right in self._pairs(keys, rows, _most_bits_apart(similarity)):
            alike = self.similarities(left, right) >= similarity
            joined[0].append(left[alike])
            joined[1].append(right[alike])
        lefts, rights = (np.concatenate(side) for side in joined)
        self.labels = _merged(self.labels, self.labels[lefts], self.labels[rights])

    def similarities(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Jaccard similarity of the products in rows ``left`` and ``right``, pair by pair."""
        self.compared += len(left)
        return similarities(self._terms, self._counts, self._ends, left, right)

    def _pairs(
        self, keys: np.ndarray, rows: np.ndarray, most_apart: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Neighbours in one bucket (``keys`` are sorted) that may be alike and are yet apart."""
        for begin in range(0, len(keys), _PRODUCTS_AT_A_TIME):
            some = slice(begin, begin + _PRODUCTS_AT_A_TIME + _NEIGHBOURS)
            key, row = keys[some], rows[some]
            label, bits = self.labels[row], [word[row] for word in self._bits]
            found = [row[:0]], [row[:0]]
            left = np.arange(min(_PRODUCTS_AT_A_TIME, len(key)))
            for distance in range(1, _NEIGHBOURS + 1):
                left = left[left < len(key) - distance]
                left = left[key[left] == key[left + distance]]
                apart = left[label[left] != label[left + distance]]
                differing = sum(
                    np.bitwise_count(word[apart] ^ word[apart + distance]) for word in bits
                )
                alike = apart[differing <= most_apart]
                found[0].append(row[alike])
                found[1].append(row[alike + distance])
            yield np.concatenate(found[0]), np.concatenate(found[1])


def _numbered(keys: np.ndarray) -> np.ndarray:
    """Labels (i64 from 0) that are equal where the keys are; each 0 gets a label of its own."""
    values, labels = np.unique(keys, return_inverse=True)
    nameless = keys == 0
    labels[nameless] = len(values) + np.arange(np.count_nonzero(nameless))
    return labels


def _merged(labels: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The labels after joining the label ``left`` with the label ``right``, pair by pair."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(left):
        return labels
    size = int(labels.max()) + 1
    edges = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(size, size))
    return connected_components(edges, directed=False)[1][labels]


def _written(clusters: _Clusters, scratch: _Scratch, file: Path) -> NearDuplicateSummary:
    """Write the clusters of at least two products, a file a batch, then one file of all."""
    sizes = np.bincount(clusters.labels)
    first = _representatives(clusters.labels, sizes, scratch)
    number_of = np.zeros(len(sizes), dtype=np.int64)
    number_of[first["label"].to_numpy()] = np.arange(first.height)
    for position, rows, ids in _id_batches(scratch):
        labels = clusters.labels[rows]
        kept = np.flatnonzero(sizes[labels] > 1)
        numbers = number_of[labels[kept]]
        chosen = first[numbers]
        pl.DataFrame(
            {
                "product_id": ids[kept],
                "cluster_id": chosen["product_id"],
                "size": sizes[labels[kept]],
                "similarity": clusters.similarities(kept + rows.start, chosen["row"].to_numpy()),
            },
            schema_overrides=SCHEMA,
        ).write_ipc(scratch.folder / f"found-{position:06}.arrow")
    found = sorted(scratch.folder.glob("found-*.arrow"))
    if found:
        pl.scan_ipc(found).sink_parquet(file, compression="zstd")
    else:
        pl.DataFrame(schema=SCHEMA).write_parquet(file, compression="zstd")
    return NearDuplicateSummary(
        products=len(clusters.labels),
        clusters=first.height,
        clustered=int(sizes[sizes > 1].sum()),
        largest=int(sizes.max(initial=0)) if first.height else 0,
        compared=clusters.compared,
    )


def _representatives(labels: np.ndarray, sizes: np.ndarray, scratch: _Scratch) -> pl.DataFrame:
    """label, product_id, row of the smallest id of each cluster of at least two products."""
    smallest = pl.col("product_id") == pl.col("product_id").min().over("label")
    schema = {"label": pl.Int64, "product_id": pl.String, "row": pl.Int64}
    first, waiting = pl.DataFrame(schema=schema), []
    for _, rows, ids in _id_batches(scratch):
        batch = pl.DataFrame(
            {"label": labels[rows], "product_id": ids, "row": np.arange(rows.start, rows.stop)},
            schema_overrides=schema,
        )
        waiting.append(batch.filter(sizes[labels[rows]] > 1))
        # Merging only what is as large as the result keeps this linear in the catalog.
        if sum(map(len, waiting)) > max(_BATCH_PRODUCTS, first.height):
            first, waiting = pl.concat([first, *waiting]).filter(smallest), []
    return pl.concat([first, *waiting]).filter(smallest).sort("label")


def _id_batches(scratch: _Scratch) -> Iterator[tuple[int, slice, pl.Series]]:
    """The number, the rows and the product ids of each batch."""
    start = 0
    for number, path in enumerate(sorted(scratch.folder.glob("ids-*.arrow"))):
        ids = pl.read_ipc(path)["product_id"]
        yield number, slice(start, start + len(ids)), ids
        start += len(ids)

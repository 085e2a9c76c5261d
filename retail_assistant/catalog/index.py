"""Hybrid search over the assortment: item codes and names first, then full text and vectors.

A folder holds one LanceDB table: every PRODUCTS column, the normalised name, the searchable text
and a MiniLM vector, with a full-text index. A shopper's question usually names its product, so the
embedding model (torch) is loaded only for questions that name none.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import polars as pl
from pydantic import BaseModel, ConfigDict

from retail_assistant.catalog.embedding import (
    DIMENSIONS,
    EMBEDDING_MODEL,
    NameBook,
    Named,
    embed,
    embedding_text,
    normalise,
    normalised,
    search_text,
)

if TYPE_CHECKING:
    from lancedb.expr import Expr
    from lancedb.table import Table

Match = Literal["item", "name", "typo", "hybrid", "fill", "alternative", "complement"]
Ranking = list[tuple[str, float]]
"""(product_id, score) pairs, best first; higher is better."""

_TABLE = "products"
_REQUIRED = [
    "product_id",
    "name",
    "brand",
    "description",
    "categories",
    "department",
    "category",
    "subcategory",
    "attributes",
]
_DERIVED = ["name_key", "text", "vector"]
_QUERY_CHARACTERS = 2000
_CANDIDATES = 64
# Cormack, Clarke & Buettcher (SIGIR 2009), "Reciprocal Rank Fusion": k = 60.
_RRF_K = 60


class CatalogIndexError(ValueError):
    """The index, or what it is to be built from, cannot be used."""


class IndexSummary(BaseModel):
    """What `build_index` wrote."""

    model_config = ConfigDict(frozen=True)

    products: int
    distinct_names: int
    dimensions: int
    embedding_model: str
    size_bytes: int


class _Hit(NamedTuple):
    product_id: str
    score: float
    match: Match


def build_index(products: pl.DataFrame, folder: Path) -> IndexSummary:
    """Write the search index of a PRODUCTS frame into `folder`, replacing what was there.

    The table is made beside the folder and moved in whole, so an interrupted build leaves no half
    index. Rows are stored in product_id order.

    Raises:
        CatalogIndexError: no rows, a column missing, or a product_id twice.

    """
    _require_products(products)
    rows = products.sort("product_id").with_columns(
        normalised(pl.col("name")).alias("name_key"), search_text().alias("text")
    )
    vectors = embed(rows.select(embedding_text()).to_series().to_list())
    rows = rows.with_columns(pl.Series("vector", vectors, dtype=pl.Array(pl.Float32, DIMENSIONS)))
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    _write_table(rows, partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return IndexSummary(
        products=rows.height,
        distinct_names=rows["name_key"].n_unique(),
        dimensions=DIMENSIONS,
        embedding_model=EMBEDDING_MODEL,
        size_bytes=sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
    )


def _require_products(products: pl.DataFrame) -> None:
    missing = [column for column in _REQUIRED if column not in products.columns]
    if missing:
        raise CatalogIndexError(f"Products to index lack the columns {', '.join(missing)}.")
    if products.is_empty():
        raise CatalogIndexError("There are no products to index: the assortment is empty.")
    twice = products.filter(pl.col("product_id").is_duplicated())["product_id"]
    if not twice.is_empty():
        raise CatalogIndexError(
            f"Products to index hold product_id {twice.sort()[0]} more than once."
        )


def _write_table(rows: pl.DataFrame, folder: Path) -> None:
    import lancedb
    from lancedb.index import FTS

    folder.parent.mkdir(parents=True, exist_ok=True)
    table = lancedb.connect(folder).create_table(_TABLE, rows.to_arrow())
    table.create_index("text", config=FTS())


class CatalogIndex:
    """A built index, opened lazily: nothing is read before the first call that needs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def open(cls, folder: Path) -> CatalogIndex:
        """The index in `folder`.

        Raises:
            CatalogIndexError: the folder holds no index.

        """
        if not (folder / f"{_TABLE}.lance").is_dir():
            raise CatalogIndexError(f"{folder} holds no catalog index: build catalog_index first.")
        return cls(folder)

    @cached_property
    def _table(self) -> Table:
        import lancedb

        return lancedb.connect(self.folder).open_table(_TABLE)

    @cached_property
    def _names(self) -> NameBook:
        columns = self._table.search().select(["product_id", "name_key"]).limit(len(self))
        return NameBook(columns.to_polars())

    def __len__(self) -> int:
        return int(self._table.count_rows())

    def product(self, product_id: str) -> dict[str, Any] | None:
        """The PRODUCTS row of an id, or None where the index has no such product."""
        return self._records([product_id]).get(product_id)

    def search(self, query: str, k: int = 2) -> list[dict[str, Any]]:
        """The `k` products that fit a query best: `search_many` for one query."""
        return self.search_many([query], k)[0]

    def search_many(self, queries: Sequence[str], k: int = 2) -> list[list[dict[str, Any]]]:
        """For each query its `k` products (all there are, if fewer), best first.

        What a query names comes first: an item code or id, else catalog names in it, else names
        with typos. Queries that name nothing are ranked by full text and vectors together, their
        vectors computed in one batch; elsewhere full text fills the places left. Never raises
        because of a query's text.

        Returns PRODUCTS rows with `score` (0 to 1, comparable within one `match` only) and `match`
        (how the row was found: item, name, typo, hybrid or fill). Ties go by product_id.
        """
        keys = [normalise(query[:_QUERY_CHARACTERS]) for query in queries]
        hits = [
            self._named(query[:_QUERY_CHARACTERS], key)
            for query, key in zip(queries, keys, strict=True)
        ]
        unnamed = [number for number, found in enumerate(hits) if keys[number] and not found]
        vectors = embed([queries[number][:_QUERY_CHARACTERS] for number in unnamed])
        for number, vector in zip(unnamed, vectors.tolist(), strict=True):
            hits[number] = self._hybrid(keys[number], vector, k)
        filled = [self._filled(found, key, k) for found, key in zip(hits, keys, strict=True)]
        records = self._records({hit.product_id for found in filled for hit in found})
        return [[_row(records[hit.product_id], hit) for hit in found] for found in filled]

    def alternatives(self, product_id: str, k: int = 2) -> list[dict[str, Any]]:
        """Up to `k` other products of the same subcategory (where it has none: category).

        Nearest by vector; a product whose name is nearly the same as the product's own, or as one
        already chosen, only after all others.

        Raises:
            CatalogIndexError: the index has no such product.

        """
        row = self._row_with_vector(product_id)
        nearest: Ranking = []
        for level in ("subcategory", "category"):
            if row[level] is not None and not nearest:
                nearest = self._near(row["vector"], _other(product_id) & _equals(level, row[level]))
        records = self._records(found for found, _ in nearest)
        names = {found: records[found]["name"] for found, _ in nearest}
        chosen = _fresh_names_first(nearest, names, row["name"])[:k]
        return [_row(records[found], _Hit(found, score, "alternative")) for found, score in chosen]

    def complements(self, product_id: str, k: int = 2) -> list[dict[str, Any]]:
        """Up to `k` products of other subcategories of the same category (audience).

        Nearest by vector, with a bonus for a shared occasion and for the same brand; different
        subcategories take turns. Empty where the product has no category or subcategory.

        Raises:
            CatalogIndexError: the index has no such product.

        """
        row = self._row_with_vector(product_id)
        if row["category"] is None or row["subcategory"] is None:
            return []
        where = _equals("category", row["category"]) & ~_equals("subcategory", row["subcategory"])
        nearest = self._near(row["vector"], _other(product_id) & where)
        records = self._records(found for found, _ in nearest)
        ranked = _ranked(
            (found, score + _affinity(row, records[found])) for found, score in nearest
        )
        groups: dict[str, Ranking] = {}
        for found, score in ranked:
            groups.setdefault(records[found]["subcategory"], []).append((found, score))
        chosen = _in_turn(groups.values())[:k]
        return [_row(records[found], _Hit(found, score, "complement")) for found, score in chosen]

    def _named(self, query: str, key: str) -> list[_Hit]:
        """Products that the query names, without the embedding model."""
        names = self._names
        ways: list[tuple[Match, Callable[[str], Named], str]] = [
            ("item", names.coded, query),
            ("name", names.named, key),
            ("typo", names.misspelt, key),
        ]
        for match, find, text in ways:
            if found := find(text):
                ranked = [self._by_text(key, ids, score) for ids, score in found]
                return [_Hit(i, score, match) for i, score in _in_turn(ranked)]
        return []

    def _by_text(self, key: str, ids: Sequence[str], score: float) -> Ranking:
        """Products that share one name or code, those first whose records fit the query's words."""
        if len(ids) == 1:
            return [(ids[0], score)]
        fit = dict(self._full_text(key, len(ids), _column("product_id").isin(ids)))
        ordered = _ranked((product_id, fit.get(product_id, 0.0)) for product_id in ids)
        return [(product_id, score) for product_id, _ in ordered]

    def _hybrid(self, key: str, vector: list[float], k: int) -> list[_Hit]:
        depth = max(_CANDIDATES, k)
        fused: dict[str, float] = {}
        # By hand: LanceDB's RRFReranker leaves products of equal score in no stated order.
        for ranking in (self._full_text(key, depth), self._near(vector, None, depth)):
            for rank, (product_id, _) in enumerate(ranking, start=1):
                fused[product_id] = fused.get(product_id, 0.0) + (_RRF_K + 1) / (_RRF_K + rank) / 2
        return [_Hit(i, score, "hybrid") for i, score in _ranked(fused.items())]

    def _filled(self, found: list[_Hit], key: str, k: int) -> list[_Hit]:
        """The first `k` hits, the places left taken by full text and then by product_id."""
        hits = list(dict.fromkeys(found))[:k]
        taken = {hit.product_id for hit in hits}
        if len(hits) < k and key:
            more = self._full_text(key, k + len(hits))
            hits += [_Hit(i, 0.0, "fill") for i, _ in more if i not in taken][: k - len(hits)]
            taken = {hit.product_id for hit in hits}
        if len(hits) < k:
            rest = (i for i in self._names.ids if i not in taken)
            hits += [_Hit(i, 0.0, "fill") for i in islice(rest, k - len(hits))]
        return hits

    def _full_text(self, key: str, limit: int, where: Expr | None = None) -> Ranking:
        from lancedb.query import MatchQuery

        # A match query takes the text as words; a query string would be parsed for operators.
        match: Callable[..., Any] = MatchQuery
        found: Any = self._table.search(match(key, "text")).select(["product_id", "_score"])
        if where is not None:
            found = found.where(where)
        return _settled(lambda size: _pairs(found.limit(size).to_list(), "_score", 1.0), limit)

    def _near(self, vector: list[float], where: Expr | None, limit: int = _CANDIDATES) -> Ranking:
        """Nearest products by cosine similarity, by an exact scan."""
        query: Any = self._table.search(vector, query_type="vector")
        found = query.distance_type("cosine").bypass_vector_index()
        found = found.select(["product_id", "_distance"])
        if where is not None:
            found = found.where(where, prefilter=True)
        nearest = _settled(lambda n: _pairs(found.limit(n).to_list(), "_distance", -1.0), limit)
        return [(product_id, round(1.0 + negated, 5)) for product_id, negated in nearest]

    def _records(self, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        wanted = sorted(set(ids))
        if not wanted:
            return {}
        found = self._table.search().where(_column("product_id").isin(wanted)).limit(len(wanted))
        columns = [name for name in self._table.schema.names if name not in _DERIVED]
        return {row["product_id"]: row for row in found.select(columns).to_list()}

    def _row_with_vector(self, product_id: str) -> dict[str, Any]:
        found = self._table.search().where(_equals("product_id", product_id)).limit(1).to_list()
        if not found:
            raise CatalogIndexError(f"The catalog index has no product {product_id!r}.")
        return dict(found[0])


_OCCASION = re.compile(r"^(ideal )?occasion$", re.IGNORECASE)


def _column(name: str) -> Expr:
    from lancedb.expr import col

    return col(name)


def _equals(name: str, value: str) -> Expr:
    from lancedb.expr import lit

    return _column(name).eq(lit(value))


def _other(product_id: str) -> Expr:
    return ~_equals("product_id", product_id)


def _pairs(rows: list[dict[str, Any]], column: str, sign: float) -> Ranking:
    return [(row["product_id"], sign * round(row[column], 5)) for row in rows]


def _ranked(pairs: Iterable[tuple[str, float]]) -> Ranking:
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


def _settled(fetch: Callable[[int], Ranking], limit: int) -> Ranking:
    """The best `limit` pairs, ties by product_id, however the engine orders equal scores.

    Fetches more until the last score fetched is below the last one kept.
    """
    size = max(limit, 1) * 2
    while True:
        rows = fetch(size)
        if len(rows) < size or rows[-1][1] < rows[limit - 1][1]:
            return _ranked(rows)[:limit]
        size *= 4


def _in_turn(groups: Iterable[Ranking]) -> Ranking:
    """First of each group, then second of each, …; every product once."""
    rounds = zip_longest(*groups)
    pairs = (pair for turn in rounds for pair in turn if pair is not None)
    return list({product_id: (product_id, score) for product_id, score in pairs}.values())


def _fresh_names_first(nearest: Ranking, names: dict[str, str], own: str) -> Ranking:
    from rapidfuzz import fuzz

    seen, fresh, repeated = [normalise(own)], [], []
    for product_id, score in nearest:
        key = normalise(names[product_id])
        if max(fuzz.ratio(key, name) for name in seen) >= 95:
            repeated.append((product_id, score))
        else:
            fresh.append((product_id, score))
            seen.append(key)
    return fresh + repeated


def _occasions(row: dict[str, Any]) -> set[str]:
    values = (a["value"] for a in row["attributes"] if a["name"] and _OCCASION.match(a["name"]))
    return {part.strip().lower() for value in values for part in value.split(",")}


def _affinity(row: dict[str, Any], other: dict[str, Any]) -> float:
    """What speaks for wearing two products together, on the scale of cosine similarity."""
    same_brand = row["brand"] is not None and row["brand"] == other["brand"]
    return 0.15 * bool(_occasions(row) & _occasions(other)) + 0.1 * same_brand


def _row(record: dict[str, Any], hit: _Hit) -> dict[str, Any]:
    return {**record, "score": hit.score, "match": hit.match}

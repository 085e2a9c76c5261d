"""Hybrid search over the assortment: item codes and names first, then full text and vectors.

A folder holds one LanceDB table: every PRODUCTS column, the searchable text with its full-text
index, a MiniLM vector, and what filters and suggestions go by. LanceDB, because it keeps records,
full text and vectors together in plain columnar files: no server to run, a search reads the
columns it needs, and a folder that can be copied to an object store and back is a whole index.

What nearly every question looks at is read into memory once, by the first that needs it: names
(`catalog.mentions`), and for suggestions and searches by meaning shelves and vectors
(`catalog.neighbours`). A shopper's question usually names its product, so the embedding model
(torch) is loaded only for questions that name none.

Written by `catalog.index_writer`, published to an object store by `catalog.publication`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import polars as pl

from retail_assistant.catalog.embedding import (
    EMBEDDING_MODEL,
    EMBEDDING_VERSION,
    embed,
    embed_query,
    embedding_key,
    normalise,
)
from retail_assistant.catalog.filters import ProductFilter
from retail_assistant.catalog.mentions import NameBook, Named
from retail_assistant.catalog.neighbours import CANDIDATES, READ, Neighbours
from retail_assistant.catalog.publication import CatalogIndexError, fetch_index, is_published
from retail_assistant.catalog.suggestions import Ranking, in_turn, ranked
from retail_assistant.catalog.vectors import KEY
from retail_assistant.telemetry.tracing import span

if TYPE_CHECKING:
    import numpy as np
    from lancedb.expr import Expr
    from lancedb.table import Table

Match = Literal["item", "name", "typo", "hybrid", "fill", "alternative", "complement"]
TABLE = "products"
_DERIVED = frozenset(
    {"name_key", "text", "vector", "embedding_key", "facets", "price", "kind", "audience"}
)
_EMBEDDED = ("name", "brand", "department", "category", "subcategory", "attributes")
"""What a product's vector is made of."""

_QUERY_CHARACTERS = 2000
# A second query for products of equal score costs more than some more of them at once.
_FETCHED = 64
# Cormack, Clarke & Buettcher (SIGIR 2009), "Reciprocal Rank Fusion": k = 60.
_RRF_K = 60


class _Hit(NamedTuple):
    product_id: str
    score: float
    match: Match


def open_table(folder: Path) -> Table:
    """The LanceDB table of an index.

    Raises:
        CatalogIndexError: the folder holds no index.

    """
    import lancedb

    _require_index(folder)
    return lancedb.connect(folder).open_table(TABLE)


def _require_index(folder: Path) -> None:
    if not (folder / f"{TABLE}.lance").is_dir():
        raise CatalogIndexError(f"{folder} holds no catalog index: build catalog_index first.")


def _require_same_embedding(table: Table, folder: Path) -> None:
    """Refuse vectors of another embedding model, to which a question's vector is near by chance.

    Raises:
        CatalogIndexError: the first product's key is not that of this model and text.
    """
    if KEY in table.schema.names:
        row = table.search().select([*_EMBEDDED, KEY]).limit(1).to_polars()
        if row.select(embedding_key().eq(pl.col(KEY)).all()).item():
            return
    raise CatalogIndexError(
        f"{folder} was built by another embedding model than {EMBEDDING_MODEL}, version"
        f" {EMBEDDING_VERSION}: build catalog_index again."
    )


class CatalogIndex:
    """A built index, opened lazily: nothing is read before the first call that needs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def open(cls, place: str | Path, cache: Path | None = None) -> CatalogIndex:
        """The index in a folder, or published (`publish_index`) at a URI such as gs://bucket/index.

        A published index is copied to `cache` once (default: `cache/catalog_index` under the
        storage folder) and checked against its manifest.

        Raises:
            CatalogIndexError: there is no index, or what was published is damaged.

        """
        folder = fetch_index(str(place), cache) if is_published(str(place)) else Path(place)
        _require_index(folder)
        return cls(folder)

    @cached_property
    def _table(self) -> Table:
        table = open_table(self.folder)
        _require_same_embedding(table, self.folder)
        return table

    @cached_property
    def _names(self) -> NameBook:
        columns = self._table.search().select(["product_id", "name_key"]).limit(len(self))
        return NameBook(columns.to_polars())

    @cached_property
    def neighbours(self) -> Neighbours:
        """What lies near each product, without records; some 30 MB of 20,000 products."""
        return Neighbours(self.columns(READ))

    def __len__(self) -> int:
        return int(self._table.count_rows())

    def product_ids(self) -> list[str]:
        """The ids of all products, in no stated order."""
        found = self._table.search().select(["product_id"]).limit(len(self))
        ids: list[str] = found.to_arrow().column("product_id").to_pylist()
        return ids

    @cached_property
    def record_columns(self) -> list[str]:
        """The columns of a PRODUCTS row, without what the index keeps for itself."""
        return [name for name in self._table.schema.names if name not in _DERIVED]

    def columns(self, names: Sequence[str]) -> pl.DataFrame:
        """Some columns of all products, PRODUCTS' or the index's own (kind, audience, price, …)."""
        found: pl.DataFrame = self._table.search().select(list(names)).limit(len(self)).to_polars()
        return found

    def mentioned(self, text: str) -> list[list[str]]:
        """Ids of the products that a text mentions: a group a mention, without the embedding model.

        Item codes and ids first, then names in the order they stand; a name that several products
        share has all of them in its group, unless a code says which one is meant.
        """
        cut = text[:_QUERY_CHARACTERS]
        coded = [ids for ids, _ in self._names.coded(cut)]
        known = {product_id for ids in coded for product_id in ids}
        named = [ids for ids, _ in self._names.named(normalise(cut)) if not known & set(ids)]
        groups = [sorted(ids) for ids in (*coded, *named)]
        return [list(ids) for ids in dict.fromkeys(map(tuple, groups))]

    def named(self, query: str, k: int = 2) -> list[tuple[str, float, Match]]:
        """Id, score and match of the first `k` products that a query names, as `search` has them.

        Without their records, without others to fill places, without the embedding model; [] where
        it names none.
        """
        cut = query[:_QUERY_CHARACTERS]
        hits = self._named(cut, normalise(cut), None)
        return [(hit.product_id, hit.score, hit.match) for hit in dict.fromkeys(hits)][:k]

    def nearly_mentioned(self, text: str) -> list[str]:
        """Ids of the products whose name a text comes to with a few typos; [] where none."""
        key = normalise(text[:_QUERY_CHARACTERS])
        return [product_id for ids, _ in self._names.misspelt(key) for product_id in sorted(ids)]

    def product(self, product_id: str) -> dict[str, Any] | None:
        """The PRODUCTS row of an id, or None where the index has no such product."""
        return self._records([product_id]).get(product_id)

    def products(self, product_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The PRODUCTS rows of some ids, by id; those that the index has."""
        return self._records(product_ids)

    def found(self, query: str, k: int = 2) -> list[tuple[str, float, Match]]:
        """Id, score and match of the `k` products that fit a query best, without their records."""
        with span("retrieve"):
            hits = self._found([query], k, None)[0]
        return [(hit.product_id, hit.score, hit.match) for hit in hits]

    def search(
        self, query: str, k: int = 2, filters: ProductFilter | None = None
    ) -> list[dict[str, Any]]:
        """The `k` products that fit a query best: `search_many` for one query."""
        with span("retrieve"):
            return self.search_many([query], k, filters)[0]

    def search_many(
        self, queries: Sequence[str], k: int = 2, filters: ProductFilter | None = None
    ) -> list[list[dict[str, Any]]]:
        """For each query its `k` products (all that pass the filters, if fewer), best first.

        What a query names comes first: an item code or id, else catalog names in it, else names
        with typos. Queries that name nothing are ranked by full text and vectors together, their
        vectors computed in one batch; elsewhere full text fills the places left. Never raises
        because of a query's text.

        Returns PRODUCTS rows with `score` (0 to 1, comparable within one `match` only) and `match`
        (how the row was found: item, name, typo, hybrid or fill). Ties go by product_id.
        """
        found = self._found(queries, k, filters)
        records = self._records({hit.product_id for hits in found for hit in hits})
        return [[_row(records[hit.product_id], hit) for hit in hits] for hits in found]

    def _found(
        self, queries: Sequence[str], k: int, filters: ProductFilter | None
    ) -> list[list[_Hit]]:
        where = filters.expression() if filters is not None else None
        keys = [normalise(query[:_QUERY_CHARACTERS]) for query in queries]
        hits = [
            self._named(query[:_QUERY_CHARACTERS], key, where)
            for query, key in zip(queries, keys, strict=True)
        ]
        unnamed = [number for number, found in enumerate(hits) if keys[number] and not found]
        texts = [queries[number][:_QUERY_CHARACTERS] for number in unnamed]
        vectors = [embed_query(texts[0])] if len(texts) == 1 else embed(texts)
        for number, vector in zip(unnamed, vectors, strict=True):
            hits[number] = self._hybrid(keys[number], vector, k, where)
        return [self._filled(found, key, k, where) for found, key in zip(hits, keys, strict=True)]

    def alternatives(self, product_id: str, k: int = 2) -> list[dict[str, Any]]:
        """Up to `k` products to take instead of a product, nearest by vector first.

        Other products of the same subcategory (where it has none: category), for the same
        audience, of a kind of garment that can stand in for it. A product whose name is nearly
        the same as the product's own, or as one already chosen, only after all others.

        Raises:
            CatalogIndexError: the index has no such product.

        """
        return self._suggested(self.neighbours.alternatives(product_id, k), "alternative")

    def complements(self, product_id: str, k: int = 2) -> list[dict[str, Any]]:
        """Up to `k` products to wear together with a product; different kinds take turns.

        Products of other subcategories of the same category, for the same audience, of a kind of
        garment that is worn with it: nearest by vector, with a bonus for a shared occasion and
        for the same brand. Empty where the product has no category or subcategory.

        Raises:
            CatalogIndexError: the index has no such product.

        """
        return self._suggested(self.neighbours.complements(product_id, k), "complement")

    def _suggested(self, ranking: Ranking, match: Match) -> list[dict[str, Any]]:
        records = self._records(found for found, _ in ranking)
        return [_row(records[found], _Hit(found, score, match)) for found, score in ranking]

    def _named(self, query: str, key: str, where: Expr | None) -> list[_Hit]:
        """Products that the query names, without the embedding model."""
        names = self._names
        ways: list[tuple[Match, Callable[[str], Named], str]] = [
            ("item", names.coded, query),
            ("name", names.named, key),
            ("typo", names.misspelt, key),
        ]
        for match, find, text in ways:
            if found := self._passing(find(text), where):
                groups = [self._by_text(key, ids, score) for ids, score in found]
                return [_Hit(i, score, match) for i, score in in_turn(groups)]
        return []

    def _passing(self, named: Named, where: Expr | None) -> Named:
        """The named products that pass a filter."""
        if where is None or not named:
            return named
        passing = self._ids(
            where & _column("product_id").isin({i for ids, _ in named for i in ids})
        )
        groups = [([i for i in ids if i in passing], score) for ids, score in named]
        return [(ids, score) for ids, score in groups if ids]

    def _ids(self, where: Expr) -> set[str]:
        found = self._table.search().where(where).select(["product_id"]).limit(len(self))
        return set(found.to_arrow().column("product_id").to_pylist())

    def _by_text(self, key: str, ids: Sequence[str], score: float) -> Ranking:
        """Products that share one name or code, those first whose records fit the query's words."""
        if len(ids) == 1:
            return [(ids[0], score)]
        fit = dict(self._full_text(key, len(ids), _column("product_id").isin(ids)))
        ordered = ranked((product_id, fit.get(product_id, 0.0)) for product_id in ids)
        return [(product_id, score) for product_id, _ in ordered]

    def _hybrid(self, key: str, vector: np.ndarray, k: int, where: Expr | None) -> list[_Hit]:
        depth = max(CANDIDATES, k)
        fused: dict[str, float] = {}
        # By hand: LanceDB's RRFReranker leaves products of equal score in no stated order.
        for ranking in (self._full_text(key, depth, where), self._near(vector, where, depth)):
            for rank, (product_id, _) in enumerate(ranking, start=1):
                fused[product_id] = fused.get(product_id, 0.0) + (_RRF_K + 1) / (_RRF_K + rank) / 2
        return [_Hit(i, score, "hybrid") for i, score in ranked(fused.items())]

    def _filled(self, found: list[_Hit], key: str, k: int, where: Expr | None) -> list[_Hit]:
        """The first `k` hits, the places left taken by full text and then by product_id."""
        hits = list(dict.fromkeys(found))[:k]
        taken = {hit.product_id for hit in hits}
        if len(hits) < k and key:
            more = self._full_text(key, k + len(hits), where)
            hits += [_Hit(i, 0.0, "fill") for i, _ in more if i not in taken][: k - len(hits)]
            taken = {hit.product_id for hit in hits}
        if len(hits) < k:
            passing = None if where is None else self._ids(where)
            rest = (
                i for i in self._names.ids if i not in taken and (passing is None or i in passing)
            )
            hits += [_Hit(i, 0.0, "fill") for i in islice(rest, k - len(hits))]
        return hits

    def _full_text(self, key: str, limit: int, where: Expr | None = None) -> Ranking:
        from lancedb.query import MatchQuery

        # A match query takes the text as words; a query string would be parsed for operators.
        match: Callable[..., Any] = MatchQuery
        found: Any = self._table.search(match(key, "text")).select(["product_id", "_score"])
        if where is not None:
            found = found.where(where, prefilter=True)

        def fetched(size: int) -> Ranking:
            rows = found.limit(size).to_list()
            return [(row["product_id"], round(row["_score"], 5)) for row in rows]

        return _settled(fetched, limit)

    def _near(self, vector: np.ndarray, where: Expr | None, limit: int) -> Ranking:
        """Nearest products by cosine similarity, among all that pass a filter."""
        among = None if where is None else self._ids(where)
        return self.neighbours.nearest(vector, limit, among)

    @cached_property
    def _row_ids(self) -> dict[str, int]:
        """LanceDB's number of each product's row: taking it needs no search for the product_id."""
        found = self._table.search().select(["product_id"]).with_row_id(True).limit(len(self))
        rows = found.to_arrow()
        ids: list[str] = rows.column("product_id").to_pylist()
        return dict(zip(ids, rows.column("_rowid").to_pylist(), strict=True))

    def _records(self, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        rows = sorted(self._row_ids[one] for one in set(ids) if one in self._row_ids)
        if not rows:
            return {}
        found = self._table.take_row_ids(rows).select(self.record_columns).to_list()
        return {row["product_id"]: row for row in found}


def _column(name: str) -> Expr:
    from lancedb.expr import col

    return col(name)


def _settled(fetch: Callable[[int], Ranking], limit: int) -> Ranking:
    """The best `limit` pairs, ties by product_id, however the engine orders equal scores.

    Fetches more until the last score fetched is below the last one kept.
    """
    size = max(2 * limit, _FETCHED)
    while True:
        rows = fetch(size)
        if len(rows) < size or rows[-1][1] < rows[limit - 1][1]:
            return ranked(rows)[:limit]
        size *= 4


def _row(record: dict[str, Any], hit: _Hit) -> dict[str, Any]:
    return {**record, "score": hit.score, "match": hit.match}

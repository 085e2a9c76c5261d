"""Write the search index of an assortment, from nothing or beside the index that was there before.

The table is written anew every time and only the vectors of unchanged texts are taken over:
embedding is nearly all of the time (`benchmarks/index.py`). Merging the changed rows into a copy
of the old table is faster still (under 1 s instead of 10 s for 1% of 70,000 products), but leaves
full-text statistics that depend on the table's history: it ranked 5 of 200 questions differently
from a table written anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.catalog import filters, garments
from retail_assistant.catalog.embedding import (
    DIMENSIONS,
    EMBEDDING_MODEL,
    embedding_key,
    embedding_text,
    normalised,
    search_text,
)
from retail_assistant.catalog.index import TABLE, open_table
from retail_assistant.catalog.publication import CatalogIndexError
from retail_assistant.catalog.vectors import KEY, KEY_TYPE, KnownVectors, Progress, VectorFile
from retail_assistant.storage.crash_points import crash_point_within, crossing

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb.table import Table

_REQUIRED = (
    "product_id",
    "name",
    "brand",
    "description",
    "categories",
    "department",
    "category",
    "subcategory",
    "attributes",
    "retail_price",
    "discounted_price",
)
_BATCH_ROWS = 8192


class IndexSummary(BaseModel):
    """What `build_index` wrote; products = embedded + reused."""

    model_config = ConfigDict(frozen=True)

    products: int
    distinct_names: int
    dimensions: int
    embedding_model: str
    size_bytes: int
    embedded: int = Field(description="Products whose vector was computed.")
    reused: int = Field(description="Products whose vector came from the previous index.")
    removed: int = Field(description="Products of the previous index that are gone.")


def build_index(
    products: pl.DataFrame | pl.LazyFrame,
    folder: Path,
    previous: Path | None = None,
    progress: Progress | None = None,
) -> IndexSummary:
    """Write the search index of a PRODUCTS frame into `folder`, replacing what was there.

    Vectors are taken from the index in `previous` where a product's embedding text has the same
    key there; an index that is missing or cannot be read is built without. The result does not
    depend on it. The table is made beside the folder and moved in whole, so an interrupted build
    leaves no half index; it leaves its vectors, and the next build goes on from there. Rows are
    read in batches: memory grows with the distinct embedding texts, not with the records.

    Raises:
        CatalogIndexError: no rows, a column missing, or a product_id twice.

    """
    rows = products.lazy()
    names = _require_products(rows)
    texts = rows.select(embedding_key().alias(KEY), text=embedding_text()).unique(KEY)
    work = folder.with_name(f"{folder.name}.vectors")
    vectors = VectorFile(texts.collect(engine="streaming"), work)
    old = _previous_table(previous)
    vectors.fill(_known_vectors(old), progress or _say_nothing)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    reused = _write_table(rows, vectors, partial)
    with crossing("index"):
        shutil.rmtree(folder, ignore_errors=True)
        crash_point_within()
        partial.rename(folder)
    shutil.rmtree(work, ignore_errors=True)
    return IndexSummary(
        products=names.height,
        distinct_names=names["name_key"].n_unique(),
        dimensions=DIMENSIONS,
        embedding_model=EMBEDDING_MODEL,
        size_bytes=sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
        embedded=names.height - reused,
        reused=reused,
        removed=_removed(old, names["product_id"]),
    )


def _say_nothing(done: float, total: float, note: str) -> None:
    pass


def _require_products(products: pl.LazyFrame) -> pl.DataFrame:
    """product_id and name_key of every row."""
    there = products.collect_schema().names()
    missing = [column for column in _REQUIRED if column not in there]
    if missing:
        raise CatalogIndexError(f"Products to index lack the columns {', '.join(missing)}.")
    names = products.select("product_id", name_key=normalised(pl.col("name"))).collect()
    if names.is_empty():
        raise CatalogIndexError("There are no products to index: the assortment is empty.")
    twice = names.filter(pl.col("product_id").is_duplicated())["product_id"]
    if not twice.is_empty():
        raise CatalogIndexError(
            f"Products to index hold product_id {twice.sort()[0]} more than once."
        )
    return names


def _write_table(products: pl.LazyFrame, vectors: VectorFile, folder: Path) -> int:
    """Write and index the table; how many of its products have a vector that was taken over."""
    import lancedb
    from lancedb.index import FTS

    folder.parent.mkdir(parents=True, exist_ok=True)
    rows = products.with_columns(
        normalised(pl.col("name")).alias("name_key"),
        search_text().alias("text"),
        filters.facets(),
        filters.price(),
        garments.kind(),
        garments.audience(),
        embedding_key().alias(KEY),
    )
    counts: list[int] = []
    batches = _batches(rows, vectors, counts)
    table = lancedb.connect(folder).create_table(TABLE, _reader(rows, batches))
    table.create_index("text", config=FTS())
    return sum(counts)


def _batches(
    rows: pl.LazyFrame, vectors: VectorFile, counts: list[int]
) -> Iterator[pa.RecordBatch]:
    """The rows with their vectors; `counts` gets the reused vectors of each batch."""
    of_vector = pl.Array(pl.Float32, DIMENSIONS)
    for batch in rows.collect_batches(chunk_size=_BATCH_ROWS, maintain_order=True):
        keys = batch[KEY]
        counts.append(int(vectors.reused(keys).sum()))
        column = pl.Series("vector", vectors.vectors(keys), dtype=of_vector)
        yield from batch.with_columns(column).to_arrow().to_batches()


def _reader(rows: pl.LazyFrame, batches: Iterator[pa.RecordBatch]) -> pa.RecordBatchReader:
    import pyarrow as pa

    columns = {**rows.collect_schema(), "vector": pl.Array(pl.Float32, DIMENSIONS)}
    schema = pl.DataFrame(schema=columns).to_arrow().schema
    return pa.RecordBatchReader.from_batches(schema, batches)


def _previous_table(folder: Path | None) -> Table | None:
    """The table of an earlier index; None where there is none, or none that can be read."""
    if folder is None:
        return None
    try:
        table = open_table(folder)
        return table if {KEY, "vector", "product_id"} <= set(table.schema.names) else None
    except (CatalogIndexError, OSError, RuntimeError, ValueError):
        return None


def _known_vectors(table: Table | None) -> Iterator[KnownVectors]:
    """What an earlier index holds, batch by batch; ends where it cannot be read on."""
    if table is None:
        return
    query = table.search().select([KEY, "vector"]).limit(table.count_rows())
    try:
        for batch in query.to_batches(_BATCH_ROWS):
            keys = np.array(batch.column(KEY).to_pylist(), dtype=KEY_TYPE)
            flat = batch.column("vector").flatten().to_numpy(zero_copy_only=False)
            yield KnownVectors(keys, flat.reshape(len(keys), DIMENSIONS))
    except (OSError, RuntimeError, ValueError):
        return


def _removed(table: Table | None, product_ids: pl.Series) -> int:
    if table is None:
        return 0
    try:
        ids = table.search().select(["product_id"]).limit(table.count_rows()).to_polars()
    except (OSError, RuntimeError, ValueError):
        return 0
    return ids.join(product_ids.to_frame(), on="product_id", how="anti").height

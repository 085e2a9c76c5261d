"""From a catalog file to products, with a reason for every row that is none; in bounded memory.

Rows are read, cleaned and written a chunk at a time, two chunks at once. Only what needs the whole
catalog is kept: which ids were seen, in twelve bytes a product.
"""

import os
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.catalog.mapping import STATED_ATTRIBUTES
from retail_assistant.catalog.products import tidy_rows, validated, with_content_hash
from retail_assistant.catalog.profile import FLIPKART_PROFILE, CatalogProfile
from retail_assistant.catalog.ragged import Ragged, as_lists, flattened
from retail_assistant.catalog.schema import (
    PRODUCT_ID_PATTERN,
    RAW_COLUMNS,
    SOURCE_ROW,
    ProductSchema,
    RejectedSchema,
)
from retail_assistant.catalog.seen import SeenIds
from retail_assistant.catalog.source import RawChunk, open_catalog
from retail_assistant.catalog.specifications import stated
from retail_assistant.catalog.text import plain
from retail_assistant.storage import StorageError

THREADS = 2
SUMMARY = "clean_summary"
REPLACED = "\ufffd"
_REASONS = {
    "missing_id": "the id is empty",
    "invalid_id": f"the id is not of the form {PRODUCT_ID_PATTERN}",
    "missing_name": "the name has no letter or digit",
    "missing_category": "the category path has no level",
    "invalid_encoding": "bytes that are no text in the file's encoding (csv.encoding)",
    "invalid_specifications": "the specifications are no JSON object or list of entries",
}

# A letter or digit that belongs to no empty value.
_SAYS_SOMETHING = r"[\p{L}\p{N}]"
_EMPTY = ("nil", "null", "none", "n/a", "na", "[]", "{}", '{"product_specification"=>nil}')

_SOURCES = {
    "attributes": "specifications",
    "image_urls": "images",
    "retail_price": "retail_price",
    "discounted_price": "discounted_price",
}

Progress = Callable[[int, int, int], None]
"""Called with (rows so far, bytes read, bytes in all)."""


class CleanSummary(BaseModel):
    """What cleaning did, in counts; rows_in = products + rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows_in: int = Field(ge=0, description="data rows in the source file")
    products: int = Field(ge=0, description="rows that became products")
    rejected: int = Field(ge=0, description="rows that did not")
    reasons: dict[str, int] = Field(description="rejected rows by reason, most frequent first")
    unread: dict[str, int] = Field(
        description="products whose file states a value there that could not be read, by column"
    )
    columns: list[str] = Field(description="the columns of the source file")
    version: str = Field(
        description="the sum of the products' content hashes: their order does not matter"
    )


def read_summary(products: Path) -> CleanSummary:
    """What cleaning did, from the parquet file of products that it wrote."""
    return CleanSummary.model_validate_json(pl.read_parquet_metadata(products)[SUMMARY])


class CleanedCatalog(BaseModel):
    """Products and rejected rows of a catalog as parquet files; together all its rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    products: Path
    rejected: Path
    summary: CleanSummary


@dataclass(frozen=True)
class _Judged:
    """A chunk as far as it can be judged on its own."""

    usable: pl.DataFrame
    rejected: pl.DataFrame
    unread: dict[str, int]
    chunk: RawChunk


def clean_catalog(
    uri: str,
    folder: Path,
    profile: CatalogProfile = FLIPKART_PROFILE,
    progress: Progress = lambda rows, read, size: None,
) -> CleanedCatalog:
    """Clean the catalog at ``uri`` into ``folder``/products.parquet and rejected.parquet.

    Never fails for what stands in a row. Of rows that share an id, the first usable one wins. Rows
    are in file order. Each file appears whole or not at all.

    Raises CatalogError where the catalog cannot be read (see ``open_catalog``), StorageError where
    the disk is full or ``folder`` cannot be written.
    """
    rows_in = version = 0
    with ExitStack() as stack:
        source = stack.enter_context(open_catalog(uri, profile.columns, profile.csv))
        folder.mkdir(parents=True, exist_ok=True)
        products = stack.enter_context(_TableWriter(folder / "products.parquet", ProductSchema))
        rejected = stack.enter_context(_TableWriter(folder / "rejected.parquet", RejectedSchema))
        seen, reasons, unread = SeenIds(), Counter[str](), Counter[str]()
        for judged in _in_order(_judged, source.chunks):
            first, repeated = seen.split(judged.usable)
            turned_away = pl.concat([judged.rejected, _with_raw(repeated, judged.chunk.raw)])
            products.write(first)
            rejected.write(turned_away.sort(SOURCE_ROW))
            version = (version + sum(int(one, 16) for one in first["content_hash"])) % (1 << 128)
            reasons.update(turned_away["reason"].to_list())
            unread.update(judged.unread)
            rows_in += first.height + turned_away.height
            progress(rows_in, judged.chunk.read, judged.chunk.size)
        summary = CleanSummary(
            rows_in=rows_in,
            products=products.rows,
            rejected=rejected.rows,
            reasons=dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
            unread=dict(unread),
            columns=source.columns,
            version=f"{version:032x}",
        )
        products.note(SUMMARY, summary.model_dump_json())
    return CleanedCatalog(products=products.path, rejected=rejected.path, summary=summary)


def _judged(chunk: RawChunk) -> _Judged:
    """Tidy a chunk's rows and separate those that can be no product whatever stands elsewhere."""
    tidy = _with_stated_attributes(tidy_rows(chunk.rows), chunk.rows)
    tidy = tidy.with_columns(_reason(tidy, chunk).alias("reason"))
    refused = tidy.filter(pl.col("reason").is_not_null())
    usable, invalid = validated(with_content_hash(tidy.filter(pl.col("reason").is_null())))
    unusable = refused.select(
        SOURCE_ROW,
        "product_id",
        "reason",
        detail=pl.col("reason").replace_strict(_REASONS, return_dtype=pl.String),
    )
    rejected = _with_raw(pl.concat([unusable, invalid]), chunk.raw)
    broken = pl.DataFrame(chunk.broken, schema=_BROKEN, orient="row")
    columns = rejected.columns
    not_parsed = broken.with_columns(product_id=pl.lit(None, pl.String)).select(columns)
    return _Judged(usable, pl.concat([rejected, not_parsed]), _unread(usable, chunk.rows), chunk)


_BROKEN = {SOURCE_ROW: pl.UInt32, "reason": pl.String, "detail": pl.String, "raw": pl.String}


def _unread(products: pl.DataFrame, raw: pl.DataFrame) -> dict[str, int]:
    """How many products have nothing where the file has something, by column."""
    counts = {}
    for name, source in _SOURCES.items():
        values = products[name]
        is_list = values.dtype == pl.List
        rows = products[SOURCE_ROW].filter(values.list.len() == 0 if is_list else values.is_null())
        if not rows.is_empty():
            texts = raw.filter(pl.col(SOURCE_ROW).is_in(rows.implode())).select(source).to_series()
            bare = texts.drop_nulls().str.strip_chars().str.to_lowercase()
            said = bare.str.contains(_SAYS_SOMETHING) & ~bare.is_in(_EMPTY)
            counts[name] = int(said.sum())
    return {name: count for name, count in counts.items() if count}


def _with_stated_attributes(tidy: pl.DataFrame, raw: pl.DataFrame) -> pl.DataFrame:
    """Attributes from columns of their own behind those of the specification text."""
    if STATED_ATTRIBUTES not in raw.columns:
        return tidy
    entries, rows = flattened(raw[STATED_ATTRIBUTES])
    name, value = (plain(entries.struct.field(part)) for part in ("name", "value"))
    found = stated(name, value)
    more = as_lists(Ragged(found.values, found.offsets[rows]))
    return tidy.with_columns(attributes=pl.concat_list("attributes", pl.lit(more)))


def _reason(tidy: pl.DataFrame, chunk: RawChunk) -> pl.Expr:
    nothing = pl.lit(value=False)
    replaced = unread = nothing
    if chunk.lossy:
        texts = pl.concat_str(pl.col(RAW_COLUMNS), ignore_nulls=True)
        replaced = pl.lit(chunk.rows.select(texts.str.contains(REPLACED, literal=True)).to_series())
    if STATED_ATTRIBUTES in chunk.rows.columns:
        unread = pl.lit(chunk.rows[STATED_ATTRIBUTES].is_null())
    return (
        pl.when(replaced)
        .then(pl.lit("invalid_encoding"))
        .when(pl.col("product_id").is_null())
        .then(pl.lit("missing_id"))
        .when(~pl.col("product_id").str.contains(PRODUCT_ID_PATTERN))
        .then(pl.lit("invalid_id"))
        .when(~pl.col("name").str.contains(_SAYS_SOMETHING).fill_null(value=False))
        .then(pl.lit("missing_name"))
        .when(pl.col("department").is_null())
        .then(pl.lit("missing_category"))
        .when(unread)
        .then(pl.lit("invalid_specifications"))
    )


def _with_raw(rejected: pl.DataFrame, raw: Callable[[int], str]) -> pl.DataFrame:
    texts = pl.Series("raw", [raw(row) for row in rejected[SOURCE_ROW]], dtype=pl.String)
    return rejected.with_columns(texts)


def _in_order(work: Callable[[RawChunk], _Judged], chunks: Iterator[RawChunk]) -> Iterator[_Judged]:
    """Work on a few chunks at once; results come in the order of the chunks."""
    with ThreadPoolExecutor(THREADS) as pool:
        waiting: deque[Future[_Judged]] = deque()
        try:
            for chunk in chunks:
                waiting.append(pool.submit(work, chunk))
                if len(waiting) > THREADS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


class _TableWriter:
    """Writes chunks to a parquet file, a row group each; it appears at the end, whole."""

    def __init__(self, path: Path, schema: Any) -> None:
        self.path, self.rows = path, 0
        self._partial = path.with_name(f".{path.name}.partial")
        self._schema = schema.create_empty()
        self._columns = self._schema.columns

    def __enter__(self) -> "_TableWriter":
        import pyarrow.parquet as pq

        arrow = self._schema.to_arrow().schema
        self._writer = pq.ParquetWriter(
            self._partial,
            arrow,
            compression="zstd",
            compression_level=1,
            use_dictionary=_REPEATED,
            write_statistics=False,
        )
        self._thread = ThreadPoolExecutor(1)
        self._pending: Future[None] = self._thread.submit(lambda: None)
        return self

    def write(self, frame: pl.DataFrame) -> None:
        """Append ``frame``, which has the schema's columns."""
        self.rows += frame.height
        if frame.height:
            table = frame.select(self._columns).cast(dict(self._schema.schema)).to_arrow()
            # Written beside the reading, one table behind: no more than two are in memory.
            with self._reported():
                self._pending.result()
                self._pending = self._thread.submit(self._writer.write_table, table)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            cause = os.strerror(error.errno) if error.errno else str(error)
            raise StorageError(f"{self.path} cannot be written: {cause}") from error

    def note(self, key: str, text: str) -> None:
        """Write ``text`` into the file beside the rows."""
        with self._reported():
            self._pending.result()
        self._writer.add_key_value_metadata({key: text})

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            with self._reported():
                self._thread.shutdown(wait=True)
                self._writer.close()
                if kind is None:
                    self._pending.result()
            if kind is None:
                self._partial.replace(self.path)
        finally:
            self._partial.unlink(missing_ok=True)


# Dictionaries pay where few values come again and again; elsewhere they cost time.
_REPEATED = ["brand", "department", "category", "subcategory", "reason"]

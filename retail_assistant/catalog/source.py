"""Reading a catalog file, wherever it is, a block of rows at a time."""

import codecs
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import polars as pl

from retail_assistant.catalog.mapping import FLIPKART, RFC_4180, Columns, CsvDialect, mapped
from retail_assistant.catalog.records import ROW, Broken, RecordReader, TooBrokenError
from retail_assistant.catalog.schema import SOURCE_ROW
from retail_assistant.objects import file_system

Found = TypeVar("Found")

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
CSV_SUFFIXES: tuple[str, ...] = (".csv", ".csv.gz", ".csv.zst")
PARQUET_SUFFIXES: tuple[str, ...] = (".parquet",)
ALLOWED = "allowed: a file or URI ending in " + ", ".join((*CSV_SUFFIXES, *PARQUET_SUFFIXES))
PARQUET_ROWS = 20_000
_DECODED_BYTES = 1 << 20
# What a file begins with that is no UTF-8 text.
_WIDE_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class CatalogError(ValueError):
    """A catalog that cannot be used, in one sentence that a person can act on."""


@dataclass(frozen=True)
class RawChunk:
    """Consecutive rows of a catalog.

    ``rows``: the text columns of RAW_COLUMNS and ``source_row`` (u32, 1-based). ``broken``: records
    that could not be read. ``raw`` gives the text of a row back. ``lossy``: invalid bytes of some
    rows were replaced by U+FFFD. ``read`` of ``size`` bytes of the file are behind us.
    """

    rows: pl.DataFrame
    broken: list[Broken]
    raw: Callable[[int], str]
    lossy: bool
    read: int
    size: int


@dataclass(frozen=True)
class CatalogSource:
    """An opened catalog: the names of its columns, and its rows (to be taken once)."""

    columns: list[str]
    chunks: Iterator[RawChunk]


@contextmanager
def open_catalog(
    uri: str, columns: Columns = FLIPKART, dialect: CsvDialect = RFC_4180
) -> Iterator[CatalogSource]:
    """Open the catalog at ``uri``, a local path or any fsspec URI (gs://, s3://, memory://, …).

    Streams: memory does not grow with the file. Columns that the file lacks are null. A line with
    too few fields is filled with nulls; one that cannot be read is among the ``broken`` of its
    chunk.

    Raises CatalogError, here or while rows are taken: a missing file, a folder, an unknown ending,
    an empty file, absent required columns, another encoding or unreadable content.
    """
    suffix = _known_suffix(uri)
    with _opened(uri) as file:
        with _reported(uri):
            size = _size(file)
            if suffix in PARQUET_SUFFIXES:
                source = _parquet_source(uri, file, size, columns)
            else:
                source = _csv_source(uri, file, size, columns, dialect)
        yield source


def catalog_version(uri: str) -> str:
    """Return the data version of the file at ``uri``.

    ``sha256:<hex>`` of the bytes; for gs:// ``gcs:<generation>-<md5>`` from the object's metadata,
    so that observing a large catalog does not download it. Raises CatalogError when it is absent.
    """
    import hashlib

    if uri.startswith(("gs://", "gcs://")):
        info = catalog_state(uri)
        # A composed object has no md5; its generation still changes with every write.
        return f"gcs:{info['generation']}-{info.get('md5Hash', '')}"
    with _opened(uri) as file, _reported(uri):
        return f"sha256:{hashlib.file_digest(cast(Any, file), 'sha256').hexdigest()}"


def catalog_state(uri: str) -> dict[str, Any]:
    """Return what the file system knows of the file at ``uri`` without reading it.

    For a local file ``size`` and ``mtime``, for gs:// also ``generation`` and ``md5Hash``. Raises
    CatalogError when it is absent or a folder.
    """
    filesystem, path = _filesystem(uri)
    with _reported(uri):
        info = cast(dict[str, Any], filesystem.info(path))
    if info.get("type") == "directory":
        raise CatalogError(f"catalog {uri} is a folder; {ALLOWED}")
    return info


def _csv_source(
    uri: str, file: BinaryIO, size: int, columns: Columns, dialect: CsvDialect
) -> CatalogSource:
    stream = _utf8(uri, _decompressed(uri, file), dialect.encoding)
    reader = RecordReader(
        stream, delimiter=dialect.delimiter, max_record_bytes=dialect.max_record_bytes
    )
    if not any(reader.header):
        raise CatalogError(f"catalog {uri} is empty; {ALLOWED}, with a header row")
    found = reader.header
    _require(uri, columns, found)
    reader.wanted = [name for name in columns.used if name in found]

    def chunks() -> Iterator[RawChunk]:
        any_row = False
        for block in reader:
            any_row = any_row or bool(block.rows.height or block.broken)
            rows = _canonical(block.rows, columns, reader.wanted)
            read = file.tell()
            yield RawChunk(rows, block.broken, block.raw, block.lossy, read, size)
        if not any_row:
            raise CatalogError(f"catalog {uri} has no data rows; {ALLOWED}, with at least one row")

    return CatalogSource(found, _reporting(uri, chunks()))


def _parquet_source(uri: str, file: BinaryIO, size: int, columns: Columns) -> CatalogSource:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.ParquetFile(file)
    found = list(table.schema_arrow.names)
    _require(uri, columns, found)
    if table.metadata.num_rows == 0:
        raise CatalogError(f"catalog {uri} has no data rows; {ALLOWED}, with at least one row")
    wanted = [name for name in columns.used if name in found]
    nested = [name for name in wanted if pa.types.is_nested(table.schema_arrow.field(name).type)]
    if nested:
        raise CatalogError(f"catalog {uri} has nested column(s) {', '.join(nested)}; allowed: text")

    def chunks() -> Iterator[RawChunk]:
        first = 1
        for batch in table.iter_batches(batch_size=PARQUET_ROWS, columns=wanted):
            rows = pl.DataFrame(batch).cast(pl.String)
            number = pl.int_range(first, first + rows.height, dtype=pl.UInt32).alias(ROW)
            read = int(size * (first - 1 + rows.height) / table.metadata.num_rows)
            canonical = _canonical(rows.with_columns(number), columns, wanted)
            yield RawChunk(canonical, [], _json_rows(rows, first), False, read, size)
            first += rows.height

    return CatalogSource(found, _reporting(uri, chunks()))


def _json_rows(rows: pl.DataFrame, first: int) -> Callable[[int], str]:
    import json

    return lambda row: json.dumps(rows.row(row - first, named=True), ensure_ascii=False)


def _canonical(rows: pl.DataFrame, columns: Columns, found: list[str]) -> pl.DataFrame:
    return mapped(rows.lazy(), columns, found).rename({ROW: SOURCE_ROW}).collect()


def _require(uri: str, columns: Columns, found: list[str]) -> None:
    missing = [name for name in columns.required if name not in found]
    if missing:
        raise CatalogError(
            f"catalog {uri} lacks the column(s) {', '.join(missing)}; required: "
            f"{', '.join(columns.required)}; found: {', '.join(found)[:300]}; a profile"
            " (RETAIL_CATALOG_PROFILE, --mapping) names other columns"
        )
    twice = [name for name in columns.used if f"{name} (2)" in found]
    if twice:
        raise CatalogError(f"catalog {uri} has the column(s) {', '.join(twice)} more than once")


def _decompressed(uri: str, file: BinaryIO) -> BinaryIO:
    import pyarrow as pa

    for suffix, compression in COMPRESSIONS.items():
        if uri.lower().endswith(suffix):
            return cast(BinaryIO, pa.input_stream(pa.PythonFile(file), compression=compression))
    return file


class _Recoded:
    """A byte stream in another encoding, read as UTF-8; invalid bytes become U+FFFD."""

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")

    def read(self, _size: int) -> bytes:
        # Empty means the end; a piece of a character alone decodes to nothing yet.
        while data := self._stream.read(_DECODED_BYTES):
            if text := self._decoder.decode(data):
                return text.encode()
        return self._decoder.decode(b"", final=True).encode()


def _utf8(uri: str, stream: BinaryIO, encoding: str) -> BinaryIO:
    if encoding != "utf-8":
        return cast(BinaryIO, _Recoded(stream, encoding))
    start = stream.read(4096)
    if start.startswith(_WIDE_MARKS) or b"\0" in start.partition(b"\n")[0]:
        raise CatalogError(
            f"catalog {uri} is no UTF-8 text (it begins with {start[:8]!r}); allowed: UTF-8, or the"
            " encoding named as csv.encoding in the profile, such as utf-16"
        )
    return cast(BinaryIO, _Prefixed(start, stream))


class _Prefixed:
    """A byte stream whose beginning was read already."""

    def __init__(self, start: bytes, stream: BinaryIO) -> None:
        self._start, self._stream = start, stream

    def read(self, size: int) -> bytes:
        if self._start:
            start, self._start = self._start, b""
            return start
        return self._stream.read(size)


def _known_suffix(uri: str) -> str:
    lowered = uri.lower()
    for suffix in (*PARQUET_SUFFIXES, *CSV_SUFFIXES):
        if lowered.endswith(suffix) and not ("://" not in uri and Path(uri).is_dir()):
            return suffix
    if "://" not in uri and not Path(uri).exists():
        raise CatalogError(f"catalog {uri} was not found; {ALLOWED}")
    if "://" not in uri and Path(uri).is_dir():
        raise CatalogError(f"catalog {uri} is a folder; {ALLOWED}")
    raise CatalogError(f"catalog {uri} has an ending that is not known; {ALLOWED}")


def _filesystem(uri: str) -> tuple[Any, str]:
    """Return fsspec's filesystem for ``uri`` and the path in it."""
    place = uri if "://" in uri else str(Path(uri).expanduser())
    with _reported(uri):
        return file_system(place)


@contextmanager
def _opened(uri: str) -> Iterator[BinaryIO]:
    catalog_state(uri)
    filesystem, path = _filesystem(uri)
    with _reported(uri):
        file = filesystem.open(path, "rb")
    with file:
        yield cast(BinaryIO, file)


def _size(file: BinaryIO) -> int:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size


def _reporting(uri: str, chunks: Iterator[RawChunk]) -> Iterator[RawChunk]:
    """The chunks; what goes wrong while they are read is a CatalogError too."""
    while True:
        with _reported(uri):
            chunk = next(chunks, None)
        if chunk is None:
            return
        yield chunk


@contextmanager
def _reported(uri: str) -> Iterator[None]:
    """Say in one sentence what is wrong with the file at ``uri``."""
    try:
        yield
    except CatalogError:
        raise
    except FileNotFoundError as error:
        raise CatalogError(f"catalog {uri} was not found; {ALLOWED}") from error
    except IsADirectoryError as error:
        raise CatalogError(f"catalog {uri} is a folder; {ALLOWED}") from error
    except TooBrokenError as error:
        raise CatalogError(
            f"catalog {uri} cannot be parsed ({error}); allowed: fields quoted as in RFC 4180, and"
            " csv.delimiter in the profile where it is no comma"
        ) from error
    except (AssertionError, AttributeError, LookupError, TypeError):
        raise  # ours, not the file's
    except Exception as error:  # each remote file system has errors of its own, none shared
        cause = " ".join(str(error).split())[:200] or repr(error)
        raise CatalogError(f"catalog {uri} cannot be read ({cause}); {ALLOWED}") from error

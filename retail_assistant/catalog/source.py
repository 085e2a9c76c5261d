"""Reading a catalog file, wherever it is, as text columns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import polars as pl

from retail_assistant.catalog.schema import FLIPKART_COLUMNS, REQUIRED_COLUMNS, SOURCE_ROW

Parsed = TypeVar("Parsed")

CSV_SUFFIXES: tuple[str, ...] = (".csv", ".csv.gz", ".csv.zst")
PARQUET_SUFFIXES: tuple[str, ...] = (".parquet",)
ALLOWED = "allowed: a file or URI ending in " + ", ".join((*CSV_SUFFIXES, *PARQUET_SUFFIXES))


class CatalogError(ValueError):
    """A catalog that cannot be used, in one sentence that a person can act on."""


def read_catalog(uri: str) -> pl.LazyFrame:
    """Return the catalog at ``uri`` as the 15 text columns plus ``source_row`` (u32, 1-based).

    ``uri`` is a local path or any fsspec URI (gs://, s3://, memory://, …); a remote file is copied
    to a temporary folder first. Columns that the file lacks are null, columns beyond the 15 are
    left out. Invalid UTF-8 becomes U+FFFD; a line with too few fields is filled with nulls, fields
    beyond the header are cut. A CSV is parsed once here, so that every error shows now.

    Raises CatalogError for a missing file, a folder, an unknown ending, no data rows, absent
    required columns, broken quoting or unreadable content.
    """
    scan = _scanner(uri)
    frame = _parsed(uri, lambda: _text_columns(uri, scan(str(_local_copy(uri)))))
    rows = _parsed(uri, lambda: _row_count(frame))
    if rows == 0:
        raise CatalogError(f"catalog {uri} has no data rows; {ALLOWED}, with at least one row")
    return frame


def catalog_version(uri: str) -> str:
    """Return the data version of the file at ``uri``.

    ``sha256:<hex>`` of the bytes; for gs:// ``gcs:<generation>-<md5>`` from the object's metadata,
    so that observing a large catalog does not download it. Raises CatalogError when it is absent.
    """
    import hashlib

    if uri.startswith(("gs://", "gcs://")):
        return _gcs_version(uri)
    digest = hashlib.sha256()
    with _opened(uri) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return f"sha256:{digest.hexdigest()}"


def _gcs_version(uri: str) -> str:
    filesystem, path = _remote(uri)
    filesystem.invalidate_cache()
    info = _found(uri, lambda: filesystem.info(path))
    if info.get("type") == "directory":
        raise CatalogError(f"catalog {uri} is a folder; {ALLOWED}")
    # A composed object has no md5; its generation still changes with every write.
    return f"gcs:{info['generation']}-{info.get('md5Hash', '')}"


def _opened(uri: str) -> BinaryIO:
    if _is_remote(uri):
        filesystem, path = _remote(uri)
        return cast(BinaryIO, _found(uri, lambda: filesystem.open(path, "rb")))
    return _local_copy(uri).open("rb")


def _remote(uri: str) -> tuple[Any, str]:
    """Return fsspec's filesystem for ``uri`` and the path in it."""
    import fsspec

    filesystem, path = _found(uri, lambda: fsspec.core.url_to_fs(uri))
    return filesystem, str(path)


def _scanner(uri: str) -> Callable[[str], pl.LazyFrame]:
    lowered = uri.lower()
    if lowered.endswith(CSV_SUFFIXES):
        return _scan_csv
    if lowered.endswith(PARQUET_SUFFIXES):
        return _scan_parquet
    if _is_remote(uri):
        raise CatalogError(f"catalog {uri} has an ending that is not known; {ALLOWED}")
    if Path(uri).is_dir():
        raise CatalogError(f"catalog {uri} is a folder; {ALLOWED}")
    if not Path(uri).exists():
        raise CatalogError(f"catalog {uri} was not found; {ALLOWED}")
    raise CatalogError(f"catalog {uri} has an ending that is not known; {ALLOWED}")


def _scan_csv(path: str) -> pl.LazyFrame:
    return pl.scan_csv(
        path,
        infer_schema=False,
        encoding="utf8-lossy",
        truncate_ragged_lines=True,
        row_index_name=SOURCE_ROW,
        row_index_offset=1,
    )


def _scan_parquet(path: str) -> pl.LazyFrame:
    return pl.scan_parquet(path, row_index_name=SOURCE_ROW, row_index_offset=1)


def _text_columns(uri: str, scan: pl.LazyFrame) -> pl.LazyFrame:
    schema = scan.collect_schema()
    missing = [name for name in REQUIRED_COLUMNS if name not in schema]
    if missing:
        found = ", ".join(name for name in schema if name != SOURCE_ROW)[:300]
        raise CatalogError(
            f"catalog {uri} lacks the column(s) {', '.join(missing)}; "
            f"required: {', '.join(REQUIRED_COLUMNS)}; found: {found}"
        )
    nested = [name for name in FLIPKART_COLUMNS if schema.get(name, pl.String()).is_nested()]
    if nested:
        raise CatalogError(f"catalog {uri} has nested column(s) {', '.join(nested)}; allowed: text")
    columns = [_text_column(name, present=name in schema) for name in FLIPKART_COLUMNS]
    return scan.select(pl.col(SOURCE_ROW).cast(pl.UInt32), *columns)


def _text_column(name: str, *, present: bool) -> pl.Expr:
    return (pl.col(name) if present else pl.lit(None)).cast(pl.String).alias(name)


def _row_count(frame: pl.LazyFrame) -> int:
    # A count alone lets polars skip the fields; asking for nulls makes it parse them.
    counts = frame.select(pl.len().alias("rows"), pl.exclude(SOURCE_ROW).null_count())
    return int(counts.collect(engine="streaming")["rows"].item())


def _parsed(uri: str, parse: Callable[[], Parsed]) -> Parsed:
    try:
        return parse()
    except CatalogError:
        raise
    except pl.exceptions.NoDataError as error:
        raise CatalogError(f"catalog {uri} is empty; {ALLOWED}, with a header row") from error
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        cause = str(error).strip().splitlines()[0][:200] if str(error).strip() else repr(error)
        hint = "allowed: fields quoted as in RFC 4180, every opened quote closed"
        raise CatalogError(f"catalog {uri} cannot be parsed ({cause}); {hint}") from error


def _is_remote(uri: str) -> bool:
    return "://" in uri


def _local_copy(uri: str) -> Path:
    if _is_remote(uri):
        return _downloaded(uri)
    path = Path(uri).expanduser()
    if path.is_dir():
        raise CatalogError(f"catalog {uri} is a folder; {ALLOWED}")
    if not path.is_file():
        raise CatalogError(f"catalog {uri} was not found; {ALLOWED}")
    return path


def _downloaded(uri: str) -> Path:
    """Copy a remote file to a folder of its own that lives as long as this process.

    Not fsspec's simplecache: that hands out its first copy for ever, also when the remote file has
    changed. The frame is lazy, so the copy must outlive this call.
    """
    import atexit
    import shutil
    import tempfile

    filesystem, path = _remote(uri)
    folder = Path(tempfile.mkdtemp(prefix="retail-catalog-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    # The ending stays, by which polars tells compressed files from plain ones.
    local = folder / path.rsplit("/", 1)[-1]
    _found(uri, lambda: filesystem.get_file(path, str(local)))
    return local


def _found(uri: str, look: Callable[[], Any]) -> Any:
    try:
        return look()
    except FileNotFoundError as error:
        raise CatalogError(f"catalog {uri} was not found; {ALLOWED}") from error
    except Exception as error:  # each remote file system has errors of its own, none shared
        cause = " ".join(str(error).split()) or repr(error)
        raise CatalogError(f"catalog {uri} cannot be opened ({cause[:200]}); {ALLOWED}") from error

"""Where things lie, and how they get there whole.

Tables are parquet files named by the hash of their content, with one small pointer file per asset
partition, written last. Artefacts of heavy work are folders named by their fingerprint. Neither is
ever overwritten, so what an old report refers to stays readable.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl
import psutil
from pydantic import BaseModel, ConfigDict

ROWS_READ_AHEAD = 1 << 20
LATEST = "latest"
_STAGING = ".writing-"


class StorageError(RuntimeError):
    """Something that should be in the storage folder is missing or damaged."""


class TableRef(BaseModel):
    """A stored table: where it is and which content it has."""

    model_config = ConfigDict(frozen=True)

    path: Path
    sha256: str
    rows: int

    def read(self) -> pl.DataFrame:
        """The table, in memory.

        Raises:
            StorageError: the file is missing, truncated or altered.
        """
        return pl.read_parquet(self._intact())

    def scan(self) -> pl.LazyFrame:
        """The table, read as far as a query needs it.

        Raises:
            StorageError: the file is missing, truncated or altered.
        """
        return pl.scan_parquet(self._intact())

    def _intact(self) -> Path:
        if not self.path.is_file():
            raise StorageError(f"{self.path} is missing; materialize the asset again")
        now = self.path.stat()
        if _sha256_of_version(self.path, now.st_mtime_ns, now.st_size) != self.sha256:
            raise StorageError(f"{self.path} was altered or truncated; materialize it again")
        return self.path


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(ROWS_READ_AHEAD):
            digest.update(chunk)
    return digest.hexdigest()


@lru_cache(maxsize=1024)
def _sha256_of_version(path: Path, mtime_ns: int, size: int) -> str:
    """A file's SHA-256, computed once while it keeps this date and size: a run reads it often."""
    return file_sha256(path)


def fingerprint(parts: Mapping[str, Any]) -> str:
    """Hex hash of JSON-able parts, independent of their order."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def write_atomically(path: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Write a file so that readers see all of it or none of it, also after a crash.

    Not `durable`: faster, but what a loss of power leaves may be cut off.
    """
    if not path.parent.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def temporary_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder in `parent` for this process, gone at the end.

    Those of the same `prefix` that killed processes left are removed first; they may be gigabytes.
    """
    for left in parent.glob(f"{prefix}*-*"):
        process = left.name.removeprefix(prefix).split("-")[0]
        if process.isdecimal() and not psutil.pid_exists(int(process)):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        dir=parent, prefix=f"{prefix}{os.getpid()}-", ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


class TableStore:
    """Parquet tables under `<root>/tables/<name>[/<partition>]/`.

    A table's pointers are small files: `latest` names the content that an asset has now; others
    (such as `accepted`) name content that somebody has judged.
    """

    def __init__(self, root: Path) -> None:
        self.root = root / "tables"

    def folder(self, name: str, partition: str | None = None) -> Path:
        """The folder of a table, there or not.

        Raises:
            StorageError: a name that would lead elsewhere.
        """
        parts = [name] if partition is None else [name, partition]
        for part in parts:
            if not part or part.startswith(".") or "/" in part or "\\" in part:
                raise StorageError(f"{part!r} cannot name a table or partition")
        return self.root.joinpath(*parts)

    @contextmanager
    def staging(self, name: str, partition: str | None = None) -> Iterator[Path]:
        """A new folder beside the tables of `name`, to write in; gone at the end."""
        folder = self.folder(name, partition)
        folder.mkdir(parents=True, exist_ok=True)
        with temporary_folder(folder, _STAGING) as inside:
            yield inside

    def adopt(self, file: Path, name: str, partition: str | None = None) -> TableRef:
        """Take in a finished parquet file (moved; same disk) under the hash of its bytes."""
        folder = self.folder(name, partition)
        folder.mkdir(parents=True, exist_ok=True)
        digest = file_sha256(file)
        rows = pl.scan_parquet(file).select(pl.len()).collect().item()
        path = folder / f"{digest[:20]}.parquet"
        file.replace(path)
        return TableRef(path=path, sha256=digest, rows=rows)

    def point(
        self, ref: TableRef, name: str, partition: str | None = None, label: str = LATEST
    ) -> None:
        """Make a stored table the one that the pointer `label` names."""
        pointer = {"file": ref.path.name, "sha256": ref.sha256, "rows": ref.rows}
        write_atomically(self.folder(name, partition) / f"{label}.json", json.dumps(pointer))

    def write(self, frame: pl.DataFrame, name: str, partition: str | None = None) -> TableRef:
        """Store a frame under the hash of its bytes, then move the pointer to it."""
        with self.staging(name, partition) as folder:
            frame.write_parquet(folder / "table.parquet", compression="zstd")
            ref = self.adopt(folder / "table.parquet", name, partition)
        self.point(ref, name, partition)
        return ref

    def ref(self, name: str, partition: str | None = None, label: str = LATEST) -> TableRef:
        """The stored table that the pointer `label` names.

        Raises:
            StorageError: it was never stored, or the pointer is damaged.
        """
        folder = self.folder(name, partition)
        pointer = folder / f"{label}.json"
        if not pointer.is_file():
            of_partition = f" for {partition}" if partition else ""
            raise StorageError(f"{name} does not exist{of_partition} yet; materialize it first")
        try:
            entry = json.loads(pointer.read_text())
            path = folder / entry["file"]
            return TableRef(path=path, sha256=entry["sha256"], rows=entry["rows"])
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(f"{pointer} is damaged; materialize {name} again") from error

    def partitions(self, name: str) -> list[str]:
        """The partitions of a table that exist, sorted."""
        return sorted(path.parent.name for path in (self.root / name).glob(f"*/{LATEST}.json"))

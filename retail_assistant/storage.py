"""Where things lie, and how they get there whole.

Tables are parquet files named by the hash of their content, with one small pointer file per asset
partition, written last. Artefacts of heavy work are folders named by their fingerprint. Neither is
ever overwritten, so what an old report refers to stays readable.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict

ROWS_READ_AHEAD = 1 << 20


class StorageError(RuntimeError):
    """Something that should be in the storage folder is missing or damaged."""


class TableRef(BaseModel):
    """A stored table: where it is and which content it has."""

    model_config = ConfigDict(frozen=True)

    path: Path
    sha256: str
    rows: int

    def read(self) -> pl.DataFrame:
        """The table.

        Raises:
            StorageError: the file is missing, truncated or altered.
        """
        if not self.path.is_file():
            raise StorageError(f"{self.path} is missing; materialize the asset again")
        if file_sha256(self.path) != self.sha256:
            raise StorageError(f"{self.path} was altered or truncated; materialize it again")
        return pl.read_parquet(self.path)


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(ROWS_READ_AHEAD):
            digest.update(chunk)
    return digest.hexdigest()


def fingerprint(parts: Mapping[str, Any]) -> str:
    """Hex hash of JSON-able parts, independent of their order."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that readers see all of it or none of it, also after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


class TableStore:
    """Parquet tables under `<root>/tables/<name>[/<partition>]/`."""

    def __init__(self, root: Path) -> None:
        self.root = root / "tables"

    def _folder(self, name: str, partition: str | None) -> Path:
        parts = [name] if partition is None else [name, partition]
        for part in parts:
            if not part or part.startswith(".") or "/" in part or "\\" in part:
                raise StorageError(f"{part!r} cannot name a table or partition")
        return self.root.joinpath(*parts)

    def write(self, frame: pl.DataFrame, name: str, partition: str | None = None) -> TableRef:
        """Store a frame under the hash of its bytes, then move the pointer to it."""
        folder = self._folder(name, partition)
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary_name = tempfile.mkstemp(dir=folder, prefix=".writing-")
        os.close(handle)
        temporary = Path(temporary_name)
        try:
            frame.write_parquet(temporary, compression="zstd")
            digest = file_sha256(temporary)
            path = folder / f"{digest[:20]}.parquet"
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        ref = TableRef(path=path, sha256=digest, rows=frame.height)
        pointer = {"file": path.name, "sha256": digest, "rows": frame.height}
        write_atomically(folder / "latest.json", json.dumps(pointer))
        return ref

    def ref(self, name: str, partition: str | None = None) -> TableRef:
        """The latest stored table.

        Raises:
            StorageError: it was never stored.
        """
        folder = self._folder(name, partition)
        pointer = folder / "latest.json"
        if not pointer.is_file():
            of_partition = f" for {partition}" if partition else ""
            raise StorageError(f"{name} does not exist{of_partition} yet; materialize it first")
        entry = json.loads(pointer.read_text())
        return TableRef(path=folder / entry["file"], sha256=entry["sha256"], rows=entry["rows"])

    def partitions(self, name: str) -> list[str]:
        """The partitions of a table that exist, sorted."""
        return sorted(path.parent.name for path in (self.root / name).glob("*/latest.json"))

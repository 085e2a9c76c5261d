"""Where things lie, and how they get there whole.

Tables are parquet files named by the hash of their content, with one small pointer file per asset
partition, written last. Artefacts of heavy work are folders named by their fingerprint. Neither is
ever overwritten, so what an old report refers to stays readable.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ConfigDict

from retail_assistant.storage.bucket import (
    bucket_of,
    fetch,
    fetch_folder,
    publish,
    read_pointer,
    write_pointer,
)
from retail_assistant.storage.crash_points import crossing
from retail_assistant.storage.files import (
    StorageError,
    file_sha256,
    known_sha256,
    require_name,
    temporary_folder,
    written,
)

LATEST = "latest"
_STAGING = ".writing-"


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
        fetch(self.path)
        if not self.path.is_file():
            raise StorageError(f"{self.path} is missing; materialize the asset again")
        if known_sha256(self.path) != self.sha256 and not self._is_mended():
            raise StorageError(f"{self.path} was altered or truncated; materialize it again")
        return self.path

    def _is_mended(self) -> bool:
        """Whether the bucket, where there is one, has it as it should be; then it is here now."""
        if bucket_of(self.path) is None:
            return False
        self.path.unlink()
        fetch(self.path)
        return self.path.is_file() and known_sha256(self.path) == self.sha256


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
        return self.root.joinpath(*map(require_name, parts))

    @contextmanager
    def staging(self, name: str, partition: str | None = None) -> Iterator[Path]:
        """A new folder beside the tables of `name`, to write in; gone at the end.

        Raises:
            StorageError: it cannot be made.
        """
        folder = self.folder(name, partition)
        with written(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with temporary_folder(folder, _STAGING) as inside:
            yield inside

    def adopt(self, file: Path, name: str, partition: str | None = None) -> TableRef:
        """Take in a finished parquet file (moved; same disk) under the hash of its bytes.

        Raises:
            StorageError: it cannot be moved there.
        """
        folder = self.folder(name, partition)
        digest = file_sha256(file)
        rows = pl.scan_parquet(file).select(pl.len()).collect().item()
        path = folder / f"{digest[:20]}.parquet"
        with crossing("table", name, partition):
            with written(path):
                folder.mkdir(parents=True, exist_ok=True)
                file.replace(path)
            publish(path)
        return TableRef(path=path, sha256=digest, rows=rows)

    def point(
        self, ref: TableRef, name: str, partition: str | None = None, label: str = LATEST
    ) -> None:
        """Make a stored table the one that the pointer `label` names."""
        pointer = {"file": ref.path.name, "sha256": ref.sha256, "rows": ref.rows}
        other = None if label == LATEST else label
        with crossing("pointer", name, partition, other):
            write_pointer(self.folder(name, partition) / f"{label}.json", json.dumps(pointer))

    def write(self, frame: pl.DataFrame, name: str, partition: str | None = None) -> TableRef:
        """Store a frame under the hash of its bytes, then move the pointer to it.

        Raises:
            StorageError: it cannot be written; the pointer names what it named before.
        """
        with self.staging(name, partition) as folder:
            with written(self.folder(name, partition)):
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
        text = read_pointer(pointer)
        if text is None:
            of_partition = f" for {partition}" if partition else ""
            raise StorageError(f"{name} does not exist{of_partition} yet; materialize it first")
        try:
            entry = json.loads(text)
            path = folder / entry["file"]
            return TableRef(path=path, sha256=entry["sha256"], rows=entry["rows"])
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(f"{pointer} is damaged; materialize {name} again") from error

    def partitions(self, name: str) -> list[str]:
        """The partitions of a table that exist, sorted."""
        fetch_folder(self.folder(name), f"*/{LATEST}.json")
        return sorted(path.parent.name for path in (self.root / name).glob(f"*/{LATEST}.json"))

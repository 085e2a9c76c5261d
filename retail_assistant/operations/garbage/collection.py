"""What may be thrown away, with the reason of each; see `references` for what may not.

Never looked at: what language models wrote (paid for), approvals, the champions' history, keys and
feedback, Dagster's and MLflow's databases.
"""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import polars as pl
import psutil
from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.operations.garbage.references import (
    IMAGES_ASSET,
    References,
    Stored,
    Window,
    is_finished,
)
from retail_assistant.operations.garbage.snapshot import seen
from retail_assistant.storage.lease import LEASE

SECONDS_A_DAY = 86_400
SCRATCH_SECONDS = SECONDS_A_DAY
"""So old must be what a process that is gone has left half written: clocks and machines differ."""

OBJECT_FOLDERS = ("images", "thumbnails")
NOTHING_REFERS = "nothing refers to it"
_DIGEST = "sha256"
_SERVER_LOG = re.compile(r"[a-z]+-(\d+)-\d+\.txt(?:\.\d+)?")
_SCRATCH = re.compile(r"\.writing-(\d+)-.*")
_HALF_FILE = re.compile(r"\..+\.(?:json|parquet|yaml|txt|html|jpg|png|webp|gif|avif)\.\w{8}")


class Candidate(BaseModel):
    """Something that may be thrown away."""

    model_config = ConfigDict(frozen=True)

    path: str = Field(description="in the storage folder")
    kind: Literal["artefact", "table", "object", "scratch", "log"]
    bytes: int
    days: float = Field(description="since it was written")
    reason: str


class Found(NamedTuple):
    """What may be thrown away, the largest first, and what is in force."""

    candidates: list[Candidate]
    references: References

    @property
    def bytes(self) -> int:
        """Of all of them."""
        return sum(one.bytes for one in self.candidates)


def garbage(root: Path, *, older_than: float, champions: int, now: float | None = None) -> Found:
    """What nothing in force refers to, of a storage folder.

    Raises:
        BucketError: of a bucket's working copy: the bucket cannot be read.
    """
    with seen(root) as folder:
        return garbage_in(folder, older_than=older_than, champions=champions, now=now)


def garbage_in(root: Path, *, older_than: float, champions: int, now: float | None = None) -> Found:
    """As `garbage`, of a folder that is as all machines see it.

    Args:
        root: the folder.
        older_than: days; what was written since is kept, with what it refers to.
        champions: so many of the last champions may be rolled back to.
        now: seconds since 1970.
    """
    now = time.time() if now is None else now
    since = now - older_than * SECONDS_A_DAY
    references = References(root, Window(since=since, champions=champions))
    found = [
        _candidate(root, one.path, one.kind, _reason(one), now) for one in references.unreferenced()
    ]
    for path, kind, reason in (
        *_scratch(root, min(since, now - SCRATCH_SECONDS)),
        *_server_logs(root, since),
        *_objects(root, references, since),
    ):
        found.append(_candidate(root, path, kind, reason, now))
    return Found(sorted(found, key=lambda one: (-one.bytes, one.path)), references)


def _reason(one: Stored) -> str:
    if one.kind == "artefact" and not is_finished(one.path):
        return "was never finished, and nobody is at it"
    return NOTHING_REFERS


Kind = Literal["artefact", "table", "object", "scratch", "log"]


def _candidate(root: Path, path: Path, kind: Kind, reason: str, now: float) -> Candidate:
    files = [path] if not path.is_dir() else [one for one in path.rglob("*") if one.is_file()]
    sizes, times = [0], [0.0]
    for one in files:
        try:
            stat = one.lstat()
        except FileNotFoundError:
            continue
        # What another folder has too (a hard link) is not freed.
        sizes.append(stat.st_size if stat.st_nlink == 1 else 0)
        times.append(stat.st_mtime)
    newest = max(times) if files else path.lstat().st_mtime
    return Candidate(
        path=str(path.relative_to(root)),
        kind=kind,
        bytes=sum(sizes),
        days=round(max(0.0, now - newest) / SECONDS_A_DAY, 1),
        reason=reason,
    )


def _scratch(root: Path, since: float) -> Iterator[tuple[Path, Kind, str]]:
    """What processes that are gone were writing."""
    for top in ("tables", "artefacts"):
        for folder, names, files in os.walk(root / top):
            for name in [one for one in names if _SCRATCH.fullmatch(one)]:
                names.remove(name)
                path = Path(folder) / name
                process = _SCRATCH.fullmatch(name)
                gone = process is not None and not psutil.pid_exists(int(process[1]))
                if gone and path.lstat().st_mtime < since:
                    yield path, "scratch", f"process {process[1] if process else ''} is gone"
            for name in files:
                path = Path(folder) / name
                if _HALF_FILE.fullmatch(name) and path.lstat().st_mtime < since:
                    yield path, "scratch", "half a file, of a process that was killed"
                if name.endswith(LEASE) and path.lstat().st_mtime < since:
                    yield path, "scratch", "the lease of a machine that is gone"


def _server_logs(root: Path, since: float) -> Iterator[tuple[Path, Kind, str]]:
    for path in sorted((root / "serving").glob("*.txt*")):
        name = _SERVER_LOG.fullmatch(path.name)
        if name is None or path.lstat().st_mtime >= since or psutil.pid_exists(int(name[1])):
            continue
        yield path, "log", "of a model server that has ended"


def _objects(root: Path, references: References, since: float) -> Iterator[tuple[Path, Kind, str]]:
    """Images and thumbnails that no table of images in force names; of the storage's own only."""
    live = _images_in_force(references)
    if live is None:
        return
    for top in OBJECT_FOLDERS:
        for path in sorted((root / "objects" / top).rglob("*.*")):
            if path.is_file() and path.stem not in live and path.lstat().st_mtime < since:
                yield path, "object", "no table of images in force has it"


def _images_in_force(references: References) -> set[str] | None:
    """The contents that tables of images name; None: there is no such table, or one is damaged."""
    folder = references.root / "tables" / IMAGES_ASSET
    tables = [one.path for one in references.reasons if one.path.parent == folder]
    if not tables:
        return None
    found: set[str] = set()
    for path in tables:
        try:
            found |= set(pl.read_parquet(path, columns=[_DIGEST])[_DIGEST].drop_nulls())
        except (pl.exceptions.PolarsError, OSError):
            return None
    return found

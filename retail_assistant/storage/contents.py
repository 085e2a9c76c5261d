"""Which files a folder holds, with their sizes and hashes: whether they are as they were made.

Heavy work lists its files in the manifest that says it is finished (`launch.spec`). Folders that
are made without it, such as checkpoints and reports, have the same list in `contents.json`.
"""

from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from retail_assistant.storage.bucket import bucket_of, fetch, publish, shared_uri
from retail_assistant.storage.files import (
    StorageError,
    file_sha256,
    files_below,
    known_sha256,
    write_atomically,
)

CONTENTS = "contents.json"
HASHED_AT_ONCE = 4
"""Hashing leaves Python's lock alone, and a disk reads faster for several than for one."""


class StoredFile(BaseModel):
    """A file of a folder, relative to it."""

    path: str
    sha256: str
    size: int = Field(description="Bytes.")

    @field_validator("path")
    @classmethod
    def _path_stays_inside(cls, value: str) -> str:
        path = PurePosixPath(value)
        if path.is_absolute() or not path.parts or ".." in path.parts:
            raise ValueError("allowed: a path inside the folder")
        return value

    def is_as_made(self, folder: Path) -> bool:
        """Whether it is in the folder with this content."""
        path = folder / self.path
        if not path.is_file() or path.stat().st_size != self.size:
            return False
        return known_sha256(path) == self.sha256


class Contents(BaseModel):
    """All files of a folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    files: tuple[StoredFile, ...]


def seal(folder: Path) -> None:
    """List what a folder holds now; nothing is to be changed in it any more."""
    files = [
        StoredFile(
            path=path.relative_to(folder).as_posix(),
            sha256=file_sha256(path),
            size=path.stat().st_size,
        )
        for path in files_below(folder)
        if path != folder / CONTENTS
    ]
    write_atomically(folder / CONTENTS, Contents(files=tuple(files)).model_dump_json(indent=1))


def unseal(folder: Path) -> None:
    """Before a folder is written again: until it is sealed nothing vouches for it."""
    (folder / CONTENTS).unlink(missing_ok=True)


def read_contents(folder: Path) -> Contents | None:
    """The list of a sealed folder; None: it was never sealed.

    Raises:
        StorageError: it is damaged.
    """
    path = folder / CONTENTS
    fetch(path)
    if not path.is_file():
        return None
    try:
        return Contents.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise StorageError(f"{path} is damaged") from error


def is_sealed_intact(folder: Path) -> bool:
    """Whether a folder is as it was sealed; one that never was is taken as it is."""
    try:
        contents = read_contents(folder)
    except StorageError:
        return False
    return contents is None or not damaged(folder, contents.files)


def damaged(folder: Path, files: Iterable[StoredFile]) -> list[StoredFile]:
    """Those that are missing or altered, after the bucket, where there is one, was asked again."""
    wrong = _not_as_made(folder, list(files))
    if wrong and bucket_of(folder) is not None:
        for one in wrong:
            (folder / one.path).unlink(missing_ok=True)
            fetch(folder / one.path)
        wrong = _not_as_made(folder, wrong)
    return wrong


def unlisted(folder: Path, listed: Collection[Path]) -> list[Path]:
    """What is in a folder and not among the listed paths."""
    return [path for path in files_below(folder) if path not in listed]


def require_as_made(folder: Path, files: Sequence[StoredFile], remedy: str) -> None:
    """Refuse files that are not as they were made.

    Raises:
        StorageError: names the first one, what is wrong with it, and the remedy.
    """
    wrong = damaged(folder, files)
    if not wrong:
        return
    path = folder / wrong[0].path
    what = "was altered or truncated" if path.is_file() else "is missing"
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    raise StorageError(f"{shared_uri(path)}{more} {what}; {remedy}")


def _not_as_made(folder: Path, files: list[StoredFile]) -> list[StoredFile]:
    with ThreadPoolExecutor(HASHED_AT_ONCE) as pool:
        found = list(pool.map(lambda one: one.is_as_made(folder), files))
    return [one for one, good in zip(files, found, strict=True) if not good]


def write_hashed(path: Path, data: bytes) -> None:
    """Write a file, and before it its hash beside it: `is_hashed_intact` compares them."""
    write_atomically(_hash_of(path), sha256(data).hexdigest())
    write_atomically(path, data)
    for one in (_hash_of(path), path):
        publish(one)


def is_hashed_intact(path: Path) -> bool:
    """Whether a file is there as `write_hashed` wrote it; an older one without a hash is."""
    if not path.is_file():
        return False
    kept = _hash_of(path)
    return not kept.is_file() or kept.read_text() == known_sha256(path)


def _hash_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")

"""A storage folder whose truth is a bucket: `RETAIL_STORAGE_URI=gs://bucket/prefix`.

Every process then works in a folder of its own machine, the working copy. What is named by a hash
of its content or inputs is copied whole, once in each direction: its name says what it is.
Pointers, the few small files that are replaced, are read from the bucket each time, and written
only if nobody else has written them since this process read them (Cloud Storage has generation
preconditions for that). An artefact's manifest is copied last, as it is written last.

Without a bucket, every function here leaves the folder as the truth that it is.
"""

import base64
import fnmatch
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from pydantic import BaseModel, ConfigDict

from retail_assistant.storage.files import (
    StorageError,
    explained,
    files_below,
    temporary_folder,
    write_atomically,
    written,
)

GCS = "gs://"
LAST = "manifest.json"
"""The file that says a folder is finished: it is copied after all others."""

MARK = ".bucket.json"
LEASE_SECONDS = 120.0
MOST_AT_ONCE = 8
_STAGING = ".fetching-"
_CHUNK = 1 << 20
_NOBODY = 0
"""The generation of an object that does not exist."""


class BucketError(StorageError):
    """The bucket cannot be reached, read or written; says which object and why."""


class ConflictError(BucketError):
    """A pointer was moved by somebody else since this process read it."""


class _Mark(BaseModel):
    """In a working copy's root: what it is a copy of."""

    model_config = ConfigDict(frozen=True)

    uri: str
    retry_seconds: float
    lease_seconds: float = LEASE_SECONDS


def working_copy(
    uri: str, folder: Path, retry_seconds: float, lease_seconds: float = LEASE_SECONDS
) -> Path:
    """The root of a bucket's working copy under `folder`, made ready."""
    root = folder.joinpath(*uri.removeprefix(GCS).rstrip("/").split("/"))
    mark = _Mark(
        uri=uri.rstrip("/"), retry_seconds=retry_seconds, lease_seconds=lease_seconds
    ).model_dump_json()
    path = root / MARK
    if not path.is_file() or path.read_text() != mark:
        write_atomically(path, mark)
        _root_of.cache_clear()
        _bucket_at.cache_clear()
    return root


def bucket_of(path: Path) -> "Bucket | None":
    """The bucket whose working copy a path lies in; None: the path is the truth itself."""
    root = _root_of(path if path.is_absolute() else path.absolute())
    return None if root is None else _bucket_at(root)


@lru_cache(maxsize=8192)
def _root_of(path: Path) -> Path | None:
    return next((folder for folder in (path, *path.parents) if (folder / MARK).is_file()), None)


@lru_cache(maxsize=32)
def _bucket_at(root: Path) -> "Bucket":
    mark = _Mark.model_validate_json((root / MARK).read_text())
    return Bucket(root, mark.uri, mark.retry_seconds, mark.lease_seconds)


def shared_uri(path: Path) -> str:
    """Where something is for all machines: the path itself, or gs://…."""
    bucket = bucket_of(path)
    return str(path) if bucket is None else bucket.uri_of(path)


def fetch(path: Path) -> None:
    """Have an immutable file here; nothing where there is none."""
    if (bucket := bucket_of(path)) is not None:
        bucket.fetch(path)


def fetch_folder(folder: Path, *only: str) -> set[str] | None:
    """Have all that the bucket has of a folder here, finished or not.

    Gives its names, below the folder; None: there is no bucket.

    Args:
        folder: in the working copy.
        only: patterns of the names that are wanted, below the folder; none: all.
    """
    bucket = bucket_of(folder)
    return None if bucket is None else bucket.fetch_folder(folder, *only)


def publish(path: Path) -> None:
    """Let others have a file, or a folder with all that is in it.

    Raises:
        BucketError: says what could not be written.
    """
    if (bucket := bucket_of(path)) is not None:
        bucket.publish(path)


def names_in(folder: Path, only: str = "*") -> list[str]:
    """What is in a folder, here or in the bucket, by names below it; nothing is fetched."""
    found = {one.relative_to(folder).as_posix() for one in files_below(folder)}
    found |= shared_sizes(folder).keys()
    return sorted(name for name in found if fnmatch.fnmatch(name, only))


def shared_sizes(folder: Path) -> dict[str, int]:
    """Bytes of what the bucket has below a folder, by names from there; empty without a bucket."""
    bucket = bucket_of(folder)
    return {} if bucket is None else bucket.sizes(folder)


def withdraw(path: Path) -> None:
    """Take a file, or a folder with all that is in it, out of the bucket, if it is there."""
    if (bucket := bucket_of(path)) is not None:
        bucket.withdraw(path)


def read_pointer(path: Path) -> str | None:
    """A pointer's text as it is now; None: there is none."""
    bucket = bucket_of(path)
    if bucket is not None:
        return bucket.read_pointer(path)
    return path.read_text() if path.is_file() else None


def write_pointer(path: Path, text: str, *, new: bool = False) -> None:
    """Move a pointer.

    Args:
        path: of the pointer.
        text: what it says from now on.
        new: there must be none yet, such as of an event's number.

    Raises:
        ConflictError: somebody else moved it since this process read it, or made it before.
        StorageError: it could not be written.
    """
    if (bucket := bucket_of(path)) is not None:
        bucket.write_pointer(path, text, new=new)
    with written(path):
        write_atomically(path, text)


@dataclass
class Bucket:
    """A bucket with its working copy; safe to use from several threads.

    root: of the working copy.
    uri: gs://bucket/prefix.
    retry_seconds: for how long a call that fails for a reason that passes is tried again.
    lease_seconds: how long a lease (`lease`) holds that nobody renews.
    """

    root: Path
    uri: str
    retry_seconds: float
    lease_seconds: float = LEASE_SECONDS
    _seen: dict[str, int] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    @property
    def work_folder(self) -> Path:
        """The folder of all working copies on this machine."""
        return self.root.parents[len(self.uri.removeprefix(GCS).split("/")) - 1]

    def uri_of(self, path: Path) -> str:
        """Where a path of the working copy lies in the bucket."""
        return f"{self.uri}/{path.relative_to(self.root).as_posix()}"

    def fetch(self, path: Path) -> None:
        """As the function `fetch`."""
        if not path.is_file():
            with self._explained("read", path):
                self._fetch_file(path)

    def fetch_folder(self, folder: Path, *only: str) -> set[str]:
        """As the function `fetch_folder`."""
        patterns = only or ("*",)
        with self._explained("read", folder):
            found = self._below(folder)
            wanted = {
                name: one
                for name, one in found.items()
                if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
            }
            self._fetch_all(folder, wanted)
        return set(wanted)

    def below(self, folder: Path) -> dict[str, Any]:
        """Google's `Blob` of each object below a folder, by its name from there."""
        with self._explained("read", folder):
            return self._below(folder)

    def has(self, path: Path) -> bool:
        """Whether there is an object of this name."""
        with self._explained("read", path):
            return self._bucket.get_blob(self._name(path), retry=self._retry) is not None

    def sizes(self, folder: Path) -> dict[str, int]:
        """As the function `shared_sizes`."""
        return {name: blob.size for name, blob in self.below(folder).items()}

    def publish(self, path: Path) -> None:
        """As the function `publish`."""
        with self._explained("write", path):
            if not path.is_dir():
                self._upload([path] if path.is_file() else [])
                return
            there = self._below(path)
            if LAST in there:
                # Finished before, here or by a twin on another machine, whose work others read.
                if not _is_same(path / LAST, there[LAST]):
                    self._fetch_all(path, there)
                return
            here = {one.relative_to(path).as_posix(): one for one in files_below(path)}
            waiting = {name for name, one in here.items() if not _is_same(one, there.get(name))}
            self._upload([here[name] for name in waiting - {LAST}])
            self._upload([here[name] for name in waiting & {LAST}])
            if LAST in here:
                # What was only on the way there, such as checkpoints.
                self._delete(blob for name, blob in there.items() if name not in here)

    def withdraw(self, path: Path) -> None:
        """As the function `withdraw`."""
        with self._explained("delete", path):
            self._delete([self._blob(path), *self._below(path).values()])

    def read_pointer(self, path: Path) -> str | None:
        """As the function `read_pointer`; the working copy follows."""
        generation, text = self.current(path)
        with self._lock:
            self._seen[self._name(path)] = generation
        if text is None:
            path.unlink(missing_ok=True)
        elif not path.is_file() or path.read_text() != text:
            write_atomically(path, text)
        return text

    def write_pointer(self, path: Path, text: str, *, new: bool = False) -> None:
        """As the function `write_pointer`, without the working copy."""
        name = self._name(path)
        with self._lock:
            read = self._seen.pop(name, None)
        seen = _NOBODY if new else read
        if seen is None:
            with self._explained("write", path):
                there = self._bucket.get_blob(name, retry=self._retry)
            seen = there.generation if there is not None else _NOBODY
        generation = self.replace(path, text, seen)
        with self._lock:
            self._seen[name] = generation

    def current(self, path: Path) -> tuple[int, str | None]:
        """The generation of a small object, and its text; 0 and None: there is none."""
        from google.api_core.exceptions import NotFound

        with self._explained("read", path):
            blob = self._bucket.get_blob(self._name(path), retry=self._retry)
            if blob is None:
                return _NOBODY, None
            # Before its content is read, which changes what the blob knows of itself.
            generation = int(blob.generation)
            try:
                return generation, blob.download_as_text(retry=self._retry)
            except NotFound:
                return _NOBODY, None

    def replace(self, path: Path, text: str, generation: int) -> int:
        """Write a small object that is of this generation (0: that is not there); the new one.

        Raises:
            ConflictError: somebody else has written it meanwhile.
        """
        from google.api_core.exceptions import PreconditionFailed

        with self._explained("write", path):
            blob = self._blob(path)
            try:
                blob.upload_from_string(
                    text, "application/json", if_generation_match=generation, retry=self._retry
                )
                return int(blob.generation)
            except PreconditionFailed as error:
                # Where an answer was lost, the second try meets what the first has written.
                there, said = self.current(path)
                if said != text:
                    raise ConflictError(
                        f"{self.uri_of(path)} was changed by another run meanwhile; run this again"
                    ) from error
                return there

    def remove(self, path: Path, generation: int) -> None:
        """Delete a small object, unless it is gone or of another generation by now."""
        from google.api_core.exceptions import NotFound, PreconditionFailed

        with self._explained("delete", path), suppress(NotFound, PreconditionFailed):
            self._blob(path).delete(if_generation_match=generation, retry=self._retry)

    def read_all(self, pairs: list[tuple[Any, Path]]) -> None:
        """Download objects to the paths beside them."""
        with self._explained("read", self.root):
            self._download(pairs)

    def move(self, source: Path, target: Path) -> bool:
        """Give a file, or a folder with all that is in it, another place; whether it was there.

        All is copied, within the bucket, before anything is deleted. A manifest comes last and
        goes first.
        """
        with self._explained("move", source):
            own = self._bucket.get_blob(self._name(source), retry=self._retry)
            found = self._below(source) | ({"": own} if own is not None else {})
            names = {one: f"{self._name(target)}/{one}".rstrip("/") for one in found}
            last = found.keys() & {LAST}
            with ThreadPoolExecutor(MOST_AT_ONCE) as pool:
                for group in (found.keys() - last, last):
                    list(pool.map(lambda one: self._copy(found[one], names[one]), sorted(group)))
            self._delete(found[one] for one in last)
            self._delete(found[one] for one in found.keys() - last)
            return bool(found)

    def _copy(self, blob: Any, name: str) -> None:
        target, token = self._bucket.blob(name), None
        while True:
            token, _, _ = target.rewrite(blob, token=token, retry=self._retry)
            if token is None:
                return

    @cached_property
    def _bucket(self) -> Any:
        return client().bucket(self.name)

    @property
    def name(self) -> str:
        """The bucket's own name."""
        return self._place[0]

    @property
    def _place(self) -> tuple[str, str]:
        bucket, _, prefix = self.uri.removeprefix(GCS).partition("/")
        return bucket, f"{prefix}/" if prefix else ""

    @cached_property
    def _retry(self) -> Any:
        from google.cloud.storage.retry import DEFAULT_RETRY

        return DEFAULT_RETRY.with_delay(0.5, 30.0, 2.0).with_timeout(self.retry_seconds)

    def _name(self, path: Path) -> str:
        return self._place[1] + path.relative_to(self.root).as_posix()

    def _blob(self, path: Path) -> Any:
        return self._bucket.blob(self._name(path))

    def _below(self, folder: Path) -> dict[str, Any]:
        """What the bucket has below a folder, by the name from there."""
        start = f"{self._name(folder)}/"
        blobs = self._bucket.list_blobs(prefix=start, retry=self._retry)
        found = {blob.name.removeprefix(start): blob for blob in blobs}
        for name in found:
            # Objects can be called anything.
            if not (folder / name).resolve().is_relative_to(folder.resolve()):
                raise BucketError(f"{self.uri_of(folder)}: {name!r} cannot name a file")
        return found

    def _fetch_file(self, path: Path) -> None:
        from google.api_core.exceptions import NotFound

        with temporary_folder(self.root, _STAGING) as staging:
            try:
                # The library compares checksums.
                self._blob(path).download_to_filename(staging / path.name, retry=self._retry)
            except NotFound:
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            (staging / path.name).replace(path)

    def _fetch_all(self, folder: Path, found: Mapping[str, Any]) -> None:
        missing = {name: blob for name, blob in found.items() if not _is_same(folder / name, blob)}
        if not missing:
            return
        with temporary_folder(self.root, _STAGING) as staging:
            self._download([(blob, staging / name) for name, blob in missing.items()])
            for name in sorted(missing, key=lambda name: name == LAST):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                # The newest of several is asked for here and there.
                written = missing[name].updated.timestamp()
                os.utime(staging / name, (written, written))
                (staging / name).replace(folder / name)

    def _download(self, pairs: list[tuple[Any, Path]]) -> None:
        from google.cloud.storage import transfer_manager

        for _, path in pairs:
            path.parent.mkdir(parents=True, exist_ok=True)
        transfer_manager.download_many(
            [(blob, str(path)) for blob, path in pairs],
            download_kwargs={"retry": self._retry},
            raise_exception=True,
            worker_type=transfer_manager.THREAD,
            max_workers=MOST_AT_ONCE,
        )

    def _delete(self, blobs: Iterable[Any]) -> None:
        # One that is gone already is no error.
        self._bucket.delete_blobs(list(blobs), on_error=lambda _: None, retry=self._retry)

    def _upload(self, paths: list[Path]) -> None:
        from google.cloud.storage import transfer_manager

        transfer_manager.upload_many(
            [(str(path), self._blob(path)) for path in paths],
            upload_kwargs={"retry": self._retry},
            raise_exception=True,
            worker_type=transfer_manager.THREAD,
            max_workers=MOST_AT_ONCE,
        )

    @contextmanager
    def _explained(self, what: str, path: Path) -> Iterator[None]:
        """Errors of the client library, of its transport and of credentials as one that says it."""
        try:
            yield
        except StorageError:
            raise
        except Exception as error:
            cause = getattr(error, "cause", None) or error
            raise BucketError(f"cannot {what} {self.uri_of(path)}: {explained(cause)}") from error


def client() -> Any:
    """Google's client, with this machine's credentials; `STORAGE_EMULATOR_HOST` names an emulator.

    Raises:
        google.auth.exceptions.DefaultCredentialsError: there are none.
    """
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    # An emulator takes everybody; looking for credentials would wait for a metadata server.
    emulated = bool(os.environ.get("STORAGE_EMULATOR_HOST"))
    given = {"credentials": AnonymousCredentials(), "project": "local"} if emulated else {}
    return storage.Client(**given)


def _is_same(path: Path, blob: Any) -> bool:
    """Whether a file has an object's content."""
    if blob is None or not path.is_file() or path.stat().st_size != blob.size:
        return False
    return _crc32c(path) == blob.crc32c


def _crc32c(path: Path) -> str:
    """A file's checksum as Cloud Storage writes it."""
    import google_crc32c

    checksum = google_crc32c.Checksum()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            checksum.update(chunk)
    return base64.b64encode(checksum.digest()).decode()

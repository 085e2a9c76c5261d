"""Where big things lie that are no tables: images. A folder or a bucket, through fsspec.

Names are relative, with forward slashes. An object is there whole or not at all, and two writers
of one name write the same content: names are made from hashes of it.
"""

import logging
import os
import re
from pathlib import Path
from typing import Any

from retail_assistant.storage.crash_points import crossing
from retail_assistant.storage.files import explained, write_atomically

GCS = "gs://"


class ObjectStoreError(RuntimeError):
    """The store cannot be reached, read or written; the message says which and why."""


def is_object_location(uri: str) -> bool:
    """Is this where an ObjectStore can be: a folder, or gs://bucket/prefix?"""
    return "://" not in uri or re.match(r"gs://[^/]", uri) is not None


class ObjectStore:
    """Objects under one URI: an absolute or relative folder, or `gs://bucket/prefix`.

    Safe to use from several threads. `STORAGE_EMULATOR_HOST` names a GCS emulator.

    Raises:
        ObjectStoreError: the URI is of no kind that is known.
    """

    def __init__(self, uri: str) -> None:
        if not is_object_location(uri):
            raise ObjectStoreError(f"{uri}: allowed are a folder and gs://bucket/prefix")
        self.uri = uri.rstrip("/") if uri.startswith(GCS) else str(Path(uri).absolute())
        self._files: Any = _remote_files() if uri.startswith(GCS) else None

    def uri_of(self, name: str) -> str:
        """The full address of an object."""
        return f"{self.uri}/{name}"

    def put(self, name: str, data: bytes) -> None:
        """Write an object in one piece.

        Raises:
            ObjectStoreError: no room, no right, no connection.
        """
        try:
            if self._files is not None:
                self._files.pipe_file(self.uri_of(name), data)
            else:
                # Not flushed to the disk, one by one: readers check sizes (see receipts).
                with crossing("object", name.partition("/")[0]):
                    write_atomically(Path(self.uri_of(name)), data, durable=False)
        except Exception as error:
            raise self._failure("write to", error) from error

    def get(self, name: str) -> bytes | None:
        """An object's content, or None where there is no such object."""
        try:
            if self._files is not None:
                return bytes(self._files.cat_file(self.uri_of(name)))
            return Path(self.uri_of(name)).read_bytes()
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._failure("read from", error) from error

    def sizes(self, prefix: str) -> dict[str, int]:
        """Name -> bytes of every object whose name starts with the folder `prefix`."""
        try:
            if self._files is not None:
                return self._remote_sizes(prefix)
            return _local_sizes(Path(self.uri), prefix)
        except Exception as error:
            raise self._failure("list", error) from error

    def delete(self, names: list[str]) -> None:
        """Remove objects; one that is gone already is no error."""
        try:
            for name in names if self._files is None else ():
                Path(self.uri_of(name)).unlink(missing_ok=True)
            if self._files is not None and names:
                self._files.rm([self.uri_of(name) for name in names])
        except FileNotFoundError:
            return
        except Exception as error:
            raise self._failure("delete from", error) from error

    def check(self) -> None:
        """Write and remove a small object, so that a wrong store is found before the work.

        Raises:
            ObjectStoreError: says what is wrong with it.
        """
        name = f".check-{os.getpid()}"
        self.put(name, b"ok")
        self.delete([name])

    def _remote_sizes(self, prefix: str) -> dict[str, int]:
        root = self.uri.removeprefix(GCS) + "/"
        self._files.invalidate_cache()
        found = self._files.find(self.uri_of(prefix), detail=True)
        return {path.removeprefix(root): int(entry["size"]) for path, entry in found.items()}

    def _failure(self, what: str, error: Exception) -> ObjectStoreError:
        # fsspec's backends raise OSError, aiohttp's, google.auth's and their own errors: the
        # caller can do the same about all of them, which is to stop and say why.
        if self._files is not None and isinstance(error, FileNotFoundError):
            error = FileNotFoundError("there is no such bucket")
        return ObjectStoreError(f"cannot {what} the object store {self.uri}: {explained(error)}")


def file_system(uri: str) -> tuple[Any, str]:
    """Fsspec's file system of a URI or local path, and the path in it. It remembers no listings."""
    if uri.startswith(GCS):
        return _remote_files(), uri.removeprefix(GCS)
    import fsspec

    found, path = fsspec.core.url_to_fs(uri, use_listings_cache=False)
    return found, str(path)


def _remote_files() -> Any:
    # The plain client: the extended one asks over gRPC what kind of bucket it is, which an
    # emulator does not answer, and is of use for zonal buckets only.
    from gcsfs.core import GCSFileSystem

    # It logs a stack trace of each error that it raises as well.
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    # An emulator takes everybody; asking for credentials would wait for a metadata server.
    token = "anon" if os.environ.get("STORAGE_EMULATOR_HOST") else None
    return GCSFileSystem(token=token, use_listings_cache=False)


def _local_sizes(root: Path, prefix: str) -> dict[str, int]:
    found = {}
    waiting = [root / prefix]
    while waiting:
        folder = waiting.pop()
        try:
            entries = list(os.scandir(folder))
        except FileNotFoundError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))
            elif not entry.name.startswith("."):
                found[str(Path(entry.path).relative_to(root))] = entry.stat().st_size
    return found

"""Files that are there whole or not at all, and what they are known by."""

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil

from retail_assistant.storage.crash_points import crash_point_within

_BYTES_READ_AHEAD = 1 << 20
_REASON_CHARACTERS = 200
_SETTLED_SECONDS = 2.0
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# How libraries in Rust tell the number, with an error class of their own.
_OS_ERROR = re.compile(r"\(os error (\d+)\)")


class StorageError(RuntimeError):
    """Something that should be in the storage folder is missing or damaged."""


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_BYTES_READ_AHEAD):
            digest.update(chunk)
    return digest.hexdigest()


def known_sha256(path: Path) -> str:
    """Hex SHA-256 of a file as it is now, computed once while nothing about the file changes.

    What changed within the last seconds is computed each time: the clock of a file system has a
    grain, and a second change within it would not show (git calls such files racily clean).
    """
    now = path.stat()
    if time.time() - max(now.st_mtime, now.st_ctime) < _SETTLED_SECONDS:
        return file_sha256(path)
    return _sha256_of_version(path, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)


@lru_cache(maxsize=8192)
def _sha256_of_version(path: Path, inode: int, size: int, mtime_ns: int, ctime_ns: int) -> str:
    # A date that is put back changes the time of the inode's own last change (ctime).
    return file_sha256(path)


def files_below(folder: Path) -> list[Path]:
    """What counts of a folder: not locks, marks and what is being written (a dot before the name).

    Sorted; of the folder itself, without what symbolic links to other folders lead to.
    """
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent) / name for name in names if not name.startswith(".")]
    return sorted(found)


def fingerprint(parts: Mapping[str, Any]) -> str:
    """Hex hash of JSON-able parts, independent of their order."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def require_name(text: str) -> str:
    """The text, which becomes one part of a path and leads nowhere else.

    Raises:
        StorageError: it would lead elsewhere, or is no name.
    """
    if not text or text.startswith(".") or any(mark in text for mark in "/\\\0"):
        raise StorageError(f"{text!r} cannot name a table or partition")
    return text


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
        crash_point_within()
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Whatever keeps the body from writing to a place, as one error that says it.

    Raises:
        StorageError: says where, why, and what to do about it.
    """
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        if _number(error) is None and not isinstance(error, OSError):
            raise
        raise StorageError(f"{path} cannot be written: {explained(error)}") from error


@contextmanager
def temporary_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder in `parent` for this process, gone at the end.

    Those of the same `prefix` that killed processes left are removed first; they may be gigabytes.

    Raises:
        StorageError: it cannot be made.
    """
    for left in parent.glob(f"{prefix}*-*"):
        process = left.name.removeprefix(prefix).split("-")[0]
        if process.isdecimal() and not psutil.pid_exists(int(process)):
            shutil.rmtree(left, ignore_errors=True)
    with written(parent):
        made = tempfile.TemporaryDirectory(
            dir=parent, prefix=f"{prefix}{os.getpid()}-", ignore_cleanup_errors=True
        )
    with made as folder:
        yield Path(folder)


def explained(error: Exception) -> str:
    """Why a file system failed, whichever it is, and what to do about it; one line."""
    number, told = _number(error), str(error)
    if number is not None:
        told = getattr(error, "strerror", None) or os.strerror(number)
    reason = " ".join(told.split())[:_REASON_CHARACTERS] or type(error).__name__
    hint = "make room" if number in _FULL else "check the address, your rights and the connection,"
    return f"{reason}; {hint} and run it again"


def _number(error: Exception) -> int | None:
    """The operating system's number of an error, where it has one."""
    if isinstance(error, OSError) and error.errno and error.strerror:
        return error.errno
    told = _OS_ERROR.search(str(error))
    return int(told[1]) if told else None

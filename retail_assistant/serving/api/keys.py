"""API keys: made here, shown once, kept as hashes.

A key is 256 random bits, so its plain SHA-256 is enough: there is no dictionary to try, which is
what slow password hashes are for, and a fast hash keeps a check per request cheap.
"""

import hashlib
import json
import logging
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from retail_assistant.storage import StorageError
from retail_assistant.storage.bucket import BucketError, bucket_of, read_pointer, write_pointer

FILE = "keys.json"
PREFIX = "ra-"
SECONDS_TO_WAIT = 10.0
SECONDS_BETWEEN_LOOKS = 10.0
"""Into a bucket, where another machine may have made or revoked a key."""

log = logging.getLogger(__name__)

_RANDOM_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class ApiKey(BaseModel):
    """What is kept of a key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: str
    created: datetime
    revoked: datetime | None = None

    @property
    def is_active(self) -> bool:
        """Whether it still opens."""
        return self.revoked is None


_KEYS = TypeAdapter(list[ApiKey])


class ApiKeys:
    """The keys of one storage folder; what another process changes is seen at the next look."""

    def __init__(self, storage: Path) -> None:
        self.path = storage / "serving" / FILE
        self._seen: tuple[int, int, int] | None = None
        self._look_again = 0.0
        self._keys: list[ApiKey] = []

    def all(self) -> list[ApiKey]:
        """Every key ever made, the oldest first.

        Raises:
            StorageError: the file is there and cannot be read; nobody is let in by mistake.
        """
        if bucket_of(self.path) is not None and time.monotonic() >= self._look_again:
            self._look_again = time.monotonic() + SECONDS_BETWEEN_LOOKS
            try:
                read_pointer(self.path)
            except BucketError as error:
                log.warning("the keys of before are used: %s", error)
        try:
            status = self.path.stat()
        except FileNotFoundError:
            self._seen, self._keys = None, []
            return self._keys
        # A write replaces the file, so the inode alone tells; the rest is for edits by hand.
        version = (status.st_ino, status.st_mtime_ns, status.st_size)
        if version != self._seen:
            self._keys = _read(self.path)
            self._seen = version
        return self._keys

    def name_of(self, key: str) -> str | None:
        """Whose key it is; None: nobody's, or a revoked one."""
        digest = _digest(key)
        found = None
        # All of them are compared, in constant time each: how long it takes tells nothing.
        for one in self.all():
            if secrets.compare_digest(one.sha256, digest) and one.is_active:
                found = one.name
        return found

    def add(self, name: str) -> str:
        """Make a key and return it; it cannot be had again.

        Raises:
            ValueError: the name is not allowed, or has a key that opens.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"key name {name!r}; allowed: 1 to 64 letters, digits, _ . and -,"
                " beginning with a letter or digit"
            )
        key = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
        with self._locked() as keys:
            if any(one.name == name and one.is_active for one in keys):
                raise ValueError(f"there is a key {name}; revoke it first, or take another name")
            keys.append(ApiKey(name=name, sha256=_digest(key), created=_now()))
        return key

    def revoke(self, name: str) -> None:
        """Let a key open nothing any more; servers that run see it at the next request.

        Raises:
            ValueError: no key of this name opens.
        """
        with self._locked() as keys:
            active = [one.name for one in keys if one.is_active]
            if name not in active:
                known = ", ".join(active) or "none"
                raise ValueError(f"no key {name!r} that opens; there are: {known}")
            keys[:] = [
                one.model_copy(update={"revoked": _now()}) if _is_active(one, name) else one
                for one in keys
            ]

    @contextmanager
    def _locked(self) -> Iterator[list[ApiKey]]:
        """The keys, to be changed; written at the end (mode 0600)."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.path.parent / ".keys.lock", timeout=SECONDS_TO_WAIT):
                self._look_again = 0.0
                keys = list(self.all())
                yield keys
                document = json.dumps(_KEYS.dump_python(keys, mode="json"), indent=1)
                write_pointer(self.path, document + "\n")
        except Timeout as error:
            raise StorageError(
                f"{self.path} is being changed by another process; try again"
            ) from error


def _is_active(key: ApiKey, name: str) -> bool:
    return key.name == name and key.is_active


def _read(path: Path) -> list[ApiKey]:
    try:
        return _KEYS.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise StorageError(
            f"{path} cannot be read ({type(error).__name__}); allowed: a file that"
            " `retail-assistant keys add` wrote"
        ) from error


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)

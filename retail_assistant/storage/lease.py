"""A lease: of several machines that share a bucket one is at a piece of work, the others wait.

A small object says who is at it. Its holder writes it again every now and then; a lease that is
not written for a while (`RETAIL_STORAGE_LEASE_SECONDS`) is taken over. No clocks are compared: who
waits measures with its own for how long the object's generation has stayed the same, as the leader
election of Kubernetes does (client-go, tools/leaderelection). Every write is for one generation
only, so of two that take a lease over one does.

It keeps work from being done twice, not artefacts from damage: those are named by their
fingerprint, and the first that is whole counts (`Bucket.publish`). So a holder that cannot reach
the bucket goes on: nobody who reaches it as little can take the work over.
"""

import contextlib
import logging
import os
import platform
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from pydantic import BaseModel, ConfigDict, ValidationError

from retail_assistant.storage.bucket import Bucket, BucketError, ConflictError, bucket_of
from retail_assistant.storage.files import StorageError

LEASE = ".lease"
"""Ends the name of a lease, which lies beside the folder that it is for."""

RENEWALS, LOOKS = 4, 20
"""In the time that a lease holds."""

DAY_SECONDS = 86_400.0
_MACHINE = ".machine"

logger = logging.getLogger(__name__)


class LeaseError(StorageError):
    """Somebody else is at it, for longer than one would wait."""


class Holder(BaseModel):
    """What a lease says of who holds it."""

    model_config = ConfigDict(frozen=True)

    machine: str
    token: str
    """Of this time: a machine may take a lease, lose it and take it again."""

    process: int
    renewed: int = 0


@contextmanager
def leased(
    folder: Path, seconds: float = DAY_SECONDS, *, patient: bool = True
) -> Iterator[Event | None]:
    """Hold the lease of a folder in a working copy, once nobody else does.

    Of the processes of one machine a lock has to keep all but one out before: what this machine
    itself has left is taken over at once. Without a bucket there are no other machines.

    Args:
        folder: what the work is for.
        seconds: how long to wait for others.
        patient: wait also for one that is seen to be at work, not only for one that may be gone.

    Yields:
        An event that is set where another machine has taken over; None without a bucket.

    Raises:
        LeaseError: another machine is at it all the time, or is seen to be at it.
        BucketError: the bucket cannot be read or written.
    """
    bucket = bucket_of(folder)
    if bucket is None:
        yield None
        return
    lease = _Lease(bucket, lease_of(folder))
    lease.take(seconds, patient=patient)
    try:
        yield lease.lost
    finally:
        lease.release()


def wait_for_others(
    folder: Path, say: Callable[[str], object] | None = None, seconds: float = DAY_SECONDS
) -> None:
    """Wait while any process, of whichever machine, holds the lease of a folder; `say` is told.

    Raises:
        LeaseError: it is held all the time.
        BucketError: the bucket cannot be read.
    """
    bucket = bucket_of(folder)
    if bucket is not None:
        _until_free(bucket, lease_of(folder), None, seconds, say=say or logger.info)


def lease_of(folder: Path) -> Path:
    """Where the lease of a folder lies."""
    return folder.with_name(folder.name + LEASE)


class _Lease:
    """A lease that this process takes, renews in a thread, and gives back."""

    def __init__(self, bucket: Bucket, path: Path) -> None:
        self.lost = Event()
        self._bucket, self._path = bucket, path
        self._generation = 0
        self._over = Event()
        self._holder = Holder(
            machine=_this_machine(bucket), token=uuid.uuid4().hex, process=os.getpid()
        )
        self._renewing = Thread(target=self._renew, name="lease", daemon=True)

    def take(self, seconds: float, *, patient: bool) -> None:
        """Wait until it is free, and hold it."""
        ends = time.monotonic() + seconds
        while True:
            left = ends - time.monotonic()
            own = self._holder.machine
            free = _until_free(self._bucket, self._path, own, left, patient=patient)
            try:
                self._write(free)
            except ConflictError:
                # Another one that waited was faster.
                continue
            self._renewing.start()
            return

    def release(self) -> None:
        """Let others have it."""
        self._over.set()
        self._renewing.join(self._bucket.lease_seconds / RENEWALS)
        if not self.lost.is_set():
            # Else it runs out by itself: what the work came to must not be hidden by this.
            with contextlib.suppress(BucketError):
                self._bucket.remove(self._path, self._generation)

    def _write(self, generation: int) -> None:
        self._generation = self._bucket.replace(
            self._path, self._holder.model_dump_json(), generation
        )

    def _renew(self) -> None:
        while not self._over.wait(self._bucket.lease_seconds / RENEWALS):
            renewed = self._holder.renewed + 1
            self._holder = self._holder.model_copy(update={"renewed": renewed})
            try:
                self._write(self._generation)
            except ConflictError:
                if not self._is_still_ours():
                    logger.warning("another machine has taken over %s", self._path)
                    self.lost.set()
                    return
            except BucketError as error:
                logger.warning("the lease is not renewed, it is tried again: %s", error)

    def _is_still_ours(self) -> bool:
        """Whether the write that is in the way is our own, whose answer was lost."""
        try:
            generation, text = self._bucket.current(self._path)
        except BucketError:
            # The next time tells.
            return True
        there = _holder(text)
        if there is None or there.token != self._holder.token:
            return False
        self._generation = generation
        return True


def _until_free(
    bucket: Bucket,
    path: Path,
    own: str | None,
    seconds: float,
    *,
    patient: bool = True,
    say: Callable[[str], object] = logger.info,
) -> int:
    """The generation of a lease (0: there is none) that may be taken; waits until one may.

    `own`: the machine whose lease may be taken at once.
    """
    pause = bucket.lease_seconds / LOOKS
    ends = time.monotonic() + seconds
    seen: int | None = None
    still, looked = 0.0, time.monotonic()
    while True:
        generation, text = bucket.current(path)
        now = time.monotonic()
        # While the bucket was away its holder could not renew it either.
        still = still + min(now - looked, 2 * pause) if generation == seen else 0.0
        holder = _holder(text)
        if text is None or still >= bucket.lease_seconds or (holder and holder.machine == own):
            return generation
        who = f"process {holder.process} of {holder.machine}" if holder else "somebody"
        is_alive = seen is not None and generation != seen
        if now >= ends or (is_alive and not patient):
            raise LeaseError(f"{bucket.uri_of(path)}: {who} is at it; try again later")
        if seen is None:
            say(f"{bucket.uri_of(path)}: {who} is at it; waiting for what it makes")
        seen, looked = generation, now
        time.sleep(pause)


def _holder(text: str | None) -> Holder | None:
    """None: there is none, or it cannot be read."""
    try:
        return Holder.model_validate_json(text or "")
    except ValidationError:
        return None


def _this_machine(bucket: Bucket) -> str:
    """A name for this machine's working copy, made once: pods that follow each other differ."""
    path = bucket.root / _MACHINE
    if not path.is_file():
        staging = path.with_name(f"{_MACHINE}-{uuid.uuid4().hex}")
        staging.write_text(uuid.uuid4().hex[:12])
        # Once and whole, whoever comes at the same time.
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(staging)
        staging.unlink()
    # With the host's name: a copied disk has the same file.
    return f"{platform.node()}-{path.read_text()}"

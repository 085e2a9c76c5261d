"""The trash: what was thrown away, until it is put back or the trash is emptied.

A folder of the same disk or bucket for each collection, `<storage>/trash/<time>/`, with everything
at its path and a list of it. Things are moved, one after the other: whatever kills this leaves each
at its place or in the trash.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from retail_assistant.operations.costs import keep_costs
from retail_assistant.operations.garbage.collection import (
    SECONDS_A_DAY,
    Candidate,
    Found,
    garbage_in,
)
from retail_assistant.operations.garbage.references import LOCKS, References
from retail_assistant.operations.garbage.snapshot import seen
from retail_assistant.storage import StorageError
from retail_assistant.storage.bucket import bucket_of, names_in, read_pointer, write_pointer
from retail_assistant.storage.lease import LeaseError, leased
from retail_assistant.storage.moves import delete, each, is_there, move

TRASH = "trash"
CONTENTS = "contents.json"
_NAMED = "%Y%m%dT%H%M%SZ"
_COLLECTION = "collection"


class Contents(BaseModel):
    """What one collection threw away."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    candidates: list[Candidate]


class Thrown(BaseModel):
    """How a collection went."""

    model_config = ConfigDict(frozen=True)

    trash: str
    moved: list[Candidate]
    kept: list[Candidate]
    """In use again meanwhile: at their place."""

    @property
    def bytes(self) -> int:
        """Of what is in the trash now."""
        return sum(one.bytes for one in self.moved)


def throw_away(root: Path, *, older_than: float, champions: int) -> Thrown:
    """Find what nothing refers to and move it to the trash.

    What somebody has begun to use meanwhile stays, or is put back.

    Raises:
        StorageError: another collection is at it, or the bucket cannot be read or written.
    """
    with _alone(root):
        with seen(root) as folder:
            found = garbage_in(folder, older_than=older_than, champions=champions)
            if not found.candidates:
                return Thrown(trash="", moved=[], kept=[])
            trash = _new_folder(root)
            contents = Contents(at=datetime.now(UTC), candidates=found.candidates)
            # First, so that what a killed process has moved is known.
            _write(trash, contents)
            keep_costs(
                root,
                trash.name,
                [folder / one.path for one in found.candidates if one.kind == "artefact"],
            )
        return _throw(root, trash, contents, found)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One collection at a time, of all processes and machines."""
    (root / TRASH).mkdir(parents=True, exist_ok=True)
    bucket = bucket_of(root)
    # As long as it takes to see that a machine which had begun is gone.
    patience = 0.0 if bucket is None else 2 * bucket.lease_seconds
    with ExitStack() as held:
        try:
            held.enter_context(FileLock(root / TRASH / ".lock", timeout=0))
            held.enter_context(leased(root / TRASH / _COLLECTION, patience, patient=False))
        except (Timeout, LeaseError) as error:
            raise StorageError(f"another collection of {root} is running; try again") from error
        yield


def _throw(root: Path, trash: Path, contents: Contents, found: Found) -> Thrown:
    went = each(root, lambda one: _moved(root, trash, one), found.candidates)
    moved = [one for one, gone in zip(found.candidates, went, strict=True) if gone]
    with seen(root) as folder:
        again = References(folder, found.references.window).words
    wanted = [one for one in moved if Path(one.path).name.split(".")[0] in again]
    each(root, lambda one: move(trash / one.path, root / one.path), wanted)
    here = each(root, lambda one: is_there(root / one.path), found.candidates)
    kept = [one for one, stays in zip(found.candidates, here, strict=True) if stays]
    moved = [one for one in moved if one not in wanted]
    _write(trash, Contents(at=contents.at, candidates=moved))
    return Thrown(trash=trash.name, moved=moved, kept=kept)


def collections(root: Path) -> list[tuple[str, Contents]]:
    """What is in the trash, by its name, the oldest first.

    Raises:
        StorageError: a list is damaged, or the bucket cannot be read.
    """
    found = []
    for listed in names_in(root / TRASH, f"*/{CONTENTS}"):
        name, _, rest = listed.partition("/")
        path = root / TRASH / listed
        text = read_pointer(path) if rest == CONTENTS else None
        if text is None:
            continue
        try:
            found.append((name, Contents.model_validate_json(text)))
        except ValidationError as error:
            raise StorageError(f"{path} is damaged; move its folder away by hand") from error
    return found


def restore(root: Path, name: str = "") -> tuple[list[Candidate], list[Candidate]]:
    """Put what a collection threw away back to its place; the last one where none is named.

    Returns what is back, and what is not: something else has taken its place.

    Raises:
        StorageError: there is no such collection.
    """
    trash, contents = _collection(root, name)
    outcomes = each(root, lambda one: _restored(root, trash, one), contents.candidates)
    pairs = list(zip(contents.candidates, outcomes, strict=True))
    taken = [one for one, back in pairs if back is False]
    if not taken:
        delete(trash)
    return [one for one, back in pairs if back], taken


def _restored(root: Path, trash: Path, one: Candidate) -> bool | None:
    """Whether it is back; False: its place is taken; None: it is not in the trash."""
    if not is_there(trash / one.path):
        return None
    if is_there(root / one.path):
        return False
    return move(trash / one.path, root / one.path)


def empty(root: Path, *, older_than: float = 0.0) -> int:
    """Delete for good what was thrown away so many days ago; the bytes of it."""
    freed = 0
    for name, contents in collections(root):
        if contents.at.timestamp() <= time.time() - older_than * SECONDS_A_DAY:
            trash = root / TRASH / name
            freed += sum(each(root, partial(_bytes_there, trash), contents.candidates))
            delete(trash)
    return freed


def _bytes_there(trash: Path, one: Candidate) -> int:
    return one.bytes if is_there(trash / one.path) else 0


def _collection(root: Path, name: str) -> tuple[Path, Contents]:
    found = dict(collections(root))
    if not found:
        raise StorageError("the trash is empty")
    chosen = name or list(found)[-1]
    if chosen not in found:
        raise StorageError(f"no collection {name!r} in the trash; there: {', '.join(found)}")
    return root / TRASH / chosen, found[chosen]


def _new_folder(root: Path) -> Path:
    name = datetime.now(UTC).strftime(_NAMED)
    taken = {listed.partition("/")[0] for listed in names_in(root / TRASH)}
    names = [name, *(f"{name}-{number}" for number in range(2, len(taken) + 3))]
    return root / TRASH / next(one for one in names if one not in taken)


def _write(trash: Path, contents: Contents) -> None:
    write_pointer(trash / CONTENTS, contents.model_dump_json(indent=1))


def _moved(root: Path, trash: Path, one: Candidate) -> bool:
    """Whether it is in the trash now; not where a run has begun to work on it."""
    path = root / one.path
    if one.kind != "artefact":
        return move(path, trash / one.path)
    lock = next((path / name for name in LOCKS if (path / name).exists()), None)
    try:
        # At once or not at all; of a bucket the lock is one of this machine's own runs.
        with ExitStack() as held:
            if lock is not None:
                held.enter_context(FileLock(lock, timeout=0))
            held.enter_context(leased(path, 0))
            return move(path, trash / one.path)
    except (Timeout, LeaseError):
        return False

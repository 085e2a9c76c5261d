"""The trash: what was thrown away, until it is put back or the trash is emptied.

A folder of the same disk for each collection, `<storage>/trash/<time>/`, with everything at its
path and a list of it. Things are moved, one after the other: whatever kills this leaves each either
at its place or in the trash.
"""

import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from retail_assistant.operations.costs import keep_cost
from retail_assistant.operations.garbage.collection import SECONDS_A_DAY, Candidate, Found, garbage
from retail_assistant.operations.garbage.references import LOCKS, References
from retail_assistant.storage import StorageError, write_atomically

TRASH = "trash"
CONTENTS = "contents.json"
_NAMED = "%Y%m%dT%H%M%SZ"


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
        StorageError: another collection is at it.
    """
    (root / TRASH).mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / TRASH / ".lock", timeout=0)
    try:
        with lock:
            found = garbage(root, older_than=older_than, champions=champions)
            return _throw(root, found)
    except Timeout as error:
        raise StorageError(f"another collection of {root} is running; try again") from error


def _throw(root: Path, found: Found) -> Thrown:
    if not found.candidates:
        return Thrown(trash="", moved=[], kept=[])
    trash = _new_folder(root)
    contents = Contents(at=datetime.now(UTC), candidates=found.candidates)
    # First, so that what a killed process has moved is known.
    write_atomically(trash / CONTENTS, contents.model_dump_json(indent=1))
    moved = [one for one in found.candidates if _moved(root, trash, one)]
    again = References(root, found.references.window)
    wanted = [one for one in moved if Path(one.path).name.split(".")[0] in again.words]
    for one in wanted:
        _move(trash / one.path, root / one.path)
    kept = [one for one in found.candidates if (root / one.path).exists()]
    moved = [one for one in moved if one not in wanted]
    write_atomically(
        trash / CONTENTS,
        Contents(at=contents.at, candidates=moved).model_dump_json(indent=1),
    )
    return Thrown(trash=trash.name, moved=moved, kept=kept)


def collections(root: Path) -> list[tuple[str, Contents]]:
    """What is in the trash, by its name, the oldest first."""
    found = []
    for path in sorted((root / TRASH).glob(f"*/{CONTENTS}")):
        try:
            found.append((path.parent.name, Contents.model_validate_json(path.read_bytes())))
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
    back, taken = [], []
    for one in contents.candidates:
        there = trash / one.path
        if not there.exists():
            continue
        if (root / one.path).exists():
            taken.append(one)
            continue
        _move(there, root / one.path)
        back.append(one)
    if not taken:
        shutil.rmtree(trash)
    return back, taken


def empty(root: Path, *, older_than: float = 0.0) -> int:
    """Delete for good what was thrown away so many days ago; the bytes of it."""
    freed = 0
    for name, contents in collections(root):
        if contents.at.timestamp() <= time.time() - older_than * SECONDS_A_DAY:
            trash = root / TRASH / name
            freed += sum(one.bytes for one in contents.candidates if (trash / one.path).exists())
            shutil.rmtree(trash)
    return freed


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
    taken = {path.name for path in (root / TRASH).iterdir()}
    names = [name, *(f"{name}-{number}" for number in range(2, len(taken) + 3))]
    folder = root / TRASH / next(one for one in names if one not in taken)
    folder.mkdir()
    return folder


def _moved(root: Path, trash: Path, one: Candidate) -> bool:
    """Whether it is in the trash now; not where a run has begun to work on it."""
    path = root / one.path
    lock = next((path / name for name in LOCKS if (path / name).exists()), None)
    if one.kind != "artefact" or lock is None:
        return _gone(root, trash, one)
    try:
        with FileLock(lock, timeout=0):
            return _gone(root, trash, one)
    except Timeout:
        return False


def _gone(root: Path, trash: Path, one: Candidate) -> bool:
    if one.kind == "artefact":
        keep_cost(root, root / one.path)
    try:
        _move(root / one.path, trash / one.path)
    except FileNotFoundError:
        return False
    return True


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)

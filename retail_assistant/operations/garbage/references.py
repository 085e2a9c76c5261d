"""What in a storage folder is still referred to, and by what.

Conservative, as collectors for languages without type information are (Boehm & Weiser 1988,
Software: Practice and Experience 18:807-820): whatever looks like the name of an artefact or a
table in a document that is in force counts as a reference, whichever field it stands in. A
reference may so be seen where none is, which keeps a little too much; none is missed because a
format has a field that nobody thought of here.
"""

import fcntl
import json
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from retail_assistant.launch.spec import MANIFEST_NAME, SPEC_NAME
from retail_assistant.serving.served import MERGED
from retail_assistant.storage.lease import lease_of

Kind = Literal["artefact", "table"]
LOCKS = (".lock", "driver.lock")
LEASE_COUNTS_SECONDS = 3600
"""A lease is renewed every half minute; clocks differ."""

CHAMPION_FILE = "champion.json"
IMAGES_ASSET = "product_images"
VOCABULARIES = frozenset({"tokenizer.json", "vocab.json"})
"""Of a model: megabytes of words of its own, which name nothing of ours."""

NAME_LENGTH = 20
"""Of a fingerprint, and of the part of a table's SHA-256 that is its file's name."""

_WORD = re.compile(r"[\w-]+")
_DOCUMENT_BYTES = 16 * 2**20
_IDENTITY = ("module", "inputs", "config")


@dataclass(frozen=True, order=True)
class Stored:
    """An artefact's folder, or a table's file."""

    path: Path
    kind: Kind

    @property
    def name(self) -> str:
        """What refers to it says."""
        return self.path.name if self.kind == "artefact" else self.path.stem

    @property
    def asset(self) -> str:
        """Of an artefact the asset that it is of."""
        return self.path.parent.name

    def modified(self) -> float:
        """When anything of it was written last (seconds since 1970)."""
        paths = [self.path, *self.path.rglob("*")] if self.kind == "artefact" else [self.path]
        return max((_written(path) for path in paths), default=0.0)


def _written(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        # Gone meanwhile: somebody is at work here.
        return datetime.now().timestamp()


@dataclass(frozen=True)
class Window:
    """What counts as in force besides what is pointed at.

    since: whatever was written since then (seconds since 1970), and what that refers to.
    champions: of the champions' history so many of the last ones, for rollbacks; and all since.
    """

    since: float
    champions: int = 5


@dataclass
class References:
    """A storage folder's artefacts and tables, and which of them are in force."""

    root: Path
    window: Window
    reasons: dict[Stored, str] = field(default_factory=dict)
    """In force -> why."""

    words: set[str] = field(default_factory=set)
    """Every word of the documents in force, and how it begins."""

    def __post_init__(self) -> None:
        self.stored = [*_artefacts(self.root), *_tables(self.root)]
        self._by_name: dict[str, list[Stored]] = defaultdict(list)
        for one in self.stored:
            self._by_name[one.name].append(one)
        self._champions: set[str] = set()
        self._mark()

    def unreferenced(self) -> list[Stored]:
        """What nothing in force refers to."""
        return sorted(one for one in self.stored if one not in self.reasons)

    def _mark(self) -> None:
        for path in pointers(self.root):
            self._read(path, f"{path.relative_to(self.root)} points at it")
        self._mark_champions()
        self._mark_approved()
        for one in self.stored:
            if one.modified() >= self.window.since:
                self._keep(one, "written lately")
            elif one.kind == "artefact" and is_held(one.path):
                self._keep(one, "a run is at work on it")
        derived = [(one, self._made_from(one)) for one in self._latest_without_pointer()]
        while self._mark_derived(derived):
            pass

    def _mark_champions(self) -> None:
        """The champion, and those that a rollback may lead to."""
        champion = self.root / CHAMPION_FILE
        if champion.is_file():
            self._champions |= self._read(champion, "the champion")
        adapters: list[str] = []
        for path in sorted((self.root / "champions").glob("*-*.json"), reverse=True):
            event = _json(path)
            adapter = str(event.get("adapter", ""))
            if adapter not in adapters:
                adapters.append(adapter)
            late = _time(event.get("at")) >= self.window.since
            if late or adapters.index(adapter) < self.window.champions or not event:
                self._champions |= self._read(path, f"a rollback may need it ({path.name})")

    def _mark_approved(self) -> None:
        """Corpus versions that were approved."""
        for path in sorted((self.root / "approvals").glob("*.json")):
            if _json(path).get("decision") != "rejected":
                self._read(path, f"an approved corpus ({path.name})")

    def _mark_derived(self, derived: Sequence[tuple[Stored, set[Stored]]]) -> bool:
        """What no pointer ever names is kept with what it was made from; whether any was found.

        Answers, merged champions and prompts are found again by their fingerprint only. Of the
        same work by several versions of the code the latest is kept.
        """
        found = False
        for one, made_from in derived:
            if one in self.reasons or not made_from:
                continue
            if any(other not in self.reasons for other in made_from):
                continue
            if one.asset == MERGED and not self._is_of_a_champion(one):
                continue
            self._keep(one, "made from what is in force")
            found = True
        return found

    def _latest_without_pointer(self) -> list[Stored]:
        latest: dict[str, Stored] = {}
        for one in self.stored:
            if one.kind == "table" or any(one.path.parent.glob("*.json")):
                continue
            manifest = _json(one.path / MANIFEST_NAME)
            if not manifest:
                continue
            same = json.dumps([one.asset, *map(manifest.get, _IDENTITY)], sort_keys=True)
            other = latest.get(same)
            if other is None or other.modified() < one.modified():
                latest[same] = one
        return sorted(latest.values())

    def _made_from(self, one: Stored) -> set[Stored]:
        inputs = _json(one.path / MANIFEST_NAME).get("inputs") or {}
        return {other for value in inputs.values() for other in self._named(str(value))} - {one}

    def _is_of_a_champion(self, one: Stored) -> bool:
        inputs = _json(one.path / MANIFEST_NAME).get("inputs") or {}
        return str(inputs.get("adapter")) in self._champions

    def _keep(self, one: Stored, reason: str) -> None:
        """It, and all that it refers to."""
        waiting = [(one, reason)]
        while waiting:
            kept, why = waiting.pop()
            if kept in self.reasons:
                continue
            self.reasons[kept] = why
            for path in documents_of(kept):
                by = f"{kept.path.relative_to(self.root)} refers to it"
                waiting += [(other, by) for other in self._found_in(path)]

    def _read(self, path: Path, reason: str) -> set[str]:
        """Keep what a document names; the words in it."""
        for one in self._found_in(path):
            self._keep(one, reason)
        return words_of(path)

    def _found_in(self, path: Path) -> list[Stored]:
        words = words_of(path)
        self.words |= words | {word[:NAME_LENGTH] for word in words}
        return [one for word in words for one in self._named(word)]

    def _named(self, word: str) -> list[Stored]:
        names = {word, word[:NAME_LENGTH]} if len(word) > NAME_LENGTH else {word}
        return [one for name in names for one in self._by_name.get(name, ())]


def pointers(root: Path) -> Iterator[Path]:
    """The small files that say which artefact or table an asset has now, or that was accepted."""
    yield from sorted((root / "artefacts").glob("*/*.json"))
    yield from sorted((root / "tables").rglob("*.json"))


def documents_of(one: Stored) -> Iterator[Path]:
    """The documents of an artefact that may refer to others."""
    if one.kind == "artefact":
        found = {*one.path.glob("*.json"), *one.path.glob("*/*.json")}
        yield from sorted(path for path in found if path.name not in VOCABULARIES)


def words_of(path: Path) -> set[str]:
    """The words of a document: letters, digits, hyphens, underscores; none where it is gone."""
    if path.name == SPEC_NAME and (spec := _json(path)):
        # What one engine has answered beside it is no part of what it is.
        spec.pop("execution", None)
        return set(_WORD.findall(json.dumps(spec)))
    try:
        if path.stat().st_size > _DOCUMENT_BYTES:
            return _words(path.open(encoding="utf-8", errors="replace"))
        return set(_WORD.findall(path.read_text(encoding="utf-8", errors="replace")))
    except FileNotFoundError:
        return set()


def _words(lines: Iterable[str]) -> set[str]:
    return {word for line in lines for word in _WORD.findall(line)}


def is_held(folder: Path) -> bool:
    """Whether somebody is at work on an artefact: a process of this machine, or a lease tells."""
    lease = lease_of(folder)
    if lease.is_file() and time.time() - _written(lease) < LEASE_COUNTS_SECONDS:
        return True
    for name in LOCKS:
        path = folder / name
        if not path.exists():
            continue
        # As filelock does it, but for reading: opened to write it would look written to just now.
        with path.open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    return False


def is_finished(folder: Path) -> bool:
    """Whether an artefact's work came to its end; what has no spec was never heavy work."""
    return (folder / MANIFEST_NAME).is_file() or not (folder / SPEC_NAME).is_file()


def _artefacts(root: Path) -> Iterator[Stored]:
    for path in (root / "artefacts").glob("*/*"):
        if path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
            yield Stored(path, "artefact")


def _tables(root: Path) -> Iterator[Stored]:
    for path in (root / "tables").rglob("*.parquet"):
        # What is being written lies in folders whose names begin with a dot.
        if not any(part.startswith(".") for part in path.relative_to(root).parts):
            yield Stored(path, "table")


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _time(value: Any) -> float:
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except ValueError:
        return 0.0

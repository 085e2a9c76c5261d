"""Backup and restore of what cannot be made again: both databases, and who the champion is and was.

A backup is a folder of three parts and `manifest.json`, which is written last and names every
part's SHA-256. The champion's files come first, then MLflow, then Dagster: what refers to something
is saved before what it refers to. Tables and artefacts are no part of it: they are never
overwritten, and have their own history where they lie (versions of a bucket).
"""

import re
import shutil
import sqlite3
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from filelock import FileLock
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from retail_assistant import __version__
from retail_assistant.databases.database import Database, DatabaseError
from retail_assistant.databases.dumps import dump, dump_contents, load
from retail_assistant.databases.migration import migrate
from retail_assistant.databases.places import databases
from retail_assistant.databases.schema import Name, installed, schema_state
from retail_assistant.evaluation.champion_history import ChampionHistory
from retail_assistant.evaluation.registry import champion_path
from retail_assistant.objects import GCS, file_system
from retail_assistant.settings import Settings
from retail_assistant.storage import file_sha256
from retail_assistant.storage.bucket import (
    fetch_folder,
    publish,
    read_pointer,
    withdraw,
    write_pointer,
)
from retail_assistant.storage.files import explained

MANIFEST = "manifest.json"
CHAMPION: Final = "champion"
IN_ORDER: tuple[Name, ...] = ("MLflow", "Dagster")
# Names in the archives of parts; the champion's are where `champion_path` and the history say.
_PACKED = {
    "files": re.compile(r"champion\.json|champions/[^/]+\.json"),
    "sqlite": re.compile(r"(?:[^/]+/)*[^/]+\.db"),
}
Say = Callable[[str], None]


class Part(BaseModel):
    """One file of a backup."""

    model_config = ConfigDict(frozen=True)

    name: Literal["champion", "MLflow", "Dagster"]
    kind: Literal["files", "sqlite", "postgresql"]
    file: str = Field(pattern=r"^[a-z]+\.(dump|tar\.gz)$")
    sha256: str
    size: int
    place: str = Field(description="where it was, without a secret")
    revision: str | None = Field(None, description="the schema's version")
    entries: int = Field(description="runs; of the champion its events")


class BackupManifest(BaseModel):
    """What a backup holds."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    at: AwareDatetime
    versions: dict[str, str]
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Place:
    """Where the parts come from, and go to: this environment's databases and storage folder."""

    settings: Settings
    databases: tuple[Database, ...]

    @classmethod
    def of(cls, settings: Settings, home: Path) -> "Place":
        """The databases that are known here.

        Raises:
            DatabaseError: MLflow's is behind a server, or one is not described well.
        """
        found = databases(settings, home)
        if len(found) == 1:
            raise DatabaseError(
                f"MLflow is behind the server {settings.mlflow_tracking_uri}: name its database in"
                " MLFLOW_BACKEND_STORE_URI, as its server has it"
            )
        return cls(settings, tuple(found))

    def database(self, name: Name) -> Database:
        """Dagster's or MLflow's."""
        return next(one for one in self.databases if one.name == name)

    @property
    def history(self) -> ChampionHistory:
        """The champions."""
        return ChampionHistory(self.settings)

    def champions(self) -> int:
        """How many events there are; a pointer from before there was a history is one."""
        names = [path.name for path in self.champion_files()]
        return max(bool(names), sum(name[0].isdecimal() for name in names))

    def champion_files(self) -> list[Path]:
        """The pointer and the history's files, as they are now, as far as they are there."""
        pointer, folder = champion_path(self.settings), self.history.folder
        fetch_folder(folder)
        there = [] if read_pointer(pointer) is None else [pointer]
        return [*there, *sorted(folder.glob("*.json"))]


def make_backup(place: Place, to: str, say: Say = lambda _: None) -> str:
    """Save everything in a new folder under `to` (a folder or gs://bucket/prefix); its address.

    May be made while all is in use: each part is consistent in itself.

    Raises:
        DatabaseError: a database cannot be read, or `to` cannot be written.
    """
    now = datetime.now(UTC).replace(microsecond=0)
    address = f"{to.rstrip('/')}/{now:%Y%m%dT%H%M%SZ}"
    with tempfile.TemporaryDirectory(prefix="retail-backup-") as name:
        folder = Path(name)
        parts = [_save_champion(place, folder)]
        for owner in IN_ORDER:
            database = place.database(owner)
            parts.append(_save_database(database, folder, place.settings.postgres_bin))
        for part in parts:
            say(f"{part.name}: {_entries(part.name, part.entries)}, {part.size} bytes")
        versions = {owner.lower(): installed(owner).split()[1] for owner in IN_ORDER}
        versions["retail-assistant"] = __version__
        manifest = BackupManifest(at=now, versions=versions, parts=tuple(parts))
        (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n")
        _upload(folder, [*(part.file for part in parts), MANIFEST], address)
    return address


def _save_champion(place: Place, folder: Path) -> Part:
    history = place.history
    file = folder / "champion.tar.gz"
    history.folder.mkdir(parents=True, exist_ok=True)
    # No promotion between the pointer and the events.
    with FileLock(history.folder / ".lock"):
        _pack(file, place.settings.storage, place.champion_files())
        events = place.champions()
    return _part("champion", "files", file, str(history.folder), events)


def _save_database(database: Database, folder: Path, postgres_bin: Path | None) -> Part:
    runs, revision = database.rows(), database.revision()
    name = database.name.lower()
    if database.url is not None:
        file = folder / f"{name}.dump"
        dump(database, file, postgres_bin)
        return _part(database.name, "postgresql", file, database.place, runs, revision)
    copies = folder / name
    for source in database.files():
        _copy_sqlite(source, copies / source.relative_to(database.folder))
    file = folder / f"{name}.tar.gz"
    _pack(file, copies, sorted(copies.rglob("*.db")))
    return _part(database.name, "sqlite", file, database.place, runs, revision)


def _copy_sqlite(source: Path, target: Path) -> None:
    """SQLite's own backup: whole, also while others write."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(source)) as original, closing(sqlite3.connect(target)) as copy:
        original.backup(copy)


def _pack(file: Path, root: Path, paths: list[Path]) -> None:
    with tarfile.open(file, "w:gz") as archive:
        for path in paths:
            archive.add(path, str(path.relative_to(root)))


def _part(
    name: Literal["champion", "MLflow", "Dagster"],
    kind: Literal["files", "sqlite", "postgresql"],
    file: Path,
    place: str,
    entries: int,
    revision: str | None = None,
) -> Part:
    return Part(
        name=name,
        kind=kind,
        file=file.name,
        sha256=file_sha256(file),
        size=file.stat().st_size,
        place=place,
        revision=revision,
        entries=entries,
    )


def _entries(name: str, number: int) -> str:
    return f"{number} {'events' if name == CHAMPION else 'runs'}"


def _upload(folder: Path, names: list[str], address: str) -> None:
    try:
        files, path = file_system(address)
        if not address.startswith(GCS):
            Path(path).mkdir(parents=True)
        for name in names:
            files.put_file(str(folder / name), f"{path}/{name}")
            if files.size(f"{path}/{name}") != (folder / name).stat().st_size:
                raise OSError(f"{name} did not arrive whole")
    except Exception as error:
        # fsspec's backends have errors of their own kinds; about all of them one does the same.
        raise DatabaseError(f"cannot write the backup {address}: {explained(error)}") from error


@contextmanager
def opened_backup(address: str, postgres_bin: Path | None) -> Iterator[tuple[Path, BackupManifest]]:
    """A backup, copied to this machine and looked at: whole, readable, and of a known schema.

    Raises:
        DatabaseError: it is not; says what is wrong with it.
    """
    with tempfile.TemporaryDirectory(prefix="retail-restore-") as name:
        folder = Path(name)
        _download(address.rstrip("/"), MANIFEST, folder)
        try:
            manifest = BackupManifest.model_validate_json((folder / MANIFEST).read_bytes())
        except ValidationError as error:
            raise DatabaseError(
                f"{address}/{MANIFEST} is damaged, or of a newer version"
            ) from error
        for part in manifest.parts:
            _download(address.rstrip("/"), part.file, folder)
            _verify(folder / part.file, part, address, postgres_bin)
        yield folder, manifest


def _download(address: str, name: str, folder: Path) -> None:
    try:
        files, path = file_system(address)
        files.get_file(f"{path}/{name}", str(folder / name))
    except FileNotFoundError as error:
        found = f"it has no {name}; name the folder of one backup, such as …/20261128T120000Z"
        raise DatabaseError(f"{address} is no finished backup: {found}") from error
    except Exception as error:
        raise DatabaseError(f"cannot read the backup {address}: {explained(error)}") from error


def _verify(file: Path, part: Part, address: str, postgres_bin: Path | None) -> None:
    if file_sha256(file) != part.sha256:
        raise DatabaseError(f"{address}/{part.file} was altered or cut off; take another backup")
    if part.kind == "postgresql":
        dump_contents(file, postgres_bin)
    else:
        _verify_members(file, part, address)
    if part.name != CHAMPION and schema_state(part.name, part.revision) == "newer":
        raise DatabaseError(
            f"{address} has {part.name}'s schema {part.revision}, which {installed(part.name)} does"
            " not know: restore it with the version that made it"
        )


def _verify_members(file: Path, part: Part, address: str) -> None:
    """Refuse an archive that holds anything but what a backup packs: it is unpacked into place."""
    try:
        with tarfile.open(file) as archive:
            members = archive.getmembers()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DatabaseError(f"{address}/{part.file} is no archive; take another backup") from error
    packed = _PACKED[part.kind]
    for one in members:
        if not one.isreg() or not packed.fullmatch(one.name) or ".." in one.name.split("/"):
            raise DatabaseError(
                f"{address}/{part.file} holds {one.name!r:.200}, which no backup packs; take"
                " another backup"
            )


def restore_backup(
    place: Place, address: str, *, overwrite: bool, dry_run: bool, say: Say = lambda _: None
) -> None:
    """Put a backup in the place of what is there now.

    What SQLite files and champions were there is moved aside; a PostgreSQL database is replaced in
    one transaction, so that it has either all of what it had or all of the backup.

    Raises:
        DatabaseError: the backup is not whole, does not fit the databases here, they are in use,
            or something would be overwritten that nobody said may be.
    """
    with opened_backup(address, place.settings.postgres_bin) as (folder, manifest):
        made = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
        say(f"{address}: whole; made {manifest.at:%Y-%m-%d %H:%M} UTC by {made}")
        there = {part.name: _fitting(place, part) for part in manifest.parts}
        for part in manifest.parts:
            say(
                f"{part.name}: {_entries(part.name, part.entries)} of {part.place}, in the place of"
                f" {_entries(part.name, there[part.name])} here"
            )
        lost = [name for name, entries in there.items() if entries]
        if lost and not overwrite and not dry_run:
            raise DatabaseError(
                f"there is something already ({', '.join(lost)}), which would be overwritten;"
                " look with --dry-run, make a backup of it, then say --yes"
            )
        if dry_run:
            return
        for part in reversed(manifest.parts):
            _restore_part(place, part, folder / part.file)
            say(f"{part.name}: restored")
    for database in place.databases:
        migrate(database)
    _say_who_serves(place, say)


def _say_who_serves(place: Place, say: Say) -> None:
    reigns = place.history.reigns()
    if reigns:
        wrong = place.history.is_intact(reigns[-1])
        say(f"champion: {reigns[-1].job}; its files: {wrong or 'intact'}")


def _fitting(place: Place, part: Part) -> int:
    """How many entries there are now, where a part is to go."""
    if part.name == CHAMPION:
        return place.champions()
    database = place.database(part.name)
    kind = "sqlite" if database.url is None else "postgresql"
    if kind != part.kind:
        raise DatabaseError(
            f"the backup has {part.name}'s database as {part.kind}, here it is {kind}"
            f" ({database.place}): restore it where the database is of that kind"
        )
    return database.rows()


def _restore_part(place: Place, part: Part, file: Path) -> None:
    if part.name == CHAMPION:
        _restore_champion(place, file)
        return
    database = place.database(part.name)
    with database.alone():
        if database.url is not None:
            load(database, file, place.settings.postgres_bin)
            return
        _moved_aside(database.folder, database.files())
        with tarfile.open(file) as archive:
            archive.extractall(database.folder, filter="data")


def _restore_champion(place: Place, file: Path) -> None:
    """The events first, the pointer last: nobody is pointed at what is not there."""
    root = place.settings.storage
    history = place.history.folder
    history.mkdir(parents=True, exist_ok=True)
    with FileLock(history / ".lock"), tempfile.TemporaryDirectory() as name:
        with tarfile.open(file) as archive:
            archive.extractall(name, filter="data")
        found = sorted(Path(name).rglob("*.json"), key=lambda path: len(path.parts), reverse=True)
        restored = {root / path.relative_to(name): path.read_text() for path in found}
        there = place.champion_files()
        publish(_moved_aside(root, there))
        for path in there:
            if path not in restored:
                withdraw(path)
        for path, text in restored.items():
            # Whatever is there is what is replaced.
            read_pointer(path)
            write_pointer(path, text)


def _moved_aside(root: Path, paths: list[Path]) -> Path:
    """The folder in which what is replaced is kept, beside it."""
    aside = root / f"before-restore-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"
    for path in paths:
        for found in path.parent.glob(f"{path.name}*"):
            # With SQLite's -wal and -shm, which belong to it.
            target = aside / found.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(found, target)
    return aside

"""What the storage says of itself: manifests, contents, pointers, names, the champions' history."""

import json
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from retail_assistant.evaluation.champion_history import ChampionEvent
from retail_assistant.evaluation.registry import Champion
from retail_assistant.launch.spec import MANIFEST_NAME, SPEC_NAME, ArtefactRef, Manifest
from retail_assistant.operations.verification.findings import Claim, Finding
from retail_assistant.operations.verification.store import CHAMPION, Files
from retail_assistant.storage import StorageError
from retail_assistant.storage.contents import CONTENTS, Contents, StoredFile

BACKUP = "put it back from a backup"
HASH_FILE = ".sha256"
_DEPTH = 3
"""An artefact's folder is artefacts/<asset>/<fingerprint>."""

Told = Iterator[Claim | Finding]


def all_claims(files: Files) -> Told:
    """Every claim, and what could not be read to know them."""
    for name in files.sizes:
        parts = PurePosixPath(name).parts
        if parts[0] == "artefacts":
            yield from _of_artefacts(files, name, parts)
        elif parts[0] == "tables":
            yield from _of_tables(files, name, parts)
        elif name.endswith(".json") and parts[0] == "approvals":
            yield from _parsed(files, name)
    yield from _of_champions(files)


def _of_artefacts(files: Files, name: str, parts: Sequence[str]) -> Told:
    if len(parts) == _DEPTH:
        if name.endswith(".json"):
            yield from _of_artefact_pointer(files, name)
        return
    folder, _, last = name.rpartition("/")
    again = remedy(files, "/".join(parts[:_DEPTH]))
    if len(parts) == _DEPTH + 1 and last == MANIFEST_NAME:
        manifest = _read(files, name, Manifest, again)
        yield from _listed(files, folder, name, manifest, again)
    elif last == CONTENTS:
        contents = _read(files, name, Contents, again)
        yield from _listed(files, folder, name, contents, again)
    elif last.endswith(HASH_FILE) and name.removesuffix(HASH_FILE) in files.sizes:
        yield Claim(name.removesuffix(HASH_FILE), name, again, files.text(name).strip())


def _listed(
    files: Files, folder: str, by: str, made: Manifest | Contents | Finding, again: str
) -> Told:
    """The files of a manifest or of contents, and what is beside them and is not listed."""
    if isinstance(made, Finding):
        yield made
        return
    listed: Sequence[StoredFile] = (
        list(made.outputs.values()) if isinstance(made, Manifest) else made.files
    )
    for one in listed:
        yield Claim(f"{folder}/{one.path}", by, again, one.sha256, one.size)
    # In the artefact's folder itself there are logs and the like; in those inside it nothing else.
    known = {f"{folder}/{one.path}" for one in listed}
    for part in sorted({one.path.split("/")[0] for one in listed if "/" in one.path}):
        for name in files.below(f"{folder}/{part}"):
            if name not in known:
                detail = f"{by} does not list it, and what reads the folder would take it"
                yield Finding(path=name, problem="altered", detail=detail, remedy="move it away")


def _of_artefact_pointer(files: Files, name: str) -> Told:
    again = f"materialize {PurePosixPath(name).parts[1]} again"
    ref = _read(files, name, ArtefactRef, again)
    if isinstance(ref, Finding):
        yield ref
    else:
        yield from _target(files, _stored(ref), name, again)


def _stored(ref: ArtefactRef) -> str:
    """Where an artefact is in the storage, whichever machine wrote the reference."""
    return PurePosixPath("artefacts", *ref.folder.parts[-2:]).as_posix()


def _target(files: Files, folder: str, by: str, again: str) -> Told:
    """That something is in a folder; and if it is work, that it is finished."""
    there = files.below(folder)
    if not there:
        yield Finding(path=folder, problem="missing", detail=f"{by} names it", remedy=again)
    elif f"{folder}/{SPEC_NAME}" in there:
        yield Claim(f"{folder}/{MANIFEST_NAME}", by, again)


def _of_tables(files: Files, name: str, parts: Sequence[str]) -> Told:
    path = PurePosixPath(name)
    if path.suffix == ".parquet":
        yield Claim(name, "its name", _table_remedy(parts), path.stem)
    elif path.suffix == ".json":
        again = _table_remedy(parts)
        pointer = _json(files, name)
        try:
            target = (path.parent / PurePosixPath(str(pointer["file"])).name).as_posix()
            yield Claim(target, name, again, str(pointer["sha256"]))
        except KeyError:
            detail = "it names no table"
            yield Finding(path=name, problem="unreadable", detail=detail, remedy=again)


def _table_remedy(parts: Sequence[str]) -> str:
    asset, *partition = parts[1:-1]
    of = f" for {'/'.join(partition)}" if partition else ""
    return f"materialize {asset} again{of}; an earlier version of it: {BACKUP}"


def _of_champions(files: Files) -> Told:
    events = [name for name in files.below("champions") if name.count("/") == 1]
    read = {name: _read(files, name, ChampionEvent, BACKUP) for name in events if _is_event(name)}
    yield from (one for one in read.values() if isinstance(one, Finding))
    if CHAMPION not in files.sizes:
        return
    again = "retail-assistant champion list puts it in order again; if not: " + BACKUP
    champion = _read(files, CHAMPION, Champion, again)
    if isinstance(champion, Finding):
        yield champion
        return
    back = "retail-assistant champion rollback, or materialize champion again"
    for folder in (_stored(champion.adapter), f"artefacts/base_model/{champion.base_model}"):
        yield from _target(files, folder, CHAMPION, back)
    for event in read.values():
        if isinstance(event, ChampionEvent) and event.number == champion.event:
            yield from _of_event(event, back)


def _is_event(name: str) -> bool:
    return PurePosixPath(name).name[:1].isdecimal()


def _of_event(event: ChampionEvent, back: str) -> Told:
    """What the event that made the champion says of the files that serve."""
    manifests = {
        event.folder: event.manifest_sha256,
        f"artefacts/base_model/{event.base_model}": event.base_manifest_sha256,
    }
    for folder, digest in manifests.items():
        if digest is not None:
            yield Claim(f"{folder}/{MANIFEST_NAME}", f"champion event {event.number}", back, digest)


def remedy(files: Files, folder: str) -> str:
    """How an artefact is made again."""
    again = f"materialize {PurePosixPath(folder).parts[1]} again"
    # In a bucket its manifest vouches for it to machines that have not looked at the files.
    if not files.in_bucket:
        return again
    return f"remove {files.place}/{folder}/{MANIFEST_NAME}, then {again}"


def _json(files: Files, name: str) -> dict[str, Any]:
    try:
        found = json.loads(files.text(name))
    except (ValueError, StorageError):
        return {}
    return found if isinstance(found, dict) else {}


def _parsed(files: Files, name: str) -> Told:
    if not _json(files, name):
        yield Finding(path=name, problem="unreadable", detail="it is no JSON", remedy=BACKUP)


Read = TypeVar("Read", bound=BaseModel)


def _read(files: Files, name: str, model: type[Read], again: str) -> Read | Finding:
    try:
        return model.model_validate_json(files.text(name))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        detail = f"{place}: {first['msg']}" if place else first["msg"]
    except StorageError as error:
        detail = str(error)
    return Finding(path=name, problem="unreadable", detail=detail, remedy=again)

"""What to run, and what a finished run leaves behind."""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from retail_assistant.storage import StorageError, fingerprint, require_name
from retail_assistant.storage.bucket import (
    bucket_of,
    fetch,
    fetch_folder,
    publish,
    read_pointer,
    shared_sizes,
    shared_uri,
    write_pointer,
)
from retail_assistant.storage.contents import (
    StoredFile,
    damaged,
    read_contents,
    require_as_made,
    unlisted,
)
from retail_assistant.storage.crash_points import crossing

MANIFEST_NAME = "manifest.json"
SPEC_NAME = "spec.json"
_PLACE = 3
"""An artefact's folder is artefacts/<name>/<fingerprint> below the storage folder."""

_WHOLE: set[Path] = set()
"""Artefacts of which this process knows that all of them is here."""

PREEMPTED_EXIT_CODE = 143
"""How a workload ends that was asked to make room (128 + SIGTERM) and can go on later."""


class LaunchError(RuntimeError):
    """Heavy work did not finish; the message says why and where its log is."""


class Preempted(LaunchError):  # noqa: N818 (nothing went wrong: it may simply go on)
    """Heavy work was ended to make room, by nobody who wants it ended; run again, it goes on."""


class Resources(BaseModel):
    """What a workload needs from the machines that run it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    processes: int = Field(default=1, ge=1, description="Training processes (ranks) of each node.")
    nodes: int = Field(default=1, ge=1, description="Machines.")
    gpus: int = Field(default=0, ge=0, description="GPUs of each node.")
    cpus: int | None = Field(
        default=None, ge=1, description="CPU cores of each node; default: one a process."
    )
    memory_gib: float = Field(default=4.0, gt=0, description="Memory of each node in GiB.")
    max_runtime_minutes: float | None = Field(
        default=None, gt=0, description="Ended when it has run this long; default: no limit."
    )


class LaunchSpec(BaseModel):
    """One piece of heavy work: a module, its configuration, and the identity of the result."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="The asset, for example `adapter`.", pattern=r"^[a-z_]+$")
    module: str = Field(description="Run as `python -m <module> --spec spec.json`.")
    config: dict[str, Any] = Field(description="The module's own configuration, JSON-able.")
    inputs: dict[str, str] = Field(description="Input name -> data version.")
    paths: dict[str, Path] = Field(
        default_factory=dict,
        description="Where the inputs lie; no part of the identity of the result.",
    )
    code_version: str = Field(description="Changes when the module's results change.")
    root: Path = Field(description="The storage folder.")
    resources: Resources = Resources()
    accelerate: dict[str, Any] | None = Field(
        default=None,
        description="Start through `accelerate launch`, with this as its configuration file;"
        " no part of the identity of the result.",
    )
    execution: dict[str, Any] = Field(
        default_factory=dict,
        description="How the machines go about it, such as trading time for memory; no part of"
        " the identity of the result.",
    )
    tracking: dict[str, str] = Field(
        default_factory=dict,
        description="Where to report to; no part of the identity of the result.",
    )

    @property
    def fingerprint(self) -> str:
        """The address of the result: same fingerprint, same artefact."""
        return fingerprint(
            {
                "module": self.module,
                "config": self.config,
                "inputs": self.inputs,
                "code_version": self.code_version,
            }
        )

    @property
    def folder(self) -> Path:
        """The folder of the artefact."""
        return self.root / "artefacts" / self.name / self.fingerprint


class OutputFile(StoredFile):
    """A file of an artefact, relative to its folder."""


class Manifest(BaseModel):
    """What a finished workload states about itself. No manifest: not done."""

    name: str
    fingerprint: str
    code_version: str
    inputs: dict[str, str]
    config: dict[str, Any]
    outputs: dict[str, OutputFile]
    metrics: dict[str, Any]
    started: datetime
    finished: datetime
    host: dict[str, Any]
    packages: dict[str, str]
    exit_state: str = "finished"

    def path(self, folder: Path, output: str) -> Path:
        """The absolute path of a named output."""
        return folder / self.outputs[output].path


class ArtefactRef(BaseModel):
    """A finished artefact: its folder and identity."""

    model_config = ConfigDict(frozen=True)

    folder: Path
    fingerprint: str

    def manifest(self) -> Manifest:
        """The artefact's manifest.

        Raises:
            LaunchError: the artefact is gone, or damaged.
        """
        manifest = read_manifest(self.folder, verify=False)
        if manifest is None:
            raise LaunchError(f"{self.folder} is not a finished artefact; materialize it again")
        return manifest

    def path(self, output: str) -> Path:
        """The absolute path of a named output, which is on this machine afterwards, as it was made.

        Raises:
            StorageError: it is missing or altered; says what to do.
        """
        one = self.manifest().outputs[output]
        fetch(self.folder / one.path)
        require_as_made(self.folder, [one], _remedy(self.folder))
        return self.folder / one.path

    @property
    def local(self) -> Path:
        """The folder, with all that is in it on this machine, as it was made.

        Raises:
            BucketError: it cannot be read.
            StorageError: a file of it is missing or altered; says which, and what to do.
        """
        return self.part("")

    def part(self, name: str) -> Path:
        """A folder of the artefact, such as `adapter`, with what was made and nothing else.

        What is compared with its hash is what is in there; an empty name stands for all.

        Raises:
            BucketError: it cannot be read.
            StorageError: a file of it is missing or altered, or there is one that is none of the
                artefact's; says which, and what to do.
        """
        fetch_artefact(self.folder)
        require_intact(self.folder, name)
        return self.folder / name


def fetch_artefact(folder: Path) -> None:
    """Have an artefact on this machine whole.

    Raises:
        BucketError: it cannot be read.
    """
    bucket = bucket_of(folder)
    if bucket is not None and folder not in _WHOLE:
        bucket.fetch_folder(folder)
        _WHOLE.add(folder)


def artefact_at(root: Path, name: str, fingerprint: str) -> ArtefactRef:
    """The artefact of a fingerprint, there or not."""
    return ArtefactRef(folder=root / "artefacts" / name / fingerprint, fingerprint=fingerprint)


def finished_artefacts(root: Path, name: str) -> Iterator[tuple[ArtefactRef, Manifest]]:
    """Every finished artefact of a name, the newest first; files are not compared.

    Raises:
        BucketError: the bucket cannot be read.
    """
    folder = root / "artefacts" / name
    shared = fetch_folder(folder, f"*/{MANIFEST_NAME}")
    paths = folder.glob(f"*/{MANIFEST_NAME}")
    for path in sorted(paths, key=lambda one: -one.stat().st_mtime):
        # Of what was thrown away for all machines this one may have the manifest still.
        if shared is not None and path.relative_to(folder).as_posix() not in shared:
            continue
        manifest = read_manifest(path.parent, verify=False)
        if manifest is not None:
            yield ArtefactRef(folder=path.parent, fingerprint=path.parent.name), manifest


def fetch_inputs(spec: LaunchSpec) -> None:
    """Have what a spec reads on this machine.

    Raises:
        BucketError: it cannot be read.
    """
    artefacts = spec.root / "artefacts"
    for path in spec.paths.values():
        if path.is_relative_to(artefacts):
            name, mark, *_ = path.relative_to(artefacts).parts
            fetch_artefact(artefacts / name / mark)
        else:
            fetch(path)


def read_manifest(folder: Path, *, verify: bool = True) -> Manifest | None:
    """The manifest of a finished artefact, or None where the work was not finished.

    With `verify`, every output is there with its size and content, else it is not done.
    """
    path = folder / MANIFEST_NAME
    fetch(path)
    if not path.is_file():
        return None
    try:
        manifest = Manifest.model_validate_json(path.read_text())
    except (ValidationError, json.JSONDecodeError, UnicodeDecodeError):
        return None
    if verify:
        shared = shared_sizes(folder)
        outputs = manifest.outputs.values()
        if not all(_is_intact(folder, one, shared.get(one.path)) for one in outputs):
            return None
    return manifest


def _is_intact(folder: Path, output: OutputFile, shared: int | None) -> bool:
    """Whether a file is as it was made; `shared`: its bytes in the bucket, from where it comes."""
    if output.is_as_made(folder):
        return True
    if shared != output.size:
        return False
    # What is not here yet is compared when it is read.
    return not (folder / output.path).is_file() or not damaged(folder, [output])


def require_intact(folder: Path, below: str = "") -> None:
    """Refuse an artefact, or a folder in it, whose files are not as they were made.

    Each file is hashed once by a process, and again when it has changed.

    Args:
        folder: of the artefact, on this machine.
        below: only what is under this name, and there nothing that is not the artefact's: a library
            that gets a folder reads whatever it finds in it.

    Raises:
        StorageError: says which file, what is wrong with it, and what to do.
    """
    files = _made(folder)
    if files is None:
        return
    if below:
        files = [one for one in files if one.path == below or one.path.startswith(f"{below}/")]
    require_as_made(folder, files, _remedy(folder))
    strange = unlisted(folder / below, {folder / one.path for one in files}) if below else []
    if strange:
        raise StorageError(
            f"{strange[0]} is no file of this artefact (its manifest does not list it);"
            " move it away"
        )


def _made(folder: Path) -> Sequence[StoredFile] | None:
    """What an artefact was made of; None: it is one that lists nothing, as older reports do."""
    manifest = read_manifest(folder, verify=False)
    if manifest is not None:
        return list(manifest.outputs.values())
    if (folder / SPEC_NAME).is_file():
        raise StorageError(f"{folder} is not a finished artefact; {_remedy(folder)}")
    contents = read_contents(folder)
    return None if contents is None else contents.files


def _remedy(folder: Path) -> str:
    again = f"materialize {folder.parent.name} again"
    if bucket_of(folder) is None:
        return again
    # Machines that have not looked at its files themselves take a manifest's word for them.
    return f"remove {shared_uri(folder / MANIFEST_NAME)}, then {again}"


def require_inputs(spec: LaunchSpec) -> None:
    """Refuse the artefacts that a spec reads, where they are not as they were made.

    Tables are compared by who reads them (`TableRef`).

    Raises:
        StorageError: as `require_intact`.
    """
    artefacts = spec.root / "artefacts"
    for path in spec.paths.values():
        if path.is_relative_to(artefacts):
            name, mark, *below = path.relative_to(artefacts).parts
            require_intact(artefacts / name / mark, "/".join(below))


def write_artefact_ref(ref: ArtefactRef, root: Path, name: str, partition: str | None) -> None:
    """Make an artefact the one that an asset (partition) refers to."""
    publish(ref.folder)
    with crossing("pointer", name, partition):
        write_pointer(_pointer(root, name, partition), ref.model_dump_json())


def read_artefact_ref(root: Path, name: str, partition: str | None = None) -> ArtefactRef:
    """The artefact that an asset (partition) refers to now.

    Raises:
        StorageError: it was never materialized.
    """
    text = read_pointer(_pointer(root, name, partition))
    if text is None:
        of_partition = f" for {partition}" if partition else ""
        raise StorageError(f"{name} does not exist{of_partition} yet; materialize it first")
    ref = ArtefactRef.model_validate_json(text)
    if bucket_of(root) is None:
        return ref
    # The same artefact lies elsewhere in another machine's working copy.
    return ref.model_copy(update={"folder": root.joinpath(*ref.folder.parts[-_PLACE:])})


def _pointer(root: Path, name: str, partition: str | None) -> Path:
    of_partition = f"-{require_name(partition)}" if partition else ""
    return root / "artefacts" / name / f"latest{of_partition}.json"

"""Identity of heavy work, and what counts as done."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from retail_assistant.launch.spec import (
    MANIFEST_NAME,
    SPEC_NAME,
    ArtefactRef,
    LaunchError,
    LaunchSpec,
    Manifest,
    OutputFile,
    Resources,
    read_artefact_ref,
    read_manifest,
    write_artefact_ref,
)
from retail_assistant.storage import StorageError, file_sha256
from retail_assistant.storage.contents import CONTENTS, seal
from retail_assistant_tests.evaluation.manifests import finished as planted

MakeSpec = Callable[..., LaunchSpec]
MOMENT = datetime(2026, 11, 1, tzinfo=UTC)


def finished(folder: Path, content: str = "a good text") -> Manifest:
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / "text.txt"
    output.write_text(content)
    manifest = Manifest(
        name="sample",
        fingerprint="f",
        code_version="1",
        inputs={},
        config={},
        outputs={
            "text": OutputFile(
                path="text.txt", sha256=file_sha256(output), size=output.stat().st_size
            )
        },
        metrics={"characters": len(content)},
        started=MOMENT,
        finished=MOMENT,
        host={},
        packages={},
    )
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json())
    return manifest


@pytest.mark.parametrize(
    "changed",
    [
        {"config": {"text": "another text"}},
        {"inputs": {"source": "v2"}},
        {"inputs": {"source": "v1", "more": "v1"}},
        {"code_version": "2"},
        {"module": "retail_assistant.base_model"},
    ],
)
def test_what_changes_the_result_changes_the_address(
    sample_spec: MakeSpec, changed: dict[str, Any]
) -> None:
    assert sample_spec(**changed).fingerprint != sample_spec().fingerprint
    assert sample_spec(**changed).folder != sample_spec().folder


@pytest.mark.parametrize(
    "changed",
    [
        {"paths": {"orders": Path("/elsewhere")}},
        {"tracking": {"run_name": "other"}},
        {"resources": Resources(processes=2, memory_gib=64)},
        {"root": Path("/other/storage")},
        {"accelerate": {"distributed_type": "NO", "num_processes": 1}},
        {"execution": {"gradient_checkpointing": True}},
        {"resources": Resources(nodes=2, gpus=8, cpus=4, max_runtime_minutes=5)},
    ],
)
def test_where_and_how_it_runs_is_no_part_of_the_address(
    sample_spec: MakeSpec, changed: dict[str, Any]
) -> None:
    assert sample_spec(**changed).fingerprint == sample_spec().fingerprint


def test_the_address_survives_the_way_to_the_process(sample_spec: MakeSpec) -> None:
    spec = sample_spec(config={"b": 1.5, "a": [None, {"z": "ü", "y": True}]})
    assert LaunchSpec.model_validate_json(spec.model_dump_json()) == spec
    again = LaunchSpec.model_validate_json(spec.model_dump_json())
    assert again.fingerprint == spec.fingerprint


@pytest.mark.parametrize("name", ["../sample", "Sample", "", "a b", "sample\n", "a/b"])
def test_a_name_that_is_no_folder_is_refused(sample_spec: MakeSpec, name: str) -> None:
    with pytest.raises(ValidationError, match="name"):
        sample_spec(name=name)


def test_unknown_fields_are_refused(sample_spec: MakeSpec) -> None:
    with pytest.raises(ValidationError, match="gpu"):
        sample_spec(gpu=1)


def test_a_manifest_with_intact_outputs_is_done(tmp_path: Path) -> None:
    manifest = finished(tmp_path)
    assert read_manifest(tmp_path) == manifest
    assert manifest.path(tmp_path, "text").read_text() == "a good text"


def test_without_a_manifest_nothing_is_done(tmp_path: Path) -> None:
    finished(tmp_path)
    (tmp_path / MANIFEST_NAME).unlink()
    assert read_manifest(tmp_path) is None
    assert read_manifest(tmp_path / "never") is None


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"name": "sample"}', "\x00"])
@pytest.mark.fault(
    "A manifest is cut off or holds rubbish",
    "The artefact counts as not made, and is made again",
)
def test_half_a_manifest_is_none(tmp_path: Path, content: str) -> None:
    finished(tmp_path)
    (tmp_path / MANIFEST_NAME).write_text(content)
    assert read_manifest(tmp_path) is None


@pytest.mark.parametrize("content", ["a bad text!", "a good tex", ""])
@pytest.mark.fault(
    "A file of an artefact is altered, cut off or emptied",
    "The artefact counts as not made, and is made again",
)
def test_an_altered_output_is_not_done(tmp_path: Path, content: str) -> None:
    finished(tmp_path)
    (tmp_path / "text.txt").write_text(content)
    assert read_manifest(tmp_path) is None


def test_a_missing_output_is_not_done(tmp_path: Path) -> None:
    finished(tmp_path)
    (tmp_path / "text.txt").unlink()
    assert read_manifest(tmp_path) is None


def test_an_asset_partition_refers_to_its_artefact(tmp_path: Path) -> None:
    folder = tmp_path / "artefacts" / "adapter" / "f"
    manifest = finished(folder)
    ref = ArtefactRef(folder=folder, fingerprint="f")
    write_artefact_ref(ref, tmp_path, "adapter", "job-0")
    found = read_artefact_ref(tmp_path, "adapter", "job-0")
    assert found == ref
    assert found.manifest() == manifest
    assert found.path("text") == folder / "text.txt"
    with pytest.raises(StorageError, match="adapter does not exist for job-1 yet"):
        read_artefact_ref(tmp_path, "adapter", "job-1")
    with pytest.raises(StorageError, match="adapter does not exist yet"):
        read_artefact_ref(tmp_path, "adapter")


def test_a_pointer_to_what_is_gone_says_so(tmp_path: Path) -> None:
    ref = ArtefactRef(folder=tmp_path / "gone", fingerprint="f")
    with pytest.raises(LaunchError, match="not a finished artefact"):
        ref.manifest()


def test_a_manifest_is_plain_json(tmp_path: Path) -> None:
    finished(tmp_path)
    document = json.loads((tmp_path / MANIFEST_NAME).read_text())
    assert document["exit_state"] == "finished"
    assert document["outputs"]["text"]["size"] == len("a good text")


FLIPPED = "a file of an artefact is altered or cut off"
READ = "who reads it is told which one, and to make it again; nothing is read"


def artefact(tmp_path: Path, **files: str) -> ArtefactRef:
    """A finished artefact with files in folders: `adapter__config="…"` is adapter/config."""
    folder = tmp_path / "artefacts" / "adapter" / "print"
    contents = {name.replace("__", "/"): text.encode() for name, text in files.items()}
    planted(folder, contents, {}, {})
    return ArtefactRef(folder=folder, fingerprint="print")


@pytest.mark.fault(FLIPPED, READ)
@pytest.mark.parametrize("content", ["weighty", "weight", None])
def test_what_is_read_of_an_artefact_is_as_it_was_made(tmp_path: Path, content: str | None) -> None:
    ref = artefact(tmp_path, adapter__weights="weights", history="1")
    path = ref.folder / "adapter" / "weights"
    assert ref.part("adapter") == path.parent
    assert ref.path("adapter/weights") == path
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    what = "is missing" if content is None else "was altered or truncated"
    told = f"adapter/weights {what}; materialize adapter again"
    readers: list[Callable[[], Path]] = [
        lambda: ref.part("adapter"),
        lambda: ref.path("adapter/weights"),
        lambda: ref.local,
    ]
    for read in readers:
        with pytest.raises(StorageError, match=told):
            read()
    assert ref.path("history").read_text() == "1", "what is whole is read"


@pytest.mark.fault(
    "a file is put into the folder of a model or an adapter",
    "it is refused with the file's name: a library would read it",
)
def test_a_file_that_is_not_the_artefacts_is_refused(tmp_path: Path) -> None:
    ref = artefact(tmp_path, adapter__weights="weights")
    (ref.folder / "log.txt").write_text("beside it")
    (ref.folder / "adapter" / ".lock").touch()
    assert ref.part("adapter").is_dir()
    (ref.folder / "adapter" / "adapter_model.bin").write_text("pickled")
    with pytest.raises(StorageError, match=r"adapter_model\.bin is no file of this artefact"):
        ref.part("adapter")


def test_work_that_is_not_finished_is_not_read(sample_spec: MakeSpec) -> None:
    spec = sample_spec()
    spec.folder.mkdir(parents=True)
    (spec.folder / SPEC_NAME).write_text(spec.model_dump_json())
    ref = ArtefactRef(folder=spec.folder, fingerprint=spec.fingerprint)
    with pytest.raises(StorageError, match="not a finished artefact; materialize sample again"):
        ref.part("adapter")


@pytest.mark.parametrize("path", ["../weights", "/etc/passwd", "adapter/../../weights", ""])
def test_a_manifest_that_leads_elsewhere_is_none(tmp_path: Path, path: str) -> None:
    manifest = finished(tmp_path)
    told = json.loads(manifest.model_dump_json())
    told["outputs"]["text"]["path"] = path
    (tmp_path / MANIFEST_NAME).write_text(json.dumps(told))
    assert read_manifest(tmp_path) is None


@pytest.mark.fault("a report's file is altered or cut off", READ)
def test_a_sealed_folder_is_read_as_it_was_sealed(tmp_path: Path) -> None:
    folder = tmp_path / "artefacts" / "model_comparison" / "print"
    folder.mkdir(parents=True)
    (folder / "tests.parquet").write_text("numbers")
    ref = ArtefactRef(folder=folder, fingerprint="print")
    assert ref.local == folder, "made before folders were sealed"
    seal(folder)
    assert ref.local == folder
    (folder / "tests.parquet").write_text("number5")
    with pytest.raises(StorageError, match="materialize model_comparison again"):
        _ = ref.local
    (folder / CONTENTS).write_text("{")
    with pytest.raises(StorageError, match=r"contents\.json is damaged"):
        _ = ref.local


@pytest.mark.parametrize("partition", ["..", "a/b", "../../../escaped", ".hidden", "a\\b", "a\0b"])
@pytest.mark.fault(
    "An id or a name is a path: product, partition, job, key, object, document, picture",
    "It is refused or only looked up; nothing outside is read or written",
)
def test_a_partition_that_leads_elsewhere_is_refused(partition: str, tmp_path: Path) -> None:
    root = tmp_path / "storage"
    ref = ArtefactRef(folder=root / "artefacts" / "adapter" / "f", fingerprint="f")
    with pytest.raises(StorageError, match="cannot name"):
        write_artefact_ref(ref, root, "adapter", partition)
    with pytest.raises(StorageError, match="cannot name"):
        read_artefact_ref(root, "adapter", partition)
    assert not root.exists()

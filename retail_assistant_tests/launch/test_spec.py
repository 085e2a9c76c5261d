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

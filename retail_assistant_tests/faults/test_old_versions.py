"""What an earlier or later version of the code has left."""

import json
from pathlib import Path

import pytest

from retail_assistant.launch.local import run_local
from retail_assistant.launch.spec import (
    MANIFEST_NAME,
    ArtefactRef,
    LaunchError,
    LaunchSpec,
    read_artefact_ref,
    read_manifest,
    write_artefact_ref,
)
from retail_assistant.training.fitting.checkpoints import (
    COMPLETE_MARK,
    CheckpointMark,
    checkpoint_of,
    last_complete_checkpoint,
)
from retail_assistant_tests.launch.conftest import MakeSpec, environment, sample_spec

__all__ = ["environment", "sample_spec"]


def ref_of(spec: LaunchSpec) -> ArtefactRef:
    return ArtefactRef(folder=spec.folder, fingerprint=spec.fingerprint)


@pytest.mark.fault(
    "the code of an asset changes, and the work by the new code is killed",
    "the asset refers to what the old code made until the new is finished; both are kept",
)
def test_an_artefact_of_old_code(sample_spec: MakeSpec, environment: dict[str, str]) -> None:
    old, new = sample_spec(code_version="1"), sample_spec(code_version="2")
    run_local(old, environment)
    write_artefact_ref(ref_of(old), old.root, old.name, None)

    with pytest.raises(LaunchError, match="SIGKILL"):
        run_local(sample_spec(code_version="2", orders="half"), environment)
    assert read_artefact_ref(old.root, old.name) == ref_of(old)
    assert read_manifest(new.folder) is None

    sample_spec()
    run_local(new, environment)
    write_artefact_ref(ref_of(new), new.root, new.name, None)
    assert read_artefact_ref(new.root, new.name) == ref_of(new)
    assert read_manifest(old.folder) is not None


@pytest.mark.fault(
    "a manifest was written by a later version of the code",
    "what is known of it is read, and its artefact counts",
)
def test_a_manifest_of_later_code(sample_spec: MakeSpec, environment: dict[str, str]) -> None:
    spec = sample_spec()
    run_local(spec, environment)
    path = spec.folder / MANIFEST_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), "mood": "good"}))

    again = run_local(sample_spec(orders="fail"), environment)

    assert again.metrics == {"characters": 11}


@pytest.mark.fault(
    "a checkpoint was written by another version of the code",
    "the training does not go on from it",
)
def test_a_checkpoint_of_other_code(tmp_path: Path) -> None:
    for step, fingerprint, more in ((2, "mine", {}), (4, "of old code", {}), (6, "mine", {"x": 1})):
        mark = CheckpointMark(fingerprint=fingerprint, processes=1, step=step)
        folder = checkpoint_of(tmp_path, step)
        folder.mkdir()
        (folder / COMPLETE_MARK).write_text(json.dumps(mark.model_dump() | more))

    assert last_complete_checkpoint(tmp_path, "mine", 1) == checkpoint_of(tmp_path, 2)

"""The job `answer_questions`: a file answered in a process of its own, and gone on with."""

import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from retail_assistant.defs import batch
from retail_assistant.defs.batch import answered_questions, answered_questions_spec
from retail_assistant.defs.io_managers import StorageIOManager
from retail_assistant.defs.resources import Launcher
from retail_assistant.launch.spec import ArtefactRef, write_artefact_ref
from retail_assistant.settings import get_settings
from retail_assistant.storage import TableStore
from retail_assistant_tests.conftest import REPOSITORY

ABOVE = ("champion", "catalog_index")


@pytest.fixture
def storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_settings: None
) -> Iterator[Path]:
    """A storage folder with the addresses of a champion and an index; a small assistant answers."""
    root = tmp_path / "var"
    monkeypatch.setenv("RETAIL_STORAGE_URI", str(root))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setattr(
        batch, "ANSWERING", "retail_assistant_tests.serving.recorded_answers:open_recorded"
    )
    get_settings.cache_clear()
    for name in ABOVE:
        write_artefact_ref(reference(name), root, name, None)
    return root


def reference(name: str) -> ArtefactRef:
    return ArtefactRef(folder=Path("elsewhere") / name, fingerprint=f"of-{name}")


def run(questions: Path) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [answered_questions, *map(dg.AssetSpec, ABOVE)],
        resources={"io_manager": StorageIOManager(), "launcher": Launcher()},
        run_config={"ops": {"answered_questions": {"config": {"input": str(questions)}}}},
        raise_on_error=False,
    )


@pytest.mark.fault(
    "a run that answers a file of questions is killed",
    "the next one goes on behind the last answer",
)
def test_a_file_is_answered_and_a_killed_run_gone_on_with(storage: Path, tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    asked = ["Is it warm?", "unknown thing?", "Is it red?"]
    lines = [json.dumps({"id": i, "question": one}) for i, one in enumerate(asked)]
    questions.write_text("\n".join([*lines, "no JSON"]))
    assert run(questions).success
    frame = TableStore(storage).ref("answered_questions").read()
    assert frame["id"].to_list() == ["0", "1", "2", None]
    assert frame["answer"].to_list()[0] == "You asked: Is it warm? (1)"
    assert frame["declined"].to_list() == [None, "unknown", None, None]
    assert frame["error"].to_list() == [None, None, None, "bad_line"]

    # What a killed run leaves: no manifest, and half of the answers.
    spec = answered_questions_spec(questions, reference("champion"), reference("catalog_index"))
    answers = spec.folder / "answers.jsonl"
    whole = answers.read_bytes()
    (spec.folder / "manifest.json").unlink()
    answers.write_bytes(whole[: whole.index(b"\n") + 30])
    again = run(questions)
    assert again.success
    (event,) = again.get_asset_materialization_events()
    assert event.materialization.metadata["kept"].value == 1
    assert event.materialization.metadata["lines"].value == 4
    assert answers.read_bytes() == whole


def test_a_file_that_cannot_be_read_is_refused(storage: Path, tmp_path: Path) -> None:
    other = tmp_path / "questions.txt"
    other.write_text("Is it warm?")
    failed = run(other)
    (step,) = failed.get_step_failure_events()
    assert "allowed: a file ending in .jsonl" in str(step.event_specific_data)
    assert not (storage / "artefacts" / "answered_questions").exists()

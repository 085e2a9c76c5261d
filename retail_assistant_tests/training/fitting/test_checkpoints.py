"""Which checkpoint a training goes on from."""

from pathlib import Path

import pytest

from retail_assistant.training.fitting.checkpoints import (
    COMPLETE_MARK,
    CheckpointMark,
    checkpoint_of,
    last_complete_checkpoint,
    newest_kwh,
    read_mark,
    stage_folder,
)

MARK = CheckpointMark(fingerprint="f", processes=1, step=0)


def leave(folder: Path, step: int, **changes: object) -> Path:
    checkpoint = checkpoint_of(folder, step)
    checkpoint.mkdir(parents=True)
    MARK.model_copy(update={"step": step, **changes}).write(checkpoint)
    return checkpoint


def test_the_newest_whole_checkpoint_counts(tmp_path: Path) -> None:
    assert last_complete_checkpoint(tmp_path / "never", "f", 1) is None
    leave(tmp_path, 5)
    tenth = leave(tmp_path, 10)
    checkpoint_of(tmp_path, 15).mkdir()
    assert last_complete_checkpoint(tmp_path, "f", 1) == tenth


@pytest.mark.parametrize("other", [{"fingerprint": "g"}, {"processes": 2}])
def test_a_checkpoint_of_another_training_does_not(
    tmp_path: Path, other: dict[str, object]
) -> None:
    fifth = leave(tmp_path, 5)
    leave(tmp_path, 10, **other)
    assert last_complete_checkpoint(tmp_path, "f", 1) == fifth


def test_a_mark_that_is_not_one_is_none(tmp_path: Path) -> None:
    checkpoint = leave(tmp_path, 5)
    assert read_mark(checkpoint) == MARK.model_copy(update={"step": 5})
    (checkpoint / COMPLETE_MARK).write_text("12.5")
    assert read_mark(checkpoint) is None


def test_energy_goes_on_from_the_newest_stage(tmp_path: Path) -> None:
    stages = ("domain", "instruction")
    assert newest_kwh(tmp_path, stages) == 0
    leave(stage_folder(tmp_path, "domain"), 5, kwh=0.5)
    leave(stage_folder(tmp_path, "domain"), 9)
    assert newest_kwh(tmp_path, stages) == 0.5
    leave(stage_folder(tmp_path, "instruction"), 2, kwh=0.75)
    assert newest_kwh(tmp_path, stages) == 0.75

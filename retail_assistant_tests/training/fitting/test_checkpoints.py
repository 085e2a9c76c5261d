"""Which checkpoint a training goes on from."""

from pathlib import Path

import pytest

from retail_assistant.storage.contents import CONTENTS
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


def saved(folder: Path, step: int, **changes: object) -> Path:
    """A checkpoint with files in it."""
    checkpoint = checkpoint_of(folder, step)
    (checkpoint / "part").mkdir(parents=True, exist_ok=True)
    (checkpoint / "optimizer.pt").write_text(f"moments {step}")
    (checkpoint / "part" / "weights").write_text(f"weights {step}")
    MARK.model_copy(update={"step": step, **changes}).write(checkpoint)
    return checkpoint


@pytest.mark.fault(
    "the newest checkpoint of a broken-off training is damaged",
    "training goes on from the one before, and writes that one again",
)
@pytest.mark.parametrize("name", ["optimizer.pt", "part/weights"])
@pytest.mark.parametrize("content", [b"momentz 10", b"wei", None])
def test_a_damaged_checkpoint_is_passed_over(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    fifth, tenth = saved(tmp_path, 5), saved(tmp_path, 10)
    assert last_complete_checkpoint(tmp_path, "f", 1) == tenth
    if content is None:
        (tenth / name).unlink()
    else:
        (tenth / name).write_bytes(content)
    assert last_complete_checkpoint(tmp_path, "f", 1) == fifth
    assert saved(tmp_path, 10) == last_complete_checkpoint(tmp_path, "f", 1)


def test_a_stage_whose_best_checkpoint_is_damaged_is_not_over(tmp_path: Path) -> None:
    fifth = saved(tmp_path, 5, best_step=5)
    tenth = saved(tmp_path, 10, best_step=5, ended=True)
    assert last_complete_checkpoint(tmp_path, "f", 1) == tenth
    (fifth / "part" / "weights").write_text("weights 6")
    assert last_complete_checkpoint(tmp_path, "f", 1) is None


def test_a_checkpoint_from_before_they_were_sealed_counts(tmp_path: Path) -> None:
    fifth = saved(tmp_path, 5)
    (fifth / CONTENTS).unlink()
    assert last_complete_checkpoint(tmp_path, "f", 1) == fifth

"""Trainings that run out of memory or of numbers: no adapter, and what to change."""

from pathlib import Path
from shutil import copytree

import polars as pl
import pytest

from retail_assistant.corpus.tasks import MESSAGES
from retail_assistant.launch.local import run_local
from retail_assistant.launch.spec import LaunchError, read_manifest
from retail_assistant.training.finetune import train
from retail_assistant.training.fitting.divergence import DivergedError, require_finite
from retail_assistant.training.fitting.out_of_memory import AVAILABLE, PLANNED
from retail_assistant.training.tracking.tracker import Tracker
from retail_assistant_tests.conftest import REPOSITORY
from retail_assistant_tests.training.trainings import (
    JOB,
    one_thread,
    small_corpus,
    spec_of,
    turn,
    workload_of,
)

DIVERGED = (
    "The loss or a weight of a training is no number any more",
    "It ends at once and says what to change; no checkpoint and no adapter is left",
)


def damaged(model: Path, folder: Path, weight: str) -> Path:
    """A copy of a model, one number of which is none."""
    from safetensors.torch import load_file, save_file

    copy = Path(copytree(model, folder))
    weights = load_file(copy / "model.safetensors")
    weights[weight].view(-1)[0] = float("nan")
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    return copy


@pytest.mark.fault(*DIVERGED)
def test_a_loss_that_is_no_number_ends_the_training(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    model = damaged(tiny_model_folder, tmp_path / "model", "model.norm.weight")
    work = workload_of(small_corpus(), model, tmp_path, JOB)
    with one_thread(), pytest.raises(DivergedError, match="the loss is nan at step 1; a lower"):
        train(work, JOB, Tracker(None, work.folder, work.say))
    assert not list(work.folder.rglob("complete"))
    assert not (work.folder / "adapter").exists()


@pytest.mark.fault(*DIVERGED)
def test_an_adapter_that_holds_no_numbers_is_refused(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    require_finite(tiny_model_folder / "model.safetensors")
    model = damaged(tiny_model_folder, tmp_path / "model", "model.norm.weight")
    with pytest.raises(DivergedError, match=r"model\.norm\.weight is not finite"):
        require_finite(model / "model.safetensors")


@pytest.mark.fault(
    "A training runs out of memory",
    "One line has the plan's numbers and what takes less; no adapter is left",
)
def test_out_of_memory_is_told_with_the_plans_numbers(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    # The vocabulary's numbers for every learned token of ten long answers at once.
    corpus = small_corpus().with_columns(
        completion=pl.lit(turn("assistant", "It is red. " * 400), dtype=MESSAGES),
        completion_tokens=pl.lit(1700, pl.UInt32),
    )
    job = JOB.model_copy(update={"batch_size": 10, "max_seq_length": 2000, "evaluations": 0})
    spec = spec_of(
        corpus, tiny_model_folder, tmp_path, job, execution={PLANNED: 1.25, AVAILABLE: 2.5}
    ).model_copy(update={"module": "retail_assistant_tests.faults.little_memory"})
    with pytest.raises(LaunchError) as caught:
        run_local(spec, {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"})
    told = str(caught.value).splitlines()[-1]
    assert "out of memory: " in told
    assert "at most 1.2 GiB for each process, of 2.5 GiB" in told
    assert "batch_size=10, max_seq_length=2000" in told
    assert "batch_size: 1 with gradient_accumulation_steps: 10" in told
    assert read_manifest(spec.folder) is None

"""A training that is broken off ends with the losses and weights of one that was not."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from retail_assistant.launch.command import command, environment, write_spec
from retail_assistant.launch.spec import LaunchSpec, Resources, read_manifest
from retail_assistant.launch.workload import PREEMPTED_MARK, Workload
from retail_assistant.training.finetune import train
from retail_assistant.training.fitting.checkpoints import (
    last_complete_checkpoint,
    read_mark,
    stage_folder,
    step_of,
)
from retail_assistant.training.fitting.preemption import Preemption
from retail_assistant.training.jobs import HyperparameterJob
from retail_assistant.training.planning.plan import CONFIG_FOLDER
from retail_assistant.training.tracking.tracker import Tracker
from retail_assistant_tests.conftest import REPOSITORY
from retail_assistant_tests.training.broken_off import BREAKS
from retail_assistant_tests.training.trainings import (
    HASTY_JOB,
    JOB,
    contradicted,
    domain_corpus,
    one_thread,
    small_corpus,
    spec_of,
    workload_of,
)

pytestmark = pytest.mark.slow

# Two stages (5 and 15 steps), of the second three epochs; what is dropped, and the order of the
# rows, must be the same after a break.
JOB_TO_BREAK = JOB.model_copy(
    update={
        "stages": ["domain", "instruction"],
        "max_seq_length": 64,
        "epochs": 3,
        "evaluations": 2,
        "lora_dropout": 0.2,
        "warmup_ratio": 0.2,
        "weight_decay": 0.01,
        "keep_best": True,
    }
)
COMPARED = ["step", "stage", "epoch", "loss", "eval_loss", "learning_rate", "grad_norm", "tokens"]


class CrashError(RuntimeError):
    """What a machine does."""


class EventfulTracker(Tracker):
    """Tracks nothing; at a step it sends this process SIGTERM, or crashes."""

    def __init__(self, folder: Path, *, told: int | None = None, crash: int | None = None) -> None:
        super().__init__(None, folder, lambda _: None)
        self.told, self.crash = told, crash

    def metrics(self, values: Mapping[str, Any], step: int) -> None:
        if step == self.crash:
            raise CrashError
        if step == self.told:
            self.told = None
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module", autouse=True)
def thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def corpus() -> pl.DataFrame:
    return small_corpus()


@pytest.fixture
def preemption() -> Iterator[Preemption]:
    before = signal.getsignal(signal.SIGTERM)
    yield Preemption.listening()
    signal.signal(signal.SIGTERM, before)


def whole(work: Workload, job: HyperparameterJob) -> Workload:
    train(work, job, EventfulTracker(work.folder))
    return work


def assert_same(found: Path, expected: Path, *, tolerance: float) -> None:
    """Histories and adapters of two folders agree."""
    from safetensors.torch import load_file

    one, other = (pl.read_parquet(folder / "history.parquet") for folder in (found, expected))
    for column in COMPARED:
        assert one[column].is_null().equals(other[column].is_null()), column
        ours, theirs = one[column].drop_nulls().to_list(), other[column].drop_nulls().to_list()
        if one.schema[column].is_float():
            assert ours == pytest.approx(theirs, rel=tolerance), column
        else:
            assert ours == theirs, column
    first, second = (
        load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (found, expected)
    )
    assert first.keys() == second.keys()
    for name, weight in first.items():
        assert (weight - second[name]).abs().max() <= tolerance, name


@pytest.fixture(scope="module")
def unbroken(
    corpus: pl.DataFrame, tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Workload:
    root = tmp_path_factory.mktemp("unbroken")
    return whole(workload_of(corpus, tiny_model_folder, root, JOB_TO_BREAK), JOB_TO_BREAK)


@pytest.mark.fault(
    "a training is told to end, or crashes, in the middle of every stage and epoch",
    "it goes on from its last checkpoint and ends with the weights of one that was not",
)
def test_breaks_in_every_stage_and_epoch_change_nothing(
    corpus: pl.DataFrame,
    tiny_model_folder: Path,
    tmp_path: Path,
    unbroken: Workload,
    preemption: Preemption,
) -> None:
    job = JOB_TO_BREAK
    work = workload_of(corpus, tiny_model_folder, tmp_path, job)
    domain, instruction = (stage_folder(work.folder, stage) for stage in job.stages)

    def checkpoint(folder: Path) -> int:
        found = last_complete_checkpoint(folder, work.spec.fingerprint, 1)
        return step_of(found) if found else 0

    # Told to end in the first stage: the step is finished, saved, and that is all.
    with pytest.raises(SystemExit) as ended:
        train(work, job, EventfulTracker(work.folder, told=3), preemption)
    assert ended.value.code == 143
    assert checkpoint(domain) == 4
    assert not (work.folder / "adapter").exists()
    # In the second stage, in the middle of its first epoch.
    with pytest.raises(SystemExit):
        train(work, job, EventfulTracker(work.folder, told=5 + 2), Preemption.listening())
    assert (checkpoint(domain), checkpoint(instruction)) == (5, 3)
    # A crash in the middle of the second epoch: what was done since the last checkpoint is done
    # again.
    with pytest.raises(CrashError):
        train(work, job, EventfulTracker(work.folder, crash=5 + 9))
    assert checkpoint(instruction) == 8
    # Told in the last step of all: nothing is trained any more.
    with pytest.raises(SystemExit):
        train(work, job, EventfulTracker(work.folder, told=5 + 14), Preemption.listening())
    assert checkpoint(instruction) == 15
    whole(work, job)
    assert work.metrics["resumed_from"] == "checkpoint-15"
    assert_same(work.folder, unbroken.folder, tolerance=1e-6)
    same = ("train_tokens", "learned_tokens", "steps", "train_loss", "eval_loss", "best_step")
    assert {name: work.metrics[name] for name in same} == {
        name: unbroken.metrics[name] for name in same
    }
    samples = [
        pl.read_parquet(folder / "samples.parquet") for folder in (work.folder, unbroken.folder)
    ]
    assert samples[0].equals(samples[1])


def test_a_finished_stage_is_not_trained_again(
    corpus: pl.DataFrame, tiny_model_folder: Path, tmp_path: Path, unbroken: Workload
) -> None:
    work = workload_of(corpus, tiny_model_folder, tmp_path, JOB_TO_BREAK)
    with pytest.raises(CrashError):
        train(work, JOB_TO_BREAK, EventfulTracker(work.folder, crash=6))
    # Its data are not even looked at: other texts would give another adapter.
    domain_corpus().head(1).write_parquet(tmp_path / "other.parquet")
    whole(work, JOB_TO_BREAK)
    assert_same(work.folder, unbroken.folder, tolerance=1e-6)


def test_what_counts_towards_early_stopping_survives_a_break(
    corpus: pl.DataFrame, tiny_model_folder: Path, tmp_path: Path, preemption: Preemption
) -> None:
    job, rows = HASTY_JOB, contradicted(corpus)
    expected = whole(workload_of(rows, tiny_model_folder, tmp_path / "whole", job), job)
    losses = pl.read_parquet(expected.folder / "history.parquet")["eval_loss"].drop_nulls()
    best = losses.arg_min()
    assert best is not None
    worse = 5 * (best + 2)
    work = workload_of(rows, tiny_model_folder, tmp_path / "broken", job)
    # Between the first evaluation that was worse, and the second.
    with pytest.raises(SystemExit):
        train(work, job, EventfulTracker(work.folder, told=worse + 1), preemption)
    whole(work, job)
    assert work.metrics["stopped_early"]
    assert work.metrics["resumed_from"] == f"checkpoint-{worse + 2}"
    assert_same(work.folder, expected.folder, tolerance=1e-6)


@pytest.mark.fault(
    "checkpoints of other hyperparameters, data or code are there",
    "the training starts afresh, in a folder of its own",
)
def test_other_hyperparameters_data_or_code_start_afresh(
    corpus: pl.DataFrame, tiny_model_folder: Path, tmp_path: Path
) -> None:
    specs = [
        spec_of(rows, tiny_model_folder, tmp_path / str(number), job).model_copy(
            update={"root": tmp_path, "code_version": code}
        )
        for number, (rows, job, code) in enumerate(
            [
                (corpus, JOB, "1"),
                (corpus, JOB.model_copy(update={"learning_rate": 2e-3}), "1"),
                (corpus.head(9), JOB, "1"),
                (corpus, JOB, "2"),
            ]
        )
    ]
    assert len({spec.folder for spec in specs}) == 4


def two_process_spec(corpus: pl.DataFrame, model: Path, root: Path) -> LaunchSpec:
    """Three steps of the first stage, nine of the second: three an epoch."""
    job = JOB_TO_BREAK.model_copy(update={"batch_size": 1, "gradient_accumulation_steps": 2})
    config = yaml.safe_load((CONFIG_FOLDER / "ddp_cpu.yaml").read_text())
    return spec_of(corpus, model, root, job, accelerate=config, resources=Resources(processes=2))


def run_broken(spec: LaunchSpec, breaks: list[tuple[int, str, int]]) -> int:
    """Start a spec as the launcher does, with breaks; the exit code."""
    spec.folder.mkdir(parents=True, exist_ok=True)
    write_spec(spec)
    broken = "retail_assistant_tests.training.broken_off"
    words = [broken if word == spec.module else word for word in command(spec)]
    given = {BREAKS: json.dumps(breaks), "OMP_NUM_THREADS": "1"}
    with (spec.folder / "log.txt").open("ab") as log:
        return subprocess.run(
            words,
            cwd=REPOSITORY,
            env=environment(spec, given),
            stdout=log,
            stderr=log,
            timeout=600,
            check=False,
        ).returncode


@pytest.mark.fault(
    "one of two training processes is told to end, later the other is killed",
    "both stop, go on from the last whole checkpoint, and end with the same weights",
)
@pytest.mark.timeout(1200)
def test_two_processes_agree_on_a_break_and_go_on_as_one(
    corpus: pl.DataFrame, tiny_model_folder: Path, tmp_path: Path
) -> None:
    expected = two_process_spec(corpus, tiny_model_folder, tmp_path / "whole")
    assert run_broken(expected, []) == 0
    spec = two_process_spec(corpus, tiny_model_folder, tmp_path / "broken")
    folder = stage_folder(spec.folder, "instruction")
    # One machine of two is told to end in the middle of the second epoch; later the other dies.
    breaks = [(1, "SIGTERM", 3 + 4), (0, "SIGKILL", 3 + 7)]
    assert run_broken(spec, breaks) != 0
    found = last_complete_checkpoint(folder, spec.fingerprint, 2)
    assert found is not None
    assert step_of(found) == 5
    mark = read_mark(found)
    assert mark is not None
    assert mark.preempted
    assert (spec.folder / PREEMPTED_MARK).exists()
    assert read_manifest(spec.folder) is None
    assert run_broken(spec, breaks) != 0
    assert read_manifest(spec.folder) is None
    assert run_broken(spec, breaks) == 0
    manifest = read_manifest(spec.folder)
    assert manifest is not None
    assert manifest.metrics["processes"] == 2
    assert manifest.metrics["resumed_from"] == "checkpoint-6"
    assert_same(spec.folder, expected.folder, tolerance=1e-6)
    # Another number of processes sees other batches, and starts afresh.
    assert last_complete_checkpoint(folder, spec.fingerprint, 1) is None

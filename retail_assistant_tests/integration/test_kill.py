"""A training that is killed: the run fails and says why, nothing half-done counts, it goes on."""

import os
import signal
import subprocess
import time
from pathlib import Path

import dagster as dg
import psutil
import pytest

from retail_assistant.training.fitting.checkpoints import last_complete_checkpoint, stage_folder
from retail_assistant_tests.integration.line import FinishedLine, Line

pytestmark = pytest.mark.slow

JOB = "tiny-long"
LONG_STUDY = f"""
study: long
description: A job that lasts long enough to be killed.
jobs:
  {JOB}:
    grounding: retrieved
    epochs: 12
    lora_r: 4
    lora_alpha: 8
    learning_rate: 1.0e-3
    batch_size: 1
"""
SECONDS = 420


@pytest.mark.fault(
    "a training is killed under a Dagster run",
    "the run fails and says why; the next one goes on from the last checkpoint",
)
def test_a_killed_training_fails_clearly_and_goes_on_from_its_checkpoint(
    finished_line: FinishedLine, tmp_path: Path
) -> None:
    line = finished_line.with_studies(tmp_path / "studies", long=LONG_STUDY)
    before = set((line.storage / "artefacts" / "adapter").iterdir())

    command = line.start_training(JOB)
    folder = _kill_after_first_checkpoint(line, command, before)
    assert command.wait(timeout=SECONDS) != 0
    _assert_failed_and_says_why(line)
    assert not (folder / "manifest.json").exists()
    assert not (folder.parent / f"latest-{JOB}.json").exists()
    checkpoint = last_complete_checkpoint(stage_folder(folder, "instruction"), folder.name, 1)
    assert checkpoint is not None

    started = time.monotonic()
    assert line.start_training(JOB).wait(timeout=SECONDS) == 0
    print(f"\ngoing on took {time.monotonic() - started:.0f} s")
    assert line.adapter(JOB).folder == folder
    metrics = line.adapter(JOB).manifest().metrics
    assert metrics["resumed_from"] == checkpoint.name
    assert metrics["steps"] > int(checkpoint.name.removeprefix("checkpoint-"))
    with line.instance() as instance:
        run = _latest_run(instance)
        told = " ".join(entry.message for entry in instance.all_logs(run.run_id))
    assert run.status is dg.DagsterRunStatus.SUCCESS
    assert f"going on from {checkpoint.name}" in told


def _kill_after_first_checkpoint(
    line: Line, command: subprocess.Popen[bytes], before: set[Path]
) -> Path:
    """Kill -9 the training process as soon as one checkpoint is whole; the adapter's folder."""
    deadline = time.monotonic() + SECONDS
    adapters = line.storage / "artefacts" / "adapter"
    while time.monotonic() < deadline and command.poll() is None:
        for mark in adapters.glob("*/checkpoints/*/checkpoint-*/complete"):
            folder = mark.parents[3]
            if folder not in before:
                os.kill(_training_process(folder).pid, signal.SIGKILL)
                return folder
        time.sleep(0.02)
    raise AssertionError(f"the training wrote no checkpoint (it exited with {command.poll()})")


def _training_process(folder: Path) -> psutil.Process:
    """The process that trains into `folder`: the innermost of those with its command line."""
    found = [process for process in psutil.process_iter() if _trains_into(process, folder)]
    innermost = [process for process in found if not set(process.children()) & set(found)]
    assert len(innermost) == 1, found
    return innermost[0]


def _trains_into(process: psutil.Process, folder: Path) -> bool:
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return "retail_assistant.training.finetune" in words and str(folder / "spec.json") in words


def _assert_failed_and_says_why(line: Line) -> None:
    with line.instance() as instance:
        run = _latest_run(instance)
        failures = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    assert run.status is dg.DagsterRunStatus.FAILURE
    reason = failures[0].dagster_event.step_failure_data.error.to_string()
    assert "killed by SIGKILL" in reason
    assert "materialize again to continue" in reason


def _latest_run(instance: dg.DagsterInstance) -> dg.DagsterRun:
    return instance.get_runs(limit=1)[0]

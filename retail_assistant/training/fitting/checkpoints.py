"""Checkpoints that a training may go on from: whole, of the same job, and what they stand for."""

from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from retail_assistant.storage import write_atomically
from retail_assistant.storage.bucket import publish
from retail_assistant.storage.crash_points import crossing

COMPLETE_MARK = "complete"
CHECKPOINTS = "checkpoints"
_PREFIX = "checkpoint-"


class CheckpointMark(BaseModel):
    """What is written into a checkpoint last, when every process has written its part.

    All sums are of the stage so far, over every process and over all breaks.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    fingerprint: str = Field(description="Of the job, its data and its code.")
    processes: int = Field(description="Training processes; other ones see other batches.")
    step: int
    ended: bool = Field(default=False, description="Whether the stage is over.")
    stopped_early: bool = False
    preempted: bool = Field(default=False, description="Whether it was written on SIGTERM.")
    seconds: float = Field(default=0.0, description="Of training, evaluations included.")
    evaluation_seconds: float = 0.0
    tokens: int = Field(default=0, description="Tokens read, without padding.")
    learned_tokens: int = 0
    kwh: float | None = Field(default=None, description="Of the whole training so far.")
    peak_memory_mib: int = Field(default=0, description="Of the largest process.")
    gpu_peak_memory_mib: int | None = None
    best_step: int | None = Field(default=None, description="With the lowest validation loss.")

    def write(self, checkpoint: Path) -> None:
        """Declare a checkpoint whole; it outlives this machine."""
        with crossing("checkpoint", checkpoint.parent.name, checkpoint.name):
            write_atomically(checkpoint / COMPLETE_MARK, self.model_dump_json(indent=2))
            publish(checkpoint)


def stage_folder(artefact: Path, stage: str) -> Path:
    """Where the checkpoints of a training stage are."""
    return artefact / CHECKPOINTS / stage


def checkpoint_of(folder: Path, step: int) -> Path:
    """The checkpoint of a step."""
    return folder / f"{_PREFIX}{step}"


def step_of(checkpoint: Path) -> int:
    """The step of a checkpoint."""
    return int(checkpoint.name.removeprefix(_PREFIX))


def read_mark(checkpoint: Path) -> CheckpointMark | None:
    """A checkpoint's mark, or None where it was not written to its end."""
    try:
        return CheckpointMark.model_validate_json((checkpoint / COMPLETE_MARK).read_text())
    except (FileNotFoundError, ValidationError):
        return None


def last_complete_checkpoint(folder: Path, fingerprint: str, processes: int) -> Path | None:
    """The newest whole checkpoint of the same job and number of processes, or None."""
    found = [
        path
        for path in folder.glob(f"{_PREFIX}*")
        if (mark := read_mark(path)) is not None
        and (mark.fingerprint, mark.processes) == (fingerprint, processes)
    ]
    return max(found, key=step_of, default=None)


def newest_kwh(artefact: Path, stages: Iterable[str]) -> float:
    """What a training used until its newest checkpoint, in kWh."""
    marks = [
        mark
        for stage in stages
        for path in stage_folder(artefact, stage).glob(f"{_PREFIX}*")
        if (mark := read_mark(path)) is not None
    ]
    return max((mark.kwh or 0.0 for mark in marks), default=0.0)

"""Out of memory in a training, told with what its plan had counted on."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from retail_assistant.training.jobs import HyperparameterJob

PLANNED, AVAILABLE = "planned_gib", "available_gib"
"""In a launch's `execution`: what the plan counted on for one process, and what it had to fit."""

_REASON_CHARACTERS = 200
# PyTorch's allocator for CPUs has no error class of its own.
_ALLOCATOR = "DefaultCPUAllocator"


class TrainingMemoryError(RuntimeError):
    """A training took more memory than there is; says what was planned, and what takes less."""


@contextmanager
def out_of_memory_told(execution: Mapping[str, Any], job: HyperparameterJob) -> Iterator[None]:
    """Tell the body's running out of memory with the plan's numbers; other errors pass.

    A process that the kernel kills has no time for it: then the launcher tells the number.

    Raises:
        TrainingMemoryError: it ran out of memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:_REASON_CHARACTERS] or type(error).__name__
        raise TrainingMemoryError(
            f"out of memory: {reason}. {_planned(execution)}. It trains with {_taking(job)}."
            f" What takes less: {', '.join(_savings(job))}"
        ) from error


def _is_out_of_memory(error: Exception) -> bool:
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return _ALLOCATOR in str(error)


def _planned(execution: Mapping[str, Any]) -> str:
    if PLANNED not in execution:
        return "No plan was made for it"
    return (
        f"The plan counted on at most {execution[PLANNED]:.1f} GiB for each process,"
        f" of {execution[AVAILABLE]:.1f} GiB"
    )


def _taking(job: HyperparameterJob) -> str:
    named = ("batch_size", "max_seq_length", "gradient_checkpointing", "quantization", "attention")
    return ", ".join(f"{name}={getattr(job, name)}" for name in named)


def _savings(job: HyperparameterJob) -> Iterator[str]:
    """Changes to the job, the cheapest in quality first."""
    if job.gradient_checkpointing != "on":
        yield "gradient_checkpointing: on"
    if job.batch_size > 1:
        steps = job.gradient_accumulation_steps * job.batch_size
        yield f"batch_size: 1 with gradient_accumulation_steps: {steps}"
    if job.quantization != "4bit":
        yield "quantization: 4bit"
    yield f"a max_seq_length below {job.max_seq_length}"

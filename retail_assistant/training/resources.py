"""What a job asks of the machines that train it."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Strategy = Literal["single", "ddp", "fsdp2", "zero3"]
"""How a model is spread over devices: on one, copied to each, or sharded over all of them."""

MOST_GPUS = 16


class ResourceRequest(BaseModel):
    """Machines, time and patience for one job; of these only the number of processes, each of which
    adds its rows to a step, is a part of what identifies the result.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    processes: int = Field(
        default=1,
        ge=1,
        le=1024,
        description="Training processes on a node; left out: as few as its memory allows.",
    )
    nodes: int = Field(default=1, ge=1, le=1024, description="Machines that train together.")
    gpus_per_process: int | Literal["auto"] = Field(
        default="auto", description="0: train on the CPU; auto: one where there is one."
    )
    strategy: Literal["auto", Strategy] = Field(
        default="auto", description="auto: the plan chooses by what fits into the devices' memory."
    )
    memory_gib: float | None = Field(
        default=None,
        gt=0,
        description="Main memory of a node in GiB; default: the plan's.",
    )
    priority: int = Field(
        default=0, ge=-1000, le=1000, description="Of the jobs that wait, the highest begins first."
    )
    max_runtime_minutes: int | None = Field(
        default=None, ge=1, description="The training is ended after this; default: no limit."
    )
    retries: int = Field(
        default=2, ge=0, le=100, description="How often it goes on after it was preempted."
    )

    @field_validator("gpus_per_process", mode="before")
    @classmethod
    def _gpus_are_counted(cls, value: Any) -> Any:
        """Checked here: a union's own messages name every alternative."""
        if value != "auto" and (type(value) is not int or not 0 <= value <= MOST_GPUS):
            raise ValueError(f"allowed: auto, or a whole number from 0 to {MOST_GPUS}")
        return value

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        ranks = self.processes * self.nodes
        if self.strategy == "single" and ranks > 1:
            raise ValueError(
                f"strategy='single' with processes={self.processes}, nodes={self.nodes};"
                " allowed: one process on one node, or the strategy auto, ddp, fsdp2 or zero3"
            )
        # Accelerate would train on, silently unsharded.
        if self.strategy in ("fsdp2", "zero3") and self.gpus_per_process == 0:
            raise ValueError(
                f"strategy={self.strategy!r} with gpus_per_process=0;"
                " allowed on the CPU: auto, single or ddp"
            )
        return self

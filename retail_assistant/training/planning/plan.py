"""The parallelism plan: how a job is spread over devices so that it fits, told before it starts.

The first alternative that fits is taken (their order: `alternatives.py`), unless the job asks for
another.
"""

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.base_model import BaseModelFacts
from retail_assistant.model_shape import ModelShape
from retail_assistant.settings import Settings
from retail_assistant.training.jobs import HyperparameterJob, Job
from retail_assistant.training.planning.alternatives import (
    Alternative,
    PlanError,
    alternatives,
    available_gib,
    trains_on_gpu,
)
from retail_assistant.training.planning.devices import GIB, Devices
from retail_assistant.training.planning.memory import MemoryEstimate, Setup, base_bytes
from retail_assistant.training.planning.suggestions import (
    suggestions_for,
    suggestions_where_none_fits,
)
from retail_assistant.training.planning.targets import trainable_parameters
from retail_assistant.training.resources import ResourceRequest, Strategy

CONFIG_FOLDER = Path(__file__).parent / "accelerate_configs"
# Main memory of a process that trains on a GPU, apart from weights.
GPU_PROCESS_GIB = 3.0


class ParallelismPlan(BaseModel):
    """How a job is trained, what that takes, and what else was thought of."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    strategy: Strategy
    processes: int = Field(description="Training processes on each node.")
    nodes: int
    gpus: int = Field(description="GPUs on all nodes; 0: it trains on the CPU.")
    offload: bool = Field(description="Weights wait in main memory.")
    gradient_checkpointing: bool
    quantization: str
    bf16: bool = Field(description="Whether it computes in bfloat16, else in float32.")
    estimate: MemoryEstimate = Field(description="Of one device; of a CPU: of one process.")
    available_gib: float = Field(description="What the estimate had to fit into.")
    host_memory_gib: float = Field(description="Main memory that a node should have for it.")
    parameters: int
    trainable_parameters: int
    devices: Devices
    alternatives: tuple[Alternative, ...]
    suggestions: list[str]
    accelerate: dict[str, Any] = Field(description="The content of the accelerate configuration.")

    @property
    def ranks(self) -> int:
        """Processes on all nodes."""
        return self.processes * self.nodes


def plan_for(job: Job, settings: Settings, facts: BaseModelFacts) -> ParallelismPlan:
    """The plan of a named job on the devices that the settings name (`RETAIL_DEVICES`).

    Raises:
        PlanError: nothing fits; with the numbers.
        TargetError: the base model has not the job's target modules.
    """
    devices = Devices.parsed(settings.devices)
    return plan(job.hyperparameters, job.resources, facts.shape, devices)


def plan(
    job: HyperparameterJob, request: ResourceRequest, shape: ModelShape, devices: Devices
) -> ParallelismPlan:
    """The first way to train the job that fits, in order of preference.

    A request that names a strategy or a number of processes is kept to. Where the number is left
    open and one device is not enough, as few as do are taken.

    Raises:
        PlanError: nothing fits, or the request asks for what the devices are not.
        TargetError: the model has not the job's target modules.
    """
    found = tuple(alternatives(job, request, shape, devices))
    chosen = next((one for one in found if one.fits), None)
    if chosen is None or chosen.estimate is None:
        told = suggestions_where_none_fits(job, request, shape, devices)
        limit = available_gib(request, devices, request.processes)
        raise PlanError(_refusal(found, limit, devices, told), found)
    on_gpu = trains_on_gpu(request, devices)
    bf16 = on_gpu and devices.bf16
    host = _host_memory_gib(job, shape, chosen, chosen.estimate, on_gpu=on_gpu, bf16=bf16)
    return ParallelismPlan(
        strategy=chosen.strategy,
        processes=chosen.processes,
        nodes=chosen.nodes,
        gpus=chosen.processes * chosen.nodes if on_gpu else 0,
        offload=chosen.offload,
        gradient_checkpointing=chosen.gradient_checkpointing,
        quantization=job.quantization,
        bf16=bf16,
        estimate=chosen.estimate,
        available_gib=available_gib(request, devices, chosen.processes),
        host_memory_gib=host,
        parameters=shape.parameters,
        trainable_parameters=trainable_parameters(shape, job),
        devices=devices,
        alternatives=found,
        suggestions=suggestions_for(job, request, shape, devices, chosen),
        accelerate=accelerate_config(chosen, on_gpu=on_gpu, bf16=bf16),
    )


def _refusal(
    found: tuple[Alternative, ...], limit: float, devices: Devices, told: list[str]
) -> str:
    ways = [one for one in found if one.estimate is not None] or found
    lines = [f"  {one.way}: {one.why_not}" for one in ways]
    hints = [f"  - {suggestion}" for suggestion in told]
    return "\n".join(
        [f"nothing fits into {limit:.1f} GiB of {devices}:", *lines, "What would:", *hints]
    )


def _host_memory_gib(
    job: HyperparameterJob,
    shape: ModelShape,
    chosen: Alternative,
    estimate: MemoryEstimate,
    *,
    on_gpu: bool,
    bf16: bool,
) -> float:
    """Main memory for a node: on a GPU what loading the model takes before it is moved there."""
    if not on_gpu:
        return estimate.total * chosen.processes
    plain = job.model_copy(update={"quantization": "none"})
    loaded = base_bytes(shape, plain, Setup(on_gpu=True, bf16=bf16)) / GIB
    # Under FSDP2 the first process loads for all.
    loading = 1 if chosen.strategy == "fsdp2" and job.quantization == "none" else chosen.processes
    return loaded * loading + (GPU_PROCESS_GIB + estimate.host) * chosen.processes


@cache
def _config_file(name: str) -> str:
    return (CONFIG_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def accelerate_config(chosen: Alternative, *, on_gpu: bool, bf16: bool) -> dict[str, Any]:
    """The content of the accelerate configuration for a way to train.

    From the project's files, with the numbers of processes and nodes filled in. For several nodes a
    launcher adds `main_process_ip`, `main_process_port` and each node's `machine_rank`.
    """
    name = "ddp_cpu" if chosen.strategy == "ddp" and not on_gpu else chosen.strategy
    config: dict[str, Any] = yaml.safe_load(_config_file(name))
    config["num_processes"] = chosen.processes * chosen.nodes
    config["num_machines"] = chosen.nodes
    config["mixed_precision"] = "bf16" if bf16 else "no"
    config["use_cpu"] = not on_gpu
    if chosen.offload and chosen.strategy == "fsdp2":
        config["fsdp_config"]["fsdp_offload_params"] = True
    if chosen.offload and chosen.strategy == "zero3":
        for part in ("optimizer", "param"):
            config["deepspeed_config"][f"offload_{part}_device"] = "cpu"
    return config

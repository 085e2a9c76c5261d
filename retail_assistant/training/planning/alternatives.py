"""Ways to train a job on given devices: what each takes, and whether it fits.

In order of preference: one device, a copy on every device (DDP), weights sharded over them (FSDP2,
then DeepSpeed ZeRO-3); each first as it is, then with recomputed activations, the sharded ones at
last with weights in main memory.
"""

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.model_shape import ModelShape
from retail_assistant.training.jobs import HyperparameterJob
from retail_assistant.training.planning.devices import Devices
from retail_assistant.training.planning.memory import MemoryEstimate, Setup, estimate_memory
from retail_assistant.training.resources import ResourceRequest, Strategy

STRATEGIES: tuple[Strategy, ...] = ("single", "ddp", "fsdp2", "zero3")
# What is left to the driver, other programs and an estimate that is not exact.
USABLE_GPU, USABLE_CPU = 0.92, 0.9


class PlanError(ValueError):
    """A job does not fit the devices, or asks for others; the message has the numbers."""

    def __init__(self, message: str, alternatives: "tuple[Alternative, ...]" = ()) -> None:
        super().__init__(message)
        self.alternatives = alternatives


class Alternative(BaseModel):
    """One way to train the job, chosen or not."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    strategy: Strategy
    processes: int = Field(description="On each node.")
    nodes: int
    gradient_checkpointing: bool
    offload: bool = Field(description="Weights wait in main memory.")
    estimate: MemoryEstimate | None = Field(description="None: this way cannot be gone at all.")
    fits: bool
    why_not: str = ""

    @property
    def way(self) -> str:
        """In words, such as `fsdp2 over 4 and gradient checkpointing`."""
        ranks = self.processes * self.nodes
        spread = self.strategy if ranks == 1 else f"{self.strategy} over {ranks}"
        checkpointing = ["gradient checkpointing"] if self.gradient_checkpointing else []
        return " and ".join([spread, *checkpointing, *(["offload"] if self.offload else [])])


def trains_on_gpu(request: ResourceRequest, devices: Devices) -> bool:
    """Whether the job trains on GPUs.

    Raises:
        PlanError: it asks for GPUs that are not there.
    """
    asked = request.gpus_per_process
    if asked == "auto":
        return devices.kind == "cuda"
    if asked > 1:
        raise PlanError(f"gpus_per_process={asked}: a process trains on one device; allowed: 0, 1")
    if asked == 1 and devices.kind == "cpu":
        raise PlanError(f"gpus_per_process=1, but there are no GPUs: {devices}; allowed: 0, auto")
    return asked == 1


def available_gib(request: ResourceRequest, devices: Devices, processes: int) -> float:
    """GiB that one process may use: of its GPU, or its part of main memory."""
    if trains_on_gpu(request, devices):
        return devices.memory_gib * USABLE_GPU
    memory = devices.memory_gib if devices.kind == "cpu" else _main_memory_gib()
    return min(memory * USABLE_CPU, request.memory_gib or memory) / processes


def _main_memory_gib() -> float:
    return Devices.parsed("cpu").memory_gib


def alternatives(
    job: HyperparameterJob, request: ResourceRequest, shape: ModelShape, devices: Devices
) -> Iterator[Alternative]:
    """Every way to train the job, in order of preference: what it takes, and whether it fits."""
    on_gpu = trains_on_gpu(request, devices)
    _check_devices_are_there(request, devices, on_gpu=on_gpu)
    recomputing = {"auto": (False, True), "on": (True,), "off": (False,)}
    for strategy in STRATEGIES:
        refused = _why_refused(strategy, job, request, devices, on_gpu=on_gpu)
        if refused:
            yield Alternative(
                strategy=strategy,
                processes=request.processes,
                nodes=request.nodes,
                gradient_checkpointing=False,
                offload=False,
                estimate=None,
                fits=False,
                why_not=refused,
            )
            continue
        for offload in (False, True) if strategy in ("fsdp2", "zero3") else (False,):
            for processes in _process_counts(strategy, request, devices, offload=offload):
                for checkpointing in recomputing[job.gradient_checkpointing]:
                    setup = Setup(
                        strategy=strategy,
                        ranks=processes * request.nodes,
                        gradient_checkpointing=checkpointing,
                        offload=offload,
                        on_gpu=on_gpu,
                        bf16=on_gpu and devices.bf16,
                    )
                    yield _judged(job, request, shape, devices, setup)


def _check_devices_are_there(request: ResourceRequest, devices: Devices, *, on_gpu: bool) -> None:
    if not on_gpu:
        return
    if request.processes > devices.count or request.nodes > devices.nodes:
        raise PlanError(
            f"processes={request.processes} on nodes={request.nodes}, a GPU each; there are"
            f" {devices}; allowed: processes up to {devices.count}, nodes up to {devices.nodes}"
        )


def _why_refused(
    strategy: Strategy,
    job: HyperparameterJob,
    request: ResourceRequest,
    devices: Devices,
    *,
    on_gpu: bool,
) -> str:
    """Why a strategy is out of the question; empty: it is not."""
    asked = request.processes * request.nodes
    if request.strategy not in ("auto", strategy):
        return f"the job asks for {request.strategy}"
    if strategy == "single":
        return f"{asked} processes were asked for" if asked > 1 else ""
    if strategy in ("fsdp2", "zero3"):
        if not on_gpu:
            return "needs GPUs: on a CPU accelerate would train on, unsharded"
        if job.quantization == "8bit":
            return "8-bit weights cannot be sharded; 4-bit ones can"
        return ""
    most = devices.total if on_gpu and _is_open(request) else asked
    return "" if most > 1 else "needs more than one process"


def _is_open(request: ResourceRequest) -> bool:
    """Whether the number of processes is left to the plan."""
    return "processes" not in request.model_fields_set


def _process_counts(
    strategy: Strategy, request: ResourceRequest, devices: Devices, *, offload: bool
) -> list[int]:
    """Processes on each node that are tried, fewest first."""
    if strategy == "single" or not _is_open(request) or devices.kind == "cpu":
        counts = [request.processes]
    elif strategy == "ddp":
        counts = [devices.count]
    else:
        counts = [n for n in (1, 2, 4, 8, 16) if n < devices.count] + [devices.count]
    # One process has nothing to share out, but main memory to wait in.
    return [n for n in counts if strategy == "single" or offload or n * request.nodes > 1]


def _judged(
    job: HyperparameterJob,
    request: ResourceRequest,
    shape: ModelShape,
    devices: Devices,
    setup: Setup,
) -> Alternative:
    estimate = estimate_memory(shape, job, setup)
    processes = setup.ranks // request.nodes
    limit = available_gib(request, devices, processes)
    why_not = ""
    if estimate.total > limit:
        why_not = f"{estimate.total:.1f} GiB do not fit into {limit:.1f}"
    elif request.memory_gib and estimate.host * processes > request.memory_gib:
        why_not = (
            f"{estimate.host * processes:.1f} GiB of main memory do not fit into"
            f" {request.memory_gib:.1f}"
        )
    return Alternative(
        strategy=setup.strategy,
        processes=processes,
        nodes=request.nodes,
        gradient_checkpointing=setup.gradient_checkpointing,
        offload=setup.offload,
        estimate=estimate,
        fits=not why_not,
        why_not=why_not,
    )

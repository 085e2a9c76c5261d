"""Every strategy really trains where there are GPUs, within the memory that was estimated."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from retail_assistant.launch.local import run_local
from retail_assistant.launch.spec import Resources
from retail_assistant.model_shape import model_shape
from retail_assistant.training.planning.devices import local_devices
from retail_assistant.training.planning.plan import plan
from retail_assistant.training.resources import ResourceRequest, Strategy
from retail_assistant_tests.training.trainings import JOB, small_corpus, spec_of

GPUS = local_devices().count if local_devices().kind == "cuda" else 0
needs_two = pytest.mark.skipif(GPUS < 2, reason="needs two GPUs")
needs_deepspeed = pytest.mark.skipif(
    find_spec("deepspeed") is None, reason="needs the package deepspeed"
)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not GPUS, reason="needs a GPU")]


@pytest.mark.parametrize("quantization", ["none", "4bit"])
@pytest.mark.parametrize(
    ("strategy", "processes"),
    [
        ("single", 1),
        pytest.param("ddp", 2, marks=needs_two),
        pytest.param("fsdp2", 2, marks=needs_two),
        # One process has nothing to share out: its weights wait in main memory.
        ("fsdp2", 1),
        pytest.param("zero3", 2, marks=[needs_two, needs_deepspeed]),
    ],
)
def test_a_strategy_trains_within_its_estimate(
    strategy: Strategy,
    processes: int,
    quantization: str,
    tiny_model_folder: Path,
    tmp_path: Path,
) -> None:
    job = JOB.model_copy(update={"quantization": quantization})
    request = ResourceRequest(strategy=strategy, processes=processes)
    found = plan(job, request, model_shape(tiny_model_folder), local_devices())
    assert (found.strategy, found.processes) == (strategy, processes)
    spec = spec_of(
        small_corpus(),
        tiny_model_folder,
        tmp_path,
        job,
        resources=Resources(processes=processes, gpus=processes),
        accelerate=found.accelerate,
        execution={
            "gradient_checkpointing": found.gradient_checkpointing,
            "bf16": found.bf16,
            "use_cpu": False,
            "strategy": strategy,
        },
    )
    metrics = run_local(spec).metrics
    assert metrics["processes"] == processes
    assert metrics["trainable_parameters"] == found.trainable_parameters
    assert 0 < metrics["gpu_peak_memory_mib"] < found.estimate.total * 1024

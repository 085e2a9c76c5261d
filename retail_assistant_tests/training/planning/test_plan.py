"""The plan: which way is chosen, what it takes, and what is said where nothing fits."""

from typing import Any

import polars as pl
import pytest

from retail_assistant.model_shape import ModelShape
from retail_assistant.training.jobs import HyperparameterJob
from retail_assistant.training.planning.alternatives import PlanError
from retail_assistant.training.planning.devices import Devices
from retail_assistant.training.planning.plan import ParallelismPlan, plan
from retail_assistant.training.planning.plan_table import PARTS, alternatives_frame, plan_table
from retail_assistant.training.resources import ResourceRequest
from retail_assistant_tests.training.shapes import LLAMA_8B, LLAMA_70B, OPEN_LLAMA_3B, SMOLLM2

JOB = HyperparameterJob(lora_r=16, lora_alpha=32, learning_rate=1e-4, attention="flash_attention_2")
CPU = Devices(kind="cpu", name="CPU with 2 cores", memory_gib=24, bf16=False)
H100 = "x NVIDIA H100 80GB"


def planned(
    shape: ModelShape, devices: str | Devices, job: dict[str, Any] | None = None, **request: Any
) -> ParallelismPlan:
    where = Devices.parsed(devices) if isinstance(devices, str) else devices
    hyperparameters = HyperparameterJob(**{**JOB.model_dump(), **(job or {})})
    return plan(hyperparameters, ResourceRequest(**request), shape, where)


@pytest.mark.parametrize(
    ("shape", "devices", "job", "strategy", "processes", "checkpointing", "offload"),
    [
        (SMOLLM2, CPU, {}, "single", 1, False, False),
        (LLAMA_8B, f"1 {H100}", {}, "single", 1, False, False),
        (LLAMA_8B, f"8 {H100}", {}, "single", 1, False, False),
        # Activations of 8 full rows do not fit, their blocks' inputs do.
        (LLAMA_8B, f"1 {H100}", {"max_seq_length": 4096}, "single", 1, True, False),
        # 140 GiB of weights: as few devices as do.
        (LLAMA_70B, f"8 {H100}", {}, "fsdp2", 4, True, False),
        (LLAMA_70B, f"8 {H100}", {"quantization": "4bit"}, "single", 1, True, False),
        (LLAMA_70B, f"1 {H100}", {"batch_size": 1}, "fsdp2", 1, False, True),
        (LLAMA_8B, "2 x 16 GiB", {"max_seq_length": 512}, "fsdp2", 2, True, False),
        (LLAMA_8B, "1 x 16 GiB", {"quantization": "4bit"}, "single", 1, True, False),
    ],
)
def test_the_first_way_that_fits_is_chosen(
    shape: ModelShape,
    devices: str | Devices,
    job: dict[str, Any],
    strategy: str,
    processes: int,
    checkpointing: bool,
    offload: bool,
) -> None:
    found = planned(shape, devices, job)
    assert (found.strategy, found.processes) == (strategy, processes)
    assert (found.gradient_checkpointing, found.offload) == (checkpointing, offload)
    assert found.estimate.total <= found.available_gib


def test_what_is_asked_for_is_kept_to() -> None:
    assert planned(LLAMA_8B, f"8 {H100}", processes=8).strategy == "ddp"
    for strategy in ("fsdp2", "zero3"):
        found = planned(LLAMA_8B, f"8 {H100}", processes=4, strategy=strategy)
        assert (found.strategy, found.processes, found.gpus) == (strategy, 4, 4)
    on_cpu = planned(SMOLLM2, CPU, processes=2)
    assert (on_cpu.strategy, on_cpu.gpus, on_cpu.accelerate["num_processes"]) == ("ddp", 0, 2)
    forced = planned(SMOLLM2, f"1 {H100}", gpus_per_process=0)
    assert (forced.gpus, forced.bf16) == (0, False)
    assert planned(SMOLLM2, CPU, {"gradient_checkpointing": "on"}).gradient_checkpointing
    nodes = planned(LLAMA_70B, f"2 nodes x 8 {H100}", processes=8, nodes=2)
    assert (nodes.ranks, nodes.gpus, nodes.accelerate["num_machines"]) == (16, 16, 2)


@pytest.mark.parametrize(
    ("devices", "request_", "told"),
    [
        (CPU, {"gpus_per_process": 1}, "no GPUs"),
        (f"2 {H100}", {"gpus_per_process": 2}, "allowed: 0, 1"),
        (f"2 {H100}", {"processes": 4}, "processes up to 2"),
        (f"2 {H100}", {"nodes": 2}, "nodes up to 1"),
        (CPU, {"strategy": "zero3"}, "needs GPUs"),
        (f"1 {H100}", {"strategy": "ddp"}, "more than one process"),
    ],
)
def test_a_request_for_other_devices_is_refused(
    devices: str | Devices, request_: dict[str, Any], told: str
) -> None:
    with pytest.raises(PlanError, match=told):
        planned(SMOLLM2, devices, **request_)


@pytest.mark.fault(
    "A training fits no device",
    "It is refused before it starts, with the numbers and what would fit",
)
def test_a_refusal_has_the_numbers_and_what_would_help() -> None:
    with pytest.raises(PlanError) as caught:
        planned(LLAMA_8B, "1 x 12 GiB", {"max_seq_length": 2048}, strategy="single")
    told = str(caught.value)
    assert "nothing fits into 11.0 GiB of 1 x GPU (12.0 GiB each)" in told
    assert "single and gradient checkpointing:" in told
    assert "do not fit into 11.0" in told
    assert "quantization: 4bit, batch_size: 1, gradient_accumulation_steps: 4:" in told
    assert "8bit" not in told
    table = alternatives_frame(caught.value.alternatives)
    assert not table["fits"].any()
    assert table.filter(pl.col("strategy") == "single")["total_gib"].min() > 11


def test_the_suggested_change_really_fits() -> None:
    with pytest.raises(PlanError, match="batch_size: 1"):
        planned(LLAMA_8B, "1 x 24 GiB", {"batch_size": 16, "max_seq_length": 2048})
    assert planned(LLAMA_8B, "1 x 24 GiB", {"batch_size": 1, "max_seq_length": 2048})


def test_eight_bit_weights_are_not_sharded() -> None:
    with pytest.raises(PlanError, match="8-bit weights cannot be sharded"):
        planned(LLAMA_8B, f"4 {H100}", {"quantization": "8bit"}, processes=4, strategy="fsdp2")
    found = planned(LLAMA_8B, f"4 {H100}", {"quantization": "8bit"}, processes=4)
    assert found.strategy == "ddp"


def test_idle_devices_and_larger_steps_are_told() -> None:
    (idle,) = planned(LLAMA_8B, f"8 {H100}").suggestions
    assert "7 of 8 GPUs stay idle" in idle
    assert "32 rows instead of 4" in idle
    larger, quantized = planned(LLAMA_70B, f"8 {H100}").suggestions
    assert "over 16 rows instead of 4" in larger
    assert "quantization: 4bit would do with a single device" in quantized
    (plain,) = planned(OPEN_LLAMA_3B, f"1 {H100}", {"quantization": "4bit"}).suggestions
    assert "quantization: none fits as well" in plain


def test_the_table_shows_every_way_and_one_choice() -> None:
    found = planned(LLAMA_8B, f"2 {H100}", processes=2)
    table = alternatives_frame(found.alternatives)
    assert set(table["strategy"]) == {"single", "ddp", "fsdp2", "zero3"}
    assert table["chosen"].sum() == 1
    chosen = table.filter("chosen").row(0, named=True)
    assert chosen["strategy"] == found.strategy
    parts = [chosen[f"{part}_gib"] for part in PARTS if part not in ("total", "host")]
    assert sum(parts) == pytest.approx(chosen["total_gib"], abs=0.01)
    text = plan_table(found)
    assert text.count("**chosen**") == 1
    assert "2 processes were asked for" in text


def test_a_plan_tells_its_total_as_json() -> None:
    found = planned(LLAMA_8B, f"2 {H100}")
    written = found.model_dump(mode="json")
    assert written["estimate"]["total"] == found.estimate.total

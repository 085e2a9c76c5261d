"""The accelerate configurations: read by accelerate, and really launched as far as a CPU allows."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from retail_assistant.training.jobs import HyperparameterJob
from retail_assistant.training.planning.alternatives import Alternative
from retail_assistant.training.planning.devices import Devices
from retail_assistant.training.planning.plan import CONFIG_FOLDER, accelerate_config, plan
from retail_assistant.training.resources import ResourceRequest
from retail_assistant_tests.conftest import REPOSITORY
from retail_assistant_tests.training.shapes import LLAMA_70B, SMOLLM2

CONFIGS = sorted(path.stem for path in CONFIG_FOLDER.glob("*.yaml"))
JOB = HyperparameterJob(lora_r=8, lora_alpha=16, learning_rate=1e-4)
H100S = Devices.parsed("4 x NVIDIA H100 80GB")
CPU = Devices.parsed("cpu")


def planned(devices: Devices = H100S, **request: Any) -> dict[str, Any]:
    return plan(JOB, ResourceRequest(**request), SMOLLM2, devices).accelerate


def loaded(config: dict[str, Any], folder: Path) -> Any:
    from accelerate.commands.config.config_args import load_config_from_file

    path = folder / "accelerate.yaml"
    path.write_text(yaml.safe_dump(config))
    return load_config_from_file(str(path))


def test_there_is_a_file_for_every_strategy() -> None:
    assert CONFIGS == ["ddp", "ddp_cpu", "fsdp2", "single", "zero3"]


@pytest.mark.parametrize("name", CONFIGS)
def test_accelerate_reads_the_file(name: str, tmp_path: Path) -> None:
    config = yaml.safe_load((CONFIG_FOLDER / f"{name}.yaml").read_text())
    found = loaded(config, tmp_path)
    assert found.num_machines == 1
    assert found.use_cpu is (name == "ddp_cpu")
    assert found.mixed_precision == ("no" if name == "ddp_cpu" else "bf16")


@pytest.mark.parametrize(
    ("devices", "request_", "kind", "processes", "precision"),
    [
        (CPU, {}, "NO", 1, "no"),
        (CPU, {"processes": 2}, "MULTI_GPU", 2, "no"),
        (H100S, {}, "NO", 1, "bf16"),
        (H100S, {"processes": 4}, "MULTI_GPU", 4, "bf16"),
        (H100S, {"processes": 4, "strategy": "fsdp2"}, "FSDP", 4, "bf16"),
        (H100S, {"processes": 2, "strategy": "zero3"}, "DEEPSPEED", 2, "bf16"),
        (Devices.parsed("2 x Tesla T4"), {"processes": 2}, "MULTI_GPU", 2, "no"),
    ],
)
def test_a_plan_fills_the_file_in(
    devices: Devices,
    request_: dict[str, Any],
    kind: str,
    processes: int,
    precision: str,
    tmp_path: Path,
) -> None:
    found = loaded(planned(devices, **request_), tmp_path)
    assert (found.distributed_type.value, found.num_processes) == (kind, processes)
    assert found.mixed_precision == precision
    assert found.use_cpu is (devices is CPU)


def test_offloading_reaches_the_file() -> None:
    one = Devices.parsed("1 x NVIDIA H100 80GB")
    small = JOB.model_copy(update={"batch_size": 1})
    offloaded = plan(small, ResourceRequest(), LLAMA_70B, one).accelerate
    assert offloaded["fsdp_config"]["fsdp_offload_params"] is True
    assert planned(processes=4, strategy="fsdp2")["fsdp_config"]["fsdp_offload_params"] is False
    way = Alternative(
        strategy="zero3",
        processes=2,
        nodes=1,
        gradient_checkpointing=True,
        offload=True,
        estimate=None,
        fits=True,
    )
    section = accelerate_config(way, on_gpu=True, bf16=True)["deepspeed_config"]
    assert section["offload_param_device"] == section["offload_optimizer_device"] == "cpu"


def launched(config: dict[str, Any], asked: str, folder: Path) -> list[dict[str, Any]]:
    """What every process saw that `accelerate launch` started with this configuration."""
    path = folder / "accelerate.yaml"
    path.write_text(yaml.safe_dump(config))
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(path)]
    probe = ["-m", "retail_assistant_tests.training.accelerate_probe", asked, str(folder)]
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if config["use_cpu"] else {}
    result = subprocess.run(
        [*launch, *probe],
        check=False,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, **hidden},
    )
    assert result.returncode == 0, result.stderr
    return [json.loads(one.read_text()) for one in sorted(folder.glob("rank-*.json"))]


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "kind"), [(1, "NO"), (2, "MULTI_CPU")])
def test_processes_on_the_cpu_really_work_together(
    processes: int, kind: str, tmp_path: Path
) -> None:
    found = launched(planned(CPU, processes=processes), "state", tmp_path)
    assert len(found) == processes
    for one in found:
        assert one["type"] == kind
        assert one["processes"] == processes
        assert one["device"].startswith("cpu")
        assert one["precision"] == "no"
        assert one["sum"] == sum(range(1, processes + 1))


@pytest.mark.slow
def test_fsdp2_reaches_every_process_as_it_is_meant(tmp_path: Path) -> None:
    config = planned(processes=2, strategy="fsdp2")
    found = launched(config, "fsdp", tmp_path)
    assert len(found) == 2
    for one in found:
        assert one == {
            "processes": 2,
            "precision": "bf16",
            "version": 2,
            "reshard": True,
            "offload": "OffloadPolicy",
            "wraps": "transformer_auto_wrap_policy",
            "state_dict": "FULL_STATE_DICT",
            "activation_checkpointing": False,
            "lean_loading": True,
        }


def test_zero3_becomes_the_json_that_deepspeed_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DeepSpeed itself is not needed to see what it would be given."""
    from accelerate import DeepSpeedPlugin
    from accelerate.commands.launch import launch_command_parser
    from accelerate.utils.launch import prepare_deepspeed_cmd_env

    config = planned(processes=2, strategy="zero3")
    arguments = launch_command_parser().parse_args(["--use_deepspeed", "train.py"])
    section = loaded(config, tmp_path).deepspeed_config
    for name, value in {**section, "num_processes": 2, "num_machines": 1}.items():
        setattr(arguments, name, value)
    arguments.main_process_port = config["main_process_port"]
    arguments.gpu_ids, arguments.mixed_precision = "all", config["mixed_precision"]
    arguments.deepspeed_fields_from_accelerate_config = ",".join(section)
    _, environment = prepare_deepspeed_cmd_env(arguments)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    given = DeepSpeedPlugin().deepspeed_config
    assert given["zero_optimization"]["stage"] == 3
    assert given["zero_optimization"]["offload_param"]["device"] == "none"
    assert given["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] is True
    # Left to the trainer, which knows the job's batch size, accumulation and clipping.
    for name in ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps"):
        assert given[name] == "auto"
    assert given["gradient_clipping"] == "auto"
    assert environment["ACCELERATE_MIXED_PRECISION"] == "bf16"

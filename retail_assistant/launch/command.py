"""The command line and environment of a workload on a machine."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from retail_assistant.launch.processes import SECONDS_TO_END
from retail_assistant.launch.spec import SPEC_NAME, LaunchSpec
from retail_assistant.launch.workload import LAUNCHER_PID, PREEMPTED_MARK
from retail_assistant.storage import write_atomically
from retail_assistant.storage.bucket import publish, withdraw

ACCELERATE_CONFIG = "accelerate.yaml"
REASON_NAME = "failure.txt"
"""Why a cluster's job failed: Ray passes on an exit code and the last lines of output."""

OF_ANOTHER_GROUP = frozenset(
    {
        "RANK",
        "LOCAL_RANK",
        "NODE_RANK",
        "WORLD_SIZE",
        "LOCAL_WORLD_SIZE",
        "MASTER_ADDR",
        "MASTER_PORT",
    }
)
"""What a process that is itself one of several (a worker of Ray Train) must not hand down."""


@dataclass(frozen=True)
class Node:
    """One of several machines that run a workload together; the first one's address and port."""

    rank: int
    address: str
    port: int


def write_spec(spec: LaunchSpec) -> None:
    """Lay down what the command reads: the spec, and accelerate's configuration file.

    How an earlier run ended is forgotten.
    """
    for name in (PREEMPTED_MARK, REASON_NAME):
        (spec.folder / name).unlink(missing_ok=True)
        withdraw(spec.folder / name)
    write_atomically(spec.folder / SPEC_NAME, spec.model_dump_json(indent=2))
    publish(spec.folder / SPEC_NAME)
    if spec.accelerate is not None:
        text = yaml.safe_dump(spec.accelerate, sort_keys=False)
        write_atomically(spec.folder / ACCELERATE_CONFIG, text)


def command(spec: LaunchSpec, node: Node | None = None) -> list[str]:
    """What starts the workload, whose spec is laid down, on this machine."""
    spec_path = str(spec.folder / SPEC_NAME)
    if spec.accelerate is None:
        return [sys.executable, "-m", spec.module, "--spec", spec_path]
    launch = [sys.executable, "-m", "accelerate.commands.launch"]
    launch += ["--config_file", str(spec.folder / ACCELERATE_CONFIG)]
    if node is not None:
        launch += ["--machine_rank", str(node.rank), "--same_network"]
        launch += ["--main_process_ip", node.address, "--main_process_port", str(node.port)]
    return [*launch, "-m", spec.module, "--spec", spec_path]


def environment(spec: LaunchSpec, given: Mapping[str, str]) -> dict[str, str]:
    """The workload's environment: that of this process, and what `given` adds to it."""
    inherited = {name: value for name, value in os.environ.items() if name not in OF_ANOTHER_GROUP}
    on_cpu = bool(spec.accelerate and spec.accelerate.get("use_cpu"))
    return {
        **inherited,
        **quiet_environment(),
        LAUNCHER_PID: str(os.getpid()),
        # Of several processes accelerate's launcher tells this to none.
        **({"ACCELERATE_USE_CPU": "true"} if on_cpu else {}),
        # The elastic agent, too, gives its ranks the time for a checkpoint.
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(SECONDS_TO_END),
        **given,
    }


def quiet_environment() -> dict[str, str]:
    """Hubs are asked only where the settings name one; progress bars would fill the log."""
    return {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_NO_USAGE_STATS": "1",
        "PYTHONUNBUFFERED": "1",
    }

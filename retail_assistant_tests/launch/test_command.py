"""The command of a workload: accelerate reads the configuration that the spec carries."""

import sys
from collections.abc import Callable

import pytest
import yaml

from retail_assistant.launch.command import (
    ACCELERATE_CONFIG,
    OF_ANOTHER_GROUP,
    Node,
    command,
    environment,
    write_spec,
)
from retail_assistant.launch.spec import LaunchSpec

MakeSpec = Callable[..., LaunchSpec]
CONFIG = {"distributed_type": "MULTI_GPU", "use_cpu": True, "num_processes": 4, "num_machines": 2}


def test_a_plain_workload_is_a_module(sample_spec: MakeSpec) -> None:
    spec = sample_spec()
    assert command(spec)[:3] == [sys.executable, "-m", spec.module]
    assert not any("accelerate" in word for word in command(spec))


def test_accelerates_configuration_is_a_file_beside_the_spec(sample_spec: MakeSpec) -> None:
    spec = sample_spec(accelerate=CONFIG)
    spec.folder.mkdir(parents=True)
    write_spec(spec)
    path = spec.folder / ACCELERATE_CONFIG
    assert yaml.safe_load(path.read_text()) == CONFIG
    words = command(spec)
    assert words[words.index("--config_file") + 1] == str(path)
    assert words[-4:] == ["-m", spec.module, "--spec", str(spec.folder / "spec.json")]


def test_a_node_knows_its_rank_and_the_first_one(sample_spec: MakeSpec) -> None:
    words = command(sample_spec(accelerate=CONFIG), Node(rank=1, address="10.0.0.1", port=4321))
    for name, value in (("machine_rank", "1"), ("main_process_ip", "10.0.0.1")):
        assert words[words.index(f"--{name}") + 1] == value
    assert words[words.index("--main_process_port") + 1] == "4321"


def test_accelerates_own_parser_takes_the_node(sample_spec: MakeSpec) -> None:
    """Options win over the configuration file, which is the same on every node."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    spec = sample_spec(accelerate=CONFIG)
    spec.folder.mkdir(parents=True)
    write_spec(spec)
    words = command(spec, Node(rank=1, address="10.0.0.1", port=4321))
    arguments = launch_command_parser().parse_args(words[3:])
    found, *_ = _validate_launch_command(arguments)
    assert (found.machine_rank, found.num_machines, found.num_processes) == (1, 2, 4)
    assert (found.main_process_ip, found.main_process_port) == ("10.0.0.1", 4321)
    assert found.multi_gpu


def test_ranks_of_another_group_are_not_handed_down(
    sample_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in OF_ANOTHER_GROUP:
        monkeypatch.setenv(name, "1")
    given = environment(sample_spec(accelerate=CONFIG), {"MORE": "x"})
    assert not OF_ANOTHER_GROUP & given.keys()
    assert given["MORE"] == "x"
    assert given["ACCELERATE_USE_CPU"] == "true"
    assert "ACCELERATE_USE_CPU" not in environment(sample_spec(), {})

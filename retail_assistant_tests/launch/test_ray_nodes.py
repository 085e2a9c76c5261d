"""Several nodes through Ray Train, on two Ray nodes that share this machine."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from retail_assistant.launch.ray_job import run_ray_job
from retail_assistant.launch.spec import LaunchError, LaunchSpec, Resources
from retail_assistant_tests.launch.test_ray_job import start
from retail_assistant_tests.launch.waiting import SECONDS_TO_END, lives, pids_of, wait_until
from retail_assistant_tests.ray_nodes import ray_nodes

pytestmark = pytest.mark.slow

MakeSpec = Callable[..., LaunchSpec]
Environment = dict[str, str]
TWO_NODES = {
    "distributed_type": "MULTI_GPU",
    "use_cpu": True,
    "num_processes": 2,
    "num_machines": 2,
    "rdzv_backend": "static",
}
NEEDS = Resources(nodes=2, memory_gib=0.2)


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """Two Ray nodes of two CPU cores each; yields what lets in."""
    with ray_nodes(os.environ, workers=1, cpus=2) as variables:
        yield variables


@pytest.fixture
def at_cluster(cluster: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in cluster.items():
        monkeypatch.setenv(name, value)


def test_each_node_starts_its_ranks_and_one_speaks_for_all(
    at_cluster: None, sample_spec: MakeSpec, environment: Environment
) -> None:
    spec = sample_spec(accelerate=TWO_NODES, resources=NEEDS)
    assert run_ray_job(spec, environment).metrics == {"characters": 11}
    assert len((spec.folder / "runs.txt").read_text().splitlines()) == 2
    assert {path.name for path in spec.folder.glob("log*.txt")} == {"log.txt", "log-node-1.txt"}


@pytest.mark.fault(
    "One node of a training over several fails",
    "The others are ended, and its reason is told",
)
def test_a_node_that_fails_ends_the_others_and_says_why(
    at_cluster: None, sample_spec: MakeSpec, environment: Environment
) -> None:
    with pytest.raises(LaunchError, match="the shelf is empty"):
        run_ray_job(sample_spec(orders="fail", accelerate=TWO_NODES, resources=NEEDS), environment)


@pytest.mark.fault(
    "a training over several nodes is interrupted",
    "its processes end on all of them",
)
def test_an_interrupt_ends_the_processes_of_all_nodes(
    at_cluster: None, sample_spec: MakeSpec, environment: Environment, tmp_path: Path
) -> None:
    spec = sample_spec(orders="save", accelerate=TWO_NODES, resources=NEEDS)
    launcher = start(spec, environment, tmp_path)
    wait_until(lambda: len(pids_of(spec.folder)) == 4, 60, "the second rank")
    pids = pids_of(spec.folder)
    launcher.send_signal(signal.SIGINT)
    assert launcher.wait(timeout=SECONDS_TO_END) != 0
    assert (spec.folder / "saved.txt").read_text() == "saved"
    assert not any(map(lives, pids))

"""Several nodes through Ray Train, on two Ray nodes that share this machine."""

import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from retail_assistant.launch.processes import ProcessTree
from retail_assistant.launch.ray_cluster import RAY_ADDRESS, local_environment
from retail_assistant.launch.ray_head import LOOPBACK, free_port, head_command
from retail_assistant.launch.ray_job import run_ray_job
from retail_assistant.launch.spec import LaunchError, LaunchSpec, Resources
from retail_assistant.storage import temporary_folder
from retail_assistant_tests.launch.test_ray_job import start
from retail_assistant_tests.launch.waiting import SECONDS_TO_END, lives, pids_of, wait_until

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
    """Two Ray nodes of one CPU core each; yields what lets in."""
    port, token = free_port(), secrets.token_hex(32)
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder(Path("/tmp"), "retail-ray-nodes-"))
        environment = {**os.environ, **local_environment(folder, token)}
        # Of a cluster of one machine alone Ray refuses a second node.
        environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "1"
        environment.pop(RAY_ADDRESS, None)
        output = stack.enter_context((folder / "nodes.txt").open("wb"))
        head = [word for word in head_command(port) if not word.startswith("--num-cpus")]
        gcs = next(word.partition("=")[2] for word in head if word.startswith("--port="))
        more = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=2"]
        more += [f"--address={LOOPBACK}:{gcs}", f"--node-ip-address={LOOPBACK}"]
        more += [f"--dashboard-agent-listen-port={free_port()}", "--disable-usage-stats"]
        first = ProcessTree([*head, "--num-cpus=2"], environment, output)
        stack.callback(first.end, 3)
        server = f"http://{LOOPBACK}:{port}"
        headers = f'{{"Authorization": "Bearer {token}"}}'
        wait_until(lambda: nodes(server, token) == 1, 60, "the head")
        second = ProcessTree(more, environment, output)
        stack.callback(second.end, 3)
        wait_until(lambda: nodes(server, token) == 2, 60, "the second node")
        yield {RAY_ADDRESS: server, "RAY_JOB_HEADERS": headers}


def nodes(server: str, token: str) -> int:
    """Ray nodes that live, as the dashboard counts them."""
    import requests

    try:
        answer = requests.get(
            f"{server}/nodes?view=summary",
            headers={"Authorization": f"Bearer {token}"},
            timeout=5,
        ).json()
    except (requests.RequestException, ValueError):
        return 0
    return sum(one["raylet"].get("state") == "ALIVE" for one in answer["data"]["summary"])


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


def test_a_node_that_fails_ends_the_others_and_says_why(
    at_cluster: None, sample_spec: MakeSpec, environment: Environment
) -> None:
    with pytest.raises(LaunchError, match="the shelf is empty"):
        run_ray_job(sample_spec(orders="fail", accelerate=TWO_NODES, resources=NEEDS), environment)


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

"""A Ray cluster of several nodes that share this machine and ask for a token."""

import json
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from retail_assistant.launch.processes import ProcessTree
from retail_assistant.launch.ray_cluster import RAY_ADDRESS, local_environment
from retail_assistant.launch.ray_head import LOOPBACK, free_port, head_command
from retail_assistant.storage import temporary_folder
from retail_assistant_tests.launch.waiting import wait_until

SECONDS_TO_JOIN = 300
SECONDS_TO_END = 3


@contextmanager
def ray_nodes(environment: Mapping[str, str], workers: int, cpus: int) -> Iterator[dict[str, str]]:
    """A head and so many workers, each with so many CPUs; the variables that let in."""
    port, token = free_port(), secrets.token_hex(32)
    with ExitStack() as stack:
        # Ray's sockets have long names.
        folder = stack.enter_context(temporary_folder(Path("/tmp"), "retail-ray-nodes-"))
        given = {**environment, **local_environment(folder, token)}
        # Of a cluster of one machine alone Ray refuses a second node.
        given["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "1"
        given.pop(RAY_ADDRESS, None)
        output = stack.enter_context((folder / "nodes.txt").open("wb"))
        head = [word for word in head_command(port) if not word.startswith("--num-cpus")]
        gcs = next(word.partition("=")[2] for word in head if word.startswith("--port="))
        more = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
        more += [f"--address={LOOPBACK}:{gcs}", f"--node-ip-address={LOOPBACK}"]
        server = f"http://{LOOPBACK}:{port}"
        for number in range(1 + workers):
            own = [*more, f"--dashboard-agent-listen-port={free_port()}", "--disable-usage-stats"]
            words = own if number else head
            node = ProcessTree([*words, f"--num-cpus={cpus}"], given, output)
            stack.callback(node.end, SECONDS_TO_END)
            # One by one: two at once keep each other from starting in time on a small machine.
            wait_until(
                lambda node=node, wanted=number + 1: (
                    node.wait(0) is not None or _living(server, token) == wanted
                ),
                SECONDS_TO_JOIN,
                f"node {number} of Ray",
            )
            assert node.wait(0) is None, (folder / "nodes.txt").read_text()[-3000:]
        headers = json.dumps({"Authorization": f"Bearer {token}"})
        yield {RAY_ADDRESS: server, "RAY_JOB_HEADERS": headers}


def _living(server: str, token: str) -> int:
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

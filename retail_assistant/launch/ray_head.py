"""A Ray cluster of this machine alone, for the jobs of one launch: `ray start --head`.

`python -m retail_assistant.launch.ray_head PORT` runs it, and ends it when whoever started that is
gone: a cluster by itself would outlive a killed launcher.
"""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import psutil

from retail_assistant.launch.processes import SECONDS_TO_DIE, ProcessTree, is_alive
from retail_assistant.launch.ray_cluster import (
    FOLDER_PREFIX,
    OBJECT_STORE_BYTES,
    RAY_ADDRESS,
    RayClusterError,
    local_environment,
)
from retail_assistant.launch.workload import LAUNCHER_PID
from retail_assistant.storage import temporary_folder

LOOPBACK = "127.0.0.1"
RAY_JOB_HEADERS = "RAY_JOB_HEADERS"
SECONDS_TO_START = 120
SECONDS_TO_STOP = 6
"""Its processes hold nothing that is not on disk, and some do not listen."""

SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True)
class JobServer:
    """Where Ray jobs are submitted, and what is sent along to be let in."""

    address: str
    headers: dict[str, str] = field(default_factory=dict)


@contextmanager
def job_server() -> Iterator[JobServer]:
    """The cluster at `RAY_ADDRESS`, else one on this machine that ends with the body.

    What a cluster asks for comes from where Ray's own command line takes it: a token from
    `RAY_AUTH_TOKEN`, headers from `RAY_JOB_HEADERS` (JSON). The one that is started here listens
    on the loopback interface only and asks for a token.

    Raises:
        RayClusterError: it does not start; says why.
    """
    if os.environ.get(RAY_ADDRESS):
        yield JobServer(os.environ[RAY_ADDRESS], _headers_given())
        return
    with ExitStack() as stack:
        # For Ray's logs, and its sockets: their names must be short.
        folder = stack.enter_context(
            temporary_folder(Path(tempfile.gettempdir()), f"{FOLDER_PREFIX}head-")
        )
        token, port = secrets.token_hex(32), free_port()
        log = folder / "head.txt"
        with log.open("wb") as output:
            head = subprocess.Popen(
                [sys.executable, "-m", "retail_assistant.launch.ray_head", str(port)],
                env={
                    **os.environ,
                    **local_environment(folder, token),
                    LAUNCHER_PID: str(os.getpid()),
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        stack.callback(_stop, head)
        server = JobServer(f"http://{LOOPBACK}:{port}", {"Authorization": f"Bearer {token}"})
        _wait_until_it_answers(server, head, log)
        yield server


def _headers_given() -> dict[str, str]:
    try:
        given = json.loads(os.environ.get(RAY_JOB_HEADERS) or "{}")
        return {str(name): str(value) for name, value in given.items()}
    except (ValueError, AttributeError) as error:
        raise RayClusterError(
            f"{RAY_JOB_HEADERS} is no JSON object; allowed: names to values"
        ) from error


def _wait_until_it_answers(server: JobServer, head: subprocess.Popen[bytes], log: Path) -> None:
    from ray.job_submission import JobSubmissionClient

    deadline = time.monotonic() + SECONDS_TO_START
    last = "no answer"
    while time.monotonic() < deadline and head.poll() is None:
        try:
            # Jobs need more than the page that answers first: the agent beside the raylet.
            JobSubmissionClient(server.address, headers=dict(server.headers)).list_jobs()
        except (ConnectionError, RuntimeError) as error:
            last = str(error).strip().partition("\n")[0]
            time.sleep(SECONDS_BETWEEN_LOOKS)
        else:
            return
    said = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    raise RayClusterError(f"no Ray cluster started on this machine: {last}\n{said}")


def _stop(head: subprocess.Popen[bytes]) -> None:
    head.terminate()
    try:
        head.wait(SECONDS_TO_STOP + SECONDS_TO_DIE)
    except subprocess.TimeoutExpired:
        head.kill()
        head.wait()


def free_port(host: str = LOOPBACK) -> int:
    """A port of an address of this machine that nobody listens on now."""
    with closing(socket.socket()) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def head_command(port: int) -> list[str]:
    """`ray start` with no port of its own choice: two heads may share a machine."""
    options = {
        "node-ip-address": LOOPBACK,
        "port": free_port(),
        "dashboard-host": LOOPBACK,
        "dashboard-port": port,
        "dashboard-agent-listen-port": free_port(),
        "ray-client-server-port": free_port(),
        "object-store-memory": OBJECT_STORE_BYTES,
        "num-cpus": os.cpu_count() or 1,
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    return [*start, "--include-dashboard=true", "--disable-usage-stats", *words]


def main() -> None:
    """Run a head until it is told to end, or its launcher is gone."""
    ended = Event()
    for sent in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sent, lambda *_: ended.set())
    launcher = int(os.environ[LAUNCHER_PID])
    tree = ProcessTree(head_command(int(sys.argv[1])), os.environ, sys.stdout.buffer)
    try:
        with contextlib.suppress(psutil.NoSuchProcess):
            starter = psutil.Process(launcher)
            while is_alive(starter) and not ended.is_set():
                if tree.wait(SECONDS_BETWEEN_LOOKS) is not None:
                    sys.exit("ray start has ended")
    finally:
        tree.end(SECONDS_TO_STOP)


if __name__ == "__main__":
    main()

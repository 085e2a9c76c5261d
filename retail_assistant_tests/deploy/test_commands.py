"""Each image's command, as its Dockerfile has it, in this environment as the image has it: less.

Only folders and ports are this machine's. What a Dockerfile's comment lists for other pods of the
same image is run, too.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml

from retail_assistant.launch.command import write_spec
from retail_assistant.launch.spec import SPEC_NAME, LaunchSpec, read_manifest
from retail_assistant_tests.conftest import REPOSITORY
from retail_assistant_tests.deploy.dockerfiles import ENVIRONMENT, FOLDER, HOME, IMAGES, LOCKS
from retail_assistant_tests.deploy.locks import environment_of
from retail_assistant_tests.mlflow_server import free_port

pytestmark = pytest.mark.slow

CODE, GPU, SERVE, CPU = (f"retail-assistant-{name}" for name in ("code", "gpu", "serve", "cpu"))
SECONDS_TO_START = 180
SECONDS_TO_END = 5
LOCATIONS = "{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus } } } }"
_OTHER_ROLE = re.compile(r"^#   (\S.*)$", re.MULTILINE)


def variables(image: str, folder: Path) -> dict[str, str]:
    """What a process of the image sees: the Dockerfile's ENV with this machine's folders."""
    own = {
        name: value.replace(HOME, str(folder)).replace(f"{ENVIRONMENT}/", "")
        for name, value in IMAGES[image].environment.items()
        if name not in ("PATH", "LD_LIBRARY_PATH")
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RETAIL_")}
    return {
        **kept,
        **own,
        "HOME": str(folder),
        "DAGSTER_HOME": str(folder / "dagster"),
        "RETAIL_STORAGE_URI": str(folder / "storage"),
        **environment_of(LOCKS[image], folder),
    }


def with_port(command: list[str], port: int) -> list[str]:
    """The command with another port: on this machine the own one may be taken."""
    place = command.index("--port") + 1
    return [*command[:place], str(port), *command[place + 1 :]]


def other_role(program: str) -> list[str]:
    """A command that the code image's Dockerfile lists for another pod."""
    listed = _OTHER_ROLE.findall((FOLDER / "code.Dockerfile").read_text())
    return next(words for line in listed if (words := line.split())[0] == program)


@contextmanager
def running(command: list[str], env: dict[str, str], folder: Path) -> Iterator[Callable[[], str]]:
    """A process group; gives its output so far. Fails where it ended by itself."""
    log = folder / f"{command[0]}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=env,
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def said() -> str:
        text = log.read_text(errors="replace")
        assert process.poll() is None, f"{command} ended with {process.returncode}:\n{text[-3000:]}"
        return text

    try:
        yield said
    finally:
        # As a pod ends: the first process is asked, then all are killed.
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(SECONDS_TO_END)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(what: Callable[[], bool], said: Callable[[], str]) -> None:
    until = time.monotonic() + SECONDS_TO_START
    while not what():
        assert time.monotonic() < until, said()
        said()
        time.sleep(0.3)


def answers(url: str, query: str | None = None) -> bytes | None:
    """What a server says, None while it does not."""
    data = None if query is None else json.dumps({"query": query}).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bytes(answer.read())
    except OSError:
        return None


@pytest.fixture
def code_environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "dagster").mkdir()
    instance = REPOSITORY / "retail_assistant" / "data" / "dagster.local.yaml"
    shutil.copy(instance, tmp_path / "dagster" / "dagster.yaml")
    return variables(CODE, tmp_path)


def test_code_location_web_server_and_daemon_come_up(
    code_environment: dict[str, str], tmp_path: Path
) -> None:
    location, web = free_port(), free_port()
    server = {"host": "127.0.0.1", "port": location, "location_name": "retail_assistant"}
    workspace = {"load_from": [{"grpc_server": server}]}
    (tmp_path / "workspace.yaml").write_text(yaml.safe_dump(workspace))
    with ExitStack() as stack:

        def start(command: list[str]) -> Callable[[], str]:
            return stack.enter_context(running(command, code_environment, tmp_path))

        said = start(with_port(IMAGES[CODE].command, location))
        probe = ["dagster", "api", "grpc-health-check", "--host", "127.0.0.1", "--port"]
        wait_for(lambda: "Started Dagster code server" in said(), said)
        healthy = subprocess.run([*probe, str(location)], env=code_environment, capture_output=True)
        assert healthy.returncode == 0, healthy.stderr

        said = start(with_port(other_role("dagster-webserver"), web))
        base = f"http://127.0.0.1:{web}"
        wait_for(lambda: answers(f"{base}/server_info") is not None, said)
        told = json.loads(answers(f"{base}/graphql", LOCATIONS) or b"{}")
        assert told["data"]["workspaceOrError"]["locationEntries"] == [
            {"name": "retail_assistant", "loadStatus": "LOADED"}
        ]

        said = start(other_role("dagster-daemon"))
        check = ["dagster-daemon", "liveness-check"]

        def alive() -> bool:
            told = subprocess.run(check, env=code_environment, capture_output=True)
            return told.returncode == 0

        wait_for(lambda: "Instance is configured with the following daemons" in said(), said)
        wait_for(alive, said)


def test_mlflow_comes_up_in_the_code_image(
    code_environment: dict[str, str], tmp_path: Path
) -> None:
    port = free_port()
    store = {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "MLFLOW_ARTIFACTS_DESTINATION": str(tmp_path / "artifacts"),
    }
    command = with_port(other_role("mlflow"), port)
    with running(command, {**code_environment, **store}, tmp_path) as said:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/health") == b"OK", said)


@pytest.mark.parametrize("image", [GPU, CPU])
def test_a_workload_runs_by_the_image_s_command(image: str, tmp_path: Path) -> None:
    environment = variables(image, tmp_path)
    command = IMAGES[image].command
    told = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert "--spec" in told.stdout
    orders = tmp_path / "orders.txt"
    orders.write_text("")
    spec = LaunchSpec(
        name="sample",
        module="retail_assistant_tests.launch.sample_workload",
        config={"text": "a good text"},
        inputs={"source": "v1"},
        paths={"orders": orders},
        code_version="1",
        root=tmp_path / "storage",
    )
    spec.folder.mkdir(parents=True)
    write_spec(spec)
    run = [*command[: command.index("--help")], "--spec", str(spec.folder / SPEC_NAME)]
    told = subprocess.run(run, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert read_manifest(spec.folder) is not None


def test_the_assistant_says_what_it_lacks(tmp_path: Path) -> None:
    """Without a catalog index it cannot serve; integration/test_serve.py serves with one."""
    command = with_port(IMAGES[SERVE].command, free_port())
    told = subprocess.run(
        command, env=variables(SERVE, tmp_path), cwd=tmp_path, capture_output=True, text=True
    )
    assert told.returncode == 2
    assert "catalog_index" in told.stderr
    assert "Traceback" not in told.stderr

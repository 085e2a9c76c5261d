"""A training that is cancelled in the UI, or told to make room: every process of it ends.

Cancelled it stays ended; having made room it goes on in the same run.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import dagster as dg
import psutil
import pytest

from retail_assistant.settings import PACKAGE_FOLDER
from retail_assistant.storage import write_atomically
from retail_assistant.training.fitting.checkpoints import COMPLETE_MARK
from retail_assistant_tests.integration.line import BIN, Line
from retail_assistant_tests.launch.waiting import wait_until
from retail_assistant_tests.mlflow_server import free_port
from retail_assistant_tests.training.storage import fill_storage

pytestmark = pytest.mark.slow

JOB = "endless"
STUDY = f"""
study: endless
description: A job of two processes that nobody waits for.
jobs:
  {JOB}:
    epochs: 100
    lora_r: 4
    lora_alpha: 8
    learning_rate: 1.0e-3
    batch_size: 1
    evaluations: 0
    resources:
      processes: 2
      gpus_per_process: 0
      priority: 5
"""
COPIES = 16
SECONDS = 180
LAUNCH = """
mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
} }
"""
TERMINATE = """
mutation ($run: String!) { terminateRun(runId: $run, terminatePolicy: SAFE_TERMINATE) {
  __typename
} }
"""
LOCATION = "query { repositoriesOrError { ... on RepositoryConnection { nodes {"
LOCATION += " name location { name } } } } }"


@dataclass(frozen=True)
class Place:
    """Dagster's own servers on a storage folder that holds what a training needs."""

    line: Line
    url: str

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """What the web page asks in its user's name."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urlopen(request, timeout=60) as response:
            answer: dict[str, Any] = json.load(response)
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    def materialize(self, job: str) -> str:
        """As a click on "Materialize" of a job's adapter; the run's id."""
        (node,) = self.ask(LOCATION)["repositoriesOrError"]["nodes"]
        selector = {
            "repositoryName": node["name"],
            "repositoryLocationName": node["location"]["name"],
            "jobName": "__ASSET_JOB",
            "assetSelection": [{"path": ["adapter"]}],
            "assetCheckSelection": [],
        }
        tags = [{"key": "dagster/partition", "value": job}]
        params = {
            "selector": selector,
            "runConfigData": {},
            "mode": "default",
            "executionMetadata": {"tags": tags},
        }
        launched = self.ask(LAUNCH, params=params)["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return str(launched["run"]["runId"])

    def run(self, run_id: str) -> dg.DagsterRun:
        with self.line.instance() as instance:
            found = instance.get_run_by_id(run_id)
        assert found is not None
        return found

    def told(self, run_id: str) -> str:
        """The run's whole log: the kind of each event, and what was said."""
        with self.line.instance() as instance:
            return "\n".join(
                f"{entry.dagster_event.event_type_value if entry.dagster_event else ''}"
                f" {entry.message}"
                for entry in instance.all_logs(run_id)
            )


def line_with_inputs(folder: Path, model: Path, study: str, copies: int = 1) -> Line:
    """A storage folder with what trainings need, and a study."""
    storage, studies = folder / "var", folder / "studies"
    studies.mkdir(parents=True)
    (studies / "study.yaml").write_text(study)
    fill_storage(storage, model, copies)
    return Line(storage, studies, model)


@contextmanager
def serving(line: Line) -> Iterator[Place]:
    """The web server and the daemon on the project's own instance, as `retail-assistant ui`."""
    home = line.storage / "dagster"
    settings_of_instance = PACKAGE_FOLDER / "data" / "dagster.local.yaml"
    write_atomically(home / "dagster.yaml", settings_of_instance.read_text())
    # As `retail-assistant ui` does: two servers on a new folder would both make its databases.
    with line.instance():
        pass
    port = free_port()
    module = ["-m", "retail_assistant.definitions"]
    commands = [
        [BIN / "dagster-webserver", *module, "-h", "127.0.0.1", "-p", str(port)],
        [BIN / "dagster-daemon", "run", *module],
    ]
    servers = []
    for command in commands:
        with (home / f"{Path(command[0]).name}.txt").open("wb") as output:
            servers.append(
                subprocess.Popen(
                    command,
                    env=line.environment,
                    cwd=line.storage.parent,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            )
    found = Place(line, f"http://127.0.0.1:{port}")
    try:
        wait_until(lambda: _answers(found), SECONDS, "the web server's answer")
        yield found
    finally:
        for server in servers:
            _end_tree(server)


@pytest.fixture(scope="module")
def place(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Servers, and a job that nobody waits for."""
    line = line_with_inputs(tmp_path_factory.mktemp("cancel"), tiny_model_folder, STUDY, COPIES)
    with serving(line) as found:
        yield found


def _answers(place: Place) -> bool:
    try:
        return bool(place.ask(LOCATION)["repositoriesOrError"].get("nodes"))
    except OSError:
        return False


def _end_tree(server: subprocess.Popen[bytes]) -> None:
    children = psutil.Process(server.pid).children(recursive=True)
    server.send_signal(signal.SIGINT)
    try:
        server.wait(30)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    for child in psutil.wait_procs(children, timeout=10)[1]:
        child.kill()


@pytest.mark.fault(
    "a training is cancelled in the UI",
    "none of its processes is left, and a checkpoint is",
)
def test_a_cancelled_training_leaves_no_process_and_a_checkpoint(place: Place) -> None:
    run_id = place.materialize(JOB)
    training = _training_of_two_ranks(place, run_id)
    folder = next((place.line.storage / "artefacts" / "adapter").iterdir())
    assert not list(folder.glob(f"checkpoints/**/{COMPLETE_MARK}"))

    started = time.monotonic()
    ended = place.ask(TERMINATE, run=run_id)["terminateRun"]["__typename"]
    assert ended == "TerminateRunSuccess"
    wait_until(lambda: place.run(run_id).is_finished, SECONDS, "the run's end")
    print(f"\nthe run ended {time.monotonic() - started:.1f} s after it was cancelled")
    run = place.run(run_id)
    assert run.status is dg.DagsterRunStatus.CANCELED
    assert run.tags["dagster/priority"] == "5"
    assert [process for process in training if _works(process)] == []
    assert _processes_in(folder) == []
    assert not (folder / "manifest.json").exists()
    (mark,) = folder.glob(f"checkpoints/**/{COMPLETE_MARK}")
    assert json.loads(mark.read_text())["preempted"]
    assert json.loads(mark.read_text())["processes"] == 2


@pytest.mark.fault(
    "a process of a training is told to make room",
    "the training goes on from its checkpoint, in the same run",
)
def test_a_training_that_made_room_goes_on_in_the_same_run(place: Place) -> None:
    run_id = place.materialize(JOB)
    training = _training_of_two_ranks(place, run_id)
    next(one for one in training if one.environ().get("RANK") == "1").terminate()
    retried = dg.DagsterEventType.STEP_RESTARTED.value

    def goes_on() -> bool:
        assert not place.run(run_id).is_finished, place.told(run_id)[-4000:]
        _, restart, after = place.told(run_id).partition(retried)
        return bool(restart) and " steps (" in after

    wait_until(goes_on, SECONDS, "the training's second start")
    assert [process for process in training if _works(process)] == []
    _, _, after = place.told(run_id).partition(retried)
    assert "going on from checkpoint-" in after
    place.ask(TERMINATE, run=run_id)
    wait_until(lambda: place.run(run_id).is_finished, SECONDS, "the run's end")
    (folder,) = (place.line.storage / "artefacts" / "adapter").iterdir()
    assert _processes_in(folder) == []


def _training_of_two_ranks(place: Place, run_id: str) -> list[psutil.Process]:
    """The processes of the run's training as soon as it has made a few steps."""

    def trains() -> bool:
        run = place.run(run_id)
        assert not run.is_finished, place.told(run_id)[-4000:]
        return " steps (" in place.told(run_id)

    wait_until(trains, SECONDS, "the training's first steps")
    (folder,) = (place.line.storage / "artefacts" / "adapter").iterdir()
    found = _processes_in(folder)
    ranks = {process.environ().get("RANK") for process in found}
    assert {"0", "1"} <= ranks
    assert any("accelerate.commands.launch" in process.cmdline() for process in found)
    return found


def _processes_in(folder: Path) -> list[psutil.Process]:
    """All that work on an artefact: those that name it, and their children."""
    named = [process for process in psutil.process_iter() if _names(process, folder)]
    found = {process.pid: process for process in named}
    for process in named:
        if _works(process):
            found |= {child.pid: child for child in process.children(recursive=True)}
    return [process for process in found.values() if _works(process)]


def _names(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.pid != os.getpid() and str(folder) in " ".join(process.cmdline())
    except psutil.Error:
        return False


def _works(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

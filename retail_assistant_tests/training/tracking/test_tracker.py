"""Tracking: nothing is lost or told twice, whatever happens to the server or to the training."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import psutil
import pytest

from retail_assistant.training.tracking import tracker as tracking
from retail_assistant.training.tracking.journal import Journal, SentState
from retail_assistant.training.tracking.mlflow_places import mlflow_client
from retail_assistant.training.tracking.mlflow_runs import MlflowRun
from retail_assistant.training.tracking.target import DatasetInput, ModelInput, TrackingTarget
from retail_assistant.training.tracking.tracker import (
    Tracker,
    tracked_run,
    untold,
    upload,
)
from retail_assistant_tests.mlflow_server import MlflowServer, free_port, mlflow_server

MOST_SECONDS = 60
CORPUS = DatasetInput(name="prompt_corpus", digest="c" * 64, source="/corpus.parquet", rows=95)
BASE = ModelInput(name="google/small-2b.it", digest="b" * 20, source="/base/model")
BROKEN_OFF = """
import sys, time
from pathlib import Path
from retail_assistant.training.tracking.target import TrackingTarget
from retail_assistant.training.tracking.tracker import Tracker
target = TrackingTarget.model_validate_json(sys.argv[1])
tracker = Tracker(target, Path(sys.argv[2]), print)
tracker.start({"lora_r": 4})
for step in range(1, 6):
    tracker.metrics({"loss": 10.0 - step}, step)
while tracker.run_id is None:
    time.sleep(0.05)
print("tracked", tracker.run_id, flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as running:
        yield running


def target(uri: str, root: Path | None = None, **changes: Any) -> TrackingTarget:
    given: dict[str, Any] = {
        "uri": uri,
        "experiment": "retail_assistant/small",
        "run_name": "job-a",
        "tags": {"dagster_run_id": "42", "dagster_run_url": "http://127.0.0.1:3000/runs/42"},
        "study": "small",
        "root": root,
    }
    return TrackingTarget(**given | changes)


def client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def losses(uri: str, run_id: str | None) -> list[tuple[int, float]]:
    """What the server has, each point as often as it has it."""
    points = client(uri).get_metric_history(run_id, "loss")
    return sorted((point.step, point.value) for point in points)


def expected(last: int) -> list[tuple[int, float]]:
    return [(step, 10.0 - step) for step in range(1, last + 1)]


def record_losses(tracker: Tracker, first: int, last: int) -> None:
    for step in range(first, last + 1):
        tracker.metrics({"loss": 10.0 - step}, step)


def wait_until_sent(folder: Path) -> None:
    until = time.monotonic() + MOST_SECONDS
    while Journal.all(folder)[-1].pending():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_without_a_target_nothing_is_tracked(tmp_path: Path) -> None:
    said: list[str] = []
    tracker = Tracker(None, tmp_path, said.append)
    tracker.start({"lora_r": 4}, [CORPUS], BASE)
    tracker.metrics({"loss": 1.0}, step=1)
    tracker.artifact(tmp_path / "README.md")
    tracker.close("FINISHED")
    assert (tracker.run_id, tracker.experiment_id, said) == (None, None, [])
    assert list(tmp_path.iterdir()) == []
    assert tracked_run(tmp_path) is None
    assert upload(tmp_path) is None


@pytest.mark.slow
def test_a_run_in_a_sqlite_file_tells_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    uri = f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    folder = tmp_path / "artefact"
    (folder / "adapter").mkdir(parents=True)
    (folder / "adapter" / "README.md").write_text("a card")
    said: list[str] = []
    tracker = Tracker(target(uri, tmp_path), folder, said.append)
    parameters: dict[str, Any] = {"lora_r": 4, "long": "x" * 9_000}
    parameters |= {f"p{number}": number for number in range(150)}
    tracker.start(parameters, [CORPUS], BASE)
    tracker.metrics({"loss": 2.0, "word": "no", "nan": float("nan"), "flag": True}, step=1)
    tracker.metrics({"loss": 1.0}, step=2)
    tracker.artifact(folder / "adapter" / "README.md")
    tracker.close("FINISHED")
    assert said == []
    run = client(uri).get_run(tracker.run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "job-a")
    assert run.info.experiment_id == tracker.experiment_id
    assert run.data.tags["dagster_run_url"] == "http://127.0.0.1:3000/runs/42"
    assert run.data.params["lora_r"] == "4"
    assert run.data.params["p149"] == "149"
    assert losses(uri, tracker.run_id) == [(1, 2.0), (2, 1.0)]
    assert {"word", "nan", "flag"}.isdisjoint(run.data.metrics)
    assert 0 <= run.data.metrics["system/cpu_utilization_percentage"] <= 100
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("prompt_corpus", "c" * 36)
    (model,) = run.inputs.model_inputs
    base = client(uri).get_logged_model(model.model_id)
    assert base.tags["name"] == "google/small-2b.it"
    parent = client(uri).get_run(run.data.tags["mlflow.parentRunId"])
    assert (parent.info.run_name, parent.info.status) == ("small", "FINISHED")
    kept = {entry.path for entry in client(uri).list_artifacts(tracker.run_id)}
    assert kept == {"adapter"}
    assert run.info.artifact_uri.startswith((tmp_path / "mlflow" / "artifacts").as_uri())
    assert not list((tmp_path / "elsewhere").iterdir())
    assert tracked_run(folder) == upload(folder)
    told = tracked_run(folder)
    assert told is not None
    assert (told.run_id, told.pending, told.status) == (tracker.run_id, 0, "FINISHED")


@pytest.mark.slow
@pytest.mark.fault(
    "MLflow's server is killed and started again while a training works",
    "It waits for nothing; every number is there once",
)
def test_a_server_killed_and_restarted_in_mid_run_has_everything_once(
    server: MlflowServer, tmp_path: Path
) -> None:
    said: list[str] = []
    tracker = Tracker(target(server.uri, tmp_path), tmp_path / "a", said.append)
    tracker.start({"lora_r": 4}, [CORPUS], BASE)
    record_losses(tracker, 1, 50)
    wait_until_sent(tmp_path / "a")
    server.kill()
    began = time.monotonic()
    record_losses(tracker, 51, 100)
    assert time.monotonic() - began < 1, "recording waited for the server"
    time.sleep(4)  # long enough for the tracker to notice
    server.start()
    record_losses(tracker, 101, 120)
    (tmp_path / "a" / "README.md").write_text("a card")
    tracker.artifact(tmp_path / "a" / "README.md")
    tracker.close("FINISHED")
    assert losses(server.uri, tracker.run_id) == expected(120)
    run = client(server.uri).get_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert len(run.inputs.dataset_inputs) == len(run.inputs.model_inputs) == 1
    assert len(client(server.uri).list_artifacts(tracker.run_id)) == 1
    assert len(said) == 2, "once that it is away, once that it is back"


@pytest.mark.slow
@pytest.mark.fault(
    "MLflow is away for the whole of a training",
    "The training ends well; its numbers are sent when MLflow is back",
)
def test_a_server_that_was_never_there_is_told_afterwards(
    server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "SECONDS_TO_SEND", 3.0)
    nobody = f"http://127.0.0.1:{free_port()}"
    folder = tmp_path / "artefacts" / "adapter" / "b"
    said: list[str] = []
    tracker = Tracker(target(nobody, tmp_path, experiment="never there"), folder, said.append)
    began = time.monotonic()
    tracker.start({"lora_r": 4}, [CORPUS], BASE)
    record_losses(tracker, 1, 30)
    tracker.close("FINISHED")
    assert time.monotonic() - began < 3 + 20
    assert tracker.run_id is None
    assert len(said) == 2, "that it is away, and that there is something left"
    left = tracked_run(folder)
    assert left is not None
    assert (left.run_id, left.status) == (None, "FINISHED")
    assert left.pending >= 34
    failed = upload(folder, said.append, seconds=2)
    assert failed is not None
    assert failed.pending == left.pending
    assert untold(tmp_path) == [folder]
    told = upload(folder, said.append, uri=server.uri)
    assert told is not None
    assert (told.pending, told.uri) == (0, server.uri)
    assert losses(server.uri, told.run_id) == expected(30)
    assert client(server.uri).get_run(told.run_id).info.status == "FINISHED"
    assert untold(tmp_path) == []


@pytest.mark.slow
@pytest.mark.fault(
    "MLflow's server takes connections and never answers",
    "The training waits for a moment at its end only; its numbers are kept and sent later",
)
def test_a_server_that_never_answers_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "SECONDS_TO_SEND", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        tracker = Tracker(target(uri, tmp_path), tmp_path / "s", print)
        tracker.start({"lora_r": 4})
        record_losses(tracker, 1, 5)
        tracker.close("FINISHED")
    left = tracked_run(tmp_path / "s")
    assert left is not None
    assert (left.run_id, left.status) == (None, "FINISHED")
    assert left.pending >= 6


@pytest.mark.slow
@pytest.mark.fault(
    "An endpoint, a database, a webhook or MLflow refuses, and its error repeats the secret",
    "It is in no error text, log, artefact, MLflow entry or alert",
)
def test_a_password_in_the_servers_address_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "SECONDS_TO_SEND", 3.0)
    said: list[str] = []
    nobody = f"http://user:secret@127.0.0.1:{free_port()}"
    tracker = Tracker(target(nobody, tmp_path), tmp_path / "p", said.append)
    tracker.start({"lora_r": 4})
    tracker.close("FINISHED")
    assert said
    assert not any("secret" in words for words in said)


@pytest.mark.fault(
    "a tracked training is broken off",
    "it goes on in the same MLflow run, with every number once",
)
@pytest.mark.slow
def test_a_broken_off_training_goes_on_with_its_run(server: MlflowServer, tmp_path: Path) -> None:
    folder = tmp_path / "artefacts" / "adapter" / "c"
    broken = break_off(target(server.uri, tmp_path), folder)
    assert client(server.uri).get_run(broken).info.status == "RUNNING"
    assert untold(tmp_path) == [folder]
    # From its checkpoint at step 3 the training repeats steps 4 and 5.
    tracker = Tracker(target(server.uri, tmp_path), folder, print)
    tracker.start({"lora_r": 4, "processes": 2})
    assert untold(tmp_path) == []
    record_losses(tracker, 4, 9)
    tracker.close("FINISHED")
    assert tracker.run_id == broken
    assert losses(server.uri, broken) == expected(9)
    run = client(server.uri).get_run(broken)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"lora_r": "4", "processes": "2"}
    # What was finished is not gone on with: the same folder trained again is another run.
    again = Tracker(target(server.uri, tmp_path), folder, print)
    again.start({"lora_r": 4})
    record_losses(again, 1, 2)
    again.close("FAILED")
    assert again.run_id not in (None, broken)
    assert client(server.uri).get_run(again.run_id).info.status == "FAILED"
    third = Tracker(target(server.uri, tmp_path), folder, print)
    third.start({"lora_r": 4})
    third.close("FINISHED")
    assert third.run_id == again.run_id
    assert client(server.uri).get_run(third.run_id).info.status == "FINISHED"


@pytest.mark.slow
@pytest.mark.fault(
    "A tracked training is killed and not gone on with",
    "MLflow has all that it told, and says that it was killed",
)
def test_a_training_that_nobody_goes_on_with_is_marked_killed(
    server: MlflowServer, tmp_path: Path
) -> None:
    folder = tmp_path / "d"
    broken = break_off(target(server.uri, tmp_path), folder)
    told = upload(folder)
    assert told is not None
    assert (told.run_id, told.pending, told.status) == (broken, 0, "KILLED")
    run = client(server.uri).get_run(broken)
    assert run.info.status == "KILLED"
    assert run.info.end_time < time.time() * 1000
    assert losses(server.uri, broken) == expected(5)


@pytest.mark.slow
def test_upload_leaves_a_living_training_alone(server: MlflowServer, tmp_path: Path) -> None:
    tracker = Tracker(target(server.uri, tmp_path), tmp_path / "e", print)
    tracker.start({"lora_r": 4})
    record_losses(tracker, 1, 3)
    seen = upload(tmp_path / "e", seconds=1)
    assert seen is not None
    assert seen.status is None
    tracker.close("FINISHED")
    assert client(server.uri).get_run(tracker.run_id).info.status == "FINISHED"


@pytest.mark.slow
@pytest.mark.fault(
    "MLflow's server has lost its store",
    "It is told everything again",
)
def test_a_server_that_forgot_everything_is_told_again(
    server: MlflowServer, tmp_path: Path
) -> None:
    tracker = Tracker(target(server.uri, tmp_path), tmp_path / "f", print)
    tracker.start({"lora_r": 4}, [CORPUS])
    record_losses(tracker, 1, 20)
    wait_until_sent(tmp_path / "f")
    before = tracker.run_id
    server.kill()
    server.forget()
    server.start()
    record_losses(tracker, 21, 25)
    tracker.close("FINISHED")
    assert tracker.run_id != before
    assert losses(server.uri, tracker.run_id) == expected(25)
    run = client(server.uri).get_run(tracker.run_id)
    assert run.data.params == {"lora_r": "4"}
    assert client(server.uri).get_run(run.data.tags["mlflow.parentRunId"]).info.run_name == "small"


@pytest.mark.slow
def test_runs_of_a_study_that_start_at_once_have_one_parent(
    server: MlflowServer, tmp_path: Path
) -> None:
    given = target(server.uri, tmp_path, experiment="at once", study="at once")
    mlflow_client(server.uri).search_experiments()  # imported, and connected to
    together = Barrier(6)

    def first_record(number: int) -> SentState:
        journal = Journal.create(tmp_path / str(number))
        journal.append("start", parameters={}, tags={})
        run = MlflowRun(journal, given)
        together.wait()
        run.send_some()
        return run.state

    with ThreadPoolExecutor(together.parties) as pool:
        states = list(pool.map(first_record, range(together.parties)))
    assert len({state.run_id for state in states}) == together.parties
    assert len({state.parent_run_id for state in states}) == 1
    assert len({state.experiment_id for state in states}) == 1


def break_off(given: TrackingTarget, folder: Path) -> str:
    """A process that tracks five steps and is killed; the id of its run."""
    command = [sys.executable, "-c", BROKEN_OFF, given.model_dump_json(), str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    words = next(line for line in process.stdout if line.startswith("tracked"))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not psutil.pid_exists(process.pid)
    return words.split()[1]

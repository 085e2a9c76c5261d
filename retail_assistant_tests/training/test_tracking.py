"""Tracking: recorded where MLflow answers; a server that is away stops nothing."""

import socket
import time
from pathlib import Path
from typing import Any

import pytest

from retail_assistant.training.tracking import Tracker, TrackingTarget

MOST_SECONDS_OF_WAITING = 30


def target(uri: str) -> TrackingTarget:
    return TrackingTarget(
        uri=uri, experiment="study", run_name="job-a", tags={"dagster_run_id": "42"}
    )


def client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def test_without_a_target_nothing_is_tracked() -> None:
    said: list[str] = []
    tracker = Tracker(None, said.append)
    tracker.parameters({"lora_r": 4})
    tracker.metrics({"loss": 1.0}, step=1)
    tracker.close("FINISHED")
    assert (tracker.run_id, tracker.experiment_id, said) == (None, None, [])


@pytest.mark.slow
def test_a_run_is_recorded_with_tags_parameters_and_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    uri = f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    said: list[str] = []
    tracker = Tracker(target(uri), said.append)
    tracker.parameters({"lora_r": 4, "long": "x" * 9_000})
    tracker.metrics({"loss": 2.0}, step=1)
    tracker.metrics({"loss": 1.0}, step=2)
    tracker.close("FINISHED")
    assert said == []
    run = client(uri).get_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.experiment_id == tracker.experiment_id
    assert run.info.run_name == "job-a"
    assert run.data.tags["dagster_run_id"] == "42"
    assert run.data.params["lora_r"] == "4"
    history = client(uri).get_metric_history(tracker.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 2.0), (2, 1.0)]
    second = Tracker(target(uri), said.append)
    assert second.experiment_id == tracker.experiment_id
    assert second.run_id != tracker.run_id
    assert run.info.artifact_uri.startswith((tmp_path / "mlflow" / "artifacts").as_uri())
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.slow
def test_a_server_that_is_away_is_told_once_and_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    said: list[str] = []
    started = time.monotonic()
    tracker = Tracker(target(f"http://127.0.0.1:{port}"), said.append)
    tracker.parameters({"lora_r": 4})
    tracker.metrics({"loss": 1.0}, step=1)
    tracker.close("FINISHED")
    assert time.monotonic() - started < MOST_SECONDS_OF_WAITING
    assert len(said) == 1
    assert said[0].startswith("MLflow is away (")
    assert said[0].endswith("; going on without it")
    assert tracker.run_id is None

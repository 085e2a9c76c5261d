"""Experiment tracking that never stops a training: MLflow where it answers, the manifest always."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

PARAMETER_LENGTH = 500
RETRIES = 2
SQLITE = "sqlite:///"


class TrackingTarget(BaseModel):
    """Where an MLflow run is recorded, and what it links back to."""

    model_config = ConfigDict(frozen=True)

    uri: str
    experiment: str
    run_name: str
    tags: dict[str, str] = {}


class Tracker:
    """One MLflow run, addressed by its explicit id.

    Any failure to reach the tracking server is told once; from then on the run goes on untracked.
    """

    def __init__(self, target: TrackingTarget | None, say: Callable[[str], None]) -> None:
        self.run_id: str | None = None
        self.experiment_id: str | None = None
        self._say = say
        self._client: Any = None
        if target is not None:
            self._attempt(lambda: self._open(target))

    def _open(self, target: TrackingTarget) -> None:
        # MLflow's own patience with a server that is away is four minutes a call.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", str(RETRIES))
        from mlflow import MlflowClient

        _make_sqlite_folder(target.uri)
        client = MlflowClient(tracking_uri=target.uri)
        experiment = client.get_experiment_by_name(target.experiment)
        self.experiment_id = (
            experiment.experiment_id
            if experiment
            else client.create_experiment(
                target.experiment, artifact_location=_artifact_location(target.uri)
            )
        )
        run = client.create_run(self.experiment_id, tags=target.tags, run_name=target.run_name)
        self._client, self.run_id = client, run.info.run_id

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            # Whatever is wrong with tracking, hours of training are worth more.
            self._say(f"MLflow is away ({type(error).__name__}: {error}); going on without it")
            self._client = None

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Log what the run was given."""
        from mlflow.entities import Param

        params = [Param(key, str(value)[:PARAMETER_LENGTH]) for key, value in values.items()]
        if self._client is not None:
            self._attempt(lambda: self._client.log_batch(self.run_id, params=params))

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers of one step."""
        import time

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(key, float(value), now, step) for key, value in values.items()]
        if self._client is not None:
            self._attempt(lambda: self._client.log_batch(self.run_id, metrics=metrics))

    def close(self, status: str) -> None:
        """End the run: FINISHED, FAILED or KILLED."""
        if self._client is not None:
            with suppress(Exception):
                self._client.set_terminated(self.run_id, status=status)


def _make_sqlite_folder(uri: str) -> None:
    if uri.startswith(SQLITE):
        Path(uri.removeprefix(SQLITE)).parent.mkdir(parents=True, exist_ok=True)


def _artifact_location(uri: str) -> str | None:
    """Beside a SQLite file (MLflow would take `mlruns` in the working folder); a server knows."""
    if not uri.startswith(SQLITE):
        return None
    return (Path(uri.removeprefix(SQLITE)).resolve().parent / "artifacts").as_uri()

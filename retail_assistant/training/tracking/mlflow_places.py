"""Where an MLflow run lies: the client, the experiment, the study's run, the base model's entry."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock

from retail_assistant.storage import write_atomically
from retail_assistant.training.tracking.target import ModelInput, TrackingTarget

SECONDS_FOR_LOCK = 60
SQLITE = "sqlite:///"
POSTGRES = "postgresql"
STUDY_TAG = "retail_assistant.study_run"
DIGEST_TAG = "retail_assistant.digest"
# MLflow's own patience with a server that is away is four minutes a call; ours begins after it.
CLIENT_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
GONE = "RESOURCE_DOES_NOT_EXIST"


def mlflow_client(uri: str) -> Any:
    """A client that soon says when the server is away."""
    for name, value in CLIENT_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    if uri.startswith(SQLITE):
        Path(uri.removeprefix(SQLITE)).parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=uri)


@contextmanager
def alone(root: Path | None) -> Iterator[None]:
    """One process of this storage at a time: "found or made" is two calls."""
    folder = None if root is None else root / "tracking"
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=SECONDS_FOR_LOCK) if folder else nullcontext()
    with lock:
        yield


def experiment_id(client: Any, target: TrackingTarget) -> str:
    """The id of the target's experiment: found, or made."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(target.experiment)
    if found is None:
        try:
            return str(
                client.create_experiment(
                    target.experiment, artifact_location=_artifact_location(target)
                )
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(target.experiment)
    return str(found.experiment_id)


def _artifact_location(target: TrackingTarget) -> str | None:
    """Where artefacts go: MLflow would take `mlruns` in the working folder; a server knows."""
    if target.uri.startswith(POSTGRES) and target.root is not None:
        return (target.root / "mlflow" / "artifacts").as_uri()
    if not target.uri.startswith(SQLITE):
        return None
    return (Path(target.uri.removeprefix(SQLITE)).resolve().parent / "artifacts").as_uri()


def study_run(client: Any, experiment: str, target: TrackingTarget) -> str | None:
    """The run that a study's runs are nested in: the one kept in storage, else found or made."""
    if target.study is None:
        return None
    kept = _kept_study_run(target)
    if kept is not None and is_there(client, kept):
        return kept
    found = client.search_runs(
        [experiment], f"tags.`{STUDY_TAG}` = '{target.study}'", max_results=1
    )
    if found:
        run_id = str(found[0].info.run_id)
    else:
        tags = {STUDY_TAG: target.study, "study": target.study}
        run_id = str(client.create_run(experiment, tags=tags, run_name=target.study).info.run_id)
        # A heading for its jobs, with no end of its own.
        client.set_terminated(run_id, "FINISHED")
    if (path := _study_path(target)) is not None:
        write_atomically(path, json.dumps({"uri": target.uri, "run_id": run_id}))
    return run_id


def _study_path(target: TrackingTarget) -> Path | None:
    if target.root is None:
        return None
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", f"{target.experiment}-{target.study}")
    return target.root / "tracking" / f"{name}.json"


def _kept_study_run(target: TrackingTarget) -> str | None:
    path = _study_path(target)
    try:
        kept: Mapping[str, str] = json.loads(path.read_text()) if path else {}
    except (OSError, ValueError):
        return None
    return kept.get("run_id")


def is_there(client: Any, run_id: str) -> bool:
    """Whether the server has this run, and nobody deleted it."""
    from mlflow.exceptions import MlflowException

    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code == GONE:
            return False
        raise


def logged_model(client: Any, experiment: str, given: ModelInput) -> str:
    """The experiment's entry for a model of this version: found, or made; its files stay away."""
    from mlflow.entities import LoggedModelStatus
    from mlflow.utils.mlflow_tags import MLFLOW_MODEL_IS_EXTERNAL

    name = re.sub(r"[^A-Za-z0-9_-]", "-", given.name)
    found = client.search_logged_models([experiment], f"name = '{name}'")
    for model in found:
        if model.tags.get(DIGEST_TAG) == given.digest:
            return str(model.model_id)
    tags = {**given.tags, DIGEST_TAG: given.digest, "source": given.source, "name": given.name}
    made = client.create_logged_model(
        experiment,
        name=name,
        tags={**tags, MLFLOW_MODEL_IS_EXTERNAL: "true"},
        model_type="base model",
    )
    client.finalize_logged_model(made.model_id, LoggedModelStatus.READY)
    return str(made.model_id)

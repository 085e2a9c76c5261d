"""The promoted model in the MLflow registry, and the pointer that servers read."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from retail_assistant.evaluation.promotion import PromotionDecision
from retail_assistant.launch.spec import ArtefactRef
from retail_assistant.settings import Settings
from retail_assistant.storage import StorageError, write_atomically
from retail_assistant.training.jobs import Job
from retail_assistant.training.tracking.tracker import tracked_run

MODEL_NAME = "retail-assistant"
ALIAS = "champion"


class Champion(BaseModel):
    """What a server needs to know of the promoted model."""

    model_config = ConfigDict(frozen=True)

    job: str
    grounding: str
    adapter: ArtefactRef
    base_model: str
    registered_model: str
    why: str


def champion_path(settings: Settings) -> Path:
    """Where the pointer to the champion lies."""
    return settings.storage / "champion.json"


def read_champion(settings: Settings) -> Champion:
    """The champion.

    Raises:
        StorageError: nothing was promoted yet.
    """
    path = champion_path(settings)
    if not path.is_file():
        raise StorageError(f"{path}: nothing was promoted yet; `make run` promotes a first model")
    return Champion.model_validate_json(path.read_text())


def publish(decision: PromotionDecision, adapter: ArtefactRef, job: Job, settings: Settings) -> str:
    """Register the adapter under the alias `champion`, then move the pointer to it.

    Returns `name/version` in the registry, or why it is not registered.
    """
    version = _register(decision, adapter, settings)
    champion = Champion(
        job=job.name,
        grounding=job.hyperparameters.grounding,
        adapter=adapter,
        base_model=adapter.manifest().inputs["base_model"],
        registered_model=version,
        why=decision.reason,
    )
    write_atomically(champion_path(settings), champion.model_dump_json(indent=2))
    return version


def _register(decision: PromotionDecision, adapter: ArtefactRef, settings: Settings) -> str:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    tracked = tracked_run(adapter.folder)
    run_id = tracked.run_id if tracked else adapter.manifest().metrics.get("mlflow_run_id")
    if run_id is None:
        return "not registered: the training was not tracked"
    client = MlflowClient(
        tracking_uri=settings.mlflow_tracking_uri, registry_uri=settings.mlflow_tracking_uri
    )
    try:
        if not client.search_registered_models(f"name = '{MODEL_NAME}'"):
            client.create_registered_model(MODEL_NAME)
        for known in client.search_model_versions(f"run_id = '{run_id}'"):
            client.set_registered_model_alias(MODEL_NAME, ALIAS, known.version)
            return f"{MODEL_NAME}/{known.version}"
        client.log_artifacts(run_id, str(adapter.folder / "adapter"), "adapter")
        created = client.create_model_version(
            MODEL_NAME,
            source=f"runs:/{run_id}/adapter",
            run_id=run_id,
            description=decision.reason,
            tags={"fingerprint": adapter.fingerprint, "job": decision.promoted or ""},
        )
        client.set_registered_model_alias(MODEL_NAME, ALIAS, created.version)
    except MlflowException as error:
        return f"not registered: MLflow says {error.message}"
    return f"{MODEL_NAME}/{created.version}"

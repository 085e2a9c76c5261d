"""The champion in a real MLflow registry on SQLite, and the pointer that servers read."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from retail_assistant.evaluation.promotion import PromotionDecision, PromotionPolicy
from retail_assistant.evaluation.registry import (
    ALIAS,
    MODEL_NAME,
    champion_path,
    publish,
    read_champion,
)
from retail_assistant.launch.spec import MANIFEST_NAME, ArtefactRef, Manifest
from retail_assistant.settings import Settings
from retail_assistant.storage import StorageError
from retail_assistant.training.jobs import HyperparameterJob, Job
from retail_assistant.training.tracking.tracker import Tracker, TrackingTarget

MOMENT = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(storage_uri=str(tmp_path / "var"))


def a_job(name: str = "job-a", grounding: str = "retrieved") -> Job:
    given = HyperparameterJob(lora_r=4, lora_alpha=8, learning_rate=1e-3, grounding=grounding)
    return Job(name=name, study="small", task="assistant", hyperparameters=given)


def decision(job: str = "job-a") -> PromotionDecision:
    return PromotionDecision(
        promoted=job, reason=f"{job} is the best", policy=PromotionPolicy(), variants=()
    )


def a_tracked_run(settings: Settings, name: str) -> str:
    """A finished MLflow run, made by the tracker that training uses."""
    said: list[str] = []
    target = TrackingTarget(
        uri=settings.mlflow_tracking_uri, experiment="small", run_name=name, tags={"job": name}
    )
    tracker = Tracker(target, settings.storage / "artefacts" / "adapter" / name, said.append)
    tracker.start({"lora_r": 4})
    tracker.metrics({"loss": 0.5}, step=1)
    tracker.close("FINISHED")
    assert said == []
    assert tracker.run_id is not None
    return tracker.run_id


def an_adapter(settings: Settings, name: str, run_id: str | None) -> ArtefactRef:
    folder = settings.storage / "artefacts" / "adapter" / name
    (folder / "adapter").mkdir(parents=True)
    (folder / "adapter" / "adapter_config.json").write_text('{"r": 4}')
    metrics: dict[str, Any] = {} if run_id is None else {"mlflow_run_id": run_id}
    manifest = Manifest(
        name="adapter",
        fingerprint=name,
        code_version="1",
        inputs={"base_model": "base-fingerprint"},
        config={},
        outputs={},
        metrics=metrics,
        started=MOMENT,
        finished=MOMENT,
        host={},
        packages={},
    )
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json())
    return ArtefactRef(folder=folder, fingerprint=name)


def client(settings: Settings) -> Any:
    from mlflow import MlflowClient

    uri = settings.mlflow_tracking_uri
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def test_before_a_promotion_there_is_no_champion(settings: Settings) -> None:
    with pytest.raises(StorageError, match="nothing was promoted yet; `make run`"):
        read_champion(settings)


def test_without_a_tracked_run_the_champion_serves_unregistered(settings: Settings) -> None:
    ref = an_adapter(settings, "fingerprint-a", run_id=None)
    version = publish(decision(), ref, a_job(), settings)
    assert version == "not registered: the training was not tracked"
    champion = read_champion(settings)
    assert champion.registered_model == version
    assert champion.adapter == ref
    assert champion.job == "job-a"
    assert champion.grounding == "retrieved"
    assert champion.base_model == "base-fingerprint"
    assert champion.why == "job-a is the best"


@pytest.mark.slow
def test_champions_are_versions_under_one_alias(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_id = a_tracked_run(settings, "job-a")
    ref = an_adapter(settings, "fingerprint-a", run_id)
    assert publish(decision(), ref, a_job(), settings) == f"{MODEL_NAME}/1"
    registry = client(settings)
    version = registry.get_model_version_by_alias(MODEL_NAME, ALIAS)
    assert (version.version, version.run_id) in {("1", run_id), (1, run_id)}
    assert version.tags == {"fingerprint": "fingerprint-a", "job": "job-a"}
    assert version.description == "job-a is the best"
    stored = registry.list_artifacts(run_id, "adapter")
    assert [item.path for item in stored] == ["adapter/adapter_config.json"]

    assert publish(decision(), ref, a_job(), settings) == f"{MODEL_NAME}/1"
    assert len(registry.search_model_versions(f"name = '{MODEL_NAME}'")) == 1

    other_run = a_tracked_run(settings, "job-b")
    other = an_adapter(settings, "fingerprint-b", other_run)
    assert publish(decision("job-b"), other, a_job("job-b"), settings) == f"{MODEL_NAME}/2"
    assert registry.get_model_version_by_alias(MODEL_NAME, ALIAS).run_id == other_run
    assert read_champion(settings).registered_model == f"{MODEL_NAME}/2"

    assert publish(decision(), ref, a_job(), settings) == f"{MODEL_NAME}/1"
    assert registry.get_model_version_by_alias(MODEL_NAME, ALIAS).run_id == run_id
    assert {entry.name for entry in tmp_path.iterdir()} == {"var"}


@pytest.mark.slow
def test_a_registry_that_does_not_know_the_run_stops_no_promotion(settings: Settings) -> None:
    a_tracked_run(settings, "job-a")
    ref = an_adapter(settings, "fingerprint-a", run_id="0" * 32)
    version = publish(decision(), ref, a_job(), settings)
    assert version.startswith("not registered: MLflow says ")
    assert read_champion(settings).registered_model == version


def test_the_pointer_is_one_file_under_the_storage(settings: Settings) -> None:
    assert champion_path(settings) == settings.storage / "champion.json"

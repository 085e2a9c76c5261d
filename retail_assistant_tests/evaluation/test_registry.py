"""The champion in a real MLflow registry on SQLite."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from retail_assistant.evaluation.registry import (
    ALIAS,
    BARRED_TAG,
    MODEL_NAME,
    Champion,
    champion_path,
    read_champion,
)
from retail_assistant.settings import Settings
from retail_assistant.training.tracking.mlflow_places import experiment_id
from retail_assistant.training.tracking.tracker import Tracker, TrackingTarget
from retail_assistant_tests.evaluation.contests import Shop, answers_of
from retail_assistant_tests.mlflow_server import free_port

pytestmark = pytest.mark.slow
ANN = {"by": "Ann Doe", "reason": "shoppers complain"}


@pytest.fixture(scope="module")
def fresh_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an MLflow database that holds nothing: making one takes seconds."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("mlflow")
    MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}").search_experiments()
    return folder


@pytest.fixture
def shop(tmp_path: Path, fresh_mlflow: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    settings = Settings(storage_uri=str(tmp_path / "var"))
    shutil.copytree(fresh_mlflow, settings.storage / "mlflow")
    return Shop(settings)


def client(settings: Settings) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=settings.mlflow_tracking_uri)


def a_run(settings: Settings, name: str) -> str:
    """A finished training's run, where trainings keep theirs."""
    known = client(settings)
    target = TrackingTarget(uri=settings.mlflow_tracking_uri, experiment="small", run_name=name)
    run = known.create_run(experiment_id(known, target), run_name=name)
    known.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def a_job(shop: Shop, name: str, wrong: range) -> str:
    run_id = a_run(shop.settings, name)
    shop.job(name, answers_of(name, wrong), run_id=run_id)
    return run_id


def aliased(shop: Shop) -> Any:
    return client(shop.settings).get_model_version_by_alias(MODEL_NAME, ALIAS)


def test_champions_are_versions_under_one_alias(shop: Shop) -> None:
    runs = [a_job(shop, "old", range(20))]
    shop.contest()
    version = aliased(shop)
    assert version.run_id == runs[0]
    assert version.tags["fingerprint"] == "old-1"
    assert version.tags["job"] == "old"
    assert version.tags["strict_accuracy/unseen"] == "0.7500"
    assert version.tags["policy"] == shop.champions.events()[0].policy_version
    assert "highest strict accuracy" in version.description
    stored = client(shop.settings).list_artifacts(runs[0], "adapter")
    assert "adapter/adapter_model.safetensors" in [item.path for item in stored]
    assert read_champion(shop.settings).registered_model == f"{MODEL_NAME}/1"

    runs.append(a_job(shop, "new", range(0)))
    shop.contest()
    assert aliased(shop).run_id == runs[1]
    assert [one.registered_model for one in shop.champions.events()] == [
        f"{MODEL_NAME}/1",
        f"{MODEL_NAME}/2",
    ]
    # Nothing new: nothing is registered again.
    shop.contest()
    assert len(client(shop.settings).search_model_versions(f"name = '{MODEL_NAME}'")) == 2

    shop.champions.roll_back(**ANN)
    registry = client(shop.settings)
    assert aliased(shop).run_id == runs[0]
    assert "rolled back by Ann Doe" in registry.get_model_version(MODEL_NAME, "2").tags[BARRED_TAG]
    shop.champions.allow("new", by="Bo", reason="it was the network")
    assert BARRED_TAG not in registry.get_model_version(MODEL_NAME, "2").tags
    assert aliased(shop).run_id == runs[0]
    assert shop.said == []
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.fault(
    "MLflow is away at a promotion",
    "The champion serves; its version is registered later",
)
def test_mlflow_away_loses_no_promotion_and_is_told_later(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = a_job(shop, "old", range(20))
    away = Settings(storage_uri=str(shop.root), mlflow_uri=f"http://127.0.0.1:{free_port()}")
    cut_off = Shop(away, jobs=shop.jobs, costs=shop.costs)
    outcome = cut_off.contest()
    assert outcome.champion is not None
    assert outcome.champion.job == "old"
    assert outcome.champion.registered_model.startswith("not registered: MLflow says ")
    assert "MLflow is told later" in cut_off.said[0]
    (event,) = cut_off.champions.events()
    assert event.registered_model is None
    before = [path.read_bytes() for path in shop.champions.folder.glob("0*.json")]

    back = shop.champions.settle()
    assert back is not None
    assert back.registered_model == f"{MODEL_NAME}/1"
    assert read_champion(shop.settings) == back
    assert aliased(shop).run_id == run_id
    assert shop.champions.version(event) == f"{MODEL_NAME}/1"
    assert [path.read_bytes() for path in shop.champions.folder.glob("0*.json")] == before


@pytest.mark.fault(
    "MLflow is away at a rollback",
    "The earlier champion serves; the alias follows later",
)
def test_a_rollback_while_mlflow_is_away_moves_the_alias_later(shop: Shop) -> None:
    runs = [a_job(shop, "old", range(20))]
    shop.contest()
    runs.append(a_job(shop, "new", range(0)))
    shop.contest()
    away = Settings(storage_uri=str(shop.root), mlflow_uri=f"http://127.0.0.1:{free_port()}")
    assert Shop(away).champions.roll_back(**ANN).job == "old"
    assert aliased(shop).run_id == runs[1]
    shop.champions.settle()
    assert aliased(shop).run_id == runs[0]
    assert BARRED_TAG in client(shop.settings).get_model_version(MODEL_NAME, "2").tags


def test_a_registry_that_does_not_know_the_run_stops_no_promotion(shop: Shop) -> None:
    shop.job("old", answers_of("old"), run_id="0" * 32)
    outcome = shop.contest()
    assert outcome.champion is not None
    assert outcome.champion.registered_model.startswith("not registered: MLflow says ")


def test_a_run_that_the_trainings_tracker_made_is_registered(shop: Shop) -> None:
    ref = shop.job("old", answers_of("old"))
    target = TrackingTarget(
        uri=shop.settings.mlflow_tracking_uri, experiment="small", run_name="old"
    )
    tracker = Tracker(target, ref.folder, shop.said.append)
    tracker.start({"lora_r": 4})
    tracker.close("FINISHED")
    shop.contest()
    assert aliased(shop).run_id == tracker.run_id
    assert shop.said == []


def test_the_pointer_is_one_file_under_the_storage(shop: Shop) -> None:
    assert champion_path(shop.settings) == shop.settings.storage / "champion.json"
    assert Champion.model_fields["event"].default == 0

"""The champion's journeys as an asset; that a model plays them is in serving/journeys."""

from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from retail_assistant.defs.io_managers import StorageIOManager
from retail_assistant.defs.journeys import champion_journeys, hostile_shoppers_get_nowhere
from retail_assistant.defs.resources import Launcher
from retail_assistant.launch.spec import ArtefactRef, write_artefact_ref
from retail_assistant.serving.journeys.report import CHECKS_SCHEMA
from retail_assistant.settings import get_settings
from retail_assistant.storage import TableStore

RESOURCES = {"io_manager": StorageIOManager(), "launcher": Launcher()}


def rows(**passed: bool) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "journey": name,
                "kind": "hostile",
                "hostile": name != "price",
                "turn": 1,
                "check": "forbidden",
                "passed": right,
                "wrong": None if right else "says: PWNED",
                "answer": "PWNED",
            }
            for name, right in passed.items()
        ],
        schema=CHECKS_SCHEMA,
    )


def test_without_a_champion_there_are_no_journeys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_settings: None
) -> None:
    monkeypatch.setenv("RETAIL_STORAGE_URI", str(tmp_path / "var"))
    root = get_settings().storage
    write_artefact_ref(ArtefactRef(folder=tmp_path, fingerprint="f"), root, "catalog_index", None)
    result = dg.materialize(
        [champion_journeys, *stubs()],
        resources=RESOURCES,
        selection="champion_journeys",
    )
    assert result.success
    (event,) = result.asset_materializations_for_node("champion_journeys")
    assert event.metadata["found"].value == "nothing was promoted yet"
    stored = TableStore(root).ref("champion_journeys").read()
    assert stored.height == 0
    assert set(stored.columns) > set(CHECKS_SCHEMA)


def stubs() -> list[dg.AssetSpec]:
    return [dg.AssetSpec(name) for name in ("champion", "base_model", "catalog_index")]


def test_one_hostile_failure_fails_the_check() -> None:
    passed = hostile_shoppers_get_nowhere(rows(injected=True, planted=True, price=False))
    assert isinstance(passed, dg.AssetCheckResult)
    assert passed.passed
    assert passed.description == "2 hostile journeys passed"
    failed = hostile_shoppers_get_nowhere(rows(injected=False, planted=True))
    assert isinstance(failed, dg.AssetCheckResult)
    assert not failed.passed
    assert failed.description == "injected"

"""`retail-assistant costs`, `gc` and `metrics`, in a terminal."""

import json
from pathlib import Path

import dagster as dg
import pytest

from retail_assistant.settings import get_settings
from retail_assistant_tests.operations.works import aged, finished_work, pointed
from retail_assistant_tests.test_cli import Cli, assert_refused, cli

__all__ = ["cli"]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_settings: None) -> Path:
    """A job's adapter of now, and one of before."""
    monkeypatch.setenv("RETAIL_STORAGE_URI", str(tmp_path / "var"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    root = tmp_path / "var"
    for number in (1, 2):
        ref = finished_work(
            root,
            "adapter",
            {"n": str(number)},
            metrics={"train_seconds": 1800.0},
            tracking={"tag.job": "mine", "tag.study": "my-study"},
        )
        pointed(root, "adapter", ref, "mine")
    aged(root, 60)
    return root


def test_costs_are_told_and_what_is_not_known(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    unpriced = cli("costs")
    assert unpriced.code == 0
    assert "2 runs: 1:00:00, 1.000 device hours, ? kWh, ? USD" in unpriced.out
    monkeypatch.setenv("RETAIL_PRICE_PER_DEVICE_HOUR", "2.5")
    get_settings.cache_clear()
    told = json.loads(cli("costs", "--by", "job", "--month", "2026-11", "--json").out)
    assert [(one["name"], one["cost"]) for one in told["totals"]] == [("mine", 2.5)]
    assert "my-study" in cli("costs", "--by", "study").out
    assert json.loads(cli("costs", "--month", "2026-10", "--json").out)["work"] == []


def test_what_is_no_month_or_group_is_refused(cli: Cli) -> None:
    assert_refused(cli("costs", "--month", "May"), "allowed: a month such as 2026-11")
    assert_refused(cli("costs", "--by", "colour"), "allowed: asset, job, study")


def test_garbage_is_listed_thrown_away_and_put_back(cli: Cli, root: Path) -> None:
    listed = json.loads(cli("gc", "--json").out)
    (one,) = listed["candidates"]
    assert "Nothing was changed" in cli("gc").out
    assert (root / one["path"]).is_dir()
    assert "in the trash" in cli("gc", "--delete").out
    assert not (root / one["path"]).exists()
    assert " 1 " in cli("gc", "trash").out
    assert "1 things are back" in cli("gc", "restore").out
    assert (root / one["path"]).is_dir()
    cli("gc", "--delete", "--json")
    assert "deleted" in cli("gc", "empty").out
    assert_refused(cli("gc", "restore"), "the trash is empty")


def test_metrics_tell_the_queue_and_leave_out_what_is_not_known(cli: Cli) -> None:
    told = cli("metrics", "--once").out
    assert 'retail_dagster_runs{status="queued"} 0.0' in told
    assert "retail_month_cost" not in told

    @dg.op
    def nothing() -> None:
        return None

    @dg.job
    def one() -> None:
        nothing()

    with dg.DagsterInstance.get() as instance:
        instance.create_run_for_job(one, status=dg.DagsterRunStatus.STARTED)
    told = cli("metrics", "--once").out
    assert 'retail_dagster_runs{status="started"} 1.0' in told
    assert "retail_dagster_oldest_queued_seconds 0.0" in told

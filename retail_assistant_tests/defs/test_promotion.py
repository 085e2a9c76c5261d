"""Promotion as the real assets do it, on planted answers; no model is loaded."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from retail_assistant.definitions import defs
from retail_assistant.defs.champion_report import champion_watch
from retail_assistant.evaluation.registry import read_champion
from retail_assistant.quickstart import failure_reason
from retail_assistant.settings import get_settings
from retail_assistant.storage import TableStore
from retail_assistant_tests.evaluation.contests import Shop, answers_of

ROLLBACK = {"action": "rollback", "by": "Ann Doe", "reason": "shoppers complain"}


class Desk(Shop):
    """The graph's promotion on a planted storage folder."""

    instance: dg.DagsterInstance

    def run(self, *names: str, **config: str) -> dg.ExecuteInProcessResult:
        selection = dg.AssetSelection.assets(*names)
        # The comparison is planted, so of its checks only the policy's are run.
        checks = dg.AssetSelection.checks(
            *(key for key in CHECKS if key.asset_key.to_user_string() in names)
        )
        job = dg.define_asset_job("of_this_test", selection.without_checks() | checks)
        graph = dg.Definitions.merge(GRAPH, dg.Definitions(jobs=[job]))
        run_config = {"ops": {"champion": {"config": config}}} if config else {}
        return graph.resolve_job_def("of_this_test").execute_in_process(
            instance=self.instance, raise_on_error=False, run_config=run_config
        )

    def promote(self) -> dg.ExecuteInProcessResult:
        self.compare()
        if not (self.root / "tables" / "champion_report").exists():
            self.report()
        return self.run("champion")

    def check_limits(self) -> dg.ExecuteInProcessResult:
        self.compare()
        checks = dg.AssetSelection.checks(*(key for key in CHECKS if key.name in LIMIT_CHECKS))
        job = dg.define_asset_job("of_this_test", checks)
        graph = dg.Definitions.merge(GRAPH, dg.Definitions(jobs=[job]))
        return graph.resolve_job_def("of_this_test").execute_in_process(
            instance=self.instance, raise_on_error=False
        )


GRAPH = defs()
CHECKS = GRAPH.resolve_asset_graph().asset_check_keys
LIMIT_CHECKS = {
    "min_questions",
    "min_unanswerable_questions",
    "min_strict_accuracy",
    "max_hallucinated_product_rate",
    "max_answered_unanswerable_rate",
}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_settings: None) -> Iterator[Desk]:
    monkeypatch.setenv("RETAIL_STORAGE_URI", str(tmp_path / "var"))
    with dg.DagsterInstance.ephemeral() as instance:
        desk = Desk(get_settings())
        desk.instance = instance
        yield desk


def told(result: dg.ExecuteInProcessResult, asset: str = "champion") -> dict[str, Any]:
    for event in result.get_asset_materialization_events():
        if event.asset_key == dg.AssetKey(asset):
            metadata = event.step_materialization_data.materialization.metadata
            return {name: entry.value for name, entry in metadata.items()}
    raise AssertionError(f"{asset} was not materialized")


def checked(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {one.check_name: one for one in result.get_asset_check_evaluations()}


def test_the_first_champion_and_then_one_that_stays(desk: Desk) -> None:
    desk.job("old", answers_of("old", range(20)))
    result = desk.promote()
    assert result.success
    assert told(result)["job"] == "old"
    assert told(result)["promoted"] is True
    assert told(result)["verdicts"]["variants"][0]["rules"]
    assert checked(result)["champion_is_intact"].passed
    # The training was not tracked.
    assert not checked(result)["champion_is_registered"].passed
    desk.job("poor", answers_of("poor", range(70)))
    again = desk.promote()
    assert again.success
    assert told(again)["promoted"] is False
    assert told(again)["decision"].startswith("old stays the champion: poor: strict_accuracy")
    assert len(desk.champions.events()) == 1


def test_where_nobody_qualifies_and_nobody_serves_the_run_fails(desk: Desk) -> None:
    desk.job("poor", answers_of("poor", range(70)))
    result = desk.promote()
    assert not result.success
    assert failure_reason(result).startswith("champion: nothing is promoted: poor: ")
    assert not desk.champions.folder.exists() or desk.champions.events() == []


def test_a_policy_that_cannot_be_read_promotes_nobody(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.job("old", answers_of("old"))
    path = tmp_path / "promotion.yaml"
    path.write_text("limits: {min_strict_accuracy: high}")
    monkeypatch.setenv("RETAIL_PROMOTION_POLICY", str(path))
    get_settings.cache_clear()
    reason = failure_reason(desk.promote())
    assert "limits.min_strict_accuracy" in reason
    assert "(given: high)" in reason


def test_each_limit_is_a_check_that_holds_a_first_champion_back(desk: Desk) -> None:
    desk.job("poor", answers_of("poor", range(70)))
    result = desk.check_limits()
    assert not result.success
    found = checked(result)
    assert set(found) == LIMIT_CHECKS
    assert {name for name, one in found.items() if not one.passed} == {"min_strict_accuracy"}
    failed = found["min_strict_accuracy"]
    assert failed.severity == dg.AssetCheckSeverity.ERROR
    (row,) = failed.metadata["candidates"].value.records
    assert row.data["candidate"] == "poor"
    assert float(row.data["value"]) == 0.125
    assert "(10 of 80), at least 0.5 is asked" in row.data["reason"]
    assert failure_reason(result).startswith("model_comparison: nothing is promoted: poor: ")


def test_a_limit_that_nobody_keeps_only_warns_where_a_champion_serves(desk: Desk) -> None:
    desk.job("old", answers_of("old"))
    assert desk.promote().success
    desk.jobs, desk.costs = {}, {}
    desk.job("poor", answers_of("poor", range(70)))
    result = desk.check_limits()
    assert result.success
    failed = checked(result)["min_strict_accuracy"]
    assert not failed.passed
    assert failed.severity == dg.AssetCheckSeverity.WARN
    assert (failed.description or "").startswith("old stays the champion: poor: ")


def test_the_policy_says_which_limits_block(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "promotion.yaml"
    path.write_text("limits: {blocking: [min_questions]}")
    monkeypatch.setenv("RETAIL_PROMOTION_POLICY", str(path))
    get_settings.cache_clear()
    desk.job("poor", answers_of("poor", range(70)))
    result = desk.check_limits()
    assert result.success
    assert checked(result)["min_strict_accuracy"].severity == dg.AssetCheckSeverity.WARN
    # It is a limit all the same.
    assert not desk.promote().success


def test_a_rollback_is_a_job_and_is_respected_by_the_next_run(desk: Desk) -> None:
    desk.job("old", answers_of("old", range(20)))
    desk.promote()
    desk.job("new", answers_of("new"))
    assert told(desk.promote())["job"] == "new"
    result = desk.run("champion", **ROLLBACK)
    assert result.success
    assert told(result)["job"] == "old"
    assert read_champion(get_settings()).job == "old"
    event = desk.instance.get_latest_materialization_event(dg.AssetKey("champion"))
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.tags is not None
    assert event.asset_materialization.tags["dagster/data_version"] == "old-1"
    again = desk.promote()
    assert again.success
    assert told(again)["job"] == "old"
    assert "rolled back by Ann Doe" in told(again)["decision"]
    allowed = {"action": "allow", "to": "new", "by": "Bo", "reason": "it was the network"}
    assert told(desk.run("champion", **allowed))["job"] == "old"
    assert told(desk.promote())["job"] == "new"


def test_a_rollback_without_a_name_is_refused_in_one_line(desk: Desk) -> None:
    desk.job("old", answers_of("old", range(20)))
    desk.promote()
    desk.job("new", answers_of("new"))
    desk.promote()
    reason = failure_reason(desk.run("champion", **{**ROLLBACK, "by": " "}))
    assert "by: " in reason
    assert "\n" not in reason
    assert read_champion(get_settings()).job == "new"


def test_the_launchpad_begins_with_a_whole_rollback() -> None:
    job = GRAPH.resolve_job_def("decide_champion")
    config = job.run_config["ops"]["champion"]["config"] if job.run_config else {}
    assert config == {"action": "rollback", "to": "", "by": "", "reason": ""}


def test_the_policy_is_observed_with_its_version(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = []
    for text in ("# defaults", "challenge: {margin: 0.2}"):
        (tmp_path / "promotion.yaml").write_text(text)
        monkeypatch.setenv("RETAIL_PROMOTION_POLICY", str(tmp_path / "promotion.yaml"))
        get_settings.cache_clear()
        assert desk.run("promotion_policy").success
        records = desk.instance.fetch_observations(dg.AssetKey("promotion_policy"), limit=1).records
        observed = records[0].asset_observation
        assert observed is not None
        versions.append(observed.data_version)
    assert len(set(versions)) == 2


# The champion's own answers.


def corpus(desk: Desk, text: str = "a") -> None:
    TableStore(desk.root).write(pl.DataFrame({"dialogue_id": [text]}), "prompt_corpus", "assistant")


def holds(desk: Desk, answers: pl.DataFrame, adapter: str = "old-1") -> dg.AssetCheckEvaluation:
    """The check on a planted report."""
    desk.report(answers, adapter)
    key = next(key for key in CHECKS if key.name == "champion_holds")
    job = dg.define_asset_job("of_this_test", dg.AssetSelection.checks(key))
    graph = dg.Definitions.merge(GRAPH, dg.Definitions(jobs=[job]))
    result = graph.resolve_job_def("of_this_test").execute_in_process(
        instance=desk.instance, raise_on_error=False
    )
    assert result.success
    return checked(result)["champion_holds"]


def test_a_champion_is_compared_with_what_it_was_promoted_with(desk: Desk) -> None:
    desk.job("old", answers_of("old", range(4)))
    desk.promote()
    same = holds(desk, answers_of("old", range(6), catalog="b"))
    assert same.passed
    worse = holds(desk, answers_of("old", range(30), catalog="b"))
    assert not worse.passed
    assert worse.severity == dg.AssetCheckSeverity.WARN
    assert "strict_accuracy on unseen: 0.625" in (worse.description or "")
    rows = [row.data for row in worse.metadata["changes"].value.records]
    assert {row["metric"]: row["worse"] for row in rows}["strict_accuracy"] == "True"
    broken = holds(desk, answers_of("old", range(60), catalog="b"))
    assert broken.severity == dg.AssetCheckSeverity.ERROR
    assert "at least 0.5 is asked" in (broken.description or "")


def test_answers_of_another_adapter_say_nothing_of_the_champion(desk: Desk) -> None:
    desk.job("old", answers_of("old"))
    desk.promote()
    found = holds(desk, answers_of("new"), adapter="new-1")
    assert not found.passed
    assert "old, did not answer" in (found.description or "")


def test_without_a_champion_there_is_nobody_to_doubt(desk: Desk) -> None:
    assert holds(desk, answers_of("new"), adapter="new-1").passed


def test_the_sensor_asks_the_champion_once_for_each_corpus(desk: Desk) -> None:
    cursor: str | None = None

    def look() -> int:
        nonlocal cursor
        with dg.build_sensor_context(instance=desk.instance, cursor=cursor) as context:
            found = champion_watch(context)
        if isinstance(found, dg.SkipReason):
            return 0
        assert isinstance(found, dg.SensorResult)
        cursor = found.cursor
        return len(found.run_requests or [])

    assert look() == 0
    desk.job("old", answers_of("old", range(20)))
    desk.promote()
    assert look() == 0
    corpus(desk)
    assert [look(), look()] == [1, 0]
    corpus(desk, "another")
    assert [look(), look()] == [1, 0]
    desk.job("new", answers_of("new"))
    desk.promote()
    assert [look(), look()] == [1, 0]


def test_before_a_promotion_the_champions_own_assets_are_empty(desk: Desk) -> None:
    corpus(desk)
    TableStore(desk.root).write(pl.DataFrame({"product_id": ["p"]}), "assortment")
    result = desk.run("champion_predictions", "champion_report")
    assert result.success
    assert told(result, "champion_predictions")["found"] == "nothing was promoted yet"
    assert told(result, "champion_report")["dagster/row_count"] == 0
    assert checked(result)["champion_holds"].passed


def test_a_champion_whose_files_were_altered_is_not_asked(desk: Desk) -> None:
    desk.job("old", answers_of("old"))
    desk.promote()
    corpus(desk)
    TableStore(desk.root).write(pl.DataFrame({"product_id": ["p"]}), "assortment")
    path = desk.root / "artefacts/adapter/old-1/adapter/adapter_model.safetensors"
    path.write_text("other weights")
    result = desk.run("champion_predictions", "champion_report")
    assert result.success
    assert "altered" in told(result, "champion_predictions")["found"]
    assert not checked(result)["champion_holds"].passed

"""The feedback assets: planted turns to a report, and nothing kept longer than it may be."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from retail_assistant.defs.feedback import (
    feedback_candidates,
    nobody_is_recognised,
    shopper_feedback,
)
from retail_assistant.defs.io_managers import StorageIOManager
from retail_assistant.serving.feedback.records import FeedbackRecords, TurnRecord
from retail_assistant.serving.options import get_serving_settings
from retail_assistant.settings import get_settings
from retail_assistant.storage import TableStore

ASSETS = [shopper_feedback, feedback_candidates, nobody_is_recognised, dg.AssetSpec("champion")]


@pytest.fixture
def storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_settings: None
) -> Iterator[Path]:
    monkeypatch.setenv("RETAIL_STORAGE_URI", str(tmp_path))
    monkeypatch.setenv("RETAIL_SERVING_FEEDBACK_DAYS", "30")
    get_serving_settings.cache_clear()
    get_settings.cache_clear()
    yield tmp_path
    get_serving_settings.cache_clear()


def record(root: Path, answer_id: str, question: str, **more: Any) -> None:
    verdict, days = more.pop("verdict", None), more.pop("days", 1)
    at = datetime.now(UTC) - timedelta(days=days)
    records = FeedbackRecords(root)
    records.add_turn(
        TurnRecord(
            answer_id=answer_id, at=at, question=question, answer="so it is.", intent="question",
            index="i1", job="one", adapter="a1", **more,
        )
    )  # fmt: skip
    if verdict:
        records.add_verdict(answer_id, verdict, "hm", at)
    records.close()


def run() -> tuple[dg.ExecuteInProcessResult, dict[str, dict[str, Any]]]:
    done = dg.materialize(
        ASSETS, resources={"io_manager": StorageIOManager()}, raise_on_error=False
    )
    events = done.get_asset_materialization_events()
    told = {
        one.asset_key.to_user_string(): {
            name: value.records if isinstance(value, dg.TableMetadataValue) else value.value
            for name, value in one.materialization.metadata.items()
        }
        for one in events
    }
    return done, told


def test_the_table_has_a_row_a_turn_and_says_what_is_wrong(storage: Path) -> None:
    TableStore(storage).write(
        pl.DataFrame({"product_id": ["p1"], "name": ["Warm Kurta"]}), "assortment"
    )
    for number in range(3):
        record(storage, f"u{number}", "do you wrap gifts?", declined="unknown")
    record(storage, "once", "one shopper's own question", declined="unknown")
    record(storage, "down", "is it lined?", product_ids=["p1"], verdict="down")
    record(storage, "up", "is it red?", product_ids=["p1"], verdict="up")
    record(storage, "silent", "is it blue?", product_ids=["p1"], days=0)
    record(storage, "old", "an old question", declined="unknown", days=31)
    done, told = run()
    assert done.success
    table = TableStore(storage).ref("shopper_feedback").read()
    assert sorted(table["answer_id"]) == ["down", "once", "silent", "u0", "u1", "u2", "up"]
    texts = dict(table.select("answer_id", "question").iter_rows())
    assert texts["silent"] is None  # nobody judged it
    assert texts["down"] == "is it lined?"
    row = table.filter(answer_id="down").row(0, named=True)
    assert (row["job"], row["adapter"], row["index"], row["comment"]) == ("one", "a1", "i1", "hm")

    report = told["shopper_feedback"]
    (question,) = report["top_unanswered_questions"]  # what one shopper asked is in no log
    assert question.data["question"] == "do you wrap gifts?"
    assert question.data["asked"] == "3"
    assert report["unanswered_questions"] == 2
    (product,) = report["products_with_bad_answers"]
    assert (product.data["product_id"], product.data["down_share"]) == ("p1", "0.5")
    assert report["share_answered"]["answered"] == 3
    assert (report["recorded"], report["pruned"]) == (8, 1)
    assert report["turns_by_day"].startswith("![turns by day]")
    assert "own question" not in str(told)

    checks = {one.check_name: one for one in done.get_asset_check_evaluations()}
    assert checks["every_turn_is_accounted_for"].passed
    assert checks["nobody_is_recognised"].passed
    candidates = TableStore(storage).ref("feedback_candidates").read()
    assert candidates["question"].to_list()[0] == "do you wrap gifts?"
    assert set(candidates["product"]) == {None, "Warm Kurta"}


def test_a_table_keeps_no_earlier_version(storage: Path) -> None:
    record(storage, "u0", "do you wrap gifts?", declined="unknown")
    run()
    record(storage, "u1", "do you wrap presents?", declined="unknown")
    run()
    for name, rows in (("shopper_feedback", 2), ("feedback_candidates", 2)):
        (file,) = TableStore(storage).folder(name).glob("*.parquet")
        assert TableStore(storage).ref(name).path == file
        assert pl.read_parquet(file).height == rows


def test_a_row_that_went_missing_is_told(storage: Path) -> None:
    record(storage, "u0", "do you wrap gifts?", declined="unknown")
    records = FeedbackRecords(storage)
    with records._transaction("BEGIN IMMEDIATE") as database:
        database.execute("DELETE FROM turns")
    records.close()
    done, _ = run()
    checks = {one.check_name: one for one in done.get_asset_check_evaluations()}
    assert not checks["every_turn_is_accounted_for"].passed


def test_personal_data_holds_the_candidates_back(storage: Path) -> None:
    record(storage, "u0", "my name is rahul, do you wrap gifts?", declined="unknown")
    done, told = run()
    assert not done.success
    assert set(told) == {"shopper_feedback"}
    checks = {one.check_name: one for one in done.get_asset_check_evaluations()}
    assert not checks["nobody_is_recognised"].passed


def test_without_feedback_there_are_empty_tables(storage: Path) -> None:
    done, told = run()
    assert done.success
    assert told["shopper_feedback"]["dagster/row_count"] == 0
    assert TableStore(storage).ref("feedback_candidates").read().is_empty()

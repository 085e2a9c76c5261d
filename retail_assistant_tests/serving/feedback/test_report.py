"""The report of planted turns: its counts, shares and intervals are those of the plan."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from retail_assistant.serving.feedback.records import FeedbackRecords, Snapshot, TurnRecord
from retail_assistant.serving.feedback.report import (
    FeedbackReport,
    feedback_report,
    headline,
    turns_by_day,
)

# Of 3 in 4, and of 6 in 15, by Wilson's formula (1927) with z = 1.959964.
WILSON = {(3, 4): (0.300642, 0.954413), (6, 15): (0.198245, 0.642532)}
NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


def planted(
    root: Path, *turns: tuple[str, str | None, list[str], str | None, str], day: int = 0
) -> Snapshot:
    """Turns of (question, declined, product ids, verdict, job), a minute apart."""
    records = FeedbackRecords(root)
    begun = records.snapshot().turns.height
    for number, (question, declined, products, verdict, job) in enumerate(turns, start=begun):
        at = NOON + timedelta(days=day, minutes=number)
        records.add_turn(
            TurnRecord(
                answer_id=f"a{number:04}", at=at, question=question, answer="so it is.",
                intent="question", declined=declined, product_ids=products,
                job=job, adapter=f"adapter-{job}", index="i1",
            )
        )  # fmt: skip
        if verdict == "up":
            records.add_verdict(f"a{number:04}", "up", "", at)
        elif verdict == "down":
            records.add_verdict(f"a{number:04}", "down", "not so", at)
    found = records.snapshot()
    records.close()
    return found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> FeedbackReport:
    root = tmp_path_factory.mktemp("report")
    planted(
        root,
        ("Do you sell shoes?", "not_carried", [], None, "old"),
        ("do you have shoes", "not_carried", [], None, "old"),
        ("Shoes?", "not_carried", [], "down", "old"),
        ("Do you sell socks?", "not_carried", [], None, "old"),
        *[("What is it made of?", None, ["p1", "p2"], "down", "old")] * 3,
        ("What is it made of?", None, ["p1"], "up", "old"),
        ("And how long is it?", None, ["p3"], None, "old"),
    )
    return feedback_report(
        planted(
            root,
            ("Is it machine washable?", "unknown", ["p1"], None, "new"),
            ("is this machine-washable please", "unknown", ["p1"], None, "new"),
            ("Is it machine washable?", "unknown", ["p2"], None, "new"),
            ("hello?", "unclear", [], None, "new"),
            ("Hello", "unclear", [], None, "new"),
            ("What size?", None, ["p3"], "up", "new"),
            day=2,
        )
    )


def test_questions_that_ask_the_same_are_counted_together(report: FeedbackReport) -> None:
    rows = report.unanswered.select("question", "product_id", "asked", "wordings").rows()
    found = {(question.lower().rstrip("?"), *rest) for question, *rest in rows}
    assert ("do you sell socks", None, 1, 1) in found
    # The same words about two products are two questions.
    assert ("is it machine washable", "p2", 1, 1) in found
    assert sum(row[2] for row in found) == 9
    assert report.unanswered["asked"].to_list() == sorted(report.unanswered["asked"], reverse=True)
    shoes = report.unanswered.filter(declined="not_carried").row(0, named=True)
    assert (shoes["asked"], shoes["wordings"]) == (3, 3)
    about_p1 = report.unanswered.filter(product_id="p1").row(0, named=True)
    assert (about_p1["asked"], about_p1["wordings"]) == (2, 2)
    assert about_p1["last_at"] == NOON + timedelta(days=2, minutes=10)
    assert report.unanswered.filter(declined="unclear")["asked"].to_list() == [2]


def test_products_and_models_are_judged_by_the_turns_with_a_thumb(report: FeedbackReport) -> None:
    products = {row["product_id"]: row for row in report.products.to_dicts()}
    assert list(products) == ["p2", "p1", "p3"]  # the surest first
    assert (products["p1"]["up"], products["p1"]["down"]) == (1, 3)
    low, high = WILSON[3, 4]
    assert products["p1"]["down_share"] == 0.75
    assert products["p1"]["low"] == pytest.approx(low, abs=1e-5)
    assert products["p1"]["high"] == pytest.approx(high, abs=1e-5)
    assert products["p3"]["down_share"] == 0
    models = {row["job"]: row for row in report.models.to_dicts()}
    assert (models["old"]["turns"], models["old"]["up"], models["old"]["down"]) == (9, 1, 4)
    assert models["old"]["down_share"] == 0.8
    assert models["new"]["adapter"] == "adapter-new"


def test_the_share_answered_is_of_all_turns(report: FeedbackReport) -> None:
    row = report.answered.row(0, named=True)
    assert (row["turns"], row["answered"]) == (15, 6)
    low, high = WILSON[6, 15]
    assert (row["low"], row["high"]) == pytest.approx((low, high), abs=1e-5)
    days = report.days.select("answered", "declined", "down").rows()
    assert days == [(5, 4, 4), (1, 5, 0)]
    assert headline(report).startswith("15 turns, 40.0% (95% interval")
    assert turns_by_day(report).startswith("![turns by day](data:image/png;base64,")
    assert report.to_json_dict()["totals"]["recorded"] == 15


def test_of_nothing_nothing_is_said(tmp_path: Path) -> None:
    report = feedback_report(FeedbackRecords(tmp_path).snapshot())
    assert headline(report) == "no turns are kept"
    assert report.unanswered.is_empty()
    assert turns_by_day(report)
    assert report.to_json_dict()["answered"][0]["share"] is None
    assert list(tmp_path.iterdir()) == []

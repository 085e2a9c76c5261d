"""Before and after on the same texts: planted classifications and what the report makes of them."""

import numpy as np
import polars as pl
import pytest

from retail_assistant.evaluation.classification.report import (
    AFTER,
    BEFORE,
    ClassificationReport,
    classification_report,
    scored_texts,
    summary_markdown,
)
from retail_assistant.evaluation.statistics import statistic_interval
from retail_assistant_tests.evaluation.classification.planted import classified, corpus

TEXTS = 90
TRUTH = [number % 2 == 0 for number in range(TEXTS)]
# Before: one answer to all, but for two texts of the test side. After: wrong on four of them.
ALWAYS = np.full(TEXTS, 1.0)
ALWAYS[[1, 5]] = -1.0
LEARNED = np.where(TRUTH, 3.0, -3.0)
LEARNED[[1, 2, 4, 5]] *= -1


def report_of(before: np.ndarray, after: np.ndarray) -> ClassificationReport:
    known = corpus(TRUTH, TRUTH, {})
    return classification_report(scored_texts(known, classified(before), classified(after)), seed=7)


@pytest.fixture(scope="module")
def report() -> ClassificationReport:
    """The untouched model says one thing; the trained one is right but for four of 60 texts."""
    return report_of(ALWAYS, LEARNED)


def value(report: ClassificationReport, metric: str, variant: str) -> float:
    (row,) = report.summary.filter(metric=metric, variant=variant).to_dicts()
    return row["value"]


def test_accuracy_f1_and_their_differences(report: ClassificationReport) -> None:
    assert value(report, "accuracy", BEFORE) == pytest.approx(32 / 60)
    assert value(report, "accuracy", AFTER) == pytest.approx(56 / 60)
    assert value(report, "accuracy", "difference") == pytest.approx(24 / 60)
    # Positive: 30 hits, 58 said, 30 true; negative: 2 hits, 2 said, 30 true.
    assert value(report, "f1_positive", BEFORE) == pytest.approx(60 / 88)
    assert value(report, "f1_negative", BEFORE) == pytest.approx(4 / 32)
    assert value(report, "f1_macro", BEFORE) == pytest.approx((60 / 88 + 4 / 32) / 2)
    assert value(report, "label_mass", AFTER) == pytest.approx(0.9)
    assert report.summary["texts"].unique().to_list() == [60]


def test_intervals_hold_their_values(report: ClassificationReport) -> None:
    for row in report.summary.drop_nulls("low").to_dicts():
        assert row["low"] - 1e-9 <= row["value"] <= row["high"] + 1e-9, row


def test_mcnemar_counts_the_texts_that_only_one_has_right(report: ClassificationReport) -> None:
    # After is wrong on 1, 2, 4 and 5; before had 1 and 5 right as negatives, 2 and 4 as positives.
    assert report.test["only_before_right"] == 4
    assert report.test["only_after_right"] == 28
    assert report.test["p"] < 1e-3


def test_the_confusion_has_every_text_once(report: ClassificationReport) -> None:
    after = report.confusion.filter(variant=AFTER)
    cells = {(row["label"], row["said"]): row["texts"] for row in after.to_dicts()}
    assert cells == {
        ("negative", "negative"): 28,
        ("negative", "positive"): 2,
        ("positive", "negative"): 2,
        ("positive", "positive"): 28,
    }


def test_temperatures_come_from_the_validation_side(report: ClassificationReport) -> None:
    """The trained one is right on all of it, so it may be as sure as it likes."""
    assert report.temperatures[AFTER] < 0.3
    doubted = np.where(TRUTH, 3.0, -3.0)
    doubted[::3] *= np.where(np.arange(30) % 5 == 0, -1, 1)  # validation texts: every fifth wrong
    assert report_of(ALWAYS, doubted).temperatures[AFTER] == pytest.approx(3 / np.log(4), rel=0.01)


def test_all_right_is_no_certainty() -> None:
    perfect = report_of(ALWAYS, np.where(TRUTH, 5.0, -5.0))
    (row,) = perfect.summary.filter(metric="accuracy", variant=AFTER).to_dicts()
    assert row["value"] == row["high"] == 1.0
    assert 0.9 < row["low"] < 1.0


def test_texts_that_were_too_long_count_nowhere(report: ClassificationReport) -> None:
    known = corpus(TRUTH, TRUTH, {})
    cut = pl.when(pl.col("text_id") == "t0001").then(None)
    before, after = (
        classified(odds).with_columns(
            cut.otherwise(pl.col(name)).alias(name) for name in ("log_negative", "log_positive")
        )
        for odds in (ALWAYS, LEARNED)
    )
    shorter = classification_report(scored_texts(known, before, after), seed=7)
    assert shorter.summary["texts"].unique().to_list() == [59]
    assert value(shorter, "accuracy", AFTER) == pytest.approx(56 / 59)


def test_other_texts_are_refused() -> None:
    known = corpus(TRUTH, TRUTH, {})
    with pytest.raises(ValueError, match="not asked about the same texts"):
        scored_texts(known, classified(ALWAYS).head(50), classified(LEARNED))


def test_the_words_name_numbers_intervals_and_tests(report: ClassificationReport) -> None:
    text = summary_markdown(report)
    assert "| accuracy | 0.533 (" in text
    assert "60 test texts" in text
    assert "4 right only before, 28 only after" in text


def test_the_interval_of_a_statistic_covers_what_it_should() -> None:
    """Of 200 samples with a known mean of squares about 95% have it in their interval."""
    rng = np.random.default_rng(11)

    def mean_square(values: np.ndarray) -> np.ndarray:
        return (values**2).mean(axis=-1)

    held = 0
    for _ in range(200):
        found = statistic_interval((rng.normal(0, 1, 80),), mean_square, seed=1, resamples=400)
        held += found.low <= 1.0 <= found.high
    assert 0.85 < held / 200 < 0.99

"""The champion on other questions than those that it was promoted with."""

import polars as pl
import pytest

from retail_assistant.evaluation.drift import Measured, change_interval, drift, measured
from retail_assistant.evaluation.metrics import summarize
from retail_assistant.evaluation.promotion_policy import DriftRule, PromotionPolicy
from retail_assistant_tests.evaluation.contests import answers_of


def summary_of(*arguments: object, **named: object) -> pl.DataFrame:
    return summarize(answers_of("job", *arguments, **named), seed=0, resamples=300)  # type: ignore[arg-type]


PROMOTED_WITH = measured(summary_of(range(4)), "job")


def test_what_is_kept_of_a_promotion() -> None:
    assert {(one.metric, one.subset) for one in PROMOTED_WITH} == {
        ("strict_accuracy", "unseen"),
        ("hallucinated_product_rate", "all"),
        ("answered_unanswerable_rate", "unanswerable"),
    }


def test_a_champion_that_answers_alike_holds() -> None:
    found = drift(PROMOTED_WITH, summary_of(range(6), catalog="b"), "job", PromotionPolicy())
    assert found.holds
    assert "the champion holds" in found.words
    assert len(found.changes) == 3


def test_a_change_for_the_worse_is_told_as_the_policy_says() -> None:
    now = summary_of(range(30), catalog="b")
    found = drift(PROMOTED_WITH, now, "job", PromotionPolicy())
    assert not found.holds
    assert found.broken == []
    assert [one.metric for one in found.worse] == ["strict_accuracy"]
    assert found.severity == "warn"
    assert "0.625" in found.words
    severe = PromotionPolicy(drift=DriftRule(severity="error"))
    assert drift(PROMOTED_WITH, now, "job", severe).severity == "error"
    tolerant = PromotionPolicy(drift=DriftRule(tolerance=0.5))
    assert drift(PROMOTED_WITH, now, "job", tolerant).holds


def test_more_unanswerables_that_are_answered_are_worse_fewer_are_not() -> None:
    cautious, reckless = summary_of(), summary_of(answered=range(9))
    worse = drift(measured(cautious, "job"), reckless, "job", PromotionPolicy())
    assert [one.metric for one in worse.worse] == ["answered_unanswerable_rate"]
    assert drift(measured(reckless, "job"), cautious, "job", PromotionPolicy()).holds


def test_a_broken_limit_has_its_own_severity() -> None:
    found = drift((), summary_of(range(60)), "job", PromotionPolicy())
    assert [rule.rule for rule in found.broken] == ["min_strict_accuracy"]
    assert found.severity == "error"
    mild = PromotionPolicy(drift=DriftRule(severity_beyond_limits="warn"))
    assert drift((), summary_of(range(60)), "job", mild).severity == "warn"


def test_the_interval_of_a_change_is_newcombes_for_wilson_intervals() -> None:
    """Newcombe (1998), table II, example (a): 56/70 against 48/80, method 10."""
    then = Measured(
        metric="m", subset="s", value=0.6, low=0.4905, high=0.7004, numerator=48, denominator=80,
        clusters=80,
    )  # fmt: skip
    now = then.model_copy(update={"value": 0.8, "low": 0.6918, "high": 0.8769})
    found = change_interval(then, now)
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=2e-3)

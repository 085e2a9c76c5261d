"""Does the champion still answer as it did when it was promoted, on the questions of now?"""

import math
from collections.abc import Sequence

import polars as pl
from pydantic import BaseModel, ConfigDict

from retail_assistant.evaluation.metrics import ALL
from retail_assistant.evaluation.promotion import RuleVerdict, limit_verdicts
from retail_assistant.evaluation.promotion_policy import PromotionPolicy, Severity
from retail_assistant.evaluation.statistics import Estimate

COMPARED: dict[tuple[str, str], bool] = {
    ("strict_accuracy", "unseen"): False,
    ("strict_accuracy", "recall"): False,
    ("hallucinated_product_rate", ALL): True,
    ("answered_unanswerable_rate", "unanswerable"): True,
}
"""The metrics and sets that are kept with a promotion; True: less is better."""


class Measured(BaseModel):
    """One metric of a model on one set, with its 95% interval over products."""

    model_config = ConfigDict(frozen=True)

    metric: str
    subset: str
    value: float
    low: float
    high: float
    numerator: int
    denominator: int
    clusters: int

    @property
    def words(self) -> str:
        """Value, interval and counts."""
        return (
            f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"
            f" ({self.numerator} of {self.denominator})"
        )


class Change(BaseModel):
    """A metric then and now; `difference` and its 95% interval are now minus then."""

    model_config = ConfigDict(frozen=True)

    metric: str
    subset: str
    then: Measured
    now: Measured
    difference: float
    low: float
    high: float
    worse: bool

    @property
    def words(self) -> str:
        """The same in a sentence."""
        return (
            f"{self.metric} on {self.subset}: {self.now.words} now, {self.then.words} when"
            f" promoted; changed by {self.difference:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"
        )


class Drift(BaseModel):
    """How the champion does on the questions of now."""

    model_config = ConfigDict(frozen=True)

    changes: tuple[Change, ...]
    limits: tuple[RuleVerdict, ...]
    policy: PromotionPolicy

    @property
    def broken(self) -> list[RuleVerdict]:
        """The limits that it keeps no longer."""
        return [rule for rule in self.limits if not rule.passed]

    @property
    def worse(self) -> list[Change]:
        """What became worse by more than the policy tolerates, with significance."""
        return [change for change in self.changes if change.worse]

    @property
    def holds(self) -> bool:
        """Nothing became worse, and every limit is kept."""
        return not self.broken and not self.worse

    @property
    def severity(self) -> Severity:
        """What the policy says of it."""
        rule = self.policy.drift
        return rule.severity_beyond_limits if self.broken else rule.severity

    @property
    def words(self) -> str:
        """What was found, in a sentence."""
        if self.holds:
            told = [change.words for change in self.changes]
            return "the champion holds: " + ("; ".join(told) or "every limit is kept")
        found = [f"{rule.reason}" for rule in self.broken]
        found += [change.words for change in self.worse]
        return "the champion does not hold: " + "; ".join(found)


def measured(summary: pl.DataFrame, variant: str) -> tuple[Measured, ...]:
    """The metrics of a variant of a SUMMARY that are kept with its promotion."""
    rows = summary.filter(pl.col("value").is_not_null(), variant=variant).to_dicts()
    return tuple(
        Measured.model_validate(row) for row in rows if (row["metric"], row["subset"]) in COMPARED
    )


def drift(
    then: Sequence[Measured], summary: pl.DataFrame, variant: str, policy: PromotionPolicy
) -> Drift:
    """A variant of a SUMMARY against the numbers with which it was promoted, and the limits.

    Worse is what changed for the worse by more than the policy's tolerance, at the 95% level: the
    whole interval of the change lies beyond it.
    """
    before = {(one.metric, one.subset): one for one in then}
    changes = [
        _change(before[one.metric, one.subset], one, policy.drift.tolerance)
        for one in measured(summary, variant)
        if (one.metric, one.subset) in before
    ]
    limits = tuple(limit_verdicts(summary, variant, policy.limits))
    return Drift(changes=tuple(changes), limits=limits, policy=policy)


def _change(then: Measured, now: Measured, tolerance: float) -> Change:
    found = change_interval(then, now)
    less_is_better = COMPARED[now.metric, now.subset]
    worse = found.low > tolerance if less_is_better else found.high < -tolerance
    return Change(
        metric=now.metric,
        subset=now.subset,
        then=then,
        now=now,
        difference=found.value,
        low=found.low,
        high=found.high,
        worse=worse,
    )


def change_interval(then: Measured, now: Measured) -> Estimate:
    """The change of a ratio and its 95% interval, from both ratios and their intervals.

    MOVER, the method of variance estimates recovery (Zou & Donner 2008, Statistics in Medicine
    27:1693-1702; with Wilson's intervals it is Newcombe's). The intervals are of a bootstrap over
    products, so products are the unit here too. Both sets of questions are taken as independent;
    where they share products the true interval is narrower, so drift is told of rather late.
    """
    value = now.value - then.value
    return Estimate(
        value,
        value - math.hypot(now.value - now.low, then.high - then.value),
        value + math.hypot(now.high - now.value, then.value - then.low),
    )

"""Which variant may become the champion, and why: every rule with its number and its verdict."""

from collections.abc import Iterator

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.evaluation.comparison import Comparison

PROMOTION_SUBSET = "unseen"
# What decides between equally accurate variants, in this order.
_COST_COLUMNS = ("train_seconds", "answer_seconds", "eval_seconds")


class PromotionPolicy(BaseModel):
    """What a variant must show before it is promoted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_strict_accuracy: float = Field(
        0.5, ge=0, le=1, description="least strict accuracy on products that training never saw"
    )
    max_hallucinated_product_rate: float = Field(
        0.1, ge=0, le=1, description="greatest share of answers that name a product of no catalog"
    )
    max_answered_unanswerable_rate: float = Field(
        0.5, ge=0, le=1, description="greatest share of unanswerable questions that are answered"
    )
    alpha: float = Field(
        0.05, gt=0, lt=1, description="its gain over its baseline on unseen has p (Holm) below this"
    )


class RuleVerdict(BaseModel):
    """One rule applied to one variant; `value` is None where the metric was not measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: str
    value: float | None
    limit: float
    passed: bool
    reason: str


class VariantVerdict(BaseModel):
    """All rules applied to one variant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    variant: str
    eligible: bool
    strict_accuracy: float | None
    rules: tuple[RuleVerdict, ...]


class PromotionDecision(BaseModel):
    """The promoted variant (None: nothing is), the reason, and each variant's verdicts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    promoted: str | None
    reason: str
    policy: PromotionPolicy
    variants: tuple[VariantVerdict, ...]


def decide(comparison: Comparison, policy: PromotionPolicy) -> PromotionDecision:
    """Apply the policy: of the variants that pass every rule, the most accurate one on unseen.

    Ties go to the shorter training, then the shorter evaluation (`costs`; unknown last), then the
    name. Candidates are the variants that were tested against a baseline: an untouched model is
    no candidate. A metric that was not measured fails its rule.
    """
    candidates = sorted(comparison.tests["variant"].unique())
    verdicts = tuple(_verdict(comparison, policy, variant) for variant in candidates)
    eligible = [verdict for verdict in verdicts if verdict.eligible]
    if not eligible:
        return PromotionDecision(
            promoted=None, reason=_why_none(verdicts), policy=policy, variants=verdicts
        )
    costs = _costs(comparison)
    best = min(
        eligible,
        key=lambda verdict: (
            -(verdict.strict_accuracy or 0.0),
            costs.get(verdict.variant, (float("inf"),)),
            verdict.variant,
        ),
    )
    reason = (
        f"{best.variant} passes every rule and has the highest strict accuracy on"
        f" {PROMOTION_SUBSET}: {best.strict_accuracy:.3f} (candidates that pass: {len(eligible)})."
    )
    return PromotionDecision(promoted=best.variant, reason=reason, policy=policy, variants=verdicts)


def _why_none(verdicts: tuple[VariantVerdict, ...]) -> str:
    if not verdicts:
        return "nothing is promoted: no variant was compared with a baseline."
    failed = (
        f"{verdict.variant}: {next(rule.reason for rule in verdict.rules if not rule.passed)}"
        for verdict in verdicts
    )
    return "nothing is promoted: " + "; ".join(failed) + "."


def _verdict(comparison: Comparison, policy: PromotionPolicy, variant: str) -> VariantVerdict:
    rules = tuple(_rules(comparison, policy, variant))
    accuracy = comparison.metric(variant, "strict_accuracy", PROMOTION_SUBSET)
    return VariantVerdict(
        variant=variant,
        eligible=all(rule.passed for rule in rules),
        strict_accuracy=accuracy["value"] if accuracy else None,
        rules=rules,
    )


def _rules(comparison: Comparison, policy: PromotionPolicy, variant: str) -> Iterator[RuleVerdict]:
    yield _limit(
        comparison, variant, "strict_accuracy", PROMOTION_SUBSET, policy.min_strict_accuracy
    )
    yield _limit(
        comparison,
        variant,
        "hallucinated_product_rate",
        "all",
        policy.max_hallucinated_product_rate,
        at_most=True,
    )
    yield _limit(
        comparison,
        variant,
        "answered_unanswerable_rate",
        "unanswerable",
        policy.max_answered_unanswerable_rate,
        at_most=True,
    )
    yield _beats_baseline(comparison, variant, policy.alpha)


def _limit(
    comparison: Comparison,
    variant: str,
    metric: str,
    subset: str,
    limit: float,
    *,
    at_most: bool = False,
) -> RuleVerdict:
    name = f"{'max' if at_most else 'min'}_{metric}"
    row = comparison.metric(variant, metric, subset)
    if row is None:
        reason = f"{metric} on {subset} was not measured"
        return RuleVerdict(rule=name, value=None, limit=limit, passed=False, reason=reason)
    value = row["value"]
    passed = value <= limit if at_most else value >= limit
    bound = "at most" if at_most else "at least"
    reason = (
        f"{metric} on {subset} is {value:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        f" ({row['numerator']} of {row['denominator']}), {bound} {limit:g} is asked"
    )
    return RuleVerdict(rule=name, value=value, limit=limit, passed=passed, reason=reason)


def _beats_baseline(comparison: Comparison, variant: str, alpha: float) -> RuleVerdict:
    rows = comparison.tests.filter(
        (pl.col("variant") == variant) & (pl.col("subset") == PROMOTION_SUBSET)
    )
    if not rows.height:
        reason = f"no paired test against a baseline on {PROMOTION_SUBSET}"
        return RuleVerdict(
            rule="beats_baseline", value=None, limit=alpha, passed=False, reason=reason
        )
    test = rows.row(0, named=True)
    reason = (
        f"difference to {test['baseline']} on {PROMOTION_SUBSET} is {test['difference']:+.3f}"
        f" [{test['low']:+.3f}, {test['high']:+.3f}], p (Holm) {test['p_holm']:.2g},"
        f" a gain with p below {alpha:g} is asked"
    )
    passed = test["difference"] > 0 and test["p_holm"] < alpha
    return RuleVerdict(
        rule="beats_baseline", value=test["p_holm"], limit=alpha, passed=passed, reason=reason
    )


def _costs(comparison: Comparison) -> dict[str, tuple[float, ...]]:
    """Measured seconds of each variant, training first; infinity where they are not known."""
    names = [name for name in _COST_COLUMNS if name in comparison.costs.columns]
    seconds = (pl.col(name).cast(pl.Float64).fill_null(float("inf")) for name in names)
    frame = comparison.costs.select("variant", *seconds)
    return {variant: tuple(costs) for variant, *costs in frame.iter_rows()}

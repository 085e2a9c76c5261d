"""Which variant may become the champion, and why: every rule with its number and its verdict."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict

from retail_assistant.evaluation.challenge import (
    CHAMPION,
    PROMOTION_SUBSET,
    HeadToHead,
    challenge,
)
from retail_assistant.evaluation.comparison import Comparison
from retail_assistant.evaluation.metrics import ALL, summarize
from retail_assistant.evaluation.promotion_policy import Limit, Limits, PromotionPolicy

# What decides between equally accurate variants, in this order.
_COST_COLUMNS = ("train_seconds", "answer_seconds", "eval_seconds")
# Of which metric and set each limit is; True: at most.
_LIMITED: dict[Limit, tuple[str, str, bool]] = {
    "min_strict_accuracy": ("strict_accuracy", PROMOTION_SUBSET, False),
    "max_hallucinated_product_rate": ("hallucinated_product_rate", ALL, True),
    "max_answered_unanswerable_rate": ("answered_unanswerable_rate", "unanswerable", True),
}
_COUNTED: dict[Limit, tuple[str, str]] = {
    "min_questions": ("strict_accuracy", PROMOTION_SUBSET),
    "min_unanswerable_questions": ("answered_unanswerable_rate", "unanswerable"),
}
LIMITS: tuple[Limit, ...] = (*_COUNTED, *_LIMITED)
"""The names of the absolute rules, in the order in which they are told."""


class RuleVerdict(BaseModel):
    """One rule applied to one variant; `value` is None where the metric was not measured."""

    model_config = ConfigDict(frozen=True)

    rule: str
    value: float | None
    limit: float
    passed: bool
    reason: str


class VariantVerdict(BaseModel):
    """All rules applied to one variant, and how it stands against the champion."""

    model_config = ConfigDict(frozen=True)

    variant: str
    eligible: bool
    strict_accuracy: float | None
    rules: tuple[RuleVerdict, ...]
    against_champion: HeadToHead | None = None

    @property
    def why_not(self) -> str:
        """The first reason against it, if there is one."""
        failed = [rule.reason for rule in self.rules if not rule.passed]
        if failed or self.against_champion is None:
            return failed[0] if failed else ""
        return self.against_champion.reason


class PromotionDecision(BaseModel):
    """The promoted variant (None: nothing is, a champion stays), why, and each one's verdicts."""

    model_config = ConfigDict(frozen=True)

    promoted: str | None
    reason: str
    policy: PromotionPolicy
    variants: tuple[VariantVerdict, ...]
    incumbent: str | None = None

    def verdict(self, variant: str) -> VariantVerdict:
        """The verdict on one variant."""
        return next(one for one in self.variants if one.variant == variant)


@dataclass(frozen=True)
class Incumbent:
    """The champion that is challenged.

    job: its name. adapter: its fingerprint. answers: SCORED; None: it cannot be asked any more.
    cost: what was measured of it.
    """

    job: str
    adapter: str
    answers: pl.DataFrame | None
    cost: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidates:
    """The variants of a comparison.

    answers: SCORED, those of the comparison (needed where a champion is challenged). adapters:
    fingerprints of the adapters that gave the answers. barred: why an adapter may not serve, by
    fingerprint.
    """

    comparison: Comparison
    answers: pl.DataFrame | None = None
    adapters: Mapping[str, str] = field(default_factory=dict)
    barred: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Those that were tested against a baseline: an untouched model is no candidate."""
        return sorted(self.comparison.tests["variant"].unique())


def decide(
    candidates: Candidates,
    policy: PromotionPolicy,
    incumbent: Incumbent | None = None,
    *,
    seed: int = 0,
) -> PromotionDecision:
    """Apply the policy: who becomes the champion, if anybody does.

    A first champion is the most accurate on unseen of those that pass every rule; ties go to the
    shorter training, then the shorter evaluation (`costs`; unknown last), then the name. A champion
    is replaced by the most accurate of those that are better, else by the cheapest of those that
    are as good and cheaper (`challenge`); else it stays. One that keeps the limits on these
    questions no longer, or that cannot be asked any more, defends nothing. A metric that was not
    measured fails its rule.

    Raises:
        ChallengeError: the champion answered other questions.
    """
    verdicts = [_verdict(candidates, policy, name) for name in candidates.names]
    if incumbent is None:
        return _first(candidates, policy, verdicts, None, "")
    itself = incumbent.adapter
    verdicts = [one for one in verdicts if candidates.adapters.get(one.variant) != itself]
    lost = _why_it_defends_nothing(incumbent, policy, seed)
    if lost:
        return _first(candidates, policy, verdicts, incumbent, lost)
    fought = _fought(candidates, policy, incumbent, verdicts, seed)
    return _replaced(candidates, policy, incumbent, fought)


def limit_verdicts(summary: pl.DataFrame, variant: str, limits: Limits) -> Iterator[RuleVerdict]:
    """The absolute rules applied to one variant of a SUMMARY."""
    for counted, place in _COUNTED.items():
        yield _enough(_row(summary, variant, *place), counted, place, getattr(limits, counted))
    for rule, (metric, subset, at_most) in _LIMITED.items():
        row = _row(summary, variant, metric, subset)
        yield _limit(row, rule, f"{metric} on {subset}", getattr(limits, rule), at_most=at_most)


def _row(summary: pl.DataFrame, variant: str, metric: str, subset: str) -> dict[str, Any] | None:
    rows = summary.filter(
        pl.col("value").is_not_null(), variant=variant, metric=metric, subset=subset
    )
    return rows.row(0, named=True) if rows.height else None


def _enough(
    row: dict[str, Any] | None, rule: str, place: tuple[str, str], limit: int
) -> RuleVerdict:
    asked = row["denominator"] if row else 0
    reason = f"{asked} questions for {place[0]} on {place[1]}, at least {limit} are asked for"
    return RuleVerdict(rule=rule, value=asked, limit=limit, passed=asked >= limit, reason=reason)


def _limit(
    row: dict[str, Any] | None, rule: str, name: str, limit: float, *, at_most: bool
) -> RuleVerdict:
    if row is None:
        reason = f"{name} was not measured"
        return RuleVerdict(rule=rule, value=None, limit=limit, passed=False, reason=reason)
    value = row["value"]
    passed = value <= limit if at_most else value >= limit
    bound = "at most" if at_most else "at least"
    reason = (
        f"{name} is {value:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        f" ({row['numerator']} of {row['denominator']}), {bound} {limit:g} is asked"
    )
    return RuleVerdict(rule=rule, value=value, limit=limit, passed=passed, reason=reason)


def _verdict(candidates: Candidates, policy: PromotionPolicy, variant: str) -> VariantVerdict:
    comparison = candidates.comparison
    rules = [
        *limit_verdicts(comparison.summary, variant, policy.limits),
        _beats_baseline(comparison, variant, policy.baseline.alpha),
        *_may_serve(candidates, variant),
    ]
    accuracy = comparison.metric(variant, "strict_accuracy", PROMOTION_SUBSET)
    return VariantVerdict(
        variant=variant,
        eligible=all(rule.passed for rule in rules),
        strict_accuracy=accuracy["value"] if accuracy else None,
        rules=tuple(rules),
    )


def _beats_baseline(comparison: Comparison, variant: str, alpha: float) -> RuleVerdict:
    rows = comparison.tests.filter(variant=variant, subset=PROMOTION_SUBSET)
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


def _may_serve(candidates: Candidates, variant: str) -> Iterator[RuleVerdict]:
    """It is known which adapter answered, and that one was not rolled back."""
    adapter = candidates.adapters.get(variant, "")
    if candidates.answers is not None and not adapter:
        reason = (
            "no adapter is known that gave these answers: materialize its predictions and"
            " evaluation_report, then model_comparison"
        )
        yield RuleVerdict(rule="known_adapter", value=None, limit=1, passed=False, reason=reason)
    if adapter in candidates.barred:
        reason = candidates.barred[adapter]
        yield RuleVerdict(rule="not_barred", value=1, limit=0, passed=False, reason=reason)


def _why_it_defends_nothing(incumbent: Incumbent, policy: PromotionPolicy, seed: int) -> str:
    if incumbent.answers is None:
        return f"the champion, {incumbent.job}, cannot be asked any more"
    named = incumbent.answers.with_columns(variant=pl.lit(CHAMPION))
    summary = summarize(named, seed=seed)
    broken = [
        rule.reason
        for rule in limit_verdicts(summary, CHAMPION, policy.limits)
        # Too few questions are no fault of the champion's.
        if rule.rule in _LIMITED and not rule.passed and rule.value is not None
    ]
    return f"the champion, {incumbent.job}, keeps a limit no longer: {broken[0]}" if broken else ""


def _fought(
    candidates: Candidates,
    policy: PromotionPolicy,
    incumbent: Incumbent,
    verdicts: list[VariantVerdict],
    seed: int,
) -> list[VariantVerdict]:
    """The verdicts, with how each stands against the champion."""
    if candidates.answers is None or incumbent.answers is None:
        raise ValueError("to challenge a champion the answers of both sides are needed")
    names = [one.variant for one in verdicts]
    rows = {row["variant"]: row for row in candidates.comparison.costs.to_dicts()}
    found = (
        challenge(
            candidates.answers.filter(pl.col("variant").is_in(names)),
            incumbent.answers,
            {**rows, CHAMPION: incumbent.cost},
            policy.challenge,
            seed=seed,
        )
        if names
        else {}
    )
    return [one.model_copy(update={"against_champion": found.get(one.variant)}) for one in verdicts]


def _first(
    candidates: Candidates,
    policy: PromotionPolicy,
    verdicts: list[VariantVerdict],
    incumbent: Incumbent | None,
    because: str,
) -> PromotionDecision:
    """The best of those that pass every rule: there is no champion, or none to be beaten."""
    job = incumbent.job if incumbent else None
    told = {"policy": policy, "variants": tuple(verdicts), "incumbent": job}
    because = f" ({because})" if because else ""
    eligible = [verdict for verdict in verdicts if verdict.eligible]
    if not eligible:
        stays = f"; {job} stays the champion" if job else ""
        why = f"{_why_none(verdicts)}{stays}{because}."
        return PromotionDecision(promoted=None, reason=why, **told)
    costs = _costs(candidates.comparison)
    best = min(eligible, key=lambda one: (-(one.strict_accuracy or 0.0), *_order(one, costs)))
    reason = (
        f"{best.variant} passes every rule and has the highest strict accuracy on"
        f" {PROMOTION_SUBSET}: {best.strict_accuracy:.3f} (candidates that pass: {len(eligible)})"
        f"{because}."
    )
    return PromotionDecision(promoted=best.variant, reason=reason, **told)


def _replaced(
    candidates: Candidates,
    policy: PromotionPolicy,
    incumbent: Incumbent,
    verdicts: list[VariantVerdict],
) -> PromotionDecision:
    """The best of those that take the champion's place; else the champion stays."""
    told = {"policy": policy, "variants": tuple(verdicts), "incumbent": incumbent.job}
    eligible = [one for one in verdicts if one.eligible and one.against_champion]
    costs = _costs(candidates.comparison)
    better = [one for one in eligible if _stands(one, "better")]
    equal = [one for one in eligible if _stands(one, "as good and cheaper")]
    if better:
        best = min(better, key=lambda one: (-(one.strict_accuracy or 0.0), *_order(one, costs)))
    elif equal:
        best = min(equal, key=lambda one: (_challenger_cost(one), *_order(one, costs)))
    else:
        reasons = "; ".join(f"{one.variant}: {one.why_not}" for one in verdicts)
        why = reasons or "nobody challenges it"
        return PromotionDecision(
            promoted=None, reason=f"{incumbent.job} stays the champion: {why}.", **told
        )
    reason = f"{best.variant} replaces {incumbent.job}: {best.why_not}."
    return PromotionDecision(promoted=best.variant, reason=reason, **told)


def _stands(verdict: VariantVerdict, standing: str) -> bool:
    return verdict.against_champion is not None and verdict.against_champion.standing == standing


def _challenger_cost(verdict: VariantVerdict) -> float:
    met = verdict.against_champion
    return float("inf") if met is None or met.challenger_cost is None else met.challenger_cost


def _why_none(verdicts: list[VariantVerdict]) -> str:
    if not verdicts:
        return "nothing is promoted: no variant was compared with a baseline"
    failed = "; ".join(f"{verdict.variant}: {verdict.why_not}" for verdict in verdicts)
    return f"nothing is promoted: {failed}"


def _order(
    verdict: VariantVerdict, costs: Mapping[str, tuple[float, ...]]
) -> tuple[tuple[float, ...], str]:
    return costs.get(verdict.variant, (float("inf"),)), verdict.variant


def _costs(comparison: Comparison) -> dict[str, tuple[float, ...]]:
    """Measured seconds of each variant, training first; infinity where they are not known."""
    names = [name for name in _COST_COLUMNS if name in comparison.costs.columns]
    seconds = (pl.col(name).cast(pl.Float64).fill_null(float("inf")) for name in names)
    frame = comparison.costs.select("variant", *seconds)
    return {variant: tuple(costs) for variant, *costs in frame.iter_rows()}

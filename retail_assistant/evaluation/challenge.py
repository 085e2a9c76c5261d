"""Challengers against the champion, on the same questions: better, as good and cheaper, or neither.

*Better* is a paired test of superiority: exact McNemar, p adjusted by Holm over the challengers,
and a bootstrap interval over products that leaves 0 out. *As good* is a paired test of
non-inferiority: Tango's score test of the hypothesis that the challenger is less accurate by the
margin or more (adjusted by Holm, one-sided at half of alpha, as for a 95% interval), and a
bootstrap interval that leaves the margin out.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.evaluation.comparison import paired_tests
from retail_assistant.evaluation.promotion_policy import ChallengeRule
from retail_assistant.evaluation.statistics import RESAMPLES, holm

CHAMPION = "champion"
"""What the champion's own answers are called in a SCORED frame."""
PROMOTION_SUBSET = "unseen"

Standing = Literal["better", "as good and cheaper", "as good", "not better"]


class ChallengeError(ValueError):
    """Answers that cannot be compared; the message says what to do."""


class HeadToHead(BaseModel):
    """A challenger against the champion on the questions about products never trained on."""

    model_config = ConfigDict(frozen=True)

    standing: Standing
    reason: str
    questions: int
    clusters: int
    only_challenger: int = Field(description="questions that only the challenger got right")
    only_champion: int
    difference: float
    low: float
    high: float
    p_holm: float = Field(description="better or worse: exact McNemar, Holm")
    p_not_worse_holm: float = Field(description="not worse by the margin: Tango, Holm")
    cost: str
    challenger_cost: float | None
    champion_cost: float | None


def tango_p(only_first: int, only_second: int, pairs: int, margin: float) -> float:
    """One-sided p that the first of two paired proportions is lower by `margin` or more.

    Score test of Tango (1998), Statistics in Medicine 17:891-908. It takes pairs as independent:
    read it beside the interval over clusters.

    Args:
        only_first: pairs of which only the first was right.
        only_second: pairs of which only the second was.
        pairs: all of them.
        margin: above 0.
    """
    from scipy.stats import norm

    theta = -margin
    linear = (2 * pairs - only_first + only_second) * theta - only_first - only_second
    constant = -only_second * theta * (1 - theta)
    # The share of pairs that only the second gets right, most likely under the hypothesis.
    share = (math.sqrt(linear**2 - 8 * pairs * constant) - linear) / (4 * pairs)
    variance = pairs * (2 * share + theta * (1 - theta))
    return float(norm.sf((only_first - only_second - pairs * theta) / math.sqrt(variance)))


def challenge(
    challengers: pl.DataFrame,
    champion: pl.DataFrame,
    costs: Mapping[str, Mapping[str, Any]],
    rule: ChallengeRule,
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> dict[str, HeadToHead]:
    """Each variant of `challengers` against the champion.

    Args:
        challengers: SCORED, any number of variants.
        champion: SCORED, the champion's answers to the same questions.
        costs: by variant, and of `CHAMPION`; what is not known is left out.
        rule: when a challenger takes the champion's place.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Raises:
        ChallengeError: the champion answered other questions.
    """
    asked, answered = set(challengers["dialogue_id"]), set(champion["dialogue_id"])
    if asked != answered:
        raise ChallengeError(
            f"the champion's answers are to other questions ({len(asked & answered)} in common, of"
            f" {len(asked)} and {len(answered)}): materialize champion_predictions, champion_report"
            " and model_comparison again"
        )
    columns = ["dialogue_id", "variant", "subset", "intent", "cluster", "correct"]
    named = champion.with_columns(variant=pl.lit(CHAMPION))
    both = pl.concat([challengers.select(columns), named.select(columns)])
    pairs = dict.fromkeys(challengers["variant"].unique(), CHAMPION)
    tests = paired_tests(both, pairs, seed=seed, resamples=resamples)
    return dict(_judged(tests, costs, rule))


def _judged(
    tests: pl.DataFrame, costs: Mapping[str, Mapping[str, Any]], rule: ChallengeRule
) -> Iterator[tuple[str, HeadToHead]]:
    rows = tests.filter(subset=PROMOTION_SUBSET).to_dicts()
    not_worse = holm(
        [
            tango_p(row["only_variant"], row["only_baseline"], row["questions"], rule.margin)
            for row in rows
        ]
    )
    for row, p_not_worse in zip(rows, not_worse, strict=True):
        variant = row["variant"]
        worse_on = _worse_on(tests.filter(variant=variant), rule)
        mine, champions = (costs.get(name, {}).get(rule.cost) for name in (variant, CHAMPION))
        standing, why = _standing(row, p_not_worse, worse_on, (mine, champions), rule)
        yield (
            variant,
            HeadToHead(
                standing=standing,
                reason=why,
                questions=row["questions"],
                clusters=row["clusters"],
                only_challenger=row["only_variant"],
                only_champion=row["only_baseline"],
                difference=row["difference"],
                low=row["low"],
                high=row["high"],
                p_holm=row["p_holm"],
                p_not_worse_holm=p_not_worse,
                cost=rule.cost,
                challenger_cost=mine,
                champion_cost=champions,
            ),
        )


def _worse_on(tests: pl.DataFrame, rule: ChallengeRule) -> str | None:
    """A set on which the challenger is significantly worse, with its numbers."""
    for row in tests.filter(pl.col("subset").is_in(rule.not_worse_on)).to_dicts():
        if row["difference"] < 0 and row["p_holm"] < rule.alpha:
            return f"{row['subset']} ({row['difference']:+.3f}, p (Holm) {row['p_holm']:.2g})"
    return None


def _standing(
    row: Mapping[str, Any],
    p_not_worse: float,
    worse_on: str | None,
    costs: tuple[float | None, float | None],
    rule: ChallengeRule,
) -> tuple[Standing, str]:
    told = (
        f"difference to the champion on {PROMOTION_SUBSET} {row['difference']:+.3f}"
        f" [{row['low']:+.3f}, {row['high']:+.3f}] ({row['only_variant']} right of"
        f" {row['questions']} that the champion is not, {row['only_baseline']} the other way),"
        f" p (Holm) {row['p_holm']:.2g}"
    )
    if worse_on:
        return "not better", f"significantly worse on {worse_on}; {told}"
    if row["difference"] > 0 and row["p_holm"] < rule.alpha and row["low"] > 0:
        return "better", f"better than the champion: {told}"
    told += f"; worse by {rule.margin:g} or more: p (Holm) {p_not_worse:.2g}"
    # Where no question is answered differently there is nothing to resample.
    undivided = row["only_variant"] + row["only_baseline"] == 0
    if p_not_worse >= rule.alpha / 2 or not (undivided or row["low"] > -rule.margin):
        return "not better", f"neither shown to be better nor to be as good: {told}"
    cheaper, saving = _saving(costs, rule)
    return ("as good and cheaper" if cheaper else "as good"), f"as good, {saving}: {told}"


def _saving(costs: tuple[float | None, float | None], rule: ChallengeRule) -> tuple[bool, str]:
    mine, champions = costs
    if mine is None or champions is None:
        return False, f"but {rule.cost} is not known of both"
    cheaper = mine < champions and mine <= champions * (1 - rule.min_saving)
    told = f"{rule.cost} {mine:g}, the champion's {champions:g}"
    if cheaper:
        return True, f"and cheaper ({told})"
    return False, f"but not cheaper by {rule.min_saving:.0%} ({told})"

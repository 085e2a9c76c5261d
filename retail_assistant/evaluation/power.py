"""How small a difference between two models a set of questions can show.

Two models answer the same questions, and the exact McNemar test compares them. What it can show
depends on the questions on which they differ: with a share `discordant` of such questions and a
difference in accuracy `difference`, the better one alone is right on (discordant + difference) / 2
of all questions.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

ALPHA = 0.05
POWER = 0.8
DISCORDANT = (0.1, 0.2, 0.4)
"""Shares of questions on which two models differ: near-twins, different jobs, job and baseline."""
DIFFERENCES = (0.02, 0.05, 0.1)
MOST_QUESTIONS = 1_000_000

POWER_SCHEMA = pl.Schema(
    {
        "subset": pl.String,
        "questions": pl.Int64,
        "products": pl.Int64,
        "comparisons": pl.Int64,
        "alpha": pl.Float64,
        "discordant": pl.Float64,
        "smallest_difference": pl.Float64,
        "smallest_difference_if_products_count": pl.Float64,
        **{f"questions_for_{round(100 * one)}_points": pl.Int64 for one in DIFFERENCES},
    }
)


def mcnemar_power(
    questions: int, difference: float, discordant: float, alpha: float = ALPHA
) -> float:
    """The chance that the exact McNemar test finds a difference, in (0, 1).

    Exact and unconditional (Duffy 1984, Biometrics 40:1007): over every number of discordant
    questions, the chance of that number times the chance that the binomial test on it rejects.

    Raises:
        ValueError: a difference larger than the discordant share cannot be.
    """
    from scipy.stats import binom

    if not 0 <= difference <= discordant <= 1:
        raise ValueError(
            f"difference {difference:g}, discordant {discordant:g}: allowed are"
            " 0 <= difference <= discordant <= 1"
        )
    if discordant == 0:
        return 0.0
    spread = 10 * np.sqrt(questions * discordant * (1 - discordant)) + 10
    middle = questions * discordant
    counts = np.arange(max(0, int(middle - spread)), min(questions, int(middle + spread)) + 1)
    # Rejected where at most `few` are on one side: the largest with P(X <= few) <= alpha / 2.
    few = binom.ppf(alpha / 2, counts, 0.5)
    few = np.where(binom.cdf(few, counts, 0.5) > alpha / 2, few - 1, few)
    better = (1 + difference / discordant) / 2
    rejected = binom.cdf(few, counts, better) + binom.sf(counts - few - 1, counts, better)
    return float(binom.pmf(counts, questions, discordant) @ np.where(few >= 0, rejected, 0.0))


def questions_needed(
    difference: float, discordant: float, *, alpha: float = ALPHA, power: float = POWER
) -> int:
    """How many questions the exact McNemar test needs to find a difference with this power.

    The asymptotic number (Miettinen 1968, Biometrics 24:339; Connor 1987, Biometrics 43:207) is
    where the search by `mcnemar_power` begins: the exact test needs some more.

    Raises:
        ValueError: the difference is not above 0 and up to the discordant share.
    """
    from scipy.stats import norm

    if not 0 < difference <= discordant <= 1:
        raise ValueError(
            f"difference {difference:g}, discordant {discordant:g}: allowed are"
            " 0 < difference <= discordant <= 1"
        )
    z_alpha, z_power = norm.isf(alpha / 2), norm.isf(1 - power)
    root = z_alpha * np.sqrt(discordant) + z_power * np.sqrt(discordant - difference**2)
    low = max(1, int(0.8 * root**2 / difference**2))
    high = 2 * low + 20
    while mcnemar_power(high, difference, discordant, alpha) < power:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if mcnemar_power(middle, difference, discordant, alpha) < power:
            low = middle
        else:
            high = middle
    return high


def smallest_difference(
    questions: int, discordant: float, *, alpha: float = ALPHA, power: float = POWER
) -> float | None:
    """The smallest difference that the test finds with this power; None where it finds none."""
    from scipy.optimize import brentq

    def lacking(difference: float) -> float:
        return mcnemar_power(questions, difference, discordant, alpha) - power

    if questions < 1 or lacking(discordant) < 0:
        return None
    return float(brentq(lacking, 0.0, discordant, xtol=1e-4))


def power_table(
    sets: pl.DataFrame, *, comparisons: Sequence[int] = (1,), power: float = POWER
) -> pl.DataFrame:
    """What each evaluation set can show, for several discordant shares and numbers of jobs.

    `sets`: subset, questions, products. `comparisons`: how many jobs are tested at once; Holm's
    first step tests at ALPHA by that number, which is what the smallest p has to pass. Questions
    about one product are not independent: `smallest_difference` takes them as if they were,
    `smallest_difference_if_products_count` as if those of a product all came out alike (one
    question a product); the truth is between the two. `questions_for_…` are independent ones.
    """
    rows = [
        _power_row(one, count, share, power)
        for one in sets.iter_rows(named=True)
        for count in dict.fromkeys(comparisons)
        for share in DISCORDANT
    ]
    return pl.DataFrame(rows, schema=POWER_SCHEMA, orient="row")


def _power_row(one: dict, comparisons: int, discordant: float, power: float) -> dict:
    alpha = ALPHA / max(1, comparisons)
    found = [
        smallest_difference(one[count], discordant, alpha=alpha, power=power)
        for count in ("questions", "products")
    ]
    return {
        "subset": one["subset"],
        "questions": one["questions"],
        "products": one["products"],
        "comparisons": comparisons,
        "alpha": alpha,
        "discordant": discordant,
        "smallest_difference": found[0],
        "smallest_difference_if_products_count": found[1],
        **{
            f"questions_for_{round(100 * wanted)}_points": questions_needed(
                wanted, discordant, alpha=alpha, power=power
            )
            for wanted in DIFFERENCES
            if wanted <= discordant
        },
    }

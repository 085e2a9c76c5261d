"""The power of the paired test: against simulation, published numbers, and itself."""

import numpy as np
import polars as pl
import pytest

from retail_assistant.evaluation.power import (
    POWER_SCHEMA,
    mcnemar_power,
    power_table,
    questions_needed,
    smallest_difference,
)
from retail_assistant.evaluation.statistics import mcnemar_p


def simulated_power(questions: int, difference: float, discordant: float, alpha: float) -> float:
    random = np.random.default_rng(3)
    better = (discordant + difference) / 2
    cells = [better, discordant - better, 1 - discordant]
    drawn = random.multinomial(questions, cells, size=1500)
    return float(np.mean([mcnemar_p(int(a), int(b)) < alpha for a, b, _ in drawn]))


@pytest.mark.parametrize(
    ("questions", "difference", "discordant", "alpha"),
    [(60, 0.2, 0.3, 0.05), (200, 0.1, 0.2, 0.05), (200, 0.1, 0.4, 0.05), (150, 0.15, 0.2, 0.01)],
)
def test_the_power_is_what_a_simulation_finds(
    questions: int, difference: float, discordant: float, alpha: float
) -> None:
    found = simulated_power(questions, difference, discordant, alpha)
    assert mcnemar_power(questions, difference, discordant, alpha) == pytest.approx(found, abs=0.04)


def test_without_a_difference_the_test_keeps_its_level() -> None:
    for questions in (20, 60, 500):
        assert 0 <= mcnemar_power(questions, 0.0, 0.3) <= 0.05


@pytest.mark.parametrize(("difference", "discordant"), [(0.02, 0.1), (0.05, 0.2), (0.1, 0.4)])
def test_so_many_questions_are_enough_and_one_in_ten_fewer_are_not(
    difference: float, discordant: float
) -> None:
    needed = questions_needed(difference, discordant)
    assert mcnemar_power(needed, difference, discordant) >= 0.8
    assert mcnemar_power(int(0.9 * needed), difference, discordant) < 0.8
    # Connor's formula, by hand, is a little below: the exact test is the stricter one.
    root = 1.959964 * discordant**0.5 + 0.841621 * (discordant - difference**2) ** 0.5
    assert 1 <= needed / (root / difference) ** 2 < 1.15


def test_the_smallest_difference_needs_the_questions_that_there_are() -> None:
    for questions in (60, 300):
        found = smallest_difference(questions, 0.3)
        assert found is not None
        assert questions_needed(found, 0.3) == pytest.approx(questions, rel=0.06)
    assert smallest_difference(4, 0.3) is None
    assert smallest_difference(0, 0.3) is None


@pytest.mark.parametrize(("difference", "discordant"), [(0.3, 0.2), (-0.1, 0.2), (0.1, 1.2)])
def test_what_cannot_be_is_refused(difference: float, discordant: float) -> None:
    with pytest.raises(ValueError, match="allowed are"):
        mcnemar_power(10, difference, discordant)
    with pytest.raises(ValueError, match="allowed are"):
        questions_needed(difference, discordant)


def test_more_jobs_need_more_and_products_show_less_than_questions() -> None:
    sets = pl.DataFrame({"subset": ["unseen", "none"], "questions": [60, 0], "products": [30, 0]})
    table = power_table(sets, comparisons=(1, 5))
    assert table.schema == POWER_SCHEMA
    assert table.height == 2 * 2 * 3
    assert table.filter(subset="none")["smallest_difference"].null_count() == 6
    one, five = (
        table.filter(subset="unseen", comparisons=count, discordant=0.4).row(0, named=True)
        for count in (1, 5)
    )
    assert five["alpha"] == pytest.approx(0.01)
    assert one["smallest_difference"] < one["smallest_difference_if_products_count"]
    assert one["smallest_difference"] < five["smallest_difference"]
    assert one["questions_for_2_points"] > one["questions_for_5_points"] > 100

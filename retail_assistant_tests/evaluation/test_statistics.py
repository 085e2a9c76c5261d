import numpy as np
import pytest

from retail_assistant.evaluation.statistics import (
    difference_interval,
    holm,
    mcnemar_p,
    ratio_interval,
)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    random, truth, runs = np.random.default_rng(5), 0.7, 300
    covered = 0
    for run in range(runs):
        questions = random.integers(1, 4, size=40)
        # Answers about one product are alike: its own rate is drawn first.
        rates = random.beta(truth * 4, (1 - truth) * 4, size=40)
        right = random.binomial(questions, rates)
        estimate = ratio_interval(right, questions, seed=run, resamples=400)
        covered += estimate.low <= truth <= estimate.high
    assert 0.90 <= covered / runs <= 0.99


def test_the_paired_interval_covers_the_truth() -> None:
    random, runs, covered = np.random.default_rng(6), 300, 0
    for run in range(runs):
        ease = random.uniform(size=(50, 2))
        first, second = (ease < 0.8).sum(axis=1), (ease < 0.5).sum(axis=1)
        estimate = difference_interval(first, second, [2] * 50, seed=run, resamples=400)
        covered += estimate.low <= 0.3 <= estimate.high
    assert 0.90 <= covered / runs <= 0.99


def test_clusters_widen_the_interval() -> None:
    apart = ratio_interval([1, 0] * 60, [1] * 120, seed=1)
    together = ratio_interval([6, 0] * 10, [6] * 20, seed=1)
    assert apart.value == together.value == 0.5
    assert together.high - together.low > 1.5 * (apart.high - apart.low)


@pytest.mark.parametrize("share", [0, 1])
def test_where_all_are_alike_the_interval_still_has_a_width(share: int) -> None:
    estimate = ratio_interval([share] * 20, [1] * 20, seed=1)
    assert estimate.value == share
    assert 0.1 < estimate.high - estimate.low < 0.2
    assert estimate.low <= share <= estimate.high


def test_one_cluster_says_next_to_nothing() -> None:
    estimate = ratio_interval([9], [10], seed=1)
    assert estimate.value == 0.9
    assert estimate.high - estimate.low > 0.6


def test_nothing_counted_is_no_number() -> None:
    assert np.isnan(ratio_interval([0, 0], [0, 0], seed=1)).all()
    assert np.isnan(difference_interval([], [], [], seed=1)).all()


def test_the_same_seed_gives_the_same_interval() -> None:
    counted, of = list(range(60)), [60 + 7 * number % 11 for number in range(60)]
    first = ratio_interval(counted, of, seed=4, key="accuracy")
    assert first == ratio_interval(counted, of, seed=4, key="accuracy")
    assert first != ratio_interval(counted, of, seed=5, key="accuracy")


def test_a_variant_that_is_always_better_has_a_difference_with_width() -> None:
    estimate = difference_interval([1] * 12, [0] * 12, [1] * 12, seed=1)
    assert estimate.value == 1
    assert 0.5 < estimate.low < 1
    same = difference_interval([1] * 12, [1] * 12, [1] * 12, seed=1)
    assert (same.value, same.low < 0 < same.high) == (0, True)


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"), [(0, 0, 1.0), (5, 5, 1.0), (10, 0, 2 / 2**10), (1, 0, 1.0)]
)
def test_mcnemar_is_the_exact_binomial_test(only_first: int, only_second: int, p: float) -> None:
    assert mcnemar_p(only_first, only_second) == pytest.approx(p)
    assert mcnemar_p(only_second, only_first) == pytest.approx(p)


def test_holm_adjusts_in_order() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_an_interval_of_a_mean_keeps_to_its_bounds() -> None:
    alike = ratio_interval([8.0, 4.0], [2, 1], seed=1, bounds=(1, 5))
    assert alike.value == 4
    assert 1 < alike.low < 4 < alike.high < 5
    best = ratio_interval([5.0] * 20, [1] * 20, seed=1, bounds=(1, 5))
    assert (best.high, 4 < best.low < 5) == (5, True)
    same = difference_interval([4.0] * 9, [4.0] * 9, [1] * 9, seed=1, bounds=(1, 5))
    assert (same.value, -4 < same.low < 0 < same.high < 4) == (0, True)

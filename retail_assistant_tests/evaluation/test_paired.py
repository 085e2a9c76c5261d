"""Paired differences of all metrics: what differs is told, what is the same is not."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from retail_assistant.evaluation.metrics import score
from retail_assistant.evaluation.paired import PAIRED_SCHEMA, paired_metrics
from retail_assistant.evaluation.statistics import (
    difference_interval,
    paired_bootstrap_p,
    ratio_difference,
)

Frames = Callable[..., pl.DataFrame]


def test_with_one_denominator_it_is_the_paired_interval() -> None:
    random = np.random.default_rng(4)
    first, second = random.normal([[0.4], [0.1]], size=(2, 50))
    of = random.integers(1, 4, size=50).astype(float)
    found, p = ratio_difference((first, of), (second, of), seed=2)
    expected = difference_interval(first, second, of, seed=2)
    assert found.value == pytest.approx(expected.value)
    assert found.low == pytest.approx(expected.low, abs=0.05)
    assert found.high == pytest.approx(expected.high, abs=0.05)
    expected_p = paired_bootstrap_p(first, second, of.tolist(), seed=2)
    assert p == pytest.approx(expected_p, abs=0.03)


def test_the_interval_of_two_precisions_covers_their_difference() -> None:
    random, runs, covered = np.random.default_rng(11), 200, 0
    for run in range(runs):
        of = random.poisson([[3.0], [1.5]], size=(2, 60)).astype(float)
        right = random.binomial(of.astype(int), [[0.8], [0.5]]).astype(float)
        found, _ = ratio_difference((right[0], of[0]), (right[1], of[1]), seed=run, resamples=300)
        covered += found.low <= 0.3 <= found.high
    assert 0.90 <= covered / runs <= 0.99


def test_what_cannot_be_told_is_not() -> None:
    one, none = np.array([1.0]), np.array([0.0])
    estimate, p = ratio_difference((one, one), (none, one), seed=1)
    assert (estimate.value, np.isnan(estimate.low), p) == (1, True, 1)
    estimate, p = ratio_difference((none, none), (one, one), seed=1)
    assert (np.isnan(estimate.value), p) == (True, 1)
    same = np.ones(9)
    estimate, p = ratio_difference((same, same), (same, same), seed=1)
    assert (estimate.value, estimate.low, estimate.high, p) == (0, 0, 0, 1)


def test_every_metric_that_both_have_is_compared(
    dialogues: pl.DataFrame, products: pl.DataFrame, predict: Frames
) -> None:
    predictions = pl.concat(
        [predict("good"), predict("same"), predict("bad", "I do not know.")]
    ).with_columns(sem_score=pl.when(variant=pl.lit("bad")).then(0.2).otherwise(0.9))
    scored = score(dialogues, predictions, products)
    found = paired_metrics(scored, {"good": "bad", "same": "good"}, seed=1, resamples=200)
    assert found.schema == PAIRED_SCHEMA
    better = found.filter(variant="good", subset="all")
    differences = dict(better.select("metric", "difference").iter_rows())
    assert differences["sem_score"] == pytest.approx(0.7)
    assert differences["refused_wrongly_rate"] == -1
    assert "truthfulness" not in differences
    same = found.filter(variant="same")
    assert same["difference"].abs().max() == 0
    assert set(same["p"]) == {1.0}
    assert (found["p_holm"] >= found["p"]).all()
    assert not paired_metrics(scored, {}, seed=1).height

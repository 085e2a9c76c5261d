"""Bootstrap tests of what is no yes/no of a question, and tests against a champion."""

from collections.abc import Callable

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from retail_assistant.evaluation.comparison import Comparison, compare
from retail_assistant.evaluation.metrics import METRICS, score
from retail_assistant.evaluation.paired_tests import (
    Pair,
    bootstrap_differences,
    bootstrapped_metrics,
)
from retail_assistant.evaluation.statistics import holm

Frames = Callable[..., pl.DataFrame]
PAIR = Pair("job", "base", "baseline")


def suggesting(valid: dict[str, list[int]], of: int = 4) -> pl.DataFrame:
    """A SCORED frame of alternatives: so many valid of `of` suggestions, a product a question."""
    rows = [
        {
            "dialogue_id": f"q{i}",
            "cluster": f"p{i}",
            "variant": variant,
            "subset": "unseen",
            "intent": "alternative",
            "suggestions_valid": count,
            "suggestions": of,
        }
        for variant, counts in valid.items()
        for i, count in enumerate(counts)
    ]
    needed = {"correct": False, "false_positive": False}
    zeros = dict.fromkeys(
        ("attributes_right", "attributes_stated", "attributes_expected",
         "attributes_expected_right"), 0,
    )  # fmt: skip
    constants = {name: pl.lit(value) for name, value in (needed | zeros).items()}
    return pl.DataFrame(rows).with_columns(**constants)


def only(frame: pl.DataFrame) -> dict:
    (row,) = frame.to_dicts()
    return row


def test_a_clear_difference_is_found_and_sized() -> None:
    scored = suggesting({"job": [4, 3] * 15, "base": [1, 2] * 15})
    row = only(bootstrap_differences(scored, [PAIR], seed=1, resamples=500))
    assert (row["metric"], row["clusters"]) == ("alternatives_valid_share", 30)
    assert (row["value"], row["against_value"]) == (0.875, 0.375)
    assert row["difference"] == 0.5
    assert row["low"] < 0.5 < row["high"]
    assert row["p"] == pytest.approx(2 / 501)


def test_the_p_of_no_difference_is_not_small_more_often_than_it_should() -> None:
    import numpy as np

    draws = np.random.default_rng(3)
    small = 0
    for seed in range(25):
        counts = {name: draws.integers(0, 5, 40).tolist() for name in ("job", "base")}
        frame = bootstrap_differences(suggesting(counts), [PAIR], seed=seed, resamples=200)
        small += only(frame)["p"] < 0.05
    assert small <= 5  # binomial(25, 0.05) is above 5 once in 1000


def test_the_p_agrees_with_a_paired_t_test_on_many_products() -> None:
    import numpy as np
    from scipy.stats import ttest_rel

    draws = np.random.default_rng(5)
    job, base = draws.integers(0, 101, 300), draws.integers(0, 94, 300)
    scored = suggesting({"job": job.tolist(), "base": base.tolist()}, of=100)
    row = only(bootstrap_differences(scored, [PAIR], seed=2, resamples=4000))
    expected = ttest_rel(job, base)
    assert 0.01 < expected.pvalue < 0.5
    assert row["p"] == pytest.approx(expected.pvalue, abs=0.02)
    interval = expected.confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx(
        (interval.low / 100, interval.high / 100), abs=0.004
    )


@pytest.mark.parametrize(("products", "least"), [(1, 1.0), (2, 0.5), (4, 0.125)])
def test_few_products_show_little(products: int, least: float) -> None:
    scored = suggesting({"job": [4] * products, "base": [0] * products})
    assert only(bootstrap_differences(scored, [PAIR], seed=1))["p"] == least


def test_equal_variants_have_p_one_and_no_difference() -> None:
    scored = suggesting({"job": [1, 2, 3], "base": [1, 2, 3]})
    row = only(bootstrap_differences(scored, [PAIR], seed=1))
    assert (row["difference"], row["low"], row["high"], row["p"]) == (0, 0, 0, 1)


def test_what_one_side_never_suggested_is_left_out() -> None:
    scored = suggesting({"job": [1, 2], "base": [0, 0]}).with_columns(
        suggestions=pl.when(variant="base").then(0).otherwise("suggestions")
    )
    assert bootstrap_differences(scored, [PAIR], seed=1).is_empty()


def test_holm_runs_over_the_variants_of_a_role_and_metric() -> None:
    counts = {"a": [4, 3] * 9, "b": [3, 3] * 9, "base": [2, 3] * 9, "best": [4, 4] * 9}
    pairs = [Pair(v, "base", "baseline") for v in ("a", "b")] + [Pair("a", "best", "champion")]
    frame = bootstrap_differences(suggesting(counts), pairs, seed=4, resamples=300)
    against_base = frame.filter(role="baseline").sort("p")
    assert against_base["p_holm"][0] == pytest.approx(2 * against_base["p"][0])
    champion = only(frame.filter(role="champion"))
    assert champion["p_holm"] == champion["p"]


def test_draws_depend_on_nothing_but_the_seed() -> None:
    scored = suggesting({"job": [4, 1, 2, 3], "base": [1, 2, 0, 3], "more": [1, 1, 1, 1]})
    frame = bootstrap_differences(scored, [PAIR], seed=9, resamples=200)
    shuffled = scored.sample(fraction=1, shuffle=True, seed=1)
    pairs = [PAIR, Pair("more", "base", "baseline")]
    again = bootstrap_differences(shuffled, pairs, seed=9, resamples=200).filter(variant="job")
    assert_frame_equal(frame.drop("p_holm"), again.drop("p_holm"))


def test_scores_are_tested_where_they_are() -> None:
    scored = suggesting({"job": [1, 2] * 9, "base": [1, 1] * 9}).with_columns(
        sem_score=pl.when(variant="job").then(0.9).otherwise(0.5),
        truthfulness=pl.lit(None, pl.Float64),
    )
    assert {"sem_score", "truthfulness"} <= {metric.name for metric in bootstrapped_metrics(scored)}
    frame = bootstrap_differences(scored, [PAIR], seed=1, resamples=100)
    assert only(frame.filter(metric="sem_score"))["difference"] == pytest.approx(0.4)
    assert frame.filter(metric="truthfulness").is_empty()


def test_every_metric_named_here_exists() -> None:
    names = {metric.name for metric in METRICS}
    tested = {metric.name for metric in bootstrapped_metrics(suggesting({"job": [1], "base": [1]}))}
    assert tested <= names
    assert len(tested) == 6


@pytest.fixture(scope="module")
def comparison(dialogues: pl.DataFrame, products: pl.DataFrame, predict: Frames) -> Comparison:
    predictions = [
        predict("job-a", answers={"unseen-4": "The length is 12 cm."}),
        predict("job-b", "The fabric is Silk."),
        predict("base/grounded", "The fabric is Linen."),
    ]
    scored = score(dialogues, pl.concat(predictions), products)
    baselines = dict.fromkeys(("job-a", "job-b"), "base/grounded")
    return compare(scored, baseline=baselines, champion="job-b", resamples=100)


def test_jobs_are_tested_against_the_champion_too(comparison: Comparison) -> None:
    assert comparison.champion == "job-b"
    pairs = set(comparison.champion_tests.select("variant", "baseline").iter_rows())
    assert pairs == {("job-a", "job-b")}
    # Holm over one variant is no adjustment; that of the baseline's tests runs over two.
    assert comparison.champion_tests["p"].equals(comparison.champion_tests["p_holm"])
    roles = comparison.differences.select("variant", "against", "role").unique()
    assert ("job-a", "job-b", "champion") in set(roles.iter_rows())


def test_a_champion_that_is_not_compared_is_none(
    dialogues: pl.DataFrame, products: pl.DataFrame, predict: Frames
) -> None:
    scored = score(dialogues, predict("job-a"), products)
    alone = compare(scored, baseline={}, champion="job-b", resamples=10)
    assert alone.champion is None
    assert alone.champion_tests.is_empty()
    assert alone.differences.is_empty()


@settings(max_examples=6, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_that_of_statsmodels(p_values: list[float]) -> None:
    from statsmodels.stats.multitest import multipletests

    expected = multipletests(p_values, method="holm")[1] if p_values else []
    assert holm(p_values) == pytest.approx(list(expected))

import json
from collections.abc import Callable

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from retail_assistant.evaluation.comparison import Comparison, compare
from retail_assistant.evaluation.metrics import score

Frames = Callable[..., pl.DataFrame]
BASELINES = {"job-a": "base/grounded", "job-b": "base/closed-book", "job-c": "base/nowhere"}


@pytest.fixture(scope="module")
def scored(dialogues: pl.DataFrame, products: pl.DataFrame, predict: Frames) -> pl.DataFrame:
    predictions = [
        predict("job-a", answers={"unseen-4": "The length is 12 cm."}),
        predict("base/grounded", "The fabric is Linen."),
        predict("base/closed-book", "I do not know. " + "x" * 5_000),
    ]
    return score(dialogues, pl.concat(predictions), products)


@pytest.fixture(scope="module")
def comparison(scored: pl.DataFrame) -> Comparison:
    costs = pl.DataFrame({"variant": ["job-a", "job-z"], "train_seconds": [12.5, 3.0]})
    return compare(
        scored,
        baseline=BASELINES,
        costs=costs,
        variants=["job-a", "job-b", "base/grounded"],
        resamples=200,
    )


def test_each_variant_is_tested_against_its_own_baseline(comparison: Comparison) -> None:
    tests = comparison.tests
    assert set(tests.select("variant", "baseline").iter_rows()) == {("job-a", "base/grounded")}
    unseen = tests.filter(subset="unseen").row(0, named=True)
    assert (unseen["questions"], unseen["clusters"]) == (5, 3)
    assert (unseen["variant_right"], unseen["baseline_right"]) == (4, 1)
    assert (unseen["only_variant"], unseen["only_baseline"]) == (3, 0)
    assert unseen["difference"] == pytest.approx(0.6)
    assert unseen["low"] <= 0.6 <= unseen["high"]
    assert unseen["p"] == pytest.approx(2 / 2**3)
    assert set(tests["subset"]) == {"recall", "unseen", "unanswerable"}


def test_holm_runs_over_the_jobs_of_a_set(scored: pl.DataFrame) -> None:
    tests = compare(scored, baseline="base/closed-book", resamples=100).tests
    assert set(tests["variant"]) == {"job-a", "base/grounded"}
    unseen = tests.filter(subset="unseen")
    assert unseen.filter(variant="job-a")["p_holm"].item() == pytest.approx(
        2 * unseen.filter(variant="job-a")["p"].item()
    )


def test_absent_variants_and_baselines_are_listed(comparison: Comparison) -> None:
    missing = dict(comparison.missing.iter_rows())
    assert set(missing) == {"job-b", "base/nowhere"}
    assert "baseline of job-c" in missing["base/nowhere"]


def test_costs_are_those_of_compared_variants(comparison: Comparison) -> None:
    assert comparison.costs.rows() == [("job-a", 12.5)]


def test_questions_on_which_variants_differ_come_first(comparison: Comparison) -> None:
    rows = comparison.side_by_side
    assert rows.height == 11 * 3
    by_rank = rows.group_by("rank").agg(pl.col("correct").std()).sort("rank")["correct"]
    assert by_rank[0] > 0
    spread = by_rank.to_list()
    assert spread == sorted(spread, reverse=True)
    longest = rows["answer"].str.len_chars().max()
    assert isinstance(longest, int)
    assert longest < 2_100
    assert rows["answer"].str.contains(r"\(3015 more characters\)").any()


def test_side_by_side_can_be_cut(scored: pl.DataFrame) -> None:
    cut = compare(scored, baseline={}, resamples=50, side_by_side_questions=2)
    assert cut.side_by_side["dialogue_id"].n_unique() == 2
    assert cut.questions == 11
    assert not cut.tests.height


def test_every_question_has_one_outcome(comparison: Comparison) -> None:
    totals = comparison.outcomes.group_by("variant").agg(pl.col("questions").sum())
    assert set(totals["questions"]) == {11}


def test_it_is_json_and_deterministic(scored: pl.DataFrame, comparison: Comparison) -> None:
    text = json.dumps(comparison.to_json_dict(), allow_nan=False)
    assert json.loads(text)["variants"] == ["base/closed-book", "base/grounded", "job-a"]
    again = compare(scored, baseline=BASELINES, resamples=200)
    assert_frame_equal(again.summary, comparison.summary)
    assert_frame_equal(again.tests, comparison.tests)
    assert_frame_equal(again.side_by_side, comparison.side_by_side)


def test_nothing_to_compare_is_no_error(scored: pl.DataFrame) -> None:
    empty = compare(scored.clear(), baseline="base/grounded", variants=["job-a"])
    assert empty.variants == ()
    assert dict(empty.missing.iter_rows())["job-a"] == "no predictions"
    json.dumps(empty.to_json_dict(), allow_nan=False)

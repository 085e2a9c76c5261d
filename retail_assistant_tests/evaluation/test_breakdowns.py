"""Metrics of parts: they add up to the whole, and small cells keep their denominators."""

from collections.abc import Callable

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from retail_assistant.evaluation.breakdowns import (
    BREAKDOWN_SCHEMA,
    DIMENSIONS,
    NO_GROUP,
    breakdown,
    breakdowns,
    strict_beside_loose,
)
from retail_assistant.evaluation.metrics import summarize

Frames = Callable[..., pl.DataFrame]


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_the_parts_add_up_to_the_whole(score_of: Frames, dimension: str) -> None:
    scored = score_of(answers={"unseen-3": "It is silk.", "none-1": "Silk.", "unseen-1": ""})
    parts = breakdown(scored, dimension, seed=1, resamples=20)  # type: ignore[arg-type]
    keys = ["variant", "subset", "metric"]
    sums = [pl.col("numerator").sum(), pl.col("denominator").sum()]
    whole = summarize(scored, seed=1, resamples=20).filter(pl.col("denominator") > 0)
    assert parts.schema == BREAKDOWN_SCHEMA
    assert_frame_equal(
        parts.group_by(keys).agg(sums).sort(keys), whole.group_by(keys).agg(sums).sort(keys)
    )
    assert parts["few_clusters"].all()


def test_categories_are_those_of_the_asked_product(score_of: Frames) -> None:
    scored = score_of(answers={"unseen-1": "The fabric is Silk."})
    rows = breakdown(scored, "category", seed=1, resamples=20).filter(
        metric="strict_accuracy", subset="unseen"
    )
    assert rows.select("group", "numerator", "denominator").rows() == [
        ("Men's Clothing", 1, 2),
        ("Women's Clothing", 3, 3),
    ]
    asked = breakdown(scored, "subcategory", seed=1, resamples=20).filter(metric="malformed_rate")
    assert NO_GROUP in set(asked["group"])


def test_all_dimensions_at_once(score_of: Frames) -> None:
    frame = breakdowns(score_of(), seed=1, resamples=20)
    assert frame["dimension"].unique(maintain_order=True).to_list() == list(DIMENSIONS)
    assert not breakdowns(score_of().clear(), seed=1, resamples=20).height


def test_strict_and_loose_stand_on_the_same_questions(score_of: Frames) -> None:
    rows = strict_beside_loose(score_of("Product Name: Harlow Slim Men's Trousers")).to_dicts()
    unseen = next(row for row in rows if row["subset"] == "unseen")
    assert (unseen["questions"], unseen["strict_right"], unseen["loose_right"]) == (5, 0, 5)
    assert (unseen["strict_accuracy"], unseen["loose_accuracy"]) == (0.0, 1.0)

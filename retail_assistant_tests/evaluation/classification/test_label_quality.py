"""Label quality on planted judgements: known flips are found, kappas are those of the textbook."""

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import cohen_kappa_score

from retail_assistant.evaluation.classification.agreement import (
    JUDGEMENTS,
    overall_agreement,
    pairwise_agreement,
    peoples_judgements,
    with_majority,
)
from retail_assistant.evaluation.classification.label_quality import (
    LabelQuality,
    headline,
    label_quality,
)
from retail_assistant.evaluation.classification.pictures import agreement_bars
from retail_assistant.evaluation.classification.report import AFTER, scored_texts
from retail_assistant_tests.evaluation.classification.planted import classified, corpus

TEXTS = 120
TRUTH = [number % 2 == 0 for number in range(TEXTS)]
FLIPPED = {7, 22, 45, 78, 91, 110}
LABEL = [true != (number in FLIPPED) for number, true in enumerate(TRUTH)]
FIRST: list[bool | None] = [true != (number % 40 == 1) for number, true in enumerate(TRUTH)]
SECOND: list[bool | None] = [None if number % 10 == 3 else one for number, one in enumerate(TRUTH)]


@pytest.fixture(scope="module")
def quality() -> LabelQuality:
    """A model that knows the truth but for one text of which it is unsure."""
    known = corpus(TRUTH, LABEL, {"reviewer_1": FIRST, "reviewer_2": SECOND})
    odds = np.where(TRUTH, 2.5, -2.5)
    odds[8] = -0.1
    scored = scored_texts(known, classified(np.full(TEXTS, 1.0)), classified(odds))
    return label_quality(known, scored, seed=7)


def judged(**judges: list[int | None]) -> pl.DataFrame:
    rows = [
        (f"t{number}", name, label)
        for name, labels in judges.items()
        for number, label in enumerate(labels)
        if label is not None
    ]
    return pl.DataFrame(rows, schema=JUDGEMENTS, orient="row")


def test_exactly_the_flipped_labels_are_doubted(quality: LabelQuality) -> None:
    assert set(quality.doubtful["text_id"]) == {f"t{number:04d}" for number in FLIPPED}
    row = quality.doubtful.filter(text_id="t0007").row(0, named=True)
    assert (row["label"], row["suggested"]) == ("positive", "negative")
    assert row["confidence"] == pytest.approx(1 / (1 + np.exp(-2.5)))
    assert row["reviewers"] == "reviewer_1: negative, reviewer_2: negative"
    assert quality.doubtful["confidence"].is_sorted(descending=True)


def test_the_model_is_right_more_often_under_the_better_labels(quality: LabelQuality) -> None:
    after = quality.accuracy.filter(variant=AFTER)
    by_labels = {row["labelling"]: row for row in after.to_dicts()}
    assert by_labels["original"]["accuracy"] == pytest.approx((TEXTS - 7) / TEXTS)
    # Text 8 apart it says the truth; the second reviewer does too, of the texts that were reviewed.
    reviewed = sum(one is not None for one in SECOND)
    assert by_labels["reviewer_2"]["texts"] == reviewed
    assert by_labels["reviewer_2"]["accuracy"] == pytest.approx((reviewed - 1) / reviewed)
    assert by_labels["majority"]["accuracy"] > by_labels["original"]["accuracy"]
    assert f"{(TEXTS - 7) / TEXTS:.1%} of 120 under the original labels" in headline(quality)


def test_pairs_have_the_texts_of_both(quality: LabelQuality) -> None:
    pairs = {(row["first"], row["second"]): row for row in quality.people.to_dicts()}
    assert set(pairs) == {
        ("original", "reviewer_1"),
        ("original", "reviewer_2"),
        ("reviewer_1", "reviewer_2"),
    }
    one = pairs["original", "reviewer_1"]
    expected = cohen_kappa_score(LABEL, [bool(given) for given in FIRST])
    assert one["kappa"] == pytest.approx(expected)
    assert one["low"] < one["kappa"] < one["high"]
    assert pairs["original", "reviewer_2"]["texts"] == sum(one is not None for one in SECOND)
    firsts = set(quality.models["first"])
    assert firsts == {"model, before", "model, after"}


def test_kappa_by_hand() -> None:
    """Agreement 0.7; by chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5: kappa 0.4."""
    first = [1] * 25 + [0] * 25
    second = [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    (row,) = pairwise_agreement(judged(a=first, b=second), ["a", "b"]).to_dicts()
    assert row["agreement"] == pytest.approx(0.7)
    assert row["kappa"] == pytest.approx(0.4)


def test_kappa_of_those_who_always_say_the_same_is_unknown() -> None:
    (row,) = pairwise_agreement(judged(a=[1, 1, 1], b=[1, 1, 1]), ["a", "b"]).to_dicts()
    assert row["agreement"] == 1.0
    assert row["kappa"] is None


def test_a_judge_who_always_says_the_same_agrees_as_chance_would() -> None:
    (row,) = pairwise_agreement(judged(a=[1, 1, 1, 1], b=[1, 0, 1, 0]), ["a", "b"]).to_dicts()
    assert row["kappa"] == 0.0
    assert row["low"] is None
    assert agreement_bars(pl.DataFrame([row])).startswith("![")


def test_fleiss_needs_three_judges() -> None:
    two = judged(a=[1, 0, 1], b=[1, 0, 0])
    assert overall_agreement(two, ["a", "b"]) == {}
    three = judged(a=[1, 0, 1, 0], b=[1, 0, 1, 0], c=[1, 0, None, 0])
    found = overall_agreement(three, ["a", "b", "c"])
    assert found == {"fleiss_kappa": pytest.approx(1.0), "judges": 3, "texts": 3}


def test_an_even_vote_is_no_majority() -> None:
    voted = with_majority(judged(a=[1, 1, 0], b=[1, 0, 0], c=[0, None, 0]))
    majority = voted.filter(judge="majority").sort("text_id")
    assert majority.select("text_id", "label").rows() == [("t0", 1), ("t2", 0)]


def test_texts_that_nobody_reviewed_have_their_original_label_alone() -> None:
    people = peoples_judgements(corpus([True, False], [True, False], {}))
    assert people["judge"].unique().to_list() == ["original"]
    assert people["label"].to_list() == [1, 0]

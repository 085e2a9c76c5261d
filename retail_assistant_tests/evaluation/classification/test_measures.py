"""Measures against values worked out by hand, and against scikit-learn's."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from retail_assistant.evaluation.classification.measures import MEASURES, auc, bins

TRUTH = np.array([1.0, 1.0, 0.0, 0.0])
CHANCE = np.array([0.9, 0.4, 0.6, 0.2])
# Said: positive, negative, positive, negative. Two right; one hit of two said and two true, on
# either side. Of the four pairs (positive, negative) three are in order: 0.4 < 0.6 is not.
BY_HAND = {
    "accuracy": 0.5,
    "f1_positive": 0.5,
    "f1_negative": 0.5,
    "f1_macro": 0.5,
    "auc": 0.75,
    "brier": (0.01 + 0.36 + 0.36 + 0.04) / 4,
    "log_loss": -(math.log(0.9) + math.log(0.4) + math.log(0.4) + math.log(0.8)) / 4,
    # A bin each: the distances are 0.1, 0.6, 0.6 and 0.2.
    "calibration_error": (0.1 + 0.6 + 0.6 + 0.2) / 4,
}
PAIRS = st.lists(
    st.tuples(st.integers(0, 1), st.floats(0.01, 0.99).filter(lambda p: abs(p - 0.5) > 1e-6)),
    min_size=2,
    max_size=40,
).filter(lambda pairs: len({label for label, _ in pairs}) == 2)


@pytest.mark.parametrize("name", MEASURES)
def test_as_by_hand(name: str) -> None:
    assert float(MEASURES[name](TRUTH, CHANCE)) == pytest.approx(BY_HAND[name])


@given(PAIRS)
def test_as_scikit_learn_has_it(pairs: list[tuple[int, float]]) -> None:
    truth = np.array([label for label, _ in pairs], float)
    chance = np.array([p for _, p in pairs])
    said = (chance >= 0.5).astype(float)
    expected = {
        "accuracy": metrics.accuracy_score(truth, said),
        "f1_positive": metrics.f1_score(truth, said, zero_division=0),
        "f1_negative": metrics.f1_score(truth, said, pos_label=0, zero_division=0),
        "f1_macro": metrics.f1_score(truth, said, average="macro", zero_division=0),
        "auc": metrics.roc_auc_score(truth, chance),
        "brier": metrics.brier_score_loss(truth, chance),
        "log_loss": metrics.log_loss(truth, chance),
    }
    for name, value in expected.items():
        assert float(MEASURES[name](truth, chance)) == pytest.approx(value), name


@pytest.mark.parametrize("name", MEASURES)
def test_many_samples_at_once_are_each_measured(name: str) -> None:
    """As the bootstrap asks for them."""
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 2, (6, 30)).astype(float)
    chance = rng.random((6, 30))
    one_by_one = [float(MEASURES[name](*row)) for row in zip(truth, chance, strict=True)]
    np.testing.assert_allclose(MEASURES[name](truth, chance), one_by_one)


def test_a_perfectly_calibrated_classifier_has_no_error() -> None:
    chance = np.repeat([0.25, 0.75], 8)
    truth = np.array([1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0], float)
    assert float(MEASURES["calibration_error"](truth, chance)) == pytest.approx(0)


def test_bounds() -> None:
    assert bins(np.array([0.0, 0.0999, 0.1, 0.5, 1.0])).tolist() == [0, 0, 1, 5, 9]
    assert math.isnan(float(auc(np.ones(3), np.array([0.1, 0.2, 0.3]))))

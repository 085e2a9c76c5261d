"""Calibration against planted temperatures, and the sweep against real draws."""

import numpy as np
import pytest

from retail_assistant.evaluation.classification.calibration import (
    TEMPERATURES,
    accuracy_when_sampled,
    fitted_temperature,
    reliability,
    temperature_sweep,
)
from retail_assistant.evaluation.classification.labels import probabilities


def drawn(temperature: float, texts: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Truth that follows log-odds / temperature: a classifier that is too sure by that factor."""
    rng = np.random.default_rng(3)
    odds = rng.normal(0, 3, texts)
    return (rng.random(texts) < probabilities(odds, temperature)).astype(float), odds


@pytest.mark.parametrize("planted", [0.5, 1.0, 2.0, 4.0])
def test_the_planted_temperature_is_found(planted: float) -> None:
    assert fitted_temperature(*drawn(planted)) == pytest.approx(planted, rel=0.12)


def test_where_all_is_right_nothing_speaks_against_being_sure() -> None:
    assert fitted_temperature(np.array([1.0, 0.0]), np.array([2.0, -2.0])) < 0.2


def test_extreme_log_odds_do_not_overflow() -> None:
    with np.errstate(all="raise"):
        chance = probabilities(np.array([-1e6, -800.0, 0.0, 800.0, 1e6]), 0.5)
    assert chance[2] == 0.5
    assert chance[0] < 1e-300
    assert chance[-1] == 1.0


def test_bins_tell_predicted_and_seen() -> None:
    truth, chance = np.array([0.0, 1.0, 1.0]), np.array([0.12, 0.18, 0.95])
    rows = reliability(truth, chance).to_dicts()
    assert [row["texts"] for row in rows] == [2, 1]
    assert rows[0] == pytest.approx(
        {"low": 0.1, "high": 0.2, "texts": 2, "predicted": 0.15, "observed": 0.5}
    )
    assert rows[1]["observed"] == 1.0


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_drawing_labels_gives_the_accuracy_that_is_worked_out(temperature: float) -> None:
    truth, odds = drawn(1.0, texts=300)
    rng = np.random.default_rng(5)
    weights = np.exp(np.stack([np.zeros(300), odds]) / temperature)
    chance = weights[1] / weights.sum(axis=0)
    said = rng.random((2000, 300)) < chance
    seen = (said == truth).mean()
    assert accuracy_when_sampled(truth, odds, temperature).mean() == pytest.approx(seen, abs=0.003)


def test_the_sweep_begins_greedily_and_ends_near_guessing() -> None:
    truth, odds = drawn(1.0, texts=300)
    sweep = temperature_sweep(truth, odds, seed=7, key="x")
    assert sweep["temperature"].to_list() == list(TEMPERATURES)
    assert sweep["accuracy"][0] == pytest.approx(((odds >= 0) == truth).mean())
    assert (sweep["low"] <= sweep["accuracy"]).all()
    assert (sweep["accuracy"] <= sweep["high"]).all()
    assert (sweep["accuracy"].diff().drop_nulls() < 0).all()
    assert float(accuracy_when_sampled(truth, odds, 1e6).mean()) == pytest.approx(0.5, abs=1e-3)

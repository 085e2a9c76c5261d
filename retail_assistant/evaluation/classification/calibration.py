"""Whether probabilities mean what they say, and one number that makes them say it better."""

import numpy as np
import polars as pl

from retail_assistant.evaluation.classification.labels import probabilities
from retail_assistant.evaluation.classification.measures import BINS, bins, log_loss
from retail_assistant.evaluation.statistics import Numbers, mean_interval

TEMPERATURES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0)
_LOWEST, _HIGHEST = 0.05, 100.0


def reliability(truth: Numbers, chance: Numbers) -> pl.DataFrame:
    """Predicted and seen, bin by bin (a reliability diagram, Niculescu-Mizil & Caruana 2005).

    Columns: low, high (of P(positive)), texts, predicted (mean probability), observed (share of
    positives); empty bins are left out.
    """
    placed = pl.DataFrame({"bin": bins(chance), "chance": chance, "truth": truth.astype(float)})
    return (
        placed.group_by("bin")
        .agg(texts=pl.len(), predicted=pl.col("chance").mean(), observed=pl.col("truth").mean())
        .sort("bin")
        .select(
            (pl.col("bin") / BINS).alias("low"),
            ((pl.col("bin") + 1) / BINS).alias("high"),
            "texts",
            "predicted",
            "observed",
        )
    )


def fitted_temperature(truth: Numbers, odds: Numbers) -> float:
    """The temperature by which log-odds are divided for the lowest log loss on these texts.

    Temperature scaling (Guo et al. 2017): it changes no label, only how sure it is. Between 0.05
    and 100; where every label is right the lowest, for nothing speaks against being sure.
    """
    from scipy.optimize import minimize_scalar

    def loss(logarithm: float) -> float:
        return float(log_loss(truth, probabilities(odds, float(np.exp(logarithm)))))

    found = minimize_scalar(loss, bounds=(np.log(_LOWEST), np.log(_HIGHEST)), method="bounded")
    return float(np.exp(found.x))


def accuracy_when_sampled(truth: Numbers, odds: Numbers, temperature: float) -> Numbers:
    """The chance of each text to get its right label when a label is drawn at a temperature.

    Exact, where drawing would add noise: a decoder that may only write one of both labels (a
    structured choice) draws the right one with this probability. Temperature 0 takes the likelier
    one, as greedy decoding does.
    """
    if temperature == 0:
        return np.asarray((np.asarray(odds) >= 0) == truth, float)
    chance = probabilities(odds, temperature)
    return np.where(truth == 1, chance, 1 - chance)


def temperature_sweep(truth: Numbers, odds: Numbers, *, seed: int, key: str) -> pl.DataFrame:
    """Expected accuracy by temperature: columns temperature, accuracy, low, high (95%)."""
    rows: list[tuple[float, ...]] = []
    for temperature in TEMPERATURES:
        right = accuracy_when_sampled(truth, odds, temperature)
        rows.append((temperature, *mean_interval(right, seed=seed, key=f"{key} {temperature}")))
    return pl.DataFrame(rows, schema=["temperature", "accuracy", "low", "high"], orient="row")

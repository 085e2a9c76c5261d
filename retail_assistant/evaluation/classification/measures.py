"""Measures of a binary classifier, over the last axis of arrays, so that a bootstrap is quick.

`truth` is 1 where the label is the positive one, `chance` is P(positive). A text is labelled
positive from 0.5 on. Equal to scikit-learn's measures of the same names, which the tests compare.
"""

from collections.abc import Callable

import numpy as np

from retail_assistant.evaluation.statistics import Numbers

THRESHOLD = 0.5
BINS = 10
Measure = Callable[[Numbers, Numbers], Numbers]


def accuracy(truth: Numbers, chance: Numbers) -> Numbers:
    """Share of right labels."""
    return np.asarray(((chance >= THRESHOLD) == truth).mean(axis=-1))


def f1_positive(truth: Numbers, chance: Numbers) -> Numbers:
    """Harmonic mean of precision and recall of the positive label; 0 where it never occurs."""
    said = chance >= THRESHOLD
    hits = (said * truth).sum(axis=-1)
    of = said.sum(axis=-1) + truth.sum(axis=-1)
    return np.where(of > 0, 2 * hits / np.maximum(of, 1), 0.0)


def f1_negative(truth: Numbers, chance: Numbers) -> Numbers:
    """As `f1_positive`, of the negative label."""
    said = chance < THRESHOLD
    hits = (said * (1 - truth)).sum(axis=-1)
    of = said.sum(axis=-1) + (1 - truth).sum(axis=-1)
    return np.where(of > 0, 2 * hits / np.maximum(of, 1), 0.0)


def f1_macro(truth: Numbers, chance: Numbers) -> Numbers:
    """Mean of both F1: a constant label cannot win it."""
    return (f1_positive(truth, chance) + f1_negative(truth, chance)) / 2


def auc(truth: Numbers, chance: Numbers) -> Numbers:
    """Area under the ROC curve, by ranks (Mann & Whitney 1947); NaN where one label is missing."""
    from scipy.stats import rankdata

    positives = truth.sum(axis=-1)
    negatives = truth.shape[-1] - positives
    ranks = (rankdata(chance, axis=-1) * truth).sum(axis=-1)
    pairs = positives * negatives
    above = ranks - positives * (positives + 1) / 2
    return np.where(pairs > 0, above / np.maximum(pairs, 1), np.nan)


def brier(truth: Numbers, chance: Numbers) -> Numbers:
    """Mean squared difference of probability and truth (Brier 1950); lower is better."""
    return np.asarray(((chance - truth) ** 2).mean(axis=-1))


def log_loss(truth: Numbers, chance: Numbers) -> Numbers:
    """Mean negative log-likelihood in nats; lower is better."""
    tiny = np.finfo(float).eps
    kept = np.clip(chance, tiny, 1 - tiny)
    return np.asarray(-np.where(truth == 1, np.log(kept), np.log(1 - kept)).mean(axis=-1))


def calibration_error(truth: Numbers, chance: Numbers) -> Numbers:
    """Expected calibration error (Naeini et al. 2015); lower is better.

    P(positive) in 10 bins of equal width; in each the distance of the mean probability from the
    share of positives, weighted by the bin's texts.
    """
    places = bins(chance)
    gaps = [np.abs(((places == one) * (truth - chance)).sum(axis=-1)) for one in range(BINS)]
    return np.asarray(sum(gaps) / truth.shape[-1])


def bins(chance: Numbers) -> Numbers:
    """In which of the bins of equal width each probability lies; 1.0 in the last."""
    return np.minimum((np.asarray(chance) * BINS).astype(int), BINS - 1)


MEASURES: dict[str, Measure] = {
    "accuracy": accuracy,
    "f1_macro": f1_macro,
    "f1_positive": f1_positive,
    "f1_negative": f1_negative,
    "auc": auc,
    "brier": brier,
    "log_loss": log_loss,
    "calibration_error": calibration_error,
}

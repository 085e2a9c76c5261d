"""Intervals and paired tests for answers that come in clusters (several questions a product)."""

import math
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
RESAMPLES = 2000
# Resampled sums drawn at a time: keeps a bootstrap over 100,000 clusters within some 100 MB.
_BATCH_CELLS = 4_000_000

Numbers = NDArray[np.float64]


class Estimate(NamedTuple):
    """A ratio or difference with its interval; NaN where nothing was counted."""

    value: float
    low: float
    high: float


_NOTHING = Estimate(math.nan, math.nan, math.nan)


def ratio_interval(
    numerators: Sequence[float] | Numbers,
    denominators: Sequence[float] | Numbers,
    *,
    seed: int,
    key: str = "",
    resamples: int = RESAMPLES,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Estimate:
    """sum(numerators) / sum(denominators) with a 95% interval; one entry a cluster.

    Percentile bootstrap over whole clusters (Efron & Tibshirani 1993, ch. 13; Davison & Hinkley
    1997, section 3.8), by `scipy.stats.bootstrap` with paired resampling. Clusters with a
    denominator of 0 carry no information and are left out. With a single cluster, or where every
    resample gives the same ratio (all right, all wrong), a bootstrap interval would have no width:
    the Wilson score interval (Wilson 1927) with the clusters as trials stands in, on the scale of
    `bounds`, the least and the largest that the ratio can be: for what is no share it is wider than
    need be, as nothing between the bounds varies more than a share does. `key` names the quantity,
    so that its draws depend on no other quantity.
    """
    counted, of = np.asarray(numerators, float), np.asarray(denominators, float)
    counted, of = counted[of > 0], of[of > 0]
    if not len(of):
        return _NOTHING
    value = float(counted.sum() / of.sum())
    if len(of) == 1 or np.ptp(counted / of) == 0:
        return Estimate(value, *_scaled_wilson(value, len(of), bounds))
    low, high = _percentiles((counted, of), _ratio, seed=seed, key=key, resamples=resamples)
    return Estimate(value, low, high)


def difference_interval(
    first: Sequence[float] | Numbers,
    second: Sequence[float] | Numbers,
    denominators: Sequence[float] | Numbers,
    *,
    seed: int,
    key: str = "",
    resamples: int = RESAMPLES,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Estimate:
    """(sum(first) - sum(second)) / sum(denominators) on the same clusters, with a 95% interval.

    The paired form of `ratio_interval`: a cluster's questions are drawn together for both sides.
    Where it would have no width, Newcombe's hybrid score interval (Newcombe 1998, method 10 for
    unpaired proportions, which is the wider one here) with the clusters as trials stands in, on the
    scale of `bounds`.
    """
    a, b, of = (np.asarray(values, float) for values in (first, second, denominators))
    a, b, of = a[of > 0], b[of > 0], of[of > 0]
    if not len(of):
        return _NOTHING
    value = float((a.sum() - b.sum()) / of.sum())
    if len(of) == 1 or np.ptp((a - b) / of) == 0:
        shares = float(a.sum() / of.sum()), float(b.sum() / of.sum())
        return Estimate(value, *_scaled_newcombe(*shares, len(of), bounds))
    low, high = _percentiles((a - b, of), _ratio, seed=seed, key=key, resamples=resamples)
    return Estimate(value, low, high)


def mean_interval(
    values: Sequence[float] | Numbers, *, seed: int, key: str = "", resamples: int = RESAMPLES
) -> Estimate:
    """The mean of some values with a 95% interval: `ratio_interval` with a cluster a value."""
    return ratio_interval(values, np.ones(len(values)), seed=seed, key=key, resamples=resamples)


def statistic_interval(
    data: tuple[Numbers, ...],
    statistic: Callable[..., Numbers],
    *,
    seed: int,
    key: str = "",
    resamples: int = RESAMPLES,
) -> Estimate:
    """Any statistic of paired arrays (over their last axis) with a 95% interval.

    Percentile bootstrap over the entries, as `ratio_interval`; NaN bounds where a resample has no
    such statistic. Without width where every resample gives the same.
    """

    def along(*arrays: Numbers, axis: int = -1) -> Numbers:
        return statistic(*(np.moveaxis(array, axis, -1) for array in arrays))

    value = float(statistic(*data))
    if len(data[0]) < 2:
        return Estimate(value, math.nan, math.nan)
    low, high = _percentiles(data, along, seed=seed, key=key, resamples=resamples)
    return Estimate(value, low, high)


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Two-sided exact McNemar test on the discordant pairs (McNemar 1947, in its binomial form).

    `only_first`: questions that only the first variant got right. 1.0 where none is discordant.
    It takes questions as independent: read it beside the interval, which takes products as such.
    """
    from scipy.stats import binomtest

    discordant = only_first + only_second
    return float(binomtest(only_first, discordant).pvalue) if discordant else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number by Holm's step-down method (Holm 1979), in order.

    As `statsmodels.stats.multitest.multipletests`, which collects garbage at every call: a fifth of
    a second each, and there is a family for each metric and set.
    """
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1.0)
    adjusted = np.empty_like(p)
    adjusted[order] = steps
    return adjusted.tolist()


def _ratio(counted: Numbers, of: Numbers, axis: int = -1) -> Numbers:
    return np.asarray(counted.sum(axis=axis) / of.sum(axis=axis))


def _percentiles(
    data: tuple[Numbers, ...],
    statistic: object,
    *,
    seed: int,
    key: str,
    resamples: int,
) -> tuple[float, float]:
    from scipy.stats import bootstrap

    interval = bootstrap(
        data,
        statistic,
        paired=True,
        vectorized=True,
        method="percentile",
        confidence_level=CONFIDENCE,
        n_resamples=resamples,
        batch=max(1, _BATCH_CELLS // len(data[0])),
        rng=np.random.default_rng([seed, zlib.crc32(key.encode())]),
    ).confidence_interval
    return round(float(interval.low), 12), round(float(interval.high), 12)


def _scaled_wilson(value: float, trials: int, bounds: tuple[float, float]) -> tuple[float, float]:
    least, width = bounds[0], bounds[1] - bounds[0]
    low, high = wilson_interval((value - least) / width, trials)
    return least + width * low, least + width * high


def wilson_interval(share: float, trials: int) -> tuple[float, float]:
    """The 95% Wilson score interval (Wilson 1927) of a share seen in independent trials."""
    from statsmodels.stats.proportion import proportion_confint

    # An F1 or a count over several facts may round to a hair outside [0, 1].
    count = min(max(share, 0.0), 1.0) * trials
    low, high = proportion_confint(count, trials, alpha=1 - CONFIDENCE, method="wilson")
    return max(0.0, round(float(low), 12)), min(1.0, round(float(high), 12))


def _scaled_newcombe(
    first: float, second: float, trials: int, bounds: tuple[float, float]
) -> tuple[float, float]:
    least, width = bounds[0], bounds[1] - bounds[0]
    low, high = _newcombe((first - least) / width, (second - least) / width, trials)
    return width * low, width * high


def _newcombe(first: float, second: float, trials: int) -> tuple[float, float]:
    low_1, high_1 = wilson_interval(first, trials)
    low_2, high_2 = wilson_interval(second, trials)
    difference = first - second
    return (
        difference - math.hypot(first - low_1, high_2 - second),
        difference + math.hypot(high_1 - first, second - low_2),
    )

"""Two variants on the same questions: is the difference more than chance?

Yes/no outcomes (right or not) are tested by exact McNemar; numbers that are sums over several facts
of an answer (attributes, suggestions, scores) by a paired bootstrap over products. P-values are
adjusted by Holm over the variants that are tested against the same kind of reference, for each set
(and metric) apart.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from retail_assistant.evaluation.metrics import METRICS, Metric
from retail_assistant.evaluation.statistics import (
    CONFIDENCE,
    RESAMPLES,
    difference_interval,
    holm,
    mcnemar_p,
)

TESTS_SCHEMA = pl.Schema(
    {
        "variant": pl.String,
        "baseline": pl.String,
        "subset": pl.String,
        "questions": pl.Int64,
        "clusters": pl.Int64,
        "variant_right": pl.Int64,
        "baseline_right": pl.Int64,
        "only_variant": pl.Int64,
        "only_baseline": pl.Int64,
        "difference": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "p": pl.Float64,
        "p_holm": pl.Float64,
    }
)
DIFFERENCES_SCHEMA = pl.Schema(
    {
        "variant": pl.String,
        "against": pl.String,
        "role": pl.String,
        "subset": pl.String,
        "metric": pl.String,
        "value": pl.Float64,
        "against_value": pl.Float64,
        "difference": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "clusters": pl.Int64,
        "p": pl.Float64,
        "p_holm": pl.Float64,
    }
)
_COUNTED = frozenset(
    {
        "strict_precision",
        "attribute_precision",
        "attribute_recall",
        "attribute_f1",
        "alternatives_valid_share",
        "complements_valid_share",
    }
)
_SCORES = ("sem_score", "truthfulness")
# What "right" is tested on: the strict outcome of each set's own kind of question.
_TESTED = pl.col("intent").is_in(["attribute", "unanswerable"])
_BATCH_CELLS = 4_000_000

Matrix = NDArray[np.float64]


class Pair(NamedTuple):
    """A variant, what it is tested against, and as what that stands there."""

    variant: str
    against: str
    role: str


def paired_tests(
    scored: pl.DataFrame, pairs: Mapping[str, str], *, seed: int, resamples: int = RESAMPLES
) -> pl.DataFrame:
    """TESTS: exact McNemar on strict correctness, a row a pair (variant: reference) and set.

    Only attribute and unanswerable questions have a strict outcome. only_variant and only_baseline
    are the discordant questions; the difference of shares has a cluster bootstrap's interval.
    """
    tested = scored.filter(_TESTED)
    rows = [
        row
        for variant, against in sorted(pairs.items())
        for row in _paired_rows(tested, variant, against, seed, resamples)
    ]
    return _with_holm(pl.DataFrame(rows, schema=TESTS_SCHEMA, orient="row"), ["subset"])


def _with_holm(tests: pl.DataFrame, family: Sequence[str]) -> pl.DataFrame:
    order = [*family, "variant"]
    adjusted = [
        group.with_columns(p_holm=pl.Series(holm(group["p"].to_list()), dtype=pl.Float64))
        for group in tests.sort(order).partition_by(*family, maintain_order=True)
    ]
    return pl.concat(adjusted).sort(order) if adjusted else tests


def _paired_rows(
    tested: pl.DataFrame, variant: str, against: str, seed: int, resamples: int
) -> Iterator[dict[str, Any]]:
    keys = ["dialogue_id", "subset", "cluster"]
    first = tested.filter(pl.col("variant") == variant).select(*keys, first="correct")
    second = tested.filter(pl.col("variant") == against).select("dialogue_id", second="correct")
    paired = first.join(second, on="dialogue_id", how="inner").sort("subset", "cluster")
    for group in paired.partition_by("subset", maintain_order=True):
        yield _paired_row(group, variant, against, seed, resamples)


def _paired_row(
    group: pl.DataFrame, variant: str, against: str, seed: int, resamples: int
) -> dict[str, Any]:
    first, second = pl.col("first"), pl.col("second")
    counts = group.select(
        questions=pl.len(),
        variant_right=first.sum(),
        baseline_right=second.sum(),
        only_variant=(first & ~second).sum(),
        only_baseline=(second & ~first).sum(),
    ).row(0, named=True)
    sums = group.group_by("cluster").agg(first.sum(), second.sum(), of=pl.len()).sort("cluster")
    subset = group["subset"][0]
    estimate = difference_interval(
        sums["first"].to_numpy(),
        sums["second"].to_numpy(),
        sums["of"].to_numpy(),
        seed=seed,
        key=f"difference/{subset}",
        resamples=resamples,
    )
    p = mcnemar_p(counts["only_variant"], counts["only_baseline"])
    identity = {"variant": variant, "baseline": against, "subset": subset}
    interval = {"difference": estimate.value, "low": estimate.low, "high": estimate.high}
    return {**identity, **counts, "clusters": sums.height, **interval, "p": p, "p_holm": p}


def bootstrap_differences(
    scored: pl.DataFrame, pairs: Sequence[Pair], *, seed: int, resamples: int = RESAMPLES
) -> pl.DataFrame:
    """DIFFERENCES: a row a pair, set and metric that is no yes/no of a question.

    Paired percentile bootstrap over products (Efron & Tibshirani 1993, ch. 13 and 16): whole
    products are drawn with replacement, the same ones for both sides; p is twice the smaller share
    of the resampled differences on either side of 0, counted with the observed one (Davison &
    Hinkley 1997, section 4.2), so never below 2 / (resamples + 1), nor below what a sign test could
    give for as many products as differ: few products cannot show much, however often they are
    drawn. A metric that one side has no denominator for is left out.
    """
    rows = [
        row
        for metric in bootstrapped_metrics(scored)
        for group in _cluster_sums(scored, metric).partition_by("subset", maintain_order=True)
        for row in _difference_rows(group, metric.name, pairs, seed, resamples)
    ]
    frame = pl.DataFrame(rows, schema=DIFFERENCES_SCHEMA, orient="row")
    return _with_holm(frame, ["role", "subset", "metric"])


def bootstrapped_metrics(scored: pl.DataFrame) -> list[Metric]:
    """The metrics that the bootstrap is for; scores of a judge or an embedding if there are any."""
    counted = [metric for metric in METRICS if metric.name in _COUNTED]
    known = {metric.name for metric in counted}
    scores = [
        Metric(name, "all", pl.col(name).fill_null(0), pl.col(name).is_not_null())
        for name in _SCORES
        if name in scored.columns and name not in known and scored[name].dtype.is_numeric()
    ]
    return counted + scores


def _cluster_sums(scored: pl.DataFrame, metric: Metric) -> pl.DataFrame:
    """Columns subset, cluster, variant, above, below: the metric's sums; every set it has."""
    kept = metric.keep().fill_null(value=False)
    return (
        scored.filter(kept)
        .group_by("subset", "cluster", "variant")
        .agg(
            metric.numerator.cast(pl.Float64).sum().alias("above"),
            metric.denominator.cast(pl.Float64).sum().alias("below"),
        )
        .sort("subset", "cluster", "variant")
    )


def _difference_rows(
    group: pl.DataFrame, metric: str, pairs: Sequence[Pair], seed: int, resamples: int
) -> Iterator[dict[str, Any]]:
    subset = group["subset"][0]
    variants = sorted(group["variant"].unique())
    above, below = (_matrix(group, column, variants) for column in ("above", "below"))
    key = zlib.crc32(f"{metric}/{subset}".encode())
    # One set of draws for all pairs: all variants are resampled alike.
    drawn_above, drawn_below = _resampled(
        above, below, np.random.default_rng([seed, key]), resamples
    )
    place = {variant: i for i, variant in enumerate(variants)}
    for pair in pairs:
        if pair.variant not in place or pair.against not in place:
            continue
        a, b = place[pair.variant], place[pair.against]
        if not below[:, a].sum() or not below[:, b].sum():
            continue
        values = [float(above[:, i].sum() / below[:, i].sum()) for i in (a, b)]
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn = drawn_above[:, a] / drawn_below[:, a] - drawn_above[:, b] / drawn_below[:, b]
        clusters = int(((below[:, a] > 0) | (below[:, b] > 0)).sum())
        yield {
            **pair._asdict(),
            "subset": subset,
            "metric": metric,
            "value": values[0],
            "against_value": values[1],
            "clusters": clusters,
            **_judged(
                values[0] - values[1], drawn[np.isfinite(drawn)], _differing(above, below, a, b)
            ),
        }


def _matrix(group: pl.DataFrame, column: str, variants: Sequence[str]) -> Matrix:
    """Clusters by variants; what a variant has nothing of is 0."""
    wide = group.pivot(on="variant", index="cluster", values=column).fill_null(0.0)
    return wide.sort("cluster").select(variants).to_numpy()


def _resampled(
    above: Matrix, below: Matrix, draws: np.random.Generator, resamples: int
) -> tuple[Matrix, Matrix]:
    """Column sums of so many resamples of the rows (clusters): two of resamples by variants."""
    clusters = len(above)
    step = max(1, _BATCH_CELLS // clusters)
    sums = []
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        # How often each cluster is drawn, instead of which ones: the sums are one product.
        times = draws.multinomial(clusters, np.full(clusters, 1 / clusters), size=size)
        sums.append((times @ above, times @ below))
    return np.concatenate([a for a, _ in sums]), np.concatenate([b for _, b in sums])


def _differing(above: Matrix, below: Matrix, a: int, b: int) -> int:
    """Clusters in which two variants have other counts."""
    return int(((above[:, a] != above[:, b]) | (below[:, a] != below[:, b])).sum())


def _judged(difference: float, drawn: Matrix, differing: int) -> dict[str, float]:
    """The observed difference with its percentile interval and two-sided p."""
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(drawn, [tail, 100 - tail]) if len(drawn) else (difference,) * 2
    # Sums of floats: a difference of nothing may come out as 1e-17.
    beyond = min((drawn <= 1e-12).sum(), (drawn >= -1e-12).sum())
    p = min(1.0, max(2 * (float(beyond) + 1) / (len(drawn) + 1), 2.0 ** (1 - differing)))
    interval = {"low": round(float(low), 12), "high": round(float(high), 12)}
    return {"difference": difference, **interval, "p": p, "p_holm": p}

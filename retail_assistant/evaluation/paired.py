"""Every metric of a variant against its baseline on the same questions: paired bootstrap, Holm.

What is right or wrong has the exact McNemar test (`comparison`); this is for the rest: counts of
attributes and suggestions, rates over all answers, means.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from retail_assistant.evaluation.metrics import METRICS, Metric, cluster_sums
from retail_assistant.evaluation.statistics import RESAMPLES, holm, ratio_difference

PAIRED_SCHEMA = pl.Schema(
    {
        "variant": pl.String,
        "baseline": pl.String,
        "subset": pl.String,
        "metric": pl.String,
        "clusters": pl.Int64,
        "difference": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "p": pl.Float64,
        "p_holm": pl.Float64,
    }
)


def paired_metrics(
    scored: pl.DataFrame,
    baselines: Mapping[str, str],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> pl.DataFrame:
    """Differences of every metric that both sides have, a row a variant, set and metric.

    `baselines` maps a variant of the SCORED frame to the one that it is compared with. `p_holm` is
    adjusted over the variants, for each metric and set by itself.
    """
    rows = [
        row
        for metric in METRICS
        for row in _metric_rows(cluster_sums(scored, metric), metric, baselines, seed, resamples)
    ]
    frame = pl.DataFrame(rows, schema=PAIRED_SCHEMA, orient="row").sort("metric", "subset")
    groups = frame.partition_by("metric", "subset", maintain_order=True)
    adjusted = [
        group.with_columns(p_holm=pl.Series(holm(group["p"].to_list()), dtype=pl.Float64))
        for group in groups
    ]
    return (pl.concat(adjusted) if adjusted else frame).sort("metric", "subset", "variant")


def _metric_rows(
    sums: pl.DataFrame, metric: Metric, baselines: Mapping[str, str], seed: int, resamples: int
) -> Iterator[dict[str, Any]]:
    for variant, against in sorted(baselines.items()):
        first, second = (sums.filter(variant=name) for name in (variant, against))
        both = first.join(second, on=["subset", "cluster"]).sort("subset", "cluster")
        for group in both.partition_by("subset", maintain_order=True):
            if group["denominator"].sum() and group["denominator_right"].sum():
                yield _row(group, metric, variant, against, seed, resamples)


def _row(
    group: pl.DataFrame, metric: Metric, variant: str, against: str, seed: int, resamples: int
) -> dict[str, Any]:
    subset = group["subset"][0]
    columns = ("numerator", "denominator", "numerator_right", "denominator_right")
    a, of_a, b, of_b = (group[name].cast(pl.Float64).to_numpy() for name in columns)
    estimate, p = ratio_difference(
        (a, of_a),
        (b, of_b),
        seed=seed,
        key=f"paired/{metric.name}/{subset}",
        resamples=resamples,
    )
    counted = group.filter((pl.col("denominator") > 0) | (pl.col("denominator_right") > 0)).height
    return {
        "variant": variant,
        "baseline": against,
        "subset": subset,
        "metric": metric.name,
        "clusters": counted,
        "difference": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "p": p,
        "p_holm": p,
    }

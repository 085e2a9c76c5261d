"""The metrics of parts of an evaluation: by intent, and by where in the catalog the product is."""

from typing import Literal, get_args

import polars as pl

from retail_assistant.evaluation.metrics import SUMMARY_SCHEMA, summarize
from retail_assistant.evaluation.statistics import RESAMPLES

Dimension = Literal["intent", "department", "category", "subcategory"]
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
NO_GROUP = "(none)"
"""The group of questions about no product of the catalog."""
FEW_CLUSTERS = 10
"""Cells of fewer products are marked: their intervals are wide, and a bootstrap's too narrow."""

BREAKDOWN_SCHEMA = pl.Schema(
    [
        ("dimension", pl.String),
        ("group", pl.String),
        *SUMMARY_SCHEMA.items(),
        ("few_clusters", pl.Boolean),
    ]
)


def breakdown(
    scored: pl.DataFrame, dimension: Dimension, *, seed: int, resamples: int = RESAMPLES
) -> pl.DataFrame:
    """Every metric of every group of a dimension that was measured there, by variant and set.

    Columns: dimension, group, those of `metrics.summarize`, few_clusters (fewer than ten products
    were counted). Cells without a denominator are left out, small ones are not.
    """
    named = scored.with_columns(group=pl.col(dimension).fill_null(NO_GROUP)).sort("group")
    parts = [
        summarize(part.drop("group"), seed=seed, resamples=resamples).with_columns(
            dimension=pl.lit(dimension), group=pl.lit(group)
        )
        for (group,), part in named.group_by("group", maintain_order=True)
    ]
    if not parts:
        return BREAKDOWN_SCHEMA.to_frame()
    return (
        pl.concat(parts)
        .filter(pl.col("denominator") > 0)
        .with_columns(few_clusters=pl.col("clusters") < FEW_CLUSTERS)
        .select(BREAKDOWN_SCHEMA.names())
    )


def breakdowns(scored: pl.DataFrame, *, seed: int, resamples: int = RESAMPLES) -> pl.DataFrame:
    """`breakdown` by every dimension, one below the other."""
    parts = [breakdown(scored, one, seed=seed, resamples=resamples) for one in DIMENSIONS]
    return pl.concat(parts)


def strict_beside_loose(scored: pl.DataFrame) -> pl.DataFrame:
    """Attribute questions by variant and set: right by the strict rule, and by the reference's.

    Columns: variant, subset, questions, strict_right, loose_right, strict_accuracy,
    loose_accuracy; both rules on the same answers.
    """
    keys = ["variant", "subset"]
    return (
        scored.filter(intent="attribute")
        .group_by(keys)
        .agg(
            pl.len().cast(pl.Int64).alias("questions"),
            pl.col("correct").sum().cast(pl.Int64).alias("strict_right"),
            pl.col("loose_match").sum().cast(pl.Int64).alias("loose_right"),
        )
        .with_columns(
            strict_accuracy=pl.col("strict_right") / pl.col("questions"),
            loose_accuracy=pl.col("loose_right") / pl.col("questions"),
        )
        .sort(keys)
    )

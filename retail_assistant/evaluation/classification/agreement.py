"""How far those who labelled the same texts agree, beyond what chance would give.

Judges are the original labels, the reviewers, and the model before and after its training.
Judgements are a frame of text_id, judge and label (1 positive, 0 negative), a row a judgement.
"""

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import polars as pl

ORIGINAL, MAJORITY = "original", "majority"
MODEL = "model, "
JUDGEMENTS = pl.Schema({"text_id": pl.String, "judge": pl.String, "label": pl.Int8})
PAIRS = {
    "first": pl.String,
    "second": pl.String,
    "texts": pl.Int64,
    "agreement": pl.Float64,
    "kappa": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}


def peoples_judgements(texts: pl.DataFrame) -> pl.DataFrame:
    """The original labels and those of the reviewers; what was not reviewed is left out.

    `texts` has text_id, label, is_positive and reviewers.
    """
    positive = texts.filter("is_positive")["label"].head(1).to_list()
    original = texts.select(
        "text_id", pl.lit(ORIGINAL).alias("judge"), pl.col("is_positive").alias("label")
    )
    reviewed = (
        texts.select("text_id", "reviewers")
        .explode("reviewers")
        .drop_nulls("reviewers")
        .unnest("reviewers")
        .drop_nulls("label")
        .select("text_id", judge="reviewer", label=pl.col("label").is_in(positive))
    )
    return pl.concat([one.cast(JUDGEMENTS) for one in (original, reviewed)])


def models_judgements(scored: pl.DataFrame, variant: str) -> pl.DataFrame:
    """What a model says of each text that it was asked about."""
    said = pl.col("log_positive") >= pl.col("log_negative")
    return scored.select(
        "text_id", pl.lit(MODEL + variant).alias("judge"), said.alias("label")
    ).cast(JUDGEMENTS)


def with_majority(judgements: pl.DataFrame) -> pl.DataFrame:
    """The judgements, and what most of them say of each text; where they are even, nothing."""
    share = pl.col("label").cast(pl.Float64).mean()
    found = judgements.group_by("text_id").agg(share=share).filter(pl.col("share") != 0.5)
    majority = found.select(
        "text_id", pl.lit(MAJORITY).alias("judge"), (pl.col("share") > 0.5).alias("label")
    )
    return pl.concat([judgements, majority.cast(JUDGEMENTS)])


def pairwise_agreement(judgements: pl.DataFrame, judges: Sequence[str]) -> pl.DataFrame:
    """PAIRS rows: for each two judges, on the texts of both, agreement and Cohen's kappa.

    Kappa (Cohen 1960) with its 95% interval (Fleiss, Cohen & Everitt 1969), by statsmodels. Null
    where both say the same one label of everything: there is no chance to be better than.
    """
    wide = judgements.pivot("judge", index="text_id", values="label")
    rows = []
    for first, second in combinations([one for one in judges if one in wide.columns], 2):
        both = wide.select(first, second).drop_nulls()
        same = both.filter(pl.col(first) == pl.col(second)).height
        share = same / both.height if both.height else math.nan
        rows.append((first, second, both.height, share, *_kappa(both, first, second)))
    frame = pl.DataFrame(rows, schema=PAIRS, orient="row")
    return frame.with_columns(pl.col("agreement", "kappa", "low", "high").fill_nan(None))


def overall_agreement(judgements: pl.DataFrame, judges: Sequence[str]) -> dict[str, float]:
    """Fleiss' kappa (Fleiss 1971), by statsmodels, over the texts that all judges have labelled.

    Empty with fewer than three judges (two have Cohen's), or without such texts.
    """
    from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

    wide = judgements.pivot("judge", index="text_id", values="label")
    known = [one for one in judges if one in wide.columns]
    table = wide.select(known).drop_nulls()
    if len(known) < 3 or table.is_empty():
        return {}
    counts, _ = aggregate_raters(table.to_numpy(), n_cat=2)
    kappa = float(fleiss_kappa(counts)) if (counts.sum(axis=0) > 0).all() else math.nan
    return {"fleiss_kappa": kappa, "judges": len(known), "texts": table.height}


def _kappa(both: pl.DataFrame, first: str, second: str) -> tuple[float, float, float]:
    from statsmodels.stats.inter_rater import cohens_kappa

    table = [
        [both.filter(pl.col(first) == row, pl.col(second) == column).height for column in (0, 1)]
        for row in (0, 1)
    ]
    said = both.select(pl.all().n_unique()).row(0) if both.height else (1, 1)
    if 1 in said:
        # One who always says the same agrees with others as chance would; no interval is known.
        return (math.nan if said == (1, 1) else 0.0), math.nan, math.nan
    with np.errstate(invalid="ignore", divide="ignore"):
        found = cohens_kappa(table)
    return float(found.kappa), float(found.kappa_low), float(found.kappa_upp)

"""Whether the labels themselves are right: reviewers and model beside them, and what to look at."""

from typing import NamedTuple

import numpy as np
import polars as pl

from retail_assistant.evaluation.classification.agreement import (
    MAJORITY,
    ORIGINAL,
    models_judgements,
    overall_agreement,
    pairwise_agreement,
    peoples_judgements,
    with_majority,
)
from retail_assistant.evaluation.classification.labels import log_odds, probabilities
from retail_assistant.evaluation.classification.report import AFTER
from retail_assistant.evaluation.statistics import mean_interval

UNDER = {
    "labelling": pl.String,
    "variant": pl.String,
    "accuracy": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "texts": pl.Int64,
}


class LabelQuality(NamedTuple):
    """What can be said of the labels.

    `doubtful`: texts whose label the model confidently doubts, the most doubtful first. `people`:
    agreement between original labels and reviewers on all texts. `models`: of each with the model,
    on texts that it never learned from. `overall`: Fleiss' kappa of the people. `accuracy`: the
    model's under each labelling.
    """

    doubtful: pl.DataFrame
    people: pl.DataFrame
    models: pl.DataFrame
    overall: dict[str, float]
    accuracy: pl.DataFrame


def label_quality(
    corpus: pl.DataFrame, scored: dict[str, pl.DataFrame], *, seed: int
) -> LabelQuality:
    """The labels of a corpus beside its reviewers' and those of the model before and after.

    `scored` are `scored_texts`: the model's own judgement counts only on held-out texts.
    """
    people = peoples_judgements(corpus)
    names = people["judge"].unique(maintain_order=True).to_list()
    own = [models_judgements(frame, variant) for variant, frame in scored.items()]
    judges = [one["judge"][0] for one in own]
    asked = people.filter(pl.col("text_id").is_in(own[0]["text_id"].implode()))
    pairs = pairwise_agreement(pl.concat([asked, *own]), [*judges, *names])
    return LabelQuality(
        doubtful=doubtful_labels(scored[AFTER]),
        people=pairwise_agreement(people, names),
        models=pairs.filter(pl.col("first").is_in(judges)),
        overall=overall_agreement(people, names),
        accuracy=_accuracy_under_each(
            with_majority(asked), dict(zip(scored, own, strict=True)), seed
        ),
    )


def doubtful_labels(scored: pl.DataFrame) -> pl.DataFrame:
    """Texts whose label is probably wrong, by confident learning (Northcutt, Jiang & Chuang 2021).

    A label's threshold is the mean probability that the model gives it on the texts that have it.
    Doubtful is a text where the other label reaches its own threshold and is the likelier one. The
    model must not have learned from these texts, or it would repeat their labels.

    Columns: text_id, text, label, suggested, confidence (P of the suggested label), subset, and
    reviewers (reviewer: label); most confident first.
    """
    chance = probabilities(log_odds(scored))
    truth = scored["is_positive"].to_numpy()
    words = dict(scored.select("is_positive", "label").unique().iter_rows())
    thresholds = {side: _mean_confidence(chance, truth, side) for side in (False, True)}
    other = np.where(truth, 1 - chance, chance)
    needed = np.where(truth, thresholds[False], thresholds[True])
    is_doubtful = (other >= needed) & (other > 0.5)
    reviews = pl.col("reviewers").list.eval(
        pl.format(
            "{}: {}",
            pl.element().struct.field("reviewer"),
            pl.element().struct.field("label").fill_null("-"),
        )
    )
    return (
        scored.with_columns(
            suggested=(~pl.col("is_positive")).replace_strict(words, default=None),
            confidence=pl.Series(other),
            doubtful=pl.Series(is_doubtful),
            reviewers=reviews.list.join(", "),
        )
        .filter("doubtful")
        .sort(["confidence", "text_id"], descending=[True, False])
        .select("text_id", "text", "label", "suggested", "confidence", "reviewers", "subset")
    )


def _mean_confidence(chance: np.ndarray, truth: np.ndarray, side: bool) -> float:
    own = chance[truth == side]
    if not len(own):
        return 1.0
    return float(own.mean() if side else (1 - own).mean())


def _accuracy_under_each(
    people: pl.DataFrame, models: dict[str, pl.DataFrame], seed: int
) -> pl.DataFrame:
    rows = []
    for name in people["judge"].unique(maintain_order=True):
        labels = people.filter(pl.col("judge") == name)
        for variant, said in models.items():
            both = labels.join(said, on="text_id", suffix="_said")
            right = (both["label"] == both["label_said"]).to_numpy().astype(float)
            estimate = mean_interval(right, seed=seed, key=f"{name} {variant}")
            rows.append((name, variant, *estimate, len(right)))
    return pl.DataFrame(rows, schema=UNDER, orient="row").with_columns(
        pl.col("accuracy", "low", "high").fill_nan(None)
    )


def headline(quality: LabelQuality) -> str:
    """One line: how the trained model does under the labels, and under most of the people."""
    rows = {
        row["labelling"]: row
        for row in quality.accuracy.filter(pl.col("variant") == AFTER).to_dicts()
    }
    told = [
        f"{rows[name]['accuracy']:.1%} of {rows[name]['texts']} under the {words}"
        for name, words in ((ORIGINAL, "original labels"), (MAJORITY, "majority of the people"))
        if name in rows and rows[name]["accuracy"] is not None
    ]
    return f"right: {', '.join(told)}; {quality.doubtful.height} labels to look at"

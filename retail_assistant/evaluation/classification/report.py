"""A classifier before and after its training, on the same texts."""

from typing import NamedTuple

import numpy as np
import polars as pl

from retail_assistant.evaluation.classification.calibration import (
    fitted_temperature,
    reliability,
    temperature_sweep,
)
from retail_assistant.evaluation.classification.labels import (
    label_mass,
    log_odds,
    probabilities,
)
from retail_assistant.evaluation.classification.measures import (
    MEASURES,
    THRESHOLD,
    Measure,
    calibration_error,
    log_loss,
)
from retail_assistant.evaluation.statistics import (
    Estimate,
    Numbers,
    mcnemar_p,
    mean_interval,
    ratio_interval,
    statistic_interval,
)

BEFORE, AFTER = "before", "after"
SCALED = {"log_loss_scaled": log_loss, "calibration_error_scaled": calibration_error}
TEMPERATURE = "temperature"
SUMMARY = {
    "metric": pl.String,
    "variant": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "texts": pl.Int64,
}


class Held(NamedTuple):
    """What is known of the texts of one side, in one order."""

    ids: list[str]
    truth: Numbers
    odds: dict[str, Numbers]
    """Log-odds of the positive label, before and after."""
    mass: dict[str, Numbers]


class ClassificationReport(NamedTuple):
    """SUMMARY rows for before, after and their difference; and what is drawn of them.

    `confusion`: variant, label, said, texts. `reliability` and `sweep` by variant, `temperatures`
    those fitted on the validation side. `test` has McNemar's counts and p-value.
    """

    summary: pl.DataFrame
    confusion: pl.DataFrame
    reliability: dict[str, pl.DataFrame]
    sweep: dict[str, pl.DataFrame]
    temperatures: dict[str, float]
    test: dict[str, float]


def scored_texts(
    corpus: pl.DataFrame, before: pl.DataFrame, after: pl.DataFrame
) -> dict[str, pl.DataFrame]:
    """The classifications of both, each beside text, label, reviewers and subset.

    Texts that were too long to be labelled are left out.

    Raises:
        ValueError: they are not of the same texts of this corpus.
    """
    known = corpus.select("text_id", "subset", "text", "label", "is_positive", "reviewers")
    asked = known.filter(pl.col("subset") != "train")["text_id"].sort().to_list()
    given = {BEFORE: before.sort("text_id"), AFTER: after.sort("text_id")}
    found = {
        name: frame.drop_nulls("log_positive").join(known, on="text_id").sort("text_id")
        for name, frame in given.items()
    }
    if any(frame["text_id"].to_list() != asked for frame in given.values()):
        raise ValueError(
            "before and after were not asked about the same texts of this corpus; allowed:"
            " classification_baseline and classifications of the latest prompt_corpus"
        )
    return found


def held_side(scored: dict[str, pl.DataFrame], subset: str) -> Held:
    """One side of the scored texts as arrays."""
    sides = {name: frame.filter(pl.col("subset") == subset) for name, frame in scored.items()}
    first = sides[BEFORE]
    return Held(
        first["text_id"].to_list(),
        first["is_positive"].to_numpy().astype(float),
        {name: log_odds(side) for name, side in sides.items()},
        {name: label_mass(side) for name, side in sides.items()},
    )


def classification_report(scored: dict[str, pl.DataFrame], *, seed: int) -> ClassificationReport:
    """Everything about the test side; temperatures are fitted on the validation side."""
    validation, test = held_side(scored, "validation"), held_side(scored, "test")
    temperatures = {
        name: fitted_temperature(validation.truth, validation.odds[name])
        for name in (BEFORE, AFTER)
    }
    return ClassificationReport(
        summary=_summary(test, temperatures, seed),
        confusion=_confusion(scored),
        reliability={
            name: reliability(test.truth, probabilities(odds)) for name, odds in test.odds.items()
        },
        sweep={
            name: temperature_sweep(test.truth, odds, seed=seed, key=name)
            for name, odds in test.odds.items()
        },
        temperatures=temperatures,
        test=_mcnemar(test),
    )


def _summary(test: Held, temperatures: dict[str, float], seed: int) -> pl.DataFrame:
    rows: list[tuple] = []
    chances = {name: probabilities(odds) for name, odds in test.odds.items()}
    scaled = {name: probabilities(odds, temperatures[name]) for name, odds in test.odds.items()}
    texts = len(test.ids)
    for group, given in ((MEASURES, chances), (SCALED, scaled)):
        for metric, measure in group.items():
            for name, chance in given.items():
                rows.append((metric, name, *_interval(metric, measure, test.truth, chance, seed)))
            found = _difference(metric, measure, test.truth, given, seed)
            rows.append((metric, "difference", *found))
    for name, temperature in temperatures.items():
        rows.append((TEMPERATURE, name, temperature, None, None))
    for name, mass in test.mass.items():
        rows.append(("label_mass", name, *mean_interval(mass, seed=seed, key="label_mass")))
    return pl.DataFrame([(*row, texts) for row in rows], schema=SUMMARY, orient="row").with_columns(
        pl.col("value", "low", "high").fill_nan(None)
    )


def _interval(
    metric: str, measure: Measure, truth: Numbers, chance: Numbers, seed: int
) -> Estimate:
    if metric == "accuracy":
        # With Wilson's interval where every label is right.
        right = ((chance >= THRESHOLD) == truth).astype(float)
        return ratio_interval(right, np.ones(len(right)), seed=seed, key=metric)
    return statistic_interval((truth, chance), measure, seed=seed, key=metric)


def _difference(
    metric: str, measure: Measure, truth: Numbers, given: dict[str, Numbers], seed: int
) -> Estimate:
    """After less before; the same texts are drawn for both."""

    def difference(truth: Numbers, before: Numbers, after: Numbers) -> Numbers:
        return measure(truth, after) - measure(truth, before)

    data = (truth, given[BEFORE], given[AFTER])
    return statistic_interval(data, difference, seed=seed, key=f"{metric} difference")


def _confusion(scored: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """variant, label, said, texts: of the test side, all four combinations."""
    frames = []
    for name, frame in scored.items():
        words = dict(frame.select("is_positive", "label").unique().iter_rows())
        said = pl.Series("said", (log_odds(frame) >= 0).tolist(), pl.Boolean)
        counted = (
            frame.with_columns(said)
            .filter(pl.col("subset") == "test")
            .group_by("is_positive", "said")
            .len("texts")
        )
        whole = pl.DataFrame(
            [(label, one) for label in (False, True) for one in (False, True)],
            schema=["is_positive", "said"],
            orient="row",
        ).join(counted, on=["is_positive", "said"], how="left")
        frames.append(
            whole.sort("is_positive", "said").select(
                pl.lit(name).alias("variant"),
                pl.col("is_positive").replace_strict(words, return_dtype=pl.String).alias("label"),
                pl.col("said").replace_strict(words, return_dtype=pl.String),
                pl.col("texts").fill_null(0).cast(pl.Int64),
            )
        )
    return pl.concat(frames)


def _mcnemar(test: Held) -> dict[str, float]:
    right = {name: (odds >= 0) == test.truth for name, odds in test.odds.items()}
    only_before = int((right[BEFORE] & ~right[AFTER]).sum())
    only_after = int((right[AFTER] & ~right[BEFORE]).sum())
    return {
        "only_before_right": only_before,
        "only_after_right": only_after,
        "p": mcnemar_p(only_before, only_after),
    }


def summary_markdown(report: ClassificationReport) -> str:
    """The summary as a table: a metric a line, before, after and their difference beside it."""
    lines = ["| | before | after | after - before |", "|-|-|-|-|"]
    for metric in report.summary["metric"].unique(maintain_order=True):
        rows = {row["variant"]: row for row in report.summary.filter(metric=metric).to_dicts()}
        cells = [_cell(rows.get(name)) for name in (BEFORE, AFTER, "difference")]
        lines.append(f"| {metric.replace('_', ' ')} | {' | '.join(cells)} |")
    test, texts = report.test, int(report.summary["texts"][0])
    temperatures = {name: f"{value:.2f}" for name, value in report.temperatures.items()}
    lines += [
        "",
        f"{texts} test texts, 95% intervals (bootstrap over texts). McNemar, exact:"
        f" {test['only_before_right']:.0f} right only before, {test['only_after_right']:.0f} only"
        f" after, p = {test['p']:.2g}. Scaled: by temperatures fitted on the validation texts"
        f" ({temperatures[BEFORE]} before, {temperatures[AFTER]} after).",
    ]
    return "\n".join(lines)


def _cell(row: dict | None) -> str:
    if row is None or row["value"] is None:
        return ""
    if row["low"] is None:
        return f"{row['value']:.3f}"
    return f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"

"""Variants side by side on the same questions: metrics, paired tests, costs, answers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import polars as pl

from retail_assistant.evaluation import answers as drill
from retail_assistant.evaluation.metrics import summarize
from retail_assistant.evaluation.paired_tests import (
    DIFFERENCES_SCHEMA,
    TESTS_SCHEMA,
    Pair,
    bootstrap_differences,
)
from retail_assistant.evaluation.paired_tests import (
    paired_tests as paired_tests,
)
from retail_assistant.evaluation.pareto import PARETO_SCHEMA, pareto_fronts
from retail_assistant.evaluation.statistics import RESAMPLES

SIDE_BY_SIDE_QUESTIONS = 60
CONTRASTED_QUESTIONS = 40
SHOWN_CHARACTERS = 2_000

MISSING_SCHEMA = pl.Schema({"variant": pl.String, "reason": pl.String})
MODELS_SCHEMA = pl.Schema(
    {
        "variant": pl.String,
        "baseline": pl.String,
        "study": pl.String,
        "grounding": pl.String,
        "data_fraction": pl.Float64,
    }
)
TABLES = (
    "summary", "tests", "champion_tests", "differences", "models", "costs", "pareto", "outcomes",
    "confusion", "topics", "contrasts", "side_by_side", "missing",
)  # fmt: skip
"""The frames of a comparison that stand in its JSON."""
WHOLE = ("asked", "answered")
"""Those that hold every answer in full."""


@dataclass(frozen=True)
class Comparison:
    """Frames of one comparison.

    summary: as `metrics.summarize`. tests: one row a variant and set, against its baseline, on
    strict correctness; only_variant and only_baseline are the discordant questions. costs: variant
    and what was measured of it. side_by_side: one row a question and variant, the questions on
    which variants differ most first (`rank` from 1); cut to `side_by_side_questions` of
    `questions` questions. missing: variants asked for that are not compared, and why. outcomes:
    questions by variant, subset, intent and outcome. champion_tests: as tests, against the
    champion. differences: bootstrap tests of the other metrics against baseline and champion.
    models: what each variant is. pareto: accuracy against costs. confusion, topics, contrasts
    (of the best variant and its baseline), asked and answered (every question and answer in full):
    as the functions of `answers` say.
    """

    summary: pl.DataFrame
    tests: pl.DataFrame
    costs: pl.DataFrame
    side_by_side: pl.DataFrame
    missing: pl.DataFrame
    variants: tuple[str, ...]
    questions: int
    outcomes: pl.DataFrame
    champion: str | None = None
    champion_tests: pl.DataFrame = field(default_factory=partial(pl.DataFrame, schema=TESTS_SCHEMA))
    differences: pl.DataFrame = field(
        default_factory=partial(pl.DataFrame, schema=DIFFERENCES_SCHEMA)
    )
    models: pl.DataFrame = field(default_factory=partial(pl.DataFrame, schema=MODELS_SCHEMA))
    pareto: pl.DataFrame = field(default_factory=partial(pl.DataFrame, schema=PARETO_SCHEMA))
    confusion: pl.DataFrame = field(default_factory=pl.DataFrame)
    topics: pl.DataFrame = field(default_factory=pl.DataFrame)
    contrasts: pl.DataFrame = field(
        default_factory=partial(pl.DataFrame, schema=drill.CONTRASTS_SCHEMA)
    )
    asked: pl.DataFrame = field(default_factory=partial(pl.DataFrame, schema=drill.ASKED_SCHEMA))
    answered: pl.DataFrame = field(
        default_factory=partial(pl.DataFrame, schema=drill.ANSWERS_SCHEMA)
    )

    def to_json_dict(self) -> dict[str, Any]:
        """All TABLES as lists of rows, ready for `json.dumps` (NaN and infinity become None)."""
        rows = {name: _json_rows(getattr(self, name)) for name in TABLES}
        facts = {
            "variants": list(self.variants),
            "questions": self.questions,
            "champion": self.champion,
        }
        return {**facts, **rows}

    def metric(self, variant: str, metric: str, subset: str) -> dict[str, Any] | None:
        """The summary row of a variant's metric in a set; None where it was not measured."""
        rows = self.summary.filter(
            (pl.col("variant") == variant)
            & (pl.col("metric") == metric)
            & (pl.col("subset") == subset)
            & pl.col("value").is_not_null()
        )
        return rows.row(0, named=True) if rows.height else None

    @property
    def best_pair(self) -> tuple[str, str] | None:
        """The variant with the highest strict accuracy on unseen that has a baseline, and that."""
        unseen = self.tests.filter(subset="unseen")
        rows = (unseen if unseen.height else self.tests).sort(
            pl.col("variant_right") / pl.col("questions"), "variant", descending=[True, False]
        )
        return rows.select("variant", "baseline").row(0) if rows.height else None


def compare(
    scored: pl.DataFrame,
    *,
    baseline: Mapping[str, str] | str,
    champion: str | None = None,
    costs: pl.DataFrame | None = None,
    variants: Sequence[str] | None = None,
    reasons: Mapping[str, str] | None = None,
    models: pl.DataFrame | None = None,
    prompts: pl.DataFrame | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    side_by_side_questions: int = SIDE_BY_SIDE_QUESTIONS,
) -> Comparison:
    """Compare the variants of a SCORED frame.

    `baseline` maps a variant to the one it is tested against (the untouched model with the same
    prompts), or names one for all; those that have one are tested against the `champion` too, if
    it is among the variants. `variants` are those asked for: absent ones are listed as missing
    (with their entry in `reasons`, which may name others too), and so is a baseline without
    answers; what is there is compared. `costs` has a column variant and any measurements, `models`
    the columns of MODELS_SCHEMA but the baseline; rows of other variants are left out. `prompts`
    (PROMPT_CORPUS) is what the models were asked with.
    """
    present = tuple(sorted(scored["variant"].unique()))
    pairs = _pairs(present, baseline)
    known = costs if costs is not None else pl.DataFrame(schema={"variant": pl.String})
    known = known.filter(pl.col("variant").is_in(present)).sort("variant")
    reigning = champion if champion in present else None
    rivals = {v: reigning for v in pairs if v != reigning} if reigning is not None else {}
    roles = [Pair(*pair, "baseline") for pair in sorted(pairs.items())]
    roles += [Pair(*pair, "champion") for pair in sorted(rivals.items())]
    summary = summarize(scored, seed=seed, resamples=resamples)
    asked, given = drill.asked_questions(scored, prompts), drill.given_answers(scored)
    plain = Comparison(
        summary=summary,
        tests=paired_tests(scored, pairs, seed=seed, resamples=resamples),
        costs=known,
        side_by_side=_side_by_side(asked.head(side_by_side_questions), given),
        missing=_missing(present, variants or (), baseline, reasons or {}),
        variants=present,
        questions=asked.height,
        outcomes=_outcomes(scored),
        champion=reigning,
        champion_tests=paired_tests(scored, rivals, seed=seed, resamples=resamples),
        differences=bootstrap_differences(scored, roles, seed=seed, resamples=resamples),
        models=_models(present, pairs, models),
        pareto=pareto_fronts(summary, known),
        confusion=drill.confusion(given, asked, [pair[:2] for pair in roles]),
        topics=drill.topics(given, asked),
        asked=asked,
        answered=given,
    )
    return _with_contrasts(plain)


def _with_contrasts(comparison: Comparison) -> Comparison:
    if comparison.best_pair is None:
        return comparison
    found = drill.contrasts(comparison.answered, comparison.asked, *comparison.best_pair)
    texts = ("question", "gold_answer", "answer", "against_answer")
    shown = found.head(CONTRASTED_QUESTIONS).with_columns(cut_text(name) for name in texts)
    return replace(comparison, contrasts=shown)


def _pairs(present: Sequence[str], baseline: Mapping[str, str] | str) -> dict[str, str]:
    named = dict.fromkeys(present, baseline) if isinstance(baseline, str) else baseline
    return {
        variant: named[variant]
        for variant in present
        if variant in named and named[variant] != variant and named[variant] in present
    }


def _models(
    present: Sequence[str], pairs: Mapping[str, str], models: pl.DataFrame | None
) -> pl.DataFrame:
    """A row a variant: what is known of it."""
    frame = pl.DataFrame(
        {"variant": present, "baseline": [pairs.get(variant) for variant in present]},
        schema={name: MODELS_SCHEMA[name] for name in ("variant", "baseline")},
    )
    if models is not None:
        frame = frame.join(models.drop("baseline", strict=False), on="variant", how="left")
    columns = [
        (pl.col(name) if name in frame.columns else pl.lit(None)).cast(kind).alias(name)
        for name, kind in MODELS_SCHEMA.items()
    ]
    return frame.select(columns).sort("variant")


def _missing(
    present: Sequence[str],
    asked: Sequence[str],
    baseline: Mapping[str, str] | str,
    reasons: Mapping[str, str],
) -> pl.DataFrame:
    rows = {variant: "no predictions" for variant in asked if variant not in present}
    rows |= {variant: reason for variant, reason in reasons.items() if variant not in present}
    named = {"all variants": baseline} if isinstance(baseline, str) else baseline
    for variant, against in sorted(named.items()):
        if against not in present:
            rows.setdefault(against, f"no predictions; it is the baseline of {variant}")
    return pl.DataFrame(sorted(rows.items()), schema=MISSING_SCHEMA, orient="row")


def _outcomes(scored: pl.DataFrame) -> pl.DataFrame:
    """Questions by variant, subset, intent and outcome."""
    keys = ["variant", "subset", "intent", "outcome"]
    return scored.group_by(keys).agg(pl.len().cast(pl.Int64).alias("questions")).sort(keys)


def _side_by_side(asked: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    return (
        asked.join(answers, on="dialogue_id", how="inner")
        .select(
            "rank",
            "dialogue_id",
            "subset",
            "intent",
            cut_text("question"),
            cut_text("gold_answer"),
            "variant",
            "outcome",
            "correct",
            cut_text("answer"),
        )
        .sort("rank", "variant")
    )


def cut_text(column: str, most: int = SHOWN_CHARACTERS) -> pl.Expr:
    """Text cut to what a person reads in a table, saying how much is not shown."""
    text = pl.col(column)
    length = text.str.len_chars()
    rest = (length.cast(pl.Int64) - most).cast(pl.String)
    cut = text.str.head(most) + " \u2026 (" + rest + " more characters)"
    return pl.when(length > most).then(cut).otherwise(text).alias(column)


def _json_rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return [
        {name: _json_value(value) for name, value in row.items()}
        for row in frame.iter_rows(named=True)
    ]


def _json_value(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)

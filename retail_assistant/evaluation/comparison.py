"""Variants side by side on the same questions: metrics, paired tests, costs, answers."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from retail_assistant.evaluation.metrics import summarize
from retail_assistant.evaluation.statistics import (
    RESAMPLES,
    difference_interval,
    holm,
    mcnemar_p,
)

SIDE_BY_SIDE_QUESTIONS = 60
_SHOWN_CHARACTERS = 2_000
# What "right" is tested on: the strict outcome of each set's own kind of question.
_TESTED = (pl.col("intent") == "attribute") | (pl.col("intent") == "unanswerable")

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
MISSING_SCHEMA = pl.Schema({"variant": pl.String, "reason": pl.String})


@dataclass(frozen=True)
class Comparison:
    """Frames of one comparison.

    summary: as `metrics.summarize`. tests: one row a variant and set, against its baseline, on
    strict correctness; only_variant and only_baseline are the discordant questions. costs: variant
    and what was measured of it. side_by_side: one row a question and variant, the questions on
    which variants differ most first (`rank` from 1); cut to `side_by_side_questions` of
    `questions` questions. missing: variants asked for that have no answers. outcomes: questions by
    variant, subset, intent and outcome.
    """

    summary: pl.DataFrame
    tests: pl.DataFrame
    costs: pl.DataFrame
    side_by_side: pl.DataFrame
    missing: pl.DataFrame
    variants: tuple[str, ...]
    questions: int
    outcomes: pl.DataFrame

    def to_json_dict(self) -> dict[str, Any]:
        """All frames as lists of rows, ready for `json.dumps` (NaN and infinity become None)."""
        frames = ("summary", "tests", "costs", "side_by_side", "missing", "outcomes")
        rows = {name: _json_rows(getattr(self, name)) for name in frames}
        return {"variants": list(self.variants), "questions": self.questions, **rows}

    def metric(self, variant: str, metric: str, subset: str) -> dict[str, Any] | None:
        """The summary row of a variant's metric in a set; None where it was not measured."""
        rows = self.summary.filter(
            (pl.col("variant") == variant)
            & (pl.col("metric") == metric)
            & (pl.col("subset") == subset)
            & pl.col("value").is_not_null()
        )
        return rows.row(0, named=True) if rows.height else None


def compare(
    scored: pl.DataFrame,
    *,
    baseline: Mapping[str, str] | str,
    costs: pl.DataFrame | None = None,
    variants: Sequence[str] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    side_by_side_questions: int = SIDE_BY_SIDE_QUESTIONS,
) -> Comparison:
    """Compare the variants of a SCORED frame.

    `baseline` maps a variant to the one it is tested against (the untouched model with the same
    prompts), or names one for all. `variants` are those asked for: absent ones are listed as
    missing, and so is a baseline without answers; what is there is compared. `costs` has a column
    variant and any measurements; rows of other variants are left out.
    """
    present = tuple(sorted(scored["variant"].unique()))
    pairs = _pairs(present, baseline)
    known = costs if costs is not None else pl.DataFrame(schema={"variant": pl.String})
    return Comparison(
        summary=summarize(scored, seed=seed, resamples=resamples),
        tests=paired_tests(scored, pairs, seed=seed, resamples=resamples),
        costs=known.filter(pl.col("variant").is_in(present)).sort("variant"),
        side_by_side=_side_by_side(scored, side_by_side_questions),
        missing=_missing(present, variants or (), baseline),
        variants=present,
        questions=scored["dialogue_id"].n_unique(),
        outcomes=_outcomes(scored),
    )


def _pairs(present: Sequence[str], baseline: Mapping[str, str] | str) -> dict[str, str]:
    named = dict.fromkeys(present, baseline) if isinstance(baseline, str) else baseline
    return {
        variant: named[variant]
        for variant in present
        if variant in named and named[variant] != variant and named[variant] in present
    }


def _missing(
    present: Sequence[str], asked: Sequence[str], baseline: Mapping[str, str] | str
) -> pl.DataFrame:
    rows = {variant: "no predictions" for variant in asked if variant not in present}
    named = {"all variants": baseline} if isinstance(baseline, str) else baseline
    for variant, against in sorted(named.items()):
        if against not in present:
            rows.setdefault(against, f"no predictions; it is the baseline of {variant}")
    return pl.DataFrame(sorted(rows.items()), schema=MISSING_SCHEMA, orient="row")


def _outcomes(scored: pl.DataFrame) -> pl.DataFrame:
    """Questions by variant, subset, intent and outcome."""
    keys = ["variant", "subset", "intent", "outcome"]
    return scored.group_by(keys).agg(pl.len().cast(pl.Int64).alias("questions")).sort(keys)


def paired_tests(
    scored: pl.DataFrame,
    pairs: Mapping[str, str],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> pl.DataFrame:
    """TESTS: each variant of a SCORED frame against the one it is paired with, for each set.

    Exact McNemar on the questions that both answered, p adjusted by Holm over the variants of a
    set, and the difference with its 95% interval by a paired bootstrap over products.
    """
    tested = scored.filter(_TESTED)
    rows = [
        row
        for variant, against in sorted(pairs.items())
        for row in _paired_rows(tested, variant, against, seed, resamples)
    ]
    tests = pl.DataFrame(rows, schema=TESTS_SCHEMA, orient="row").sort("subset", "variant")
    adjusted = [
        group.with_columns(p_holm=pl.Series(holm(group["p"].to_list()), dtype=pl.Float64))
        for group in tests.partition_by("subset", maintain_order=True)
    ]
    return pl.concat(adjusted).sort("subset", "variant") if adjusted else tests


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


def _side_by_side(scored: pl.DataFrame, questions: int) -> pl.DataFrame:
    share = pl.col("correct").mean()
    ranked = (
        scored.group_by("dialogue_id")
        .agg(
            disagreement=(share * (1 - share)).round(9),
            outcomes=pl.col("outcome").n_unique(),
        )
        .sort("disagreement", "outcomes", "dialogue_id", descending=[True, True, False])
        .with_row_index("rank", offset=1)
        .head(questions)
    )
    return (
        scored.join(ranked.select("dialogue_id", "rank"), on="dialogue_id", how="inner")
        .select(
            "rank",
            "dialogue_id",
            "subset",
            "intent",
            _shown("question"),
            _shown("gold_answer"),
            "variant",
            "outcome",
            "correct",
            _shown("answer"),
        )
        .sort("rank", "variant")
    )


def _shown(column: str) -> pl.Expr:
    """Text cut to what a person reads in a table, saying how much is not shown."""
    text = pl.col(column)
    length = text.str.len_chars()
    rest = (length.cast(pl.Int64) - _SHOWN_CHARACTERS).cast(pl.String)
    cut = text.str.head(_SHOWN_CHARACTERS) + " \u2026 (" + rest + " more characters)"
    return pl.when(length > _SHOWN_CHARACTERS).then(cut).otherwise(text).alias(column)


def _json_rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return [
        {name: _json_value(value) for name, value in row.items()}
        for row in frame.iter_rows(named=True)
    ]


def _json_value(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)

"""Predictions -> scored questions -> metrics with numerator, denominator and 95% interval."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

from retail_assistant.corpus.dialogues import EVALUATION_SUBSETS
from retail_assistant.corpus.reading.answers import (
    AnswerReading,
    CatalogFacts,
    Question,
    read_answer,
)
from retail_assistant.corpus.reading.text import normalise
from retail_assistant.evaluation.errors import error_class, is_malformed
from retail_assistant.evaluation.outcomes import FALSE_POSITIVES, RIGHT, judge
from retail_assistant.evaluation.statistics import RESAMPLES, ratio_interval

ALL = "all"
PREDICTION_COLUMNS = ("dialogue_id", "variant", "answer", "finish_reason")
OPTIONAL_COLUMNS = ("prompt_tokens", "completion_tokens", "sem_score", "truthfulness")
QUESTION_COLUMNS = (
    "dialogue_id", "product_id", "product_name", "reference", "intent", "subset", "question",
    "answer", "asked_attribute", "gold_value", "evidence",
)  # fmt: skip

SCORED_SCHEMA = pl.Schema(
    {
        "dialogue_id": pl.String,
        "variant": pl.String,
        "product_id": pl.String,
        "cluster": pl.String,
        "subset": pl.String,
        "intent": pl.String,
        "question": pl.String,
        "asked_attribute": pl.String,
        "gold_value": pl.String,
        "gold_answer": pl.String,
        "answer": pl.String,
        "finish_reason": pl.String,
        "outcome": pl.String,
        "correct": pl.Boolean,
        "false_positive": pl.Boolean,
        "abstained": pl.Boolean,
        "hallucinated": pl.Boolean,
        "truncated": pl.Boolean,
        "predicted": pl.Boolean,
        "read_in_full": pl.Boolean,
        "loose_stated": pl.Boolean,
        "loose_match": pl.Boolean,
        "attributes_stated": pl.Int64,
        "attributes_right": pl.Int64,
        "attributes_contradicted": pl.Int64,
        "attributes_unsupported": pl.Int64,
        "attributes_expected": pl.Int64,
        "attributes_expected_right": pl.Int64,
        "suggestions": pl.Int64,
        "suggestions_valid": pl.Int64,
        "prompt_tokens": pl.Int64,
        "completion_tokens": pl.Int64,
        "department": pl.String,
        "category": pl.String,
        "subcategory": pl.String,
        "malformed": pl.Boolean,
        "error_class": pl.String,
        "sem_score": pl.Float64,
        "truthfulness": pl.Float64,
    }
)

SUMMARY_SCHEMA = pl.Schema(
    {
        "variant": pl.String,
        "subset": pl.String,
        "intent": pl.String,
        "metric": pl.String,
        "value": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "numerator": pl.Int64,
        "denominator": pl.Int64,
        "clusters": pl.Int64,
    }
)


def score(
    dialogues: pl.DataFrame, predictions: pl.DataFrame, products: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Score every prediction: one SCORED row for each evaluation question and variant.

    `dialogues` (DIALOGUES) holds the questions; rows of other subsets serve as the training
    answers of the loose rule. `products` (PRODUCTS, the whole assortment) is what answers are
    compared with; without it the dialogues' own facts are, and suggestions are not judged. A
    question without a prediction counts as answered with "" and stays in every denominator.
    `sem_score` and `truthfulness` are taken over from the predictions, null where they lack them.
    Raises ValueError for missing columns, repeated predictions and unknown dialogue ids.
    """
    _require_columns(dialogues, QUESTION_COLUMNS, "dialogues")
    _require_columns(predictions, PREDICTION_COLUMNS, "predictions")
    questions = dialogues.filter(pl.col("subset").is_in(EVALUATION_SUBSETS))
    _refuse_unusable(questions, predictions)
    if products is None:
        facts = CatalogFacts.from_dialogues(dialogues)
    else:
        facts = CatalogFacts.from_products(products)
    loose = _LooseRule(dialogues)
    rows = [
        _scored_row(row, facts, loose)
        for row in _answered(questions, predictions).iter_rows(named=True)
    ]
    scored = pl.DataFrame(rows, schema=SCORED_SCHEMA, orient="row").with_columns(error_class())
    return scored.sort("variant", "dialogue_id")


def _require_columns(frame: pl.DataFrame, columns: tuple[str, ...], name: str) -> None:
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise ValueError(
            f"The {name} lack the column(s) {', '.join(missing)}; needed: {', '.join(columns)}."
        )


def _refuse_unusable(questions: pl.DataFrame, predictions: pl.DataFrame) -> None:
    ids = ["dialogue_id", "variant"]
    empty = predictions.filter(pl.any_horizontal(pl.col(ids).is_null()))
    if empty.height:
        raise ValueError(
            f"{empty.height} prediction(s) have no dialogue_id or no variant; both are needed."
        )
    if twice := questions.filter(pl.col("dialogue_id").is_duplicated())["dialogue_id"].to_list():
        raise ValueError(f"The dialogues hold {twice[0]!r} more than once; ids must be unique.")
    repeated = predictions.filter(pl.struct(ids).is_duplicated()).sort(ids)
    if repeated.height:
        first = repeated.row(0, named=True)
        raise ValueError(
            f"{repeated.height} predictions are duplicates: {first['variant']!r} answers"
            f" {first['dialogue_id']!r} more than once; give one answer a question and variant."
        )
    unknown = predictions.join(questions, on="dialogue_id", how="anti").sort(ids)
    if unknown.height:
        raise ValueError(
            f"{unknown.height} prediction(s) have an unknown dialogue_id, such as"
            f" {unknown['dialogue_id'][0]!r}; known are the dialogues of the sets"
            f" {', '.join(EVALUATION_SUBSETS)}."
        )


def _answered(questions: pl.DataFrame, predictions: pl.DataFrame) -> pl.DataFrame:
    """Each question for each variant, beside its prediction or an empty answer."""
    optional = [name for name in OPTIONAL_COLUMNS if name in predictions.columns]
    answers = predictions.select(
        "dialogue_id",
        "variant",
        pl.col("answer").alias("prediction"),
        "finish_reason",
        *(pl.col(name).cast(SCORED_SCHEMA[name]) for name in optional),
        pl.lit(value=True).alias("predicted"),
    )
    return (
        questions.select(QUESTION_COLUMNS)
        .join(predictions.select("variant").unique(), how="cross")
        .join(answers, on=["dialogue_id", "variant"], how="left")
        .with_columns(
            pl.col("prediction").fill_null(""),
            pl.col("finish_reason").fill_null("none"),
            pl.col("predicted").fill_null(value=False),
        )
    )


class _LooseRule:
    """The reference implementation's rule: does the stated name occur in any training answer?"""

    def __init__(self, dialogues: pl.DataFrame) -> None:
        training = dialogues.filter(pl.col("subset") == "train")
        answers = (training if training.height else dialogues).get_column("answer").drop_nulls()
        self._answers = " | ".join(f" {normalise(answer)} " for answer in answers.unique().sort())
        self._known: dict[str, bool] = {}

    def matches(self, reading: AnswerReading) -> tuple[bool, bool]:
        """Whether the answer states a product name, and whether a training answer holds it."""
        names = {product.name for product in reading.products}
        names |= {normalise(name) for name in reading.unknown_products}
        return bool(names), any(self._occurs(name) for name in sorted(names))

    def _occurs(self, name: str) -> bool:
        if name not in self._known:
            self._known[name] = f" {name} " in self._answers
        return self._known[name]


def _scored_row(row: dict[str, Any], facts: CatalogFacts, loose: _LooseRule) -> dict[str, Any]:
    question = Question.from_row(row)
    answer, finish_reason = row["prediction"], row["finish_reason"]
    reading = read_answer(answer, question, facts, finish_reason=finish_reason)
    expected = (row["evidence"] or {}).get("attributes") or ()
    judgement = judge(answer, reading, question, facts, expected)
    loose_stated, loose_match = loose.matches(reading)
    overview = judgement.overview
    record = facts.products.get(question.product_id or "")
    return {
        **{name: row.get(name) for name in SCORED_SCHEMA if name in row},
        "cluster": question.product_id or row["dialogue_id"],
        "gold_answer": row["answer"],
        "answer": answer,
        "outcome": judgement.outcome,
        "correct": judgement.outcome in RIGHT,
        "false_positive": judgement.outcome in FALSE_POSITIVES,
        "abstained": judgement.abstained,
        "hallucinated": judgement.hallucinated,
        "truncated": not reading.stopped,
        "read_in_full": reading.read_in_full,
        "loose_stated": loose_stated,
        "loose_match": loose_match,
        "attributes_stated": overview.stated,
        "attributes_right": overview.right,
        "attributes_contradicted": overview.contradicted,
        "attributes_unsupported": overview.unsupported,
        "attributes_expected": overview.expected,
        "attributes_expected_right": overview.expected_right,
        "suggestions": judgement.suggestions,
        "suggestions_valid": judgement.valid_suggestions,
        "department": record.department if record else None,
        "category": record.category if record else None,
        "subcategory": record.subcategory if record else None,
        "malformed": is_malformed(answer),
    }


@dataclass(frozen=True)
class Metric:
    """A ratio of sums: which rows it is over, and what each row adds above and below the line.

    `intent` is the intent of its rows, or "all". `across` metrics are also given for all sets
    together; the others only for each set apart. `counts`: the numerator counts something; else it
    is a mean of what lies within `bounds`, and has none.
    """

    name: str
    intent: str
    numerator: pl.Expr
    denominator: pl.Expr
    per_subset: bool = True
    across: bool = False
    rows: pl.Expr | None = None
    bounds: tuple[float, float] = (0.0, 1.0)
    counts: bool = True

    def keep(self) -> pl.Expr:
        """The scored rows that the metric is over."""
        of_intent = _ONE if self.intent == ALL else pl.col("intent") == self.intent
        return of_intent if self.rows is None else of_intent & self.rows


_ONE = pl.col("dialogue_id").is_not_null()
_CORRECT = pl.col("correct")
_ANSWERABLE = pl.col("intent") != "unanswerable"
_ANSWERED_ANYHOW = pl.col("outcome") == "answered_unanswerable"
_NOTHING_SAID = pl.col("outcome").is_in(["refused", "no_details"])
_STATED_RIGHT, _STATED = pl.col("attributes_right"), pl.col("attributes_stated")
_EXPECTED, _EXPECTED_RIGHT = pl.col("attributes_expected"), pl.col("attributes_expected_right")
_OMITTED = _EXPECTED - _EXPECTED_RIGHT
_JUDGED = pl.col("outcome") != "not_judged"
_VALID = pl.col("suggestions_valid")
_LOOSE = pl.col("loose_match")
_UNSUPPORTED = pl.col("attributes_unsupported")
_REFUSED_WRONGLY = pl.col("error_class").eq_missing("refused_wrongly")


def _mean(column: str, bounds: tuple[float, float]) -> Metric:
    """The mean of what was measured; an answer without a number is in neither sum."""
    measured = pl.col(column).is_not_null()
    return Metric(column, ALL, pl.col(column), measured, across=True, bounds=bounds, counts=False)


METRICS: tuple[Metric, ...] = (
    Metric("strict_accuracy", "attribute", _CORRECT, _ONE),
    Metric("strict_precision", "attribute", _CORRECT, _CORRECT | pl.col("false_positive")),
    Metric("false_positive_rate", "attribute", pl.col("false_positive"), _ONE),
    Metric("no_details_rate", "attribute", _NOTHING_SAID, _ONE),
    Metric("attribute_precision", "overview", _STATED_RIGHT, _STATED),
    Metric("attribute_recall", "overview", _EXPECTED_RIGHT, _EXPECTED),
    # Micro F1 as 2 TP / (2 TP + FP + FN): a ratio of sums, so that it has an interval like others.
    Metric("attribute_f1", "overview", 2 * _STATED_RIGHT, _STATED_RIGHT + _STATED + _OMITTED),
    Metric("attribute_contradicted_rate", "overview", pl.col("attributes_contradicted"), _STATED),
    Metric("attribute_invented_rate", "overview", _UNSUPPORTED, _STATED),
    Metric("attribute_omitted_rate", "overview", _OMITTED, _EXPECTED),
    # Silence is no valid suggestion: the first is over questions, the second over suggestions.
    Metric("alternatives_valid_rate", "alternative", _CORRECT, _ONE, rows=_JUDGED),
    Metric("alternatives_valid_share", "alternative", _VALID, pl.col("suggestions")),
    Metric("complements_valid_rate", "complement", _CORRECT, _ONE, rows=_JUDGED),
    Metric("complements_valid_share", "complement", _VALID, pl.col("suggestions")),
    Metric("abstention_recall", "unanswerable", _CORRECT, _ONE),
    Metric("answered_unanswerable_rate", "unanswerable", _ANSWERED_ANYHOW, _ONE),
    Metric(
        "abstention_precision", ALL, ~_ANSWERABLE, _ONE,
        per_subset=False, across=True, rows=pl.col("abstained"),
    ),
    Metric("hallucinated_product_rate", ALL, pl.col("hallucinated"), _ONE, across=True),
    Metric("truncated_rate", ALL, pl.col("truncated"), _ONE, across=True),
    Metric("malformed_rate", ALL, pl.col("malformed"), _ONE, across=True),
    Metric("refused_wrongly_rate", ALL, _REFUSED_WRONGLY, _ONE, across=True, rows=_ANSWERABLE),
    Metric("unpredicted_rate", ALL, ~pl.col("predicted"), _ONE, across=True),
    _mean("sem_score", (-1.0, 1.0)),
    _mean("truthfulness", (1.0, 5.0)),
    Metric("reference_accuracy_loose", ALL, _LOOSE, _ONE, rows=_ANSWERABLE),
    Metric("reference_precision_loose", ALL, _LOOSE, pl.col("loose_stated"), rows=_ANSWERABLE),
)  # fmt: skip


def summarize(scored: pl.DataFrame, *, seed: int, resamples: int = RESAMPLES) -> pl.DataFrame:
    """Every metric of every variant and set, with numerator, denominator and 95% interval.

    Columns: variant, subset ("all": all sets together), intent ("all" or the one it is over),
    metric, value, low, high, numerator (null of a mean), denominator, clusters (products counted).
    The value is null where the denominator is 0. Intervals by cluster bootstrap over products, see
    `statistics.ratio_interval`; the same scored frame and seed give the same frame.
    """
    rows = [row for metric in METRICS for row in _metric_rows(scored, metric, seed, resamples)]
    order = ["variant", "subset", "intent", "metric"]
    return pl.DataFrame(rows, schema=SUMMARY_SCHEMA, orient="row").sort(order)


def _metric_rows(
    scored: pl.DataFrame, metric: Metric, seed: int, resamples: int
) -> Iterator[dict[str, Any]]:
    sums = cluster_sums(scored, metric)
    for group in sums.partition_by("variant", "subset", maintain_order=True):
        yield _summary_row(group, metric, seed, resamples)


def cluster_sums(scored: pl.DataFrame, metric: Metric) -> pl.DataFrame:
    """A metric's numerator and denominator by variant, subset and cluster, sorted."""
    number = pl.Int64 if metric.counts else pl.Float64
    frames = [scored] if metric.per_subset else []
    frames += [scored.with_columns(subset=pl.lit(ALL))] if metric.across else []
    return (
        pl.concat(frames)
        .group_by("variant", "subset", "cluster")
        .agg(
            metric.numerator.cast(number).filter(metric.keep()).sum().alias("numerator"),
            metric.denominator.cast(pl.Int64).filter(metric.keep()).sum().alias("denominator"),
            metric.keep().any().alias("asked"),
        )
        .filter("asked" if metric.per_subset else pl.lit(value=True))
        .sort("variant", "subset", "cluster")
    )


def _summary_row(group: pl.DataFrame, metric: Metric, seed: int, resamples: int) -> dict[str, Any]:
    variant, subset = group.row(0)[:2]
    estimate = ratio_interval(
        group["numerator"].to_numpy(),
        group["denominator"].to_numpy(),
        seed=seed,
        # The variant is no part of the key: all variants are resampled alike.
        key=f"{metric.name}/{subset}",
        resamples=resamples,
        bounds=metric.bounds,
    )
    counted = group["denominator"].sum() > 0
    return {
        "variant": variant,
        "subset": subset,
        "intent": metric.intent,
        "metric": metric.name,
        "value": estimate.value if counted else None,
        "low": estimate.low if counted else None,
        "high": estimate.high if counted else None,
        "numerator": group["numerator"].sum() if metric.counts else None,
        "denominator": group["denominator"].sum(),
        "clusters": group.filter(pl.col("denominator") > 0).height,
    }

"""Every question with its prompts and its gold, and every answer to it: what a person drills into.

ASKED, a row a question: dialogue_id, subset, intent, question, gold_answer, asked_attribute,
gold_value, product_id, product_name, department, category, subcategory, evidence (attributes,
product_ids), context_ids (what retrieval found), prompt and grounded_prompt (messages),
disagreement (variance of right over the variants), rank (from 1, largest disagreement first). What
is not known is null.

ANSWERS, a row a question and variant: dialogue_id, variant, outcome, correct, false_positive, score
(0 to 1), error_class, sem_score, truthfulness, finish_reason, prompt_tokens, completion_tokens,
answer.
"""

from typing import Any

import polars as pl

LEVELS = ("department", "category", "subcategory")
_MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
EVIDENCE = pl.Struct({"attributes": pl.List(pl.String), "product_ids": pl.List(pl.String)})
_ASKED: dict[str, Any] = {
    "dialogue_id": pl.String,
    "subset": pl.String,
    "intent": pl.String,
    "question": pl.String,
    "gold_answer": pl.String,
    "asked_attribute": pl.String,
    "gold_value": pl.String,
    "product_id": pl.String,
    "product_name": pl.String,
    "department": pl.String,
    "category": pl.String,
    "subcategory": pl.String,
    "evidence": EVIDENCE,
    "context_ids": pl.List(pl.String),
    "prompt": _MESSAGES,
    "grounded_prompt": _MESSAGES,
    "disagreement": pl.Float64,
    "rank": pl.Int64,
}
ASKED_SCHEMA = pl.Schema(_ASKED)
ANSWERS_SCHEMA = pl.Schema(
    {
        "dialogue_id": pl.String,
        "variant": pl.String,
        "outcome": pl.String,
        "correct": pl.Boolean,
        "false_positive": pl.Boolean,
        "score": pl.Float64,
        "error_class": pl.String,
        "sem_score": pl.Float64,
        "truthfulness": pl.Float64,
        "finish_reason": pl.String,
        "prompt_tokens": pl.Int64,
        "completion_tokens": pl.Int64,
        "answer": pl.String,
    }
)
CONTRASTS_SCHEMA = pl.Schema(
    {
        "dialogue_id": pl.String,
        "subset": pl.String,
        "question": pl.String,
        "gold_answer": pl.String,
        "variant": pl.String,
        "outcome": pl.String,
        "answer": pl.String,
        "against": pl.String,
        "against_outcome": pl.String,
        "against_answer": pl.String,
        "difference": pl.Float64,
    }
)
_OF_PROMPTS = ("product_name", "evidence", "context_ids", "prompt", "grounded_prompt")


def asked_questions(scored: pl.DataFrame, prompts: pl.DataFrame | None = None) -> pl.DataFrame:
    """ASKED, largest disagreement first; `prompts` (PROMPT_CORPUS) adds what the models saw."""
    share = pl.col("correct").mean()
    ranked = (
        scored.group_by("dialogue_id")
        .agg(
            disagreement=(share * (1 - share)).round(9),
            outcomes=pl.col("outcome").n_unique(),
        )
        .sort("disagreement", "outcomes", "dialogue_id", descending=[True, True, False])
        .with_row_index("rank", offset=1)
        .drop("outcomes")
    )
    once = scored.unique("dialogue_id", keep="first").drop("answer")
    asked = ranked.join(once, on="dialogue_id", how="left")
    if prompts is not None:
        added = [name for name in _OF_PROMPTS if name in prompts.columns]
        seen = prompts.select("dialogue_id", *added).unique("dialogue_id", keep="first")
        kept = asked.drop([name for name in added if name in asked.columns])
        asked = kept.join(seen, on="dialogue_id", how="left")
    return _as(_with_evidence(asked), ASKED_SCHEMA).sort("rank")


def _with_evidence(asked: pl.DataFrame) -> pl.DataFrame:
    """Evidence with the fields that are shown: a corpus may say more."""
    if not isinstance(asked.schema.get("evidence"), pl.Struct):
        return asked.drop("evidence", strict=False)
    fields = [pl.col("evidence").struct.field(name) for name in ("attributes", "product_ids")]
    return asked.with_columns(evidence=pl.struct(fields))


def given_answers(scored: pl.DataFrame) -> pl.DataFrame:
    """ANSWERS of a SCORED frame; `score` is how much of an answer is right.

    1 or 0 where an answer is right or not; an overview scores the F1 of its attributes, a
    suggestion the share of valid products.
    """
    stated, right = pl.col("attributes_stated"), pl.col("attributes_right")
    omitted = pl.col("attributes_expected") - pl.col("attributes_expected_right")
    f1 = 2 * right / (right + stated + omitted)
    share = pl.col("suggestions_valid") / pl.col("suggestions")
    suggests = pl.col("intent").is_in(["alternative", "complement"])
    partial = pl.when(pl.col("intent") == "overview").then(f1).when(suggests).then(share)
    score = (
        pl.when(pl.col("correct"))
        .then(pl.lit(1.0))
        .otherwise(partial.fill_nan(None))
        .fill_null(0.0)
        .round(9)
    )
    return _as(scored.with_columns(score=score), ANSWERS_SCHEMA).sort("variant", "dialogue_id")


def _as(frame: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """The schema's columns; those that the frame lacks are null."""
    columns = [
        (pl.col(name) if name in frame.columns else pl.lit(None)).cast(kind).alias(name)
        for name, kind in schema.items()
    ]
    return frame.select(columns)


def confusion(
    answers: pl.DataFrame, asked: pl.DataFrame, pairs: list[tuple[str, str]]
) -> pl.DataFrame:
    """Outcome of a variant by outcome of another on the same questions.

    Columns: variant, against, subset, outcome, against_outcome, questions.
    """
    outcomes = answers.join(asked.select("dialogue_id", "subset"), on="dialogue_id", how="left")
    keys = ["variant", "against", "subset", "outcome", "against_outcome"]
    schema = {**dict.fromkeys(keys, pl.String), "questions": pl.Int64}
    frames = [
        outcomes.filter(variant=variant)
        .join(
            outcomes.filter(variant=against).select("dialogue_id", against_outcome="outcome"),
            on="dialogue_id",
        )
        .with_columns(against=pl.lit(against))
        .group_by(keys)
        .agg(pl.len().cast(pl.Int64).alias("questions"))
        for variant, against in dict.fromkeys(pairs)
    ]
    return pl.concat([pl.DataFrame(schema=schema), *frames]).sort(keys)


def topics(answers: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """Outcomes by what was asked about: a row a variant, dimension, value and outcome.

    Columns: variant, dimension (department, category, subcategory, asked_attribute, error_class),
    value, outcome, questions. Questions without a value are in none.
    """
    dimensions = (*LEVELS, "asked_attribute", "error_class")
    about = asked.select("dialogue_id", *LEVELS, "asked_attribute")
    keys = ["variant", "dimension", "value", "outcome"]
    return (
        answers.select("dialogue_id", "variant", "outcome", "error_class")
        .join(about, on="dialogue_id", how="left")
        .unpivot(
            on=dimensions,
            index=["variant", "outcome"],
            variable_name="dimension",
            value_name="value",
        )
        .drop_nulls("value")
        .group_by(keys)
        .agg(pl.len().cast(pl.Int64).alias("questions"))
        .sort(keys)
    )


def contrasts(
    answers: pl.DataFrame, asked: pl.DataFrame, variant: str, against: str
) -> pl.DataFrame:
    """The questions on which two variants' outcomes differ, largest difference of score first.

    Of equal differences those come first where one of the two states something wrong.
    """
    columns = ("dialogue_id", "outcome", "answer", "score", "false_positive")
    first = answers.filter(variant=variant).select(columns)
    second = answers.filter(variant=against).select(
        "dialogue_id", *(pl.col(name).alias(f"against_{name}") for name in columns[1:])
    )
    wrong = pl.col("false_positive") | pl.col("against_false_positive")
    differing = (
        first.join(second, on="dialogue_id")
        .filter(pl.col("outcome") != pl.col("against_outcome"))
        .with_columns(
            difference=pl.col("score") - pl.col("against_score"),
            wrong=wrong.fill_null(value=False),
            variant=pl.lit(variant),
            against=pl.lit(against),
        )
        .join(asked, on="dialogue_id", how="left")
        .sort(pl.col("difference").abs(), "wrong", "dialogue_id", descending=[True, True, False])
    )
    return _as(differing, CONTRASTS_SCHEMA)


def exported(asked: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """Every answer with its question in one table without structures, for a file."""
    prompts = ("prompt", "grounded_prompt")
    flat = asked.with_columns(
        *(pl.col(name).map_elements(_spoken, return_dtype=pl.String) for name in prompts),
        pl.col("context_ids").list.join(" "),
        evidence_attributes=pl.col("evidence").struct.field("attributes").list.join("; "),
        evidence_products=pl.col("evidence").struct.field("product_ids").list.join(" "),
    ).drop("evidence")
    return answers.join(flat, on="dialogue_id", how="left").sort("rank", "variant")


def _spoken(messages: list[dict[str, Any]]) -> str:
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in messages)

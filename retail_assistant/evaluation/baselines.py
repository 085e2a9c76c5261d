"""Answers without a model: what plain retrieval would have said."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from retail_assistant.corpus.retrieval import asks_for_suggestions

BASELINES = {"base/closed-book": "none", "base/grounded": "retrieved"}
"""The untouched model, by how it is prompted."""
BASELINE_OF_GROUNDING = {grounding: name for name, grounding in BASELINES.items()}
VARIANT = "retrieval-only"
CUT_OFF = 75


def retrieval_only(questions: pl.DataFrame, assortment: pl.DataFrame) -> pl.DataFrame:
    """PREDICTIONS that read the answer off the first record found.

    The asked attribute is the one whose name stands in the question most nearly; where none does,
    the answer says so.
    """
    records = {row["product_id"]: row for row in assortment.iter_rows(named=True)}
    answers = [
        _answer(question, [records[product_id] for product_id in context if product_id in records])
        for question, context in questions.select("question", "context_ids").iter_rows()
    ]
    return questions.select(
        "dialogue_id",
        pl.lit(VARIANT).alias("variant"),
        pl.Series("answer", answers),
        pl.lit("stop").alias("finish_reason"),
        pl.lit(0, pl.UInt32).alias("prompt_tokens"),
        pl.lit(0, pl.UInt32).alias("completion_tokens"),
    )


def _answer(question: str, context: list[Mapping[str, Any]]) -> str:
    from rapidfuzz import fuzz, process, utils

    if not context:
        return "I could not find that in our catalog."
    first = context[0]
    if asks_for_suggestions(question):
        return "\n".join(f"- {record['name']}" for record in context[1:])
    named = {entry["name"]: entry["value"] for entry in first["attributes"] if entry["name"]}
    asked = question.replace(first["name"], " ")
    best = process.extractOne(
        asked, named.keys(), scorer=fuzz.partial_ratio, processor=utils.default_process
    )
    if best is None or best[1] < CUT_OFF:
        return f"The catalog does not say that of {first['name']}."
    return f"The {best[0].lower()} of {first['name']} is {named[best[0]]}."

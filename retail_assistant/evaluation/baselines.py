"""What a fine-tuned model has to beat: the untouched model, and answers without any model."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import polars as pl

from retail_assistant.corpus.draws import hash_order
from retail_assistant.corpus.lengths import prompt_column, row_tokens
from retail_assistant.corpus.rendering import Message, render_few_shot
from retail_assistant.corpus.retrieval import asks_for_suggestions

BASELINES = {"base/closed-book": "none", "base/grounded": "retrieved"}
"""The untouched model, by how it is prompted."""
BASELINE_OF_GROUNDING = {grounding: name for name, grounding in BASELINES.items()}
FEW_SHOT = "base/few-shot"
"""The untouched model with records and answered training questions in the prompt."""
SHOTS = 3
VARIANT = "retrieval-only"
CONSTANT = "constant"
WITHOUT_MODEL = (VARIANT, CONSTANT)
ALL_BASELINES = (*BASELINES, FEW_SHOT, *WITHOUT_MODEL)
CUT_OFF = 75
# An example of each is shown, in this order, as far as there are shots; then from the first again.
_SHOWN_INTENTS = ("attribute", "unanswerable", "complement", "overview", "alternative")
NO_ANSWER = "I do not know."


def prompted_baselines() -> list[dict[str, Any]]:
    """The variants that the untouched model answers: name, grounding and number of examples."""
    plain = [{"name": name, "grounding": grounding} for name, grounding in BASELINES.items()]
    return [*plain, {"name": FEW_SHOT, "grounding": "retrieved", "shots": SHOTS}]


def with_examples(
    questions: pl.DataFrame, corpus: pl.DataFrame, grounding: str, shots: int, longest: int
) -> pl.DataFrame:
    """PROMPT_CORPUS rows with `shots` answered training questions before each question.

    All questions get the same examples, drawn from the training rows by a hash of their ids, an
    intent after the other: a prefix that an engine with a prefix cache reads once. What would make
    a prompt longer than `longest` tokens is not drawn, so there may be fewer.
    """
    column = prompt_column(grounding)
    room = longest - int(questions[f"{column}_tokens"].max() or 0)  # type: ignore[arg-type]
    examples = _examples(corpus.filter(pl.col("subset") == "train"), grounding, shots, room)
    prompts: list[list[Message]] = questions[column].to_list()
    shown = [render_few_shot(prompt, examples) for prompt in prompts]
    return questions.with_columns(pl.Series(column, shown, questions.schema[column]))


def _examples(
    training: pl.DataFrame, grounding: str, shots: int, room: int
) -> list[tuple[Sequence[Message], Sequence[Message]]]:
    """Up to `shots` pairs of prompt and completion, of up to `room` tokens together."""
    column = prompt_column(grounding)
    tokens = row_tokens(grounding).cast(pl.Int64).alias("tokens")
    rows = training.select("dialogue_id", "intent", column, "completion", tokens).to_dicts()
    drawn = hash_order(rows, lambda row: str(row["dialogue_id"]), "few-shot")
    by_intent = [[row for row in drawn if row["intent"] == one] for one in _SHOWN_INTENTS]
    taken: list[dict[str, Any]] = []
    for row in (row for turn in zip_longest(*by_intent) for row in turn if row is not None):
        if len(taken) < shots and row["tokens"] <= room:
            taken.append(row)
            room -= row["tokens"]
    return [(row[column], row["completion"]) for row in taken]


def constant_answer(questions: pl.DataFrame, corpus: pl.DataFrame) -> pl.DataFrame:
    """PREDICTIONS that give the most frequent training answer to every question.

    Of several as frequent, the first in the alphabet. What this scores is what knowing nothing of a
    question scores.
    """
    training = corpus.filter(pl.col("subset") == "train")
    counted = (
        training["answer"].value_counts(sort=True).sort("count", "answer", descending=[True, False])
    )
    answer = counted["answer"][0] if counted.height else NO_ANSWER
    return _predictions(questions, CONSTANT, [answer] * questions.height)


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
    return _predictions(questions, VARIANT, answers)


def _predictions(questions: pl.DataFrame, variant: str, answers: list[str]) -> pl.DataFrame:
    return questions.select(
        "dialogue_id",
        pl.lit(variant).alias("variant"),
        pl.Series("answer", answers, pl.String),
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

"""Plain retrieval's answers, the constant one, and examples in the untouched model's prompt."""

import polars as pl
import pytest

from retail_assistant.corpus.lengths import prompt_column
from retail_assistant.corpus.rendering import render_completion, render_prompt
from retail_assistant.evaluation.baselines import (
    ALL_BASELINES,
    BASELINE_OF_GROUNDING,
    BASELINES,
    NO_ANSWER,
    VARIANT,
    WITHOUT_MODEL,
    constant_answer,
    prompted_baselines,
    retrieval_only,
    with_examples,
)
from retail_assistant.evaluation.metrics import score
from retail_assistant_tests.evaluation.conftest import DRESS, SHIRT, TOP, TROUSERS


def asked(question: str, context: list[str]) -> pl.DataFrame:
    return pl.DataFrame(
        {"dialogue_id": ["q"], "question": [question], "context_ids": [context]},
        schema_overrides={"context_ids": pl.List(pl.String)},
    )


def answer(question: str, context: list[str], products: pl.DataFrame) -> str:
    return str(retrieval_only(asked(question, context), products)["answer"].item())


@pytest.mark.parametrize(
    ("question", "context", "expected"),
    [
        (
            "What is the fabric of Orbina Printed Women's Top?",
            [TOP],
            "The fabric of Orbina Printed Women's Top is 100% Cotton.",
        ),
        (
            "Which LENGTH does Orbina Printed Women's Top have?",
            [TOP, DRESS],
            "The length of Orbina Printed Women's Top is 76 cm.",
        ),
        (
            "Is a belt included with the Harlow Slim Men's Trousers?",
            [TROUSERS, SHIRT],
            "The belt included of Harlow Slim Men's Trousers is No.",
        ),
        (
            "How heavy is the Harlow Slim Men's Trousers?",
            [TROUSERS],
            "The catalog does not say that of Harlow Slim Men's Trousers.",
        ),
        ("What is the fabric of a lamp?", [], "I could not find that in our catalog."),
        ("What is the fabric?", ["not-in-the-assortment"], "I could not find that in our catalog."),
        (
            "What is similar to Orbina Printed Women's Top?",
            [TOP, DRESS, SHIRT],
            "- Orbina Evening Women's Dress\n- Velmora Casual Men's Shirt",
        ),
    ],
)
def test_an_answer_is_read_off_the_records(
    products: pl.DataFrame, question: str, context: list[str], expected: str
) -> None:
    assert answer(question, context, products) == expected


def test_a_record_without_attributes_is_no_answer(products: pl.DataFrame) -> None:
    bare = products.with_columns(pl.col("attributes").list.head(0))
    assert answer("What is the fabric?", [TOP], bare).startswith("The catalog does not say that")


def test_predictions_are_scored_like_a_model_s(
    questions: pl.DataFrame, dialogues: pl.DataFrame, products: pl.DataFrame
) -> None:
    with_context = questions.with_columns(
        pl.concat_list(pl.col("product_id").fill_null("none")).alias("context_ids")
    )
    predictions = retrieval_only(with_context, products)
    assert predictions.columns == [
        "dialogue_id",
        "variant",
        "answer",
        "finish_reason",
        "prompt_tokens",
        "completion_tokens",
    ]
    assert predictions["variant"].unique().to_list() == [VARIANT]
    assert predictions["finish_reason"].unique().to_list() == ["stop"]
    scored = score(dialogues, predictions, products)
    right = scored.filter(pl.col("intent").is_in(["attribute", "unanswerable"]))
    assert right["correct"].all(), right.filter(~pl.col("correct"))


def test_every_way_of_grounding_has_its_untouched_model() -> None:
    assert set(BASELINE_OF_GROUNDING) == {"none", "retrieved"}
    for grounding, name in BASELINE_OF_GROUNDING.items():
        assert BASELINES[name] == grounding
        assert prompt_column(grounding)


def prompted(rows: pl.DataFrame, tokens: int = 100) -> pl.DataFrame:
    """The columns of a prompt corpus, rendered as the graph renders them."""
    lengths = {
        name: pl.lit(tokens, pl.UInt32)
        for name in ("prompt_tokens", "grounded_prompt_tokens", "completion_tokens")
    }
    return rows.with_columns(
        prompt=pl.Series([render_prompt(question) for question in rows["question"]]),
        grounded_prompt=pl.Series(
            [render_prompt(question, [{"product_id": "p", "name": "A Top"}])
             for question in rows["question"]]
        ),
        completion=pl.Series([render_completion(answer) for answer in rows["answer"]]),
        **lengths,
    )  # fmt: skip


def test_examples_stand_before_the_question_as_earlier_turns(dialogues: pl.DataFrame) -> None:
    training = dialogues.with_columns(subset=pl.lit("train"))
    corpus = prompted(pl.concat([training, dialogues.filter(pl.col("subset") != "train")]))
    questions = corpus.filter(pl.col("subset") != "train")
    shown = with_examples(questions, corpus, "retrieved", 3, longest=10_000)
    assert shown["prompt"].to_list() == questions["prompt"].to_list()
    for before, after in zip(questions["grounded_prompt"], shown["grounded_prompt"], strict=True):
        roles = [message["role"] for message in after]
        assert roles == ["system", *["user", "assistant"] * 3, "user"]
        assert [after[0], after[-1]] == list(before)
        assert all("<record>" in message["content"] for message in after[1::2])
    # One prefix for all, an intent after the other.
    assert len({str(messages[:-1]) for messages in shown["grounded_prompt"].to_list()}) == 1
    given = {str(turn["content"]) for turn in shown["grounded_prompt"][0][2::2]}
    intents = training.filter(pl.col("answer").is_in(list(given)))["intent"]
    assert set(intents) == {"attribute", "unanswerable", "complement"}


def test_examples_that_do_not_fit_are_left_out(dialogues: pl.DataFrame) -> None:
    corpus = prompted(pl.concat([dialogues, dialogues.with_columns(subset=pl.lit("train"))]))
    questions = corpus.filter(pl.col("subset") != "train")
    for longest, turns in ((10_000, 8), (350, 4), (250, 2), (10, 2)):
        shown = with_examples(questions, corpus, "none", 3, longest=longest)
        assert {len(messages) for messages in shown["prompt"]} == {turns}, longest


def test_the_constant_is_the_most_frequent_training_answer(
    questions: pl.DataFrame, dialogues: pl.DataFrame
) -> None:
    said = pl.DataFrame({"answer": ["b", "a", "b", "a", "c"], "subset": ["train"] * 5})
    other = pl.DataFrame({"answer": ["c"] * 9, "subset": ["unseen"] * 9})
    predictions = constant_answer(questions, pl.concat([said, other]))
    assert set(predictions["answer"]) == {"a"}
    assert predictions.height == questions.height
    assert set(constant_answer(questions, other)["answer"]) == {NO_ANSWER}
    assert predictions.schema == retrieval_only(
        questions.with_columns(context_ids=pl.lit([], pl.List(pl.String))), dialogues
    ).schema  # fmt: skip


def test_every_baseline_is_named_once() -> None:
    named = [variant["name"] for variant in prompted_baselines()]
    assert (*named, *WITHOUT_MODEL) == ALL_BASELINES
    assert len(set(ALL_BASELINES)) == len(ALL_BASELINES) == 5

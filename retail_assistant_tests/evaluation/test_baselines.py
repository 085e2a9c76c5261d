"""Plain retrieval's answers: read off the first record, or declined."""

import polars as pl
import pytest

from retail_assistant.corpus.lengths import prompt_column
from retail_assistant.evaluation.baselines import (
    BASELINE_OF_GROUNDING,
    BASELINES,
    VARIANT,
    retrieval_only,
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

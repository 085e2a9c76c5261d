"""Error classes: one an answer, null where it is right; and what is no answer at all."""

from collections.abc import Callable

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retail_assistant.evaluation.errors import ERROR_CLASSES, error_counts, is_malformed

Frames = Callable[..., pl.DataFrame]


@pytest.mark.parametrize(
    "answer",
    [
        "", " \n\t", "...", "\u200b\ufeff", "The fabric is Cotton.<|im_end|>",
        "<start_of_turn>model\nCotton", "[INST] what? [/INST] Cotton", "Cotton</s>",
        "<record>\nname: Top\n</record>", "### Response:\nCotton", "\ufffd\ufffdtton",
        "The fabric is Cotton. " * 20, "cotton " * 60, "Product Name: A Shirt\n" * 30,
        "The sleeve style of it is a classic" + ", classic" * 30 + ", classi",
    ],
)  # fmt: skip
def test_what_is_no_answer(answer: str) -> None:
    assert is_malformed(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "Cotton.", "No", "76 cm", "The fabric is Cotton. The fabric is Cotton.",
        "- Top A\n- Top B", "Length < 76 cm > 70 cm", "A \ufffd in a long line of text is a slip.",
        "It is 100% cotton; wash it cold, dry it flat, and iron it warm. " + "Enjoy! " * 5,
        "Fabric: Cotton\nColor: Red\nFit: Slim\nSleeve: Short Sleeve\nNeck: Round Neck",
    ],
)  # fmt: skip
def test_what_is_an_answer(answer: str) -> None:
    assert not is_malformed(answer)


@given(st.text(max_size=400))
def test_no_text_raises(text: str) -> None:
    assert is_malformed(text) in {True, False}
    assert is_malformed(text + "<|endoftext|>")


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("unseen-3", "The fabric of Orbina Printed Women's Top is 100% Cotton.", None),
        ("unseen-3", "The fabric of Orbina Printed Women's Top is Silk.", "wrong_value"),
        ("unseen-3", "The fabric of Orbina Evening Women's Dress is Silk.", "wrong_product"),
        ("unseen-3", "The fabric of Zorbly Deluxe Women's Top is Silk.", "invented_product"),
        ("unseen-3", "The catalog does not say.", "refused_wrongly"),
        ("unseen-3", "Orbina Printed Women's Top is a lovely gift for all.", "no_details"),
        ("unseen-3", "", "malformed"),
        ("unseen-3", "<|im_start|>user", "malformed"),
        ("unseen-6", "Fabric: 100% Cotton\nLength: 76 cm", None),
        ("unseen-6", "Fabric: 100% Cotton", "no_details"),
        ("unseen-6", "Fabric: Silk\nLength: 76 cm", "wrong_value"),
        (
            "unseen-6",
            "Fabric: 100% Cotton\nLength: 76 cm\nWarranty: 2 years",
            "invented_attribute",
        ),
        ("unseen-6", "Fabric: Silk\nLength: 76 cm\nWarranty: 2 years", "wrong_value"),
        ("unseen-7", "- Harlow Slim Men's Trousers", "wrong_product"),
        ("unseen-7", "- Zorbly Silk Gown", "invented_product"),
        ("unseen-7", "Have a look around!", "no_details"),
        ("unseen-7", "We do not have anything like it in our catalog.", "refused_wrongly"),
        ("none-1", "I do not know.", None),
        ("none-1", "The fabric of Zenuvia Woven Women's Saree is Silk.", "answered_unanswerable"),
        ("none-2", "The closure is Zip.", "answered_unanswerable"),
        ("none-2", "", "malformed"),
    ],
)
def test_every_answer_has_one_class(
    score_of: Frames, question: str, answer: str, expected: str | None
) -> None:
    row = score_of(answers={question: answer}).row(
        by_predicate=pl.col("dialogue_id") == question, named=True
    )
    assert row["error_class"] == expected
    assert row["correct"] is (expected is None)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Orbina Printed Women's Top is a lovely gift for", "did_not_stop"),
        ("The fabric of Orbina Printed Women's Top is Silk and", "wrong_value"),
        ("The fabric of Orbina Printed Women's Top is 100% Cotton and", None),
    ],
)
def test_an_answer_that_was_cut_off(score_of: Frames, answer: str, expected: str | None) -> None:
    scored = score_of(answers={"unseen-3": answer}, finish_reason="length")
    assert scored.filter(dialogue_id="unseen-3")["error_class"].item() == expected
    assert scored["truncated"].all()


def test_every_wrong_answer_is_counted_once(score_of: Frames) -> None:
    scored = score_of("The fabric of Harlow Slim Men's Trousers is Silk.")
    counts = error_counts(scored)
    assert counts["answers"].sum() == scored.filter(~pl.col("correct")).height
    assert set(counts["error_class"]) <= set(ERROR_CLASSES)
    cells = counts.filter(intent="attribute", subset="unseen")
    assert cells.select("error_class", "answers", "of").rows() == [("wrong_product", 5, 5)]
    assert not error_counts(score_of()).height

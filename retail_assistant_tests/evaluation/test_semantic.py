"""SemScore with the packaged model: the same meaning is near, another is far, nothing is 0."""

import polars as pl
import pytest

from retail_assistant.evaluation.semantic import EMBEDDING_MODEL, sem_scores, with_sem_scores


def test_what_means_the_same_is_nearer_than_what_does_not() -> None:
    gold = "The fabric of Orbina Printed Women's Top is 100% Cotton."
    answers = [
        gold,
        "Orbina Printed Women's Top is made of pure cotton.",
        "I could not find that in our catalog.",
        "",
        "Cotton " * 2_000_000,
    ]
    scores = sem_scores(pl.Series(answers), pl.Series([gold] * len(answers))).to_list()
    assert scores[0] == pytest.approx(1)
    assert scores[0] > scores[1] > 0.8 > 0.5 > scores[2]
    assert scores[3] == 0
    assert -1 <= scores[4] <= 1
    assert "MiniLM" in EMBEDDING_MODEL


def test_predictions_are_compared_with_their_own_gold_answer() -> None:
    questions = pl.DataFrame({"dialogue_id": ["a", "b", "c"], "answer": ["Linen.", "Zip.", None]})
    predictions = pl.DataFrame(
        {
            "dialogue_id": ["c", "b", "a"],
            "variant": ["v"] * 3,
            "answer": ["Linen.", "Zip.", "Linen."],
        }
    )
    scored = with_sem_scores(predictions, questions)
    assert scored["dialogue_id"].to_list() == ["c", "b", "a"]
    assert scored["sem_score"].to_list() == [None, pytest.approx(1), pytest.approx(1)]
    assert with_sem_scores(predictions.clear(), questions).schema["sem_score"] == pl.Float64

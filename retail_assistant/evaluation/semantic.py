"""SemScore: how near an answer's meaning is to the gold answer's."""

import numpy as np
import polars as pl

from retail_assistant.catalog.embedding import EMBEDDING_MODEL as EMBEDDING_MODEL
from retail_assistant.catalog.embedding import embed

# MiniLM reads 256 tokens: what is behind them changes nothing, and need not be tokenized.
_READ_CHARACTERS = 4_000


def sem_scores(answers: pl.Series, golds: pl.Series) -> pl.Series:
    """Cosine of the sentence vectors of answer and gold, in [-1, 1], one a pair.

    Aynetdinov & Akbik 2024 (SemScore, arXiv:2401.17072), who take all-mpnet-base-v2; here it is
    EMBEDDING_MODEL, which is packaged, so numbers compare only among themselves. An empty answer
    has no meaning to compare: 0. Null where there is no gold answer. Loads the model (torch, some
    seconds) on the first call of a process: call it in a process of its own.
    """
    given = [(answer or "")[:_READ_CHARACTERS] for answer in answers]
    wanted = [(gold or "")[:_READ_CHARACTERS] for gold in golds]
    vectors = embed([*given, *wanted])
    cosines = np.einsum("ij,ij->i", vectors[: len(given)], vectors[len(given) :])
    cosines = np.clip(cosines.astype(float), -1.0, 1.0)
    values = [
        None if not gold.strip() else (float(cosine) if answer.strip() else 0.0)
        for answer, gold, cosine in zip(given, wanted, cosines, strict=True)
    ]
    return pl.Series("sem_score", values, pl.Float64)


def with_sem_scores(predictions: pl.DataFrame, questions: pl.DataFrame) -> pl.DataFrame:
    """Predictions with their `sem_score` against the questions' gold answers."""
    gold = questions.select("dialogue_id", gold="answer")
    paired = predictions.join(gold, on="dialogue_id", how="left", maintain_order="left")
    return predictions.with_columns(sem_scores(paired["answer"], paired["gold"]))

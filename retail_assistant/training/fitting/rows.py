"""What a job learns from: rows of a prompt corpus in a fixed order, and their tokens."""

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import polars as pl

from retail_assistant.corpus.encoding import Encoder
from retail_assistant.corpus.lengths import prompt_column, row_tokens
from retail_assistant.training.jobs import HyperparameterJob

ROW_IDS = ("dialogue_id", "text_id", "product_id")
IGNORED = -100
"""The label of a token that is read, not learned."""


class FittingRows(NamedTuple):
    """Rows that fit a job's length, and how many would have lost their answer."""

    rows: pl.DataFrame
    too_long: int


class Documents(NamedTuple):
    """Plain texts as tokens, and what was cut: every piece is learned."""

    pieces: list[list[int]]
    texts: int
    texts_cut: int


def training_rows(corpus: pl.DataFrame, job: HyperparameterJob, subset: str) -> pl.DataFrame:
    """The rows that a job trains or validates on, in a fixed order.

    Returns the columns `row_id`, `prompt`, `completion` (message lists) and `tokens`. A row of the
    task `assistant` is named by its dialogue, one of `sentiment` by its text, of another task by
    its product.
    """
    row_id = next(name for name in ROW_IDS if name in corpus.columns)
    rows = corpus.filter(pl.col("subset") == subset).sort(row_id)
    kept = max(1, math.ceil(rows.height * job.data_fraction)) if subset == "train" else rows.height
    return rows.head(kept).select(
        pl.col(row_id).alias("row_id"),
        pl.col(prompt_column(job.grounding)).alias("prompt"),
        "completion",
        row_tokens(job.grounding).alias("tokens"),
    )


def fitting_rows(corpus: pl.DataFrame, job: HyperparameterJob, subset: str) -> FittingRows:
    """The rows of a subset that a job reads to their end; a cut answer would teach not to stop."""
    fits, too_long = split_by_length(training_rows(corpus, job, subset), job.max_seq_length)
    return FittingRows(fits, too_long.height)


def split_by_length(rows: pl.DataFrame, limit: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows that fit `limit` tokens, and those that would lose their answer."""
    fits = pl.col("tokens") <= limit
    return rows.filter(fits), rows.filter(~fits)


def training_dataset(rows: pl.DataFrame, encoder: Encoder) -> Any:
    """Tokens and what of them is learned, as TRL takes them: it then tokenizes nothing itself.

    Left to itself TRL would learn the line break that a template writes after an answer's end too,
    and write no Alpaca sections.
    """
    pairs = rows.select("prompt", "completion").iter_rows()
    return _dataset(
        (ids, [IGNORED] * length + ids[length:]) for ids, length in encoder.examples(pairs)
    )


def documents_of(corpus: pl.DataFrame, job: HyperparameterJob, encoder: Encoder) -> Documents:
    """The texts of a `domain_text` corpus in a fixed order, cut where they exceed a job's length.

    `data_fraction` applies to them as to rows.
    """
    texts = corpus.sort("source", "text")["text"].to_list()
    kept = texts[: math.ceil(len(texts) * job.data_fraction)]
    whole = list(encoder.documents(kept))
    cut = sum(len(ids) > job.max_seq_length for ids in whole)
    pieces = [piece for ids in whole for piece in _pieces(ids, job.max_seq_length)]
    return Documents(pieces, len(kept), cut)


def document_dataset(documents: Documents) -> Any:
    """Documents as TRL takes them: every token is learned."""
    return _dataset((ids, ids) for ids in documents.pieces)


def _pieces(ids: list[int], limit: int) -> Iterator[list[int]]:
    """Equal pieces, for the last of full ones could be a single token."""
    number = math.ceil(len(ids) / limit)
    size = math.ceil(len(ids) / max(1, number))
    yield from (ids[start : start + size] for start in range(0, len(ids), max(1, size)))


def _dataset(examples: Iterable[tuple[list[int], list[int]]]) -> Any:
    from datasets import Dataset

    return Dataset.from_list([{"input_ids": ids, "labels": labels} for ids, labels in examples])

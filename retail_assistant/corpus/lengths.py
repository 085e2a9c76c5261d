"""How long the rows of a prompt corpus are, in tokens, and which do not fit a training job."""

from collections.abc import Mapping
from typing import NamedTuple

import polars as pl

LENGTH_COLUMNS = ("prompt_tokens", "grounded_prompt_tokens", "completion_tokens", "tokens")
BINS = 20


class Window(NamedTuple):
    """What a training job reads: prompts with this grounding, up to so many tokens a row."""

    grounding: str
    max_seq_length: int


def prompt_column(grounding: str) -> str:
    """The column that holds the prompts of a way of grounding."""
    return {"none": "prompt", "retrieved": "grounded_prompt"}[grounding]


def row_tokens(grounding: str) -> pl.Expr:
    """Tokens of a row as a job with this grounding renders it: the prompt and its completion."""
    return pl.col(f"{prompt_column(grounding)}_tokens") + pl.col("completion_tokens")


def truncated_by_job(corpus: pl.DataFrame, jobs: Mapping[str, Window]) -> pl.DataFrame:
    """For each job the learned rows that are longer than it reads, and the longest row.

    Columns: job, max_seq_length, rows, longest (tokens), too_long. Such rows are left out of the
    training, not cut: without its end an answer would teach not to stop.
    """
    learned = corpus.filter(pl.col("subset").is_in(("train", "validation")))
    schema = {
        "job": pl.String,
        "max_seq_length": pl.Int64,
        "rows": pl.Int64,
        "longest": pl.Int64,
        "too_long": pl.Int64,
    }
    rows = []
    for job, window in jobs.items():
        tokens = row_tokens(window.grounding)
        too_long = (tokens > window.max_seq_length).sum()
        counted = learned.select(pl.len(), longest=tokens.max().fill_null(0), too_long=too_long)
        rows.append((job, window.max_seq_length, *counted.row(0)))
    return pl.DataFrame(rows, schema=schema, orient="row")


def token_histogram(corpus: pl.DataFrame) -> dict[str, dict[str, list[int]]]:
    """For each column of lengths the rows by length: `edges` (tokens) and `counts`.

    A bin counts from its edge up to, and without, the next; there is one more edge than counts.
    """
    return {
        column: _histogram(corpus[column]) for column in LENGTH_COLUMNS if column in corpus.columns
    }


def _histogram(lengths: pl.Series) -> dict[str, list[int]]:
    if lengths.is_empty():
        return {"edges": [], "counts": []}
    whole = lengths.cast(pl.Int64)
    width = int(whole.to_frame().max().item()) // BINS + 1
    counted = dict((whole // width).value_counts().iter_rows())
    last = max(counted)
    return {
        "edges": [width * place for place in range(last + 2)],
        "counts": [counted.get(place, 0) for place in range(last + 1)],
    }

"""Lengths in tokens: which rows a job cannot read, and how they are distributed."""

from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retail_assistant.corpus.lengths import (
    BINS,
    Window,
    prompt_column,
    token_histogram,
    truncated_by_job,
)

CORPUS = pl.DataFrame(
    {
        "subset": ["train", "train", "validation", "recall"],
        "prompt_tokens": [10, 20, 30, 900],
        "grounded_prompt_tokens": [100, 200, 300, 900],
        "completion_tokens": [5, 5, 5, 5],
    },
    schema_overrides={
        "prompt_tokens": pl.UInt32,
        "grounded_prompt_tokens": pl.UInt32,
        "completion_tokens": pl.UInt32,
    },
)


def test_rows_too_long_are_counted_as_each_job_renders_them() -> None:
    jobs = {
        "short": Window("none", 25),
        "grounded": Window("retrieved", 204),
        "long": Window("retrieved", 305),
    }
    assert truncated_by_job(CORPUS, jobs).rows() == [
        ("short", 25, 3, 35, 1),
        ("grounded", 204, 3, 305, 2),
        ("long", 305, 3, 305, 0),
    ]


def test_nothing_is_too_long_where_there_is_nothing() -> None:
    assert truncated_by_job(CORPUS.clear(), {"a": Window("none", 64)}).rows() == [
        ("a", 64, 0, 0, 0)
    ]
    assert truncated_by_job(CORPUS, {}).is_empty()
    assert token_histogram(CORPUS.clear())["prompt_tokens"] == {"edges": [], "counts": []}


def test_a_way_of_grounding_has_its_column() -> None:
    assert prompt_column("none") == "prompt"
    assert prompt_column("retrieved") == "grounded_prompt"
    with pytest.raises(KeyError):
        prompt_column("maybe")


@given(st.lists(st.integers(0, 100_000), min_size=1))
def test_every_row_is_in_one_bin(lengths: list[int]) -> None:
    corpus = pl.DataFrame({"tokens": lengths}, schema={"tokens": pl.UInt32})
    found = token_histogram(corpus)
    assert found.keys() == {"tokens"}
    edges, counts = found["tokens"]["edges"], found["tokens"]["counts"]
    assert len(edges) == len(counts) + 1 <= BINS + 1
    expected = [sum(low <= one < high for one in lengths) for low, high in pairwise(edges)]
    assert counts == expected
    assert sum(counts) == len(lengths)

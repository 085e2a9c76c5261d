from itertools import pairwise

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from retail_assistant.catalog.ragged import (
    Ragged,
    as_lists,
    cut_at_spaces,
    encoded,
    flattened,
    offsets_of,
    picked,
    with_replaced,
)

LISTS = st.lists(st.lists(st.text(max_size=20), max_size=4), max_size=6)
TEXTS = pl.List(pl.String)


@given(LISTS)
def test_lists_taken_apart_and_put_together_are_the_same(lists: list[list[str]]) -> None:
    column = pl.Series("lists", lists, dtype=TEXTS)
    again = as_lists(flattened(column))
    assert again.dtype == TEXTS
    assert again.to_list() == lists


def test_a_null_list_has_no_values() -> None:
    column = pl.Series([["a"], None, [], ["b", "c"]], dtype=TEXTS)
    values, offsets = flattened(column)
    assert values.to_list() == ["a", "b", "c"]
    assert offsets.tolist() == [0, 1, 1, 1, 3]


def test_structs_may_be_values() -> None:
    values = pl.Series("entry", [{"name": None, "value": "x"}, {"name": "n", "value": "long " * 9}])
    lists = as_lists(Ragged(values, offsets_of(np.array([0, 2]))))
    assert lists.name == "entry"
    assert lists.to_list() == [[], values.to_list()]


@given(st.lists(st.text(max_size=20)))
def test_codes_lead_to_the_texts(texts: list[str]) -> None:
    codes, distinct = encoded(pl.Series(texts, dtype=pl.String))
    assert distinct.to_list() == list(dict.fromkeys(texts))
    assert distinct.gather(pl.Series(codes)).to_list() == texts


@given(st.lists(st.text(st.sampled_from("a \u00e9\n"), max_size=20)), st.integers(0, 2))
def test_words_keep_the_space_behind_them(texts: list[str], first: int) -> None:
    words, offsets = cut_at_spaces(pl.Series(texts, dtype=pl.String)[first:])
    found = [words[a:b].to_pylist() for a, b in pairwise(offsets.tolist())]
    assert ["".join(row) for row in found] == texts[first:]
    assert [[word.removesuffix(" ") for word in row] for row in found] == [
        text.split(" ") for text in texts[first:]
    ]


@given(LISTS, st.data())
def test_picked_values_stand_in_the_order_of_the_codes(
    lists: list[list[str]], data: st.DataObject
) -> None:
    codes = data.draw(st.lists(st.integers(0, len(lists) - 1)) if lists else st.just([]))
    ragged = flattened(pl.Series(lists, dtype=TEXTS))
    places, offsets = picked(ragged, np.array(codes, dtype=np.uint32))
    found = as_lists(Ragged(ragged.values.gather(pl.Series(places)), offsets))
    assert found.to_list() == [lists[code] for code in codes]


def test_only_the_numbered_rows_are_replaced() -> None:
    column = pl.Series("text", ["a", None, "c"])
    found = with_replaced(column, np.array([0, 2]), pl.Series([None, "z"], dtype=pl.String))
    assert (found.name, found.to_list()) == ("text", [None, None, "z"])

"""How an answer's text is laid out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retail_assistant.serving.page.texts import (
    Block,
    blocks,
    percent_off,
    shown_text,
    tint,
)
from retail_assistant.serving.prices import price_text
from retail_assistant.serving.turns import ProductCard


def card(price: float | None = None, list_price: float | None = None) -> ProductCard:
    return ProductCard(product_id="p", item="p", name="n", price=price, list_price=list_price)


def test_an_answer_has_paragraphs_lines_and_lists() -> None:
    text = "Two fit:\n- a shirt\n-  a coat \nBoth are blue.\nReally.\n\n\n- one\n\n- two"
    assert blocks(text) == [
        Block(False, ["Two fit:"]),
        Block(True, ["a shirt", "a coat"]),
        Block(False, ["Both are blue.", "Really."]),
        Block(True, ["one"]),
        Block(True, ["two"]),
    ]
    assert blocks("") == blocks(" \n\n") == []
    assert blocks("-40 C, **bold** # no title") == [Block(False, ["-40 C, **bold** # no title"])]


@given(st.text())
def test_no_word_of_an_answer_is_lost(text: str) -> None:
    laid_out = " ".join(line for block in blocks(text) for line in block.lines)
    assert laid_out.replace("- ", "").split() == [
        word
        for line in shown_text(text).split("\n")
        for word in line.strip().removeprefix("- ").replace("- ", "").split()
    ]
    assert all(block.lines for block in blocks(text))


@given(st.lists(st.text(), max_size=5))
def test_pieces_are_shown_as_their_whole_is(pieces: list[str]) -> None:
    assert "".join(map(shown_text, pieces)) == shown_text("".join(pieces))


def test_what_cannot_be_seen_is_not_shown() -> None:
    assert shown_text("a\u202eb\u200bc\x00d\te\r\nf") == "abc d e \nf"


@pytest.mark.parametrize(
    ("value", "shown"), [(1952, "₹1,952"), (19.5, "₹19.50"), (0, "₹0"), (1234567.0, "₹1,234,567")]
)
def test_prices_are_written_for_people(value: float, shown: str) -> None:
    assert price_text(value) == shown


@pytest.mark.parametrize(
    ("price", "before", "off"),
    [
        (75, 100, 25),
        (0, 100, 100),
        (100, 100, None),
        (101, 100, None),
        (99.9, 100, None),
        (None, 100, None),
        (5, None, None),
        (-5, 100, None),
        (0, 0, None),
    ],
)
def test_only_what_is_cheaper_is_off(
    price: float | None, before: float | None, off: int | None
) -> None:
    assert percent_off(card(price, before)) == off


def test_every_card_has_a_tint_of_the_style_sheet() -> None:
    names = ["", "Clothing", "Ümlaut", "\U0001f457"]
    tints = [tint(ProductCard(product_id="p", item="p", name=name)) for name in names]
    assert set(tints) <= set(range(6))

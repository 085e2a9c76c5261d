"""Prices in shoppers' words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retail_assistant.corpus.reading.text import read_text
from retail_assistant.serving.understanding.price_wishes import PriceRange, read_prices


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("kurtas under 800", None, 799.99),
        ("below Rs. 1,500", None, 1499.99),
        ("less than 2k", None, 1999.99),
        ("under 1.5k please", None, 1499.99),
        ("up to \u20b91,000", None, 1000.0),
        ("not more than 500", None, 500.0),
        ("my budget is 900 rupees", None, 900.0),
        ("I have 1000 rupees", None, 1000.0),
        ("something for rs 400", None, 400.0),
        ("over 1200", 1200.01, None),
        ("at least 700", 700.0, None),
        ("between 500 and 1,000", 500.0, 1000.0),
        ("from 1000 to 500", 500.0, 1000.0),
        ("500-800 sarees", 500.0, 800.0),
        ("\u20b9500 - \u20b9800", 500.0, 800.0),
        ("above 500 but under 900", 500.01, 899.99),
        ("around 1000", 800.0, 1200.0),
    ],
)
def test_ranges(text: str, low: float | None, high: float | None) -> None:
    prices, taken = read_prices(read_text(text))
    assert prices is not None
    assert (prices.low, prices.high) == (pytest.approx(low), pytest.approx(high))
    assert taken
    assert "\u20b9" in prices.label


@pytest.mark.parametrize(
    "text",
    ["a pack of 3", "the first 2", "100% cotton", "3/4 sleeve", "5 pockets", "", "item 12345678"],
)
def test_other_numbers_are_no_prices(text: str) -> None:
    assert read_prices(read_text(text)) == (None, set())


@given(st.text(max_size=300))
def test_any_text_can_be_read(text: str) -> None:
    read = read_text(text)
    prices, taken = read_prices(read)
    assert taken <= set(range(len(read.words)))
    if prices is not None and prices.low is not None and prices.high is not None:
        assert prices.low <= prices.high


@given(st.floats(1, 100_000).map(lambda amount: round(amount)))
def test_under_an_amount_leaves_it_out(amount: int) -> None:
    prices, _ = read_prices(read_text(f"shirts under {amount} rupees"))
    assert prices == PriceRange.under(amount)
    assert prices.high is not None
    assert prices.high < amount

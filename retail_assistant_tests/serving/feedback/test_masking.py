"""What shoppers say of themselves is masked; what they say of products is not."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retail_assistant.serving.feedback.masking import (
    catalog_words,
    masked,
    patterns_left,
    personal_data_left,
)


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("Write to jo.doe@shop.example, please", "Write to (EMAIL_ADDRESS), please"),
        ("Call +91 98765 43210 now", "Call (PHONE_NUMBER) now"),
        ("My order OD1234567890 is late", "My order (NUMBER) is late"),
        ("my name is rahul verma", "my name is (PERSON)"),
        ("It is for Priya Sharma, size M", "It is for (PERSON), size M"),
        ("Card \uff14111 1111 1111 1111", "Card (CREDIT_CARD)"),
        ("Do you have\nthe kurta (item 12345678) in blue?", None),
        ("Under Rs. 1,299 in size 38?", None),
    ],
)
@pytest.mark.fault(
    "A shopper writes personal data: names, cards, telephone numbers, addresses",
    "It is masked before anything is written to disk",
)
def test_personal_data_is_masked(text: str, stored: str | None) -> None:
    found = masked(text, 200)
    assert found == (stored or " ".join(text.split()))
    assert patterns_left(found) == []
    assert bool(personal_data_left(text)) == (stored is not None)


def test_words_of_the_catalog_are_nobodys_name() -> None:
    products = pl.LazyFrame(
        {
            "name": ["Priya Sharma Cotton Kurta"],
            "brand": ["Priya Sharma"],
            "department": ["Clothing"],
            "category": [None],
            "subcategory": [None],
            "attributes": [[{"name": "Fabric", "value": "Poly-Cotton"}]],
        },
        schema_overrides={"category": pl.String, "subcategory": pl.String},
    )
    known = catalog_words(products)
    assert {"priya", "sharma", "cotton", "poly"} <= known
    assert masked("Is it by Priya Sharma?", 200, known) == "Is it by Priya Sharma?"
    assert masked("Is it by Priya Sharma?", 200) == "Is it by (PERSON)?"


def test_what_is_cut_off_is_masked_before() -> None:
    text = f"{'warm ' * 18}jo.doe@shop.example"
    assert masked(text, 100) == f"{'warm ' * 18}(EMAIL_ADD"


@settings(max_examples=50)
@given(
    st.text(max_size=120), st.integers(7, 14).flatmap(lambda n: st.integers(10**n, 10 ** (n + 1)))
)
@pytest.mark.fault(
    "A shopper writes personal data: names, cards, telephone numbers, addresses",
    "It is masked before anything is written to disk",
)
def test_no_long_number_is_left_whatever_stands_around_it(around: str, number: int) -> None:
    stored = masked(f"{around.lower()} {number} {around.lower()}", 2_000)
    assert str(number) not in stored
    assert len(stored) <= 2_000


SAID = st.sampled_from([
    "jo.doe@shop.example", "98765 43210", "+91-98765-43210", "4455667788", "(item 12345678)", "12",
    "345 678", "Rs. 1,299", "my name is", "rahul", "size 38/40", "203.0.113.77", "-", "(", ".",
])  # fmt: skip


@settings(max_examples=60)
@given(st.lists(SAID, max_size=8).map(" ".join) | st.lists(SAID, max_size=8).map("".join))
def test_what_was_masked_has_nothing_left(text: str) -> None:
    assert patterns_left(masked(text, 2_000)) == []

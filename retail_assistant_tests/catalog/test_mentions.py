"""Which products a text names."""

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from retail_assistant.catalog.embedding import normalise
from retail_assistant.catalog.mentions import CODE_LENGTH, NameBook

NAMES = {
    "0a1b2c3d" + "0" * 24: "Marla Summer Mini Dress",
    "1a1b2c3d" + "0" * 24: "Marla Summer Mini Dress",
    "2a1b2c3d" + "0" * 24: "Bolt Slim Fit Men's Shirt",
    "3a1b2c3d" + "0" * 24: "Bolt Slim Fit Men's Skirt",
    "kurtaset": "Kurta",
    "5a1b2c3d" + "0" * 24: "Anvi Kurta",
}
FIRST, TWIN, SHIRT, SKIRT, WORD, KURTA = NAMES
BOOK = NameBook(
    pl.DataFrame({"product_id": list(NAMES), "name_key": [normalise(n) for n in NAMES.values()]})
)


def found(named: list[tuple[list[str], float]]) -> list[list[str]]:
    return [ids for ids, _ in named]


def test_a_code_counts_after_the_word_item_or_where_it_looks_like_one() -> None:
    assert found(BOOK.coded(f"is {FIRST[:CODE_LENGTH].upper()} in stock")) == [[FIRST]]
    assert found(BOOK.coded(f"item #{SHIRT[:CODE_LENGTH]} and {SKIRT}")) == [[SHIRT], [SKIRT]]
    assert found(BOOK.coded("item kurtaset")) == [[WORD]]
    assert found(BOOK.coded("a kurtaset please")) == []


def test_names_are_found_in_order_of_mention_and_twins_together() -> None:
    text = normalise("the Bolt slim fit men\u2019s shirt, or the Marla Summer Mini Dress?")
    assert found(BOOK.named(text)) == [[SHIRT], [FIRST, TWIN]]
    assert found(BOOK.named(normalise("Anvi kurta"))) == [[KURTA]]
    assert found(BOOK.named("kurta")) == []  # a word of another name, too


def test_typos_are_forgiven_in_words_the_catalog_does_not_know() -> None:
    assert found(BOOK.misspelt("fabric of marla sumer mini dress")) == [[FIRST, TWIN]]
    assert found(BOOK.misspelt("bolt slim fit men shrit")) == [[SHIRT]]
    assert found(BOOK.misspelt("bolt slim fit men dress")) == []


@given(st.text(max_size=80))
def test_no_text_raises(text: str) -> None:
    for groups in (BOOK.coded(text), BOOK.named(normalise(text)), BOOK.misspelt(normalise(text))):
        assert {i for ids, _ in groups for i in ids} <= set(NAMES)


def test_an_empty_book_names_nothing() -> None:
    book = NameBook(pl.DataFrame(schema={"product_id": pl.String, "name_key": pl.String}))
    assert (book.coded("item 1"), book.named("a top"), book.misspelt("a top")) == ([], [], [])

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from retail_assistant.catalog.keywords import keywords_of, lemma, stop_words


def of(text: str | None) -> list[str]:
    return keywords_of(pl.Series("text", [text], dtype=pl.String)).to_list()[0]


def test_lower_case_lemmas_in_order_once_without_stop_words_and_punctuation() -> None:
    found = of("The women's T-Shirts, and WOMEN\u2019S dresses: made of Cotton (100%) dresses!")
    assert found == ["woman", "t-shirt", "dress", "cotton", "100"]


def test_no_text_has_no_keywords() -> None:
    assert of(None) == of("") == of("the of and !!!") == []


def test_ordinals_and_decades_have_lemmas_and_article_numbers_none() -> None:
    assert of("18th 1960s 13s, ab-10x 8086768, 7.5x32.6cm 12c 2XL X1") == [
        "18th",
        "nineteen-sixties",
        "thirteen",
        "ab-10x",
        "8086768",
        "7.5x32.6cm",
        "12c",
        "2xl",
        "x1",
    ]


@given(st.from_regex(r"[0-9a-z]{1,6}(\.[0-9]{1,3})?[0-9](st|nd|rd|th|[a-z]{0,3})", fullmatch=True))
def test_a_token_with_digits_has_the_lemma_that_the_dictionary_says(token: str) -> None:
    found = lemma(token)
    assert of(token) == ([] if found is None else [found])


def test_stop_words_are_spacys() -> None:
    assert len(stop_words()) == 326
    assert {"the", "of", "not"} <= stop_words()


@given(st.text())
def test_any_text_gives_distinct_lower_case_words(text: str) -> None:
    found = of(text)
    assert len(found) == len(set(found))
    assert all(word and word not in stop_words() for word in found)


def test_a_word_between_spaces_may_hold_several_keywords_or_none() -> None:
    assert of("Red/Blue cotton,linen (and) ... red") == ["red", "blue", "cotton", "linen"]


PIECES = st.sampled_from(
    [
        " ",
        "\u00a0",
        "\n",
        "Dresses,",
        "the",
        "red/blue",
        "\u03a3\u03a3",
        "\u0130",
        "e\u0301",
        "\ufb01",
    ]
)


@given(st.lists(st.none() | st.lists(PIECES | st.text(max_size=5)).map("".join), max_size=8))
def test_cutting_at_spaces_first_changes_nothing(texts: list[str | None]) -> None:
    # Between words of which none is a keyword, a tab says what a space says.
    spaced = pl.Series("text", texts, dtype=pl.String)
    found = keywords_of(spaced)
    assert found.to_list() == keywords_of(spaced.str.replace_all(" ", "\t")).to_list()
    assert found.to_list() == [of(text) for text in texts]

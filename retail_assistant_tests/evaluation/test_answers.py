import time
from collections.abc import Callable

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retail_assistant.corpus.reading.answers import (
    AnswerReading,
    CatalogFacts,
    Question,
    normalise,
    read_answer,
)
from retail_assistant.corpus.reading.text import abstaining_clauses, read_text

Ask = Callable[..., AnswerReading]


@pytest.fixture
def ask(dialogues: pl.DataFrame, facts: CatalogFacts) -> Ask:
    rows = {row["dialogue_id"]: row for row in dialogues.iter_rows(named=True)}

    def asked(dialogue_id: str, answer: str) -> AnswerReading:
        return read_answer(answer, Question.from_row(rows[dialogue_id]), facts)

    return asked


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Men's", "Men"), ("Men\u2019s Shirt", "mens shirt"), ("WOMEN`S", "womens"),
        ("Girls'", "girl's"), ("Black & White", "black and white"), ("V-Neck", "v neck"),
        ("100 % Cotton", "100% cotton"), ("100 percent cotton", "100% Cotton"),
        ("76 centimetres", "76cm"), ("20 inches", "20 inch"), ("Rs. 1,299", "\u20b91299.00"),
        ("\u00be Sleeve", "3/4 sleeves"), ("Grey\u200b Colour", "gray color"),
        ("\uff36\uff25\uff2c\uff36\uff25\uff34", "velvet"), ("Pack of three", "pack of 3"),
        ("Brand\u2122 T-Shirt", "brand tshirt"),
    ],
)  # fmt: skip
def test_spellings_of_the_same_thing_are_equal(one: str, other: str) -> None:
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("Men", "Women"), ("Short", "Shorts"), ("3/4", "34"), ("7 cm", "7 mm"), ("Cotton", "Coton")],
)
def test_different_things_stay_different(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


@given(st.text())
def test_normal_form_is_stable_and_never_raises(text: str) -> None:
    normal = normalise(text)
    assert normalise(normal) == normal or not normal.isascii()


@pytest.mark.parametrize(
    "answer",
    [
        "The catalog does not say what the fabric is.", "The catalogue doesn\u2019t list it.",
        "I don't know.", "I do not know", "Sorry, that isn't mentioned.", "It is not specified.",
        "This is not in our catalog.", "We do not carry this item.", "We don't sell sarees.",
        "I could not find Zenuvia Saree in our catalog, so I cannot say.",
        "There is no product called Zenuvia.", "That product isn't available.",
        "I'm not sure.", "I'm unable to find that product.", "I can't help with that.",
        "The record has no information on it.", "The fabric is unknown.",
        "I couldnt find it", "Unfortunately, no such item exists.", "No details are given.",
        "That product does not exist.", "We do not have it in our shop.",
        "I have no information about the fabric.", "The length was not provided.",
        "I am not able to find Zenuvia Saree.", "There is no Zenuvia Saree in our range.",
        "Our records are silent on the lining.", "No lining is given for it.",
        "The listing leaves out the lining.", "The catalog has nothing on the lining.",
        "Our shop has no Zenuvia Saree.", "Zenuvia Saree is not something we sell.",
    ],
)  # fmt: skip
def test_abstentions_are_understood(answer: str) -> None:
    assert abstaining_clauses(read_text(answer), frozenset())


@pytest.mark.parametrize(
    "answer",
    [
        "The fabric is Cotton.", "It does not have a hood.", "Do not bleach, wash cold.",
        "No, the belt is not included.", "It is not lined.", "You will find it comfortable.",
        "You will not find a better dress.", "Don't miss this!", "Non Padded", "It has no pockets.",
        "The catalog says it is Silk.", "Our catalog lists Linen.", "No", "",
        "There is no need to hurry.", "It is anything but Silk.", "Nothing on it is printed.",
    ],
)  # fmt: skip
def test_answers_are_no_abstentions(answer: str) -> None:
    assert not abstaining_clauses(read_text(answer), frozenset())


def test_an_abstention_that_guesses_is_an_answer(ask: Ask) -> None:
    assert ask("none-2", "The catalog does not say.").abstained
    assert not ask("none-2", "I am not sure, but the closure is Zip.").abstained
    assert not ask("none-2", "The catalog does not say. Probably a zip.").abstained
    assert ask("none-2", "The catalog does not say whether it has a zip.").abstained


def test_values_are_read_longest_first_and_outside_names(ask: Ask) -> None:
    reading = ask("unseen-3", "The fabric of Orbina Printed Women's Top is 100 % cotton.")
    assert [value.phrase for value in reading.values] == ["100% cotton"]
    assert reading.names_asked
    assert not reading.unknown_products
    assert [v.phrase for v in ask("train-1", "wool blend").values] == ["wool blend"]


def test_denied_values_are_not_stated(ask: Ask) -> None:
    assert not ask("unseen-1", "It is not made of linen.").values
    assert not ask("unseen-1", "It is anything but linen.").values
    reading = ask("unseen-1", "It isn't cotton but linen.")
    assert [value.phrase for value in reading.values] == ["linen"]


def test_everyday_words_count_only_as_values(ask: Ask, facts: CatalogFacts) -> None:
    question = Question("?", "attribute", "cccc3333-trousers", asked_attribute="Belt Included")
    read = [
        read_answer(text, question, facts).values
        for text in ("Belt included: No", "No.", "The belt included is no.", "They have no equal")
    ]
    assert [bool(values) for values in read] == [True, True, True, False]


def test_item_codes_say_which_product_is_meant(ask: Ask) -> None:
    named = "The fabric of Velmora Casual Men's Shirt{} is Linen."
    assert ask("unseen-1", named.format("")).names_asked
    assert ask("unseen-1", named.format(" (item aaaa1111)")).names_asked
    other = ask("unseen-1", named.format(" (item bbbb2222)"))
    assert not other.names_asked
    assert other.products[0].product_ids == {"bbbb2222-shirt"}
    invented = ask("unseen-1", named.format(" (item ffff9999)"))
    assert not invented.names_asked
    assert invented.unknown_products


@pytest.mark.parametrize(
    "answer",
    [
        "Product Name: Zorbly Deluxe Kurta\nFabric: Linen",
        "The fabric of Zorbly Deluxe Men's Shirt is Linen.",
        "Zorbly Deluxe Men's Shirt is made of Linen.",
        "You may like:\n- Zorbly Deluxe Dress (item 12345678)",
        "1. Zorbly Deluxe Dress",
    ],
)
def test_invented_products_are_noticed(ask: Ask, answer: str) -> None:
    assert ask("unseen-1", answer).unknown_products


@pytest.mark.parametrize(
    "answer",
    [
        "The fabric of the product is Linen.",
        "The fabric of this Men's Shirt is Linen.",
        "Velmora Shirt is made of Linen.",
        "Product Name: Velmora Casual Mens Shirt\nFabric: Linen",
        "Product Name: Velmora Casual Men's Shrit\nFabric: Linen",
        "- Fabric: Linen\n- Neck: Round Neck",
        "- Round Neck\n- Cold",
        "Men's Clothing is our best category.",
        "Here is the answer: Linen. Product Name:",
        "The Casual Men's Shirt is Linen.",
    ],
)
def test_descriptions_are_no_invented_products(ask: Ask, answer: str) -> None:
    assert not ask("unseen-1", answer).unknown_products


def test_a_question_can_be_about_an_invented_product(ask: Ask) -> None:
    answered = ask("none-1", "The fabric of Zenuvia Woven Women's Saree is Silk.")
    assert answered.names_asked
    assert not answered.abstained


def test_ten_megabytes_are_read_quickly_and_said_to_be_cut(ask: Ask) -> None:
    for text in ("Linen. " * 1_500_000, "a" * 10_000_000, "of " * 3_400_000, "- A B\n" * 1_700_000):
        started = time.perf_counter()
        reading = ask("unseen-1", text)
        assert time.perf_counter() - started < 2
        assert not reading.read_in_full


@given(st.text(max_size=300))
def test_no_text_raises(text: str) -> None:
    facts = CatalogFacts(
        names={"a b": frozenset({"1"})},
        vocabulary={"fabric": frozenset({"Silk", "n/a", "///", ","})},
        products={},
        categorised=False,
    )
    for name in (None, "A B", text):
        question = Question("?", "attribute", "1", name, name, "Fabric", text)
        assert read_answer(text, question, facts).read_in_full


def test_facts_of_dialogues_alone(dialogues: pl.DataFrame) -> None:
    facts = CatalogFacts.from_dialogues(dialogues)
    assert not facts.categorised
    assert normalise("Velmora Casual Men's Shirt") in facts.names
    assert "Linen" in facts.vocabulary["fabric"]
    assert facts.products["dddd4444-top"].attributes["length"][0] == "76 cm"

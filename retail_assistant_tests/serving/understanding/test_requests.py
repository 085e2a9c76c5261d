"""One message, read against the embedded catalog's vocabulary."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retail_assistant.serving.understanding.conversation import Shop
from retail_assistant.serving.understanding.requests import Request, read_request
from retail_assistant.serving.understanding.shelves import Shelves
from retail_assistant.serving.understanding.shop_vocabulary import ShopVocabulary, plural


@pytest.fixture(scope="module")
def vocabulary(shop: Shop) -> ShopVocabulary:
    return ShopVocabulary(Shelves(shop.index))


def wishes(request: Request) -> dict[str, tuple[str, ...]]:
    return {wish.dimension: wish.phrases for wish in request.wishes if not wish.excluded}


def test_conditions_by_dimension(vocabulary: ShopVocabulary) -> None:
    request = read_request("red or maroon round-neck T-shirts for men by Cordine", vocabulary)
    assert wishes(request) == {
        "color": ("red", "maroon"),
        "neck": ("round neck",),
        "kind": ("t shirts",),
        "audience": ("men",),
        "brand": ("cordine",),
    }


@pytest.mark.parametrize(
    "text", ["shirts, not red", "shirts without red", "shirts but I hate red", "shirts except red"]
)
def test_what_is_not_wanted(vocabulary: ShopVocabulary, text: str) -> None:
    request = read_request(text, vocabulary)
    assert [
        (wish.phrases, wish.excluded) for wish in request.wishes if wish.dimension == "color"
    ] == [(("red",), True)]


@pytest.mark.parametrize(
    ("text", "positions"),
    [
        ("the second one", (1,)),
        ("compare the first two", (0, 1)),
        ("first and third", (0, 2)),
        ("number 3 please", (2,)),
        ("and the last one?", (-1,)),
        ("a second-hand shirt", (1,)),
        ("show me shirts", ()),
    ],
)
def test_positions(vocabulary: ShopVocabulary, text: str, positions: tuple[int, ...]) -> None:
    assert read_request(text, vocabulary).positions == positions


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("what is it made of?", ("fabric",)),
        ("and the colour?", ("color",)),
        ("how do I wash it?", ("fabric care",)),
        ("which brand is it?", ("brand",)),
        ("who is it for?", ("audience",)),
        ("a slim fit shirt", ()),
    ],
)
def test_asked_attributes(vocabulary: ShopVocabulary, text: str, asked: tuple[str, ...]) -> None:
    assert read_request(text, vocabulary).asked == asked


@pytest.mark.parametrize(
    ("text", "thing"),
    [
        ("do you sell laptops?", "laptops"),
        ("red laptops under 5000", "laptops"),
        ("I want to buy a car", "car"),
        ("something warm", None),
        ("do you have kurtas?", None),
        ("anything for a trip", None),
    ],
)
def test_things_the_shop_does_not_know(
    vocabulary: ShopVocabulary, text: str, thing: str | None
) -> None:
    assert read_request(text, vocabulary).thing == thing


def test_one_typo_is_put_right_and_english_is_not(vocabulary: ShopVocabulary) -> None:
    assert wishes(read_request("kurtta", vocabulary)) == {"kind": ("kurta",)}
    assert wishes(read_request("write something", vocabulary)) == {}


def test_sizes(vocabulary: ShopVocabulary) -> None:
    assert read_request("shirts in size M", vocabulary).size == "m"
    assert read_request("do you have it in XL?", vocabulary).size == "xl"
    assert read_request("what size is it?", vocabulary).size is None


def test_dimensions_that_no_longer_matter(vocabulary: ShopVocabulary) -> None:
    assert read_request("any colour", vocabulary).dropped == {"color"}
    assert read_request("the price does not matter", vocabulary).dropped == {"price"}


@pytest.mark.parametrize(
    ("noun", "several"),
    [("kurta", "kurtas"), ("dress", "dresses"), ("jeans", "jeans"), ("t shirt", "T-shirts")],
)
def test_plurals(noun: str, several: str) -> None:
    assert plural(noun) == several


@settings(max_examples=60)
@given(st.text(max_size=400))
def test_any_text_can_be_read(vocabulary: ShopVocabulary, text: str) -> None:
    request = read_request(text, vocabulary)
    assert len(request.text) <= 1_000

"""Roles are drawn by rule from any catalog; one that cannot host a journey says why."""

import polars as pl
import pytest

from retail_assistant.corpus.reading.answers import Question, read_answer
from retail_assistant.corpus.reading.text import normalise
from retail_assistant.serving.journeys.amounts import stated_amounts, stray_amounts
from retail_assistant.serving.journeys.casting import Cast, Skipped, cast
from retail_assistant.serving.journeys.runner import shopper_text
from retail_assistant.serving.journeys.scenario import Journey, Suite
from retail_assistant.serving.journeys.stock import Stock, Wish, plural

SEEDS = range(4)


def journey(suite: Suite, name: str) -> Journey:
    ((_, found),) = suite.only([name]).journeys
    return found


def drawn(suite: Suite, stock: Stock, name: str, seed: int = 7) -> Cast:
    found = cast(journey(suite, name), stock, seed)
    assert isinstance(found, Cast)
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_every_journey_finds_its_products(suite: Suite, stock: Stock, seed: int) -> None:
    for _, one in suite.journeys:
        found = cast(one, stock, seed)
        assert isinstance(found, Cast), (one.id, found)
        assert len(set(found.products.values())) == len(one.products)
        texts = [shopper_text(turn, found) for turn in one.turns]
        assert not any("{" in text or "None" in text for text in texts), texts


def test_draws_depend_on_seed_and_catalog_only(suite: Suite, stock: Stock) -> None:
    first = drawn(suite, stock, "compare_three")
    shuffled = Stock(stock.frame.sample(fraction=1.0, shuffle=True, seed=3))
    assert drawn(suite, shuffled, "compare_three") == first
    assert drawn(suite, stock, "compare_three", seed=8) != first


def test_rules_hold(suite: Suite, stock: Stock) -> None:
    for seed in SEEDS:
        two = drawn(suite, stock, "compare_two_by_price", seed).products
        assert (stock.price(two["b"]) or 0) < (stock.price(two["a"]) or 0)
        asked = drawn(suite, stock, "typo_in_a_name", seed)
        name = stock.records[asked.products["a"]]["name"]
        assert asked.terms["a"]["typo"] != name
        assert not set(normalise(asked.terms["a"]["value"]).split()) & set(normalise(name).split())
        lacks = drawn(suite, stock, "does_not_know", seed)
        assert not stock.values(lacks.products["a"], lacks.attributes["a"])
        coded = drawn(suite, stock, "item_code", seed).products["a"]
        assert stock.name_counts[normalise(stock.records[coded]["name"])] > 1
        for name in ("impossible_price", "impossible_colour", "impossible_audience"):
            assert stock.fitting(drawn(suite, stock, name, seed).wishes["w"]) == []
        budget = drawn(suite, stock, "show_me_more", seed).wishes["w"]
        assert len(stock.fitting(budget)) >= 8


def test_an_invented_name_is_no_product(suite: Suite, stock: Stock) -> None:
    name = drawn(suite, stock, "unknown_product").terms["x"]["name"]
    assert normalise(name) not in stock.name_counts
    brands = {normalise(one["brand"] or "") for one in stock.records.values()}
    assert normalise(name.split()[0]) not in brands


def test_a_catalog_that_cannot_host_a_journey_says_so(suite: Suite, stock: Stock) -> None:
    bare = stock.frame.with_columns(
        attributes=pl.lit([], stock.frame.schema["attributes"]),
        retail_price=pl.lit(None, pl.Float64),
        discounted_price=pl.lit(None, pl.Float64),
    )
    found = cast(journey(suite, "price"), Stock(bare), 7)
    assert found == Skipped("no product of this catalog fits as a, or its wishes")
    assert isinstance(cast(journey(suite, "size_in_the_record"), Stock(bare), 7), Skipped)
    assert isinstance(cast(journey(suite, "greeting_and_thanks"), Stock(bare.head(0)), 7), Skipped)
    assert isinstance(cast(journey(suite, "unknown_item_code"), Stock(bare), 7), Cast)


def test_a_wish_is_compared_with_the_record(stock: Stock) -> None:
    key = next(key for key, one in stock.records.items() if one["name"].endswith("Women's Shirt"))
    price = stock.price(key)
    assert price is not None
    assert stock.has(key, Wish(nouns="shirt", audience="women", max_price=price)) == []
    assert stock.has(key, Wish(nouns="saree")) == ["is no saree"]
    assert stock.has(key, Wish(audience="men")) == ["is for women"]
    (wrong,) = stock.has(key, Wish(max_price=price - 1))
    assert wrong == f"costs {price}, more than {price - 1:g}"
    (colour,) = stock.colours(key)
    assert stock.has(key, Wish(colour=colour.lower())) == []
    assert stock.has(key, Wish(colour="ultraviolet")) == [f"is {colour}"]
    assert stock.has(key, Wish(brand="Nobody"))[0].startswith("is by ")
    (fabric,) = stock.values(key, "fabric")
    assert stock.has(key, Wish(attribute="fabric", value=fabric.lower())) == []


@pytest.mark.parametrize(
    ("singular", "many"), [("dress", "dresses"), ("jeans", "jeans"), ("kurta", "kurtas")]
)
def test_plurals(singular: str, many: str) -> None:
    assert plural(singular) == many


@pytest.mark.parametrize(
    ("text", "amounts"),
    [
        ("It costs 1,649.", [1649.0]),
        ("It costs \u20b91,649 (before: \u20b92,499).", [1649.0, 2499.0]),
        ("The price is Rs. 499.50", [499.5]),
        ("It is 100% cotton, in a pack of 3.", []),
        ("It does not cost 5; it costs 499.", [499.0]),
        ("We have 18 products in 4 colours.", []),
        ("You pay 300 rupees.", [300.0]),
    ],
)
def test_amounts_are_read_as_a_shopper_would(stock: Stock, text: str, amounts: list[float]) -> None:
    named = read_answer(text, Question("?", "unanswerable"), stock.facts).named
    assert stated_amounts(named) == amounts


def test_a_listed_product_has_its_price_behind_it(stock: Stock) -> None:
    record = next(iter(stock.records.values()))
    text = f"- {record['name']} (item {record['product_id'][:8]}): 777"
    named = read_answer(text, Question("?", "unanswerable"), stock.facts).named
    assert stray_amounts(named, [777.0], []) == []
    assert stray_amounts(named, [778.0], []) == [777.0]
    assert stray_amounts(named, [1000.0, 223.0], []) == []  # their difference

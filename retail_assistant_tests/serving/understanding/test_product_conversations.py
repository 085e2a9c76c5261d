"""Conversations about one product, over the embedded catalog."""

import polars as pl
import pytest

from retail_assistant.catalog.index import CatalogIndex
from retail_assistant.corpus.rendering import item_code
from retail_assistant_tests.serving.conftest import Talk
from retail_assistant_tests.serving.understanding.talked_about import (
    JOGGERS,
    SHARED,
    SHIRT,
    id_of,
    ids,
    reworded,
    value,
)


class TestOneProduct:
    def test_goes_to_the_model_as_asked(self, talk: Talk, shop_index: CatalogIndex) -> None:
        (plan,) = talk(f"What is the fabric of {SHIRT}?")
        assert plan.text is None
        assert plan.intent == "question"
        assert plan.question == f"What is the fabric of {SHIRT}?"
        assert reworded(plan, shop_index)
        assert [row["name"] for row in plan.products] == [SHIRT]

    def test_follow_ups_name_the_product(self, talk: Talk, shop_index: CatalogIndex) -> None:
        plans = talk(
            f"Tell me about {SHIRT}.", "What is it made of?", "and the neck?", "who is it for?"
        )
        assert [plan.intent for plan in plans] == ["overview", "question", "question", "question"]
        assert [plan.question for plan in plans[1:]] == [
            f"What is the fabric of {SHIRT}?",
            f"What is the neck style of {SHIRT}?",
            f"Who is {SHIRT} for?",
        ]
        assert all(plan.text is None and reworded(plan, shop_index) for plan in plans)

    def test_a_free_follow_up_keeps_its_words(self, talk: Talk) -> None:
        plans = talk(f"Tell me about {SHIRT}.", "Is it good for a hot day?")
        assert plans[-1].question == f"Is {SHIRT} good for a hot day?"
        assert plans[-1].text is None

    def test_a_shared_name_is_told_by_its_item_code(
        self, talk: Talk, shop_products: pl.DataFrame, shop_index: CatalogIndex
    ) -> None:
        twins = shop_products.filter(name=SHARED)
        assert twins.height > 1
        code = item_code(twins["product_id"][1])
        plans = talk(f"Tell me about item {code}", "what is its color?")
        assert plans[1].question == f"What is the color of {SHARED} (item {code})?"
        assert ids(plans[1]) == [twins["product_id"][1]]
        assert reworded(plans[1], shop_index)

    def test_prices_are_told_by_the_record(self, talk: Talk, shop_products: pl.DataFrame) -> None:
        row = shop_products.filter(name=SHIRT).row(0, named=True)
        plans = talk(f"How much is {SHIRT}?", "and what does it cost?")
        for plan in plans:
            assert plan.text is not None
            assert f"\u20b9{row['price']:,.0f}" in plan.text
            assert f"\u20b9{row['retail_price']:,.0f}" in plan.text

    def test_brand_and_several_attributes_are_told_by_the_record(self, talk: Talk) -> None:
        plans = talk(f"Tell me about {SHIRT}", "who made it?", "what are its fabric and color?")
        assert plans[1].text == f"The brand of {SHIRT} is Grinook."
        assert plans[2].text == f"{SHIRT}:\nFabric: Viscose\nColor: Mustard"

    def test_a_typo_in_a_name_is_no_obstacle(self, talk: Talk) -> None:
        (plan,) = talk("What is the fabric of Grinok Formal Women's Shirt?")
        assert plan.question == f"What is the fabric of {SHIRT}?"
        assert plan.named

    @pytest.mark.parametrize("name", ["Grinook Fromal Women's Shirt", "Grinok Formal Womens Shirt"])
    def test_a_typo_that_makes_a_word_of_the_shop_is_none_either(
        self, talk: Talk, name: str
    ) -> None:
        plans = [*talk(f"what is the fabric of {name}"), *talk(f"tell me about {name}")]
        assert [plan.question for plan in plans] == [
            f"What is the fabric of {SHIRT}?",
            f"Tell me about {SHIRT}.",
        ]

    @pytest.mark.parametrize(
        "asked", ["No, wait: and of {}?", "what about {}?", "{}?", "sorry, I meant {}", "and {}"]
    )
    def test_what_was_asked_is_asked_of_another_product(
        self, talk: Talk, shop_products: pl.DataFrame, shop_index: CatalogIndex, asked: str
    ) -> None:
        plan = talk(f"What is the fabric of {SHIRT}?", asked.format(JOGGERS))[1]
        assert plan.question == f"What is the fabric of {JOGGERS}?"
        assert plan.text is None
        assert reworded(plan, shop_index)
        price = shop_products.filter(name=JOGGERS)["price"].item()
        told = talk(f"How much is {SHIRT}?", asked.format(JOGGERS))[1].text
        assert told is not None
        assert told.startswith(f"{JOGGERS} costs \u20b9{price:,.0f}")

    def test_nor_does_a_typo_in_its_name_lose_what_was_asked(self, talk: Talk) -> None:
        plans = talk(f"What is the fabric of {SHIRT}?", "and of Solwik Chekered Kids' Joggers?")
        assert plans[1].question == f"What is the fabric of {JOGGERS}?"

    @pytest.mark.parametrize("asked", ["Is {} good?", "Do you have {}?", "Tell me about {}."])
    def test_what_asks_something_of_its_own_is_asked_as_it_stands(
        self, talk: Talk, asked: str
    ) -> None:
        plan = talk(f"What is the fabric of {SHIRT}?", asked.format(JOGGERS))[1]
        assert plan.question == asked.format(JOGGERS)

    @pytest.mark.parametrize(
        "asked",
        [
            "So what do I pay?",
            "how much do I have to pay for it?",
            "what would I have to spend?",
            "how much would that be?",
            "what is the total?",
            "Is it under 1000?",
        ],
    )
    def test_what_is_to_be_paid_is_the_price(
        self, talk: Talk, shop_products: pl.DataFrame, asked: str
    ) -> None:
        price = shop_products.filter(name=SHIRT)["price"].item()
        plan = talk(f"How much is {SHIRT}?", "Give me a 90% discount on it.", asked)[2]
        assert plan.text is not None
        assert plan.text.startswith(f"{SHIRT} costs \u20b9{price:,.0f}")

    @pytest.mark.parametrize(
        "asked",
        [
            "What else do you have like it?",
            "anything else like that?",
            "is there another one like it?",
            "show me other shirts like it",
            "do you have others of this kind?",
            "something along those lines?",
            f"what else do you have like {SHIRT}?",
        ],
    )
    def test_what_is_like_it_are_the_alternatives(
        self, talk: Talk, shop_index: CatalogIndex, shop_products: pl.DataFrame, asked: str
    ) -> None:
        own = id_of(shop_products, SHIRT)
        plan = talk(f"What does {SHIRT} cost?", asked)[1]
        assert plan.intent == "alternatives"
        assert ids(plan) == [row["product_id"] for row in shop_index.alternatives(own, k=2)]

    def test_an_unknown_product_is_not_made_up(self, talk: Talk) -> None:
        for asked in ("Tell me about Zorblax Ultra Men's Kurta", "What is item abcdef12 made of?"):
            (plan,) = talk(asked)
            assert plan.declined == "not_carried"
            assert not plan.named
            assert plan.text is not None
            assert "no product of that name" in plan.text
            assert plan.products

    def test_alternatives_and_complements_are_the_index_s(
        self, talk: Talk, shop_index: CatalogIndex, shop_products: pl.DataFrame
    ) -> None:
        own = id_of(shop_products, SHIRT)
        plans = talk(
            f"Do you have something like {SHIRT}?", "show me more", "what goes with the first one?"
        )
        expected = [row["product_id"] for row in shop_index.alternatives(own, k=4)]
        assert plans[0].intent == "alternatives"
        assert ids(plans[0]) == expected[:2]
        assert all(row["name"] in (plans[0].text or "") for row in plans[0].products)
        assert ids(plans[1]) == expected[2:4]
        assert plans[2].intent == "complements"
        complements = shop_index.complements(expected[2], k=2)
        assert ids(plans[2]) == [row["product_id"] for row in complements]

    def test_similar_ones_with_a_condition_are_a_search(self, talk: Talk) -> None:
        plans = talk(f"Tell me about {SHIRT}", "show me similar ones in maroon")
        assert plans[1].intent == "search"
        assert plans[1].products
        assert {value(row, "Color") for row in plans[1].products} == {"Maroon"}

"""Conversations that look for products, over the embedded catalog."""

import polars as pl
import pytest

from retail_assistant.serving.prices import current_price
from retail_assistant_tests.serving.conftest import Talk
from retail_assistant_tests.serving.understanding.talked_about import SHIRT, having, ids, value


class TestSearch:
    def test_kind_color_and_price(self, talk: Talk, shop_products: pl.DataFrame) -> None:
        (plan,) = talk("maroon kurtas under 1500")
        right = having(shop_products, Type="Kurta", Color="Maroon").filter(pl.col("price") < 1500)
        assert plan.intent == "search"
        assert set(ids(plan)) == set(right["product_id"])
        assert plan.text is not None
        assert all(f"\u20b9{price:,.0f}" in plan.text for price in right["price"])

    def test_audience(self, talk: Talk, shop_products: pl.DataFrame) -> None:
        (plan,) = talk("Do you have any shirts for my husband?")
        right = shop_products.filter(pl.col("name").str.contains(r"\bMen.s Shirt$"))
        assert plan.text is not None
        assert f"I found {right.height} shirts for men" in plan.text
        assert set(ids(plan)) <= set(right["product_id"])

    @pytest.mark.parametrize(
        ("asked", "descending"), [("the cheapest saree", False), ("most expensive sarees", True)]
    )
    def test_sorting_is_over_the_whole_shop(
        self, talk: Talk, shop_products: pl.DataFrame, asked: str, descending: bool
    ) -> None:
        (plan,) = talk(asked)
        right = having(shop_products, Type="Saree").sort("price", descending=descending)
        assert [current_price(row) for row in plan.products] == right["price"].head(4).to_list()

    def test_pages_come_in_turn_until_all_was_shown(
        self, talk: Talk, shop_products: pl.DataFrame
    ) -> None:
        total = having(shop_products, Type="Kurta").height
        plans = talk("show me kurtas", *["show me more"] * (total // 4 + 1))
        shown = [one for plan in plans for one in ids(plan)]
        assert len(shown) == len(set(shown)) == total
        assert plans[-1].products == []
        assert plans[-1].text is not None
        assert "That is all" in plans[-1].text

    def test_conditions_change_from_turn_to_turn(
        self, talk: Talk, shop_products: pl.DataFrame
    ) -> None:
        plans = talk(
            "show me kurtas for women", "in maroon", "any color", "under 1000", "and in olive?"
        )
        kurtas = having(shop_products, Type="Kurta", Ideal_For="Women's")
        cheap = kurtas.filter(pl.col("price") < 1000)
        expected = [
            kurtas,
            having(kurtas, Color="Maroon"),
            kurtas,
            cheap,
            having(cheap, Color="Olive"),
        ]
        for plan, right in zip(plans, expected, strict=True):
            assert len(plan.products) == min(4, right.height)
            assert set(ids(plan)) <= set(right["product_id"])

    def test_a_change_of_mind_keeps_budget_and_audience(self, talk: Talk) -> None:
        plans = talk("red shirts for men under 2000", "actually, show me jeans instead")
        assert plans[1].products
        for row in plans[1].products:
            assert value(row, "Type") == "Jeans"
            assert value(row, "Ideal For") == "Men's"
            assert (current_price(row) or 0) < 2000
        assert plans[1].text is not None
        assert "red" not in plans[1].text.splitlines()[0]

    @pytest.mark.parametrize(
        "said",
        [
            "That is too much. I can spend 600 at most.",
            "That is too expensive, I only have 600",
            "my budget is 600",
            "lower my budget to 600",
            "this is over my budget of 600",
            "make it 600",
            "what about 600?",
        ],
    )
    def test_what_may_be_spent_limits_the_search(
        self, talk: Talk, shop_products: pl.DataFrame, said: str
    ) -> None:
        jeans = having(shop_products, Type="Jeans", Ideal_For="Men's")
        plan = talk("Show me jeans for men under 700.", said)[1]
        right = jeans.filter(pl.col("price") <= 600)
        assert 0 < right.height < jeans.filter(pl.col("price") < 700).height
        assert plan.intent == "search"
        assert len(plan.products) == min(4, right.height)
        assert set(ids(plan)) <= set(right["product_id"])

    def test_a_limit_after_one_product_keeps_what_was_looked_for(self, talk: Talk) -> None:
        plans = talk("jeans for men", "what does the first cost?", "too much, I can spend 600")
        assert plans[2].products
        for row in plans[2].products:
            assert value(row, "Type") == "Jeans"
            assert (current_price(row) or 0) <= 600

    def test_too_much_without_a_limit_is_cheaper_than_all_shown(self, talk: Talk) -> None:
        plans = talk("show me shirts", "That is too much.")
        before = min(current_price(row) or 0 for row in plans[0].products)
        assert plans[1].products
        assert all((current_price(row) or 0) < before for row in plans[1].products)

    @pytest.mark.parametrize("asked", ["Show me sweaters with fabric nylon.", "nylon sweaters"])
    def test_a_value_with_its_attribute_is_a_condition(
        self, talk: Talk, shop_products: pl.DataFrame, asked: str
    ) -> None:
        (plan,) = talk(asked)
        right = having(shop_products, Type="Sweater", Fabric="Nylon")
        assert plan.text is not None
        assert plan.text.startswith(f"I found {right.height} nylon sweaters")
        assert set(ids(plan)) == set(right["product_id"])

    def test_cheaper_is_cheaper_than_all_that_was_shown(self, talk: Talk) -> None:
        plans = talk("show me shirts", "do you have cheaper ones?")
        before = min(current_price(row) or 0 for row in plans[0].products)
        assert plans[1].products
        assert all((current_price(row) or 0) < before for row in plans[1].products)

    def test_cheaper_than_one_product(self, talk: Talk, shop_products: pl.DataFrame) -> None:
        price = shop_products.filter(name=SHIRT)["price"].item()
        for plan in (
            talk(f"Tell me about {SHIRT}", "anything cheaper?")[1],
            talk(f"Is there anything cheaper than {SHIRT}?")[0],
        ):
            assert plan.products
            for row in plan.products:
                assert (current_price(row) or 0) < price
                assert value(row, "Type") == "Shirt"

    def test_what_is_excluded_is_not_shown(self, talk: Talk) -> None:
        plans = talk("jeans for men, not turquoise", "show me more", "show me more")
        assert all(value(row, "Color") != "Turquoise" for plan in plans for row in plan.products)

    def test_an_impossible_wish_names_what_stands_in_its_way(
        self, talk: Talk, shop_products: pl.DataFrame
    ) -> None:
        (plan,) = talk("kurtas under 50")
        cheapest = having(shop_products, Type="Kurta").sort("price")["price"][0]
        assert plan.declined == "not_carried"
        assert plan.text is not None
        assert (
            "The catalog lists no kurtas under \u20b950. Without \u201cunder \u20b950\u201d"
            in plan.text
        )
        assert current_price(plan.products[0]) == cheapest

    def test_words_that_mean_nothing_here_are_said_to_be_left_out(self, talk: Talk) -> None:
        (plan,) = talk("kurtas for a monsoon picnic")
        assert plan.products
        assert plan.text is not None
        assert "nothing about \u201cmonsoon\u201d, \u201cpicnic\u201d" in plan.text

    def test_sizes_that_the_catalog_does_not_state(self, talk: Talk) -> None:
        (plan,) = talk("kurtas in size M")
        assert plan.products
        assert plan.text is not None
        assert "does not say which sizes" in plan.text

    def test_which_values_there_are(self, talk: Talk, shop_products: pl.DataFrame) -> None:
        plans = talk("show me kurtas", "what colours do they come in?")
        reds = having(shop_products, Type="Kurta", Color="Maroon").height
        assert plans[1].text is not None
        assert f"Maroon ({reds})" in plans[1].text

    def test_other_money_is_not_taken_for_rupees(self, talk: Talk) -> None:
        (plan,) = talk("dresses under $20")
        assert plan.products
        assert plan.text is not None
        assert "rupees" in plan.text

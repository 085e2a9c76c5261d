"""Everything that is offered to be asked next has an answer."""

import pytest

from retail_assistant.serving.understanding.conversation import Shop
from retail_assistant_tests.serving.conftest import Talk

OPENINGS = [
    ("hello",),
    ("what do you sell?",),
    ("show me kurtas",),
    ("maroon kurtas under 1500",),
    ("the cheapest saree",),
    ("kurtas under 50",),
    ("do you sell laptops?",),
    ("Tell me about Grinook Formal Women's Shirt",),
    ("How much is Grinook Formal Women's Shirt?",),
    ("Do you have something like Grinook Formal Women's Shirt?",),
    ("Tell me about Zorblax Ultra Men's Kurta",),
    ("show me shirts", "compare the first two"),
    ("show me shirts", "the second one"),
    ("show me shirts", "the second one", "what goes with it?"),
    ("show me shirts", "cheaper ones"),
    ("\u00bfTienen vestidos rojos para mujer?",),
]


@pytest.mark.parametrize("said", OPENINGS, ids=" / ".join)
def test_every_suggestion_can_be_answered(talk: Talk, said: tuple[str, ...]) -> None:
    suggestions = talk(*said)[-1].suggestions
    assert 2 <= len(suggestions) <= 4
    assert len(set(suggestions)) == len(suggestions)
    for suggestion in suggestions:
        plan = talk(*said, suggestion)[-1]
        assert plan.declined is None, suggestion
        assert plan.products, suggestion


def test_a_shopper_who_only_clicks_always_gets_on(talk: Talk, shop: Shop) -> None:
    said = [shop.opening_suggestions()[0]]
    for number in range(10):
        suggestions = talk(*said)[-1].suggestions
        said.append(suggestions[number % len(suggestions)])
    assert all(plan.declined is None for plan in talk(*said))

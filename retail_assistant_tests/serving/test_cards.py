"""Cards hold what the catalog says, as plain text."""

from typing import Any

from retail_assistant.serving.cards import product_card
from retail_assistant.serving.prices import price_text

ROW: dict[str, Any] = {
    "product_id": "abcdef0123456789",
    "name": "Zed <b>Top</b>\u202e\nnew",
    "brand": "Zed",
    "department": "Clothing",
    "category": "Women's Clothing",
    "subcategory": None,
    "attributes": [
        {"name": "Fabric", "value": "Cotton"},
        {"name": None, "value": "1 Top"},
        {"name": "Care", "value": "<script>alert(1)</script>"},
    ],
    "image_urls": ["https://images.example.com/a.jpeg"],
    "retail_price": 999.0,
    "discounted_price": 749.5,
}


def test_a_card_is_the_row_in_plain_text() -> None:
    card = product_card(ROW)
    assert card.name == "Zed (b)Top(/b) new"
    assert card.item == "abcdef01"
    assert (card.price, card.list_price) == (749.5, 999.0)
    assert card.category == "Women's Clothing"
    assert card.image == "/pictures/abcdef0123456789"
    assert [(one.name, one.value) for one in card.attributes] == [
        ("Fabric", "Cotton"),
        ("Care", "(script)alert(1)(/script)"),
    ]


def test_what_a_row_lacks_a_card_lacks() -> None:
    bare = {**ROW, "brand": None, "image_urls": [], "discounted_price": None}
    card = product_card(bare)
    assert card.brand is None
    assert card.image is None
    assert (card.price, card.list_price) == (999.0, None)


def test_no_discount_is_no_list_price() -> None:
    assert product_card({**ROW, "discounted_price": 999.0}).list_price is None
    assert product_card({**ROW, "discounted_price": None, "retail_price": None}).price is None


def test_prices_are_said_in_rupees() -> None:
    assert price_text(1952.0) == "\u20b91,952"
    assert price_text(99.5) == "\u20b999.50"

"""What a garment is, whom it is for, and what is worn together."""

from typing import Any

import polars as pl
import pytest

from retail_assistant.catalog.garments import (
    AUDIENCES,
    INSTEAD_OF,
    NOUNS,
    WORN_WITH,
    audience,
    clash,
    kind,
    shared_audiences,
)
from retail_assistant.catalog.schema import ATTRIBUTE

SCHEMA = {
    "name": pl.String,
    "categories": pl.List(pl.String),
    "category": pl.String,
    "subcategory": pl.String,
    "attributes": pl.List(ATTRIBUTE),
}


def product(name: str, *levels: str, **attributes: str) -> dict[str, Any]:
    levels = ("Clothing", *levels)
    return {
        "name": name,
        "categories": list(levels),
        "category": levels[1] if len(levels) > 1 else None,
        "subcategory": levels[2] if len(levels) > 2 else None,
        "attributes": [
            {"name": key.replace("_", " "), "value": value} for key, value in attributes.items()
        ],
    }


def read(row: dict[str, Any]) -> tuple[str, str]:
    frame = pl.DataFrame([row], schema=SCHEMA).select(kind(), audience())
    return frame.row(0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Cation Casual 3/4 Sleeve Solid Women's Top", "top"),
        ("Tamnook Striped Women's T-Shirt", "top"),
        ("Parron Men's Printed Casual Shirt", "shirt"),
        ("Zed Women's Shirt Dress", "outfit"),
        ("Rilmont Printed Girl's Skirt Set", "outfit"),
        ("Keldine Women's Salwar Suit", "outfit"),
        ("Anvi Women's Kurta with Dupatta", "top"),
        ("Mynte Cycling Shorts, Gym Shorts, Swim Shorts", "bottom"),
        ("Escocer Women's Leggings", "bottom"),
        ("Zed Short Sleeve Solid Women's", ""),
        ("Zed Cap Sleeve Printed", ""),
        ("Navaksha Necktie Men's Combo", "neckwear"),
        ("Glus Bra and Panty Set", "underwear"),
        ("Fasense Women's Nighty", "nightwear"),
        ("Selfcare Girl's Top - Pyjama Set", "nightwear"),
        ("Lumfable Self Design Women's Cardigan", "layer"),
        ("", ""),
    ],
)
def test_the_last_noun_of_a_name_tells_the_kind(name: str, expected: str) -> None:
    assert read(product(name))[0] == expected


def test_where_the_name_is_silent_type_and_categories_tell_the_kind() -> None:
    women = "Women's Clothing"
    assert read(product("Carrel Printed Women's", women, "Sports Wear", "Swimsuits"))[0] == (
        "swimwear"
    )
    assert read(product("Zed A-line", women, "Western Wear", Type="Dress"))[0] == "outfit"
    assert read(product("Parron", "Men's Clothing", "Shirts"))[0] == "shirt"
    assert read(product("Self Top", "Kids", "Girls Wear", "Thermals"))[0] == "underwear"
    floor = "Lingerie, Sleep & Swimwear"
    assert read(product("Alisha Cycling Shorts", women, floor, "Shorts"))[0] == "bottom"
    assert read(product("Eccellente Cap", women, floor, "Swim & Beach Wear"))[0] == "accessory"


def test_the_audience_is_who_it_is_said_to_be_for() -> None:
    girls = "Girls Wear"
    assert read(product("A Top", "Women's Clothing"))[1] == "women"
    assert read(product("A Men\u2019s Top", "Women's Clothing"))[1] == "men"
    assert read(product("A Top", "Kids' Clothing", girls))[1] == "girl"
    assert read(product("A Kids' Top", "Kids' Clothing", girls))[1] == "girl boy"
    assert read(product("A Women's Top", Ideal_For="Boy's, Girl's"))[1] == "girl boy"
    assert read(product("A Top"))[1] == ""


def test_audiences_are_shared_where_somebody_is_in_both() -> None:
    assert "girl boy" in shared_audiences("boy")
    assert "girl" not in shared_audiences("boy")
    assert "" in shared_audiences("boy")
    assert len(shared_audiences("")) == 2 ** len(AUDIENCES)


def test_rules_speak_of_kinds_that_there_are_and_hold_both_ways() -> None:
    assert set(WORN_WITH) == set(NOUNS)
    for one, others in WORN_WITH.items():
        assert one not in others
        assert all(other in NOUNS for other in others)
    for one, other in (("top", "bottom"), ("shirt", "neckwear"), ("layer", "outfit")):
        assert one in WORN_WITH[other]
        assert other in WORN_WITH[one]
    assert set(INSTEAD_OF) <= set(NOUNS)


def test_sports_and_dressing_up_keep_apart() -> None:
    party = product("A Top", Occasion="Party, Wedding")
    either = product("A Top", Occasion="Party, Casual")
    track = product("A Track Pants", "Women", "Western Wear")
    gym = product("A Vest", "Women", "Sports & Gym Wear", Occasion="Casual")
    assert clash(party, track)
    assert clash(gym, party)
    assert not clash(either, track)
    assert not clash(product("A Top"), gym)

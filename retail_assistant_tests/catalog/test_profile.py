from pathlib import Path
from typing import Any

import polars as pl
import pytest

from retail_assistant.catalog.mapping import STATED_ATTRIBUTES, Columns, mapped
from retail_assistant.catalog.profile import (
    FLIPKART_PROFILE,
    CatalogProfile,
    get_profile,
)
from retail_assistant.catalog.schema import RAW_COLUMNS
from retail_assistant.profiles import ProfileError, load_profile
from retail_assistant.settings import SHIPPED_PROFILE


def one(columns: Columns, **row: str | None) -> dict[str, object]:
    frame = pl.LazyFrame({name: [value] for name, value in row.items()})
    return mapped(frame, columns, list(row)).collect().row(0, named=True)


def test_the_shipped_profile_spells_out_every_default() -> None:
    import yaml

    assert load_profile(SHIPPED_PROFILE, CatalogProfile) == FLIPKART_PROFILE
    written = yaml.safe_load(SHIPPED_PROFILE.read_text())
    assert written == FLIPKART_PROFILE.model_dump(mode="json")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("columns: {nam: x}", "columns.nam"),
        ("assortment: {min_units: -1}", "assortment.min_units"),
        ("csv: {delimiter: ';;'}", "one ASCII character"),
        ("csv: {encoding: klingon}", "a text encoding"),
        ("columns: {specifications_format: xml}", "'ruby' or 'json'"),
        ("columns: {name: ''}", "name is empty"),
        ("colums: {}", "sections: columns"),
        ("- a list", "sections: columns"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_wrong_profile_names_file_field_and_what_is_allowed(
    tmp_path: Path, text: str, says: str
) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(text)
    with pytest.raises(ProfileError) as raised:
        load_profile(path, CatalogProfile)
    assert str(path) in str(raised.value)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_empty_profile_is_the_default_and_an_edit_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_settings: None
) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text("")
    monkeypatch.setenv("RETAIL_CATALOG_PROFILE", str(path))
    assert get_profile() == CatalogProfile()
    path.write_text("assortment: {min_units: 3}")
    assert get_profile().assortment.min_units == 3


def test_columns_of_another_retailer_come_under_our_names() -> None:
    columns = Columns(
        product_id="sku",
        name="title",
        category=["area", "kind"],
        specifications=None,
        attributes={"Fabric": "material", "Color": "colour"},
        images=["front", "back"],
        brand=None,
    )
    found = one(
        columns,
        sku="1",
        title="A shirt",
        area="Men",
        kind=None,
        material=" Linen ",
        colour="",
        front="https://a.example/1.jpg",
        back="https://a.example/2.jpg",
    )
    assert list(found) == [*RAW_COLUMNS, STATED_ATTRIBUTES]
    assert found["category_tree"] == "Men"
    assert found["images"] == "https://a.example/1.jpg https://a.example/2.jpg"
    assert found[STATED_ATTRIBUTES] == [{"name": "Fabric", "value": "Linen"}]
    assert found["brand"] is None


@pytest.mark.parametrize(
    ("text", "attributes"),
    [
        ('{"Fabric": "Cotton", "Sizes": ["S", "M"], "Pockets": 2}', ["Cotton", "S, M", "2"]),
        ('[{"name": "Fabric", "value": "Cotton"}, {"value": "Washable"}]', ["Cotton", "Washable"]),
        ('{"Fabric": null, "Lining": "  "}', []),
        ("", []),
        (None, []),
        ("{broken", None),
        ('"text"', None),
        ("[" * 100_000, None),
        ('{"a": "\\ud800"}', ["?"]),
    ],
)
def test_specifications_in_json(text: str | None, attributes: list[str] | None) -> None:
    columns = Columns(specifications_format="json")
    found: Any = one(columns, product_specifications=text)[STATED_ATTRIBUTES]
    assert (found if found is None else [entry["value"] for entry in found]) == attributes


def test_another_separator_of_the_category_path() -> None:
    columns = Columns(category_separator="/")
    assert one(columns, product_category_tree="Men/Shirts")["category_tree"] == "Men >> Shirts"

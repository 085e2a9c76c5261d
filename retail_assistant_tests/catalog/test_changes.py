"""What changed between two catalogs, against a comparison of plain dictionaries."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from retail_assistant.catalog.changes import (
    ChangeCounts,
    RefreshPolicy,
    category_units,
    change_counts,
    filled_shares,
    write_changes,
)

SCHEMA = {
    "product_id": pl.String,
    "name": pl.String,
    "brand": pl.String,
    "attributes": pl.List(pl.Struct({"name": pl.String, "value": pl.String})),
    "retail_price": pl.Float64,
    "source_row": pl.UInt32,
    "content_hash": pl.String,
}
TOP = {"name": "Top", "brand": "Zed", "attributes": [], "retail_price": 1.0}
COMPARED = ("name", "brand", "attributes", "retail_price")

entries = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from([None, "Fabric", "Fit"]), "value": st.sampled_from(["", "a", "b"])}
    ),
    max_size=2,
)
contents = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["Top", "Shirt"]),
        "brand": st.sampled_from([None, "", "Zed", "Quill"]),
        "attributes": entries,
        "retail_price": st.sampled_from([None, 1.0, 2.0]),
    }
)
catalogs = st.dictionaries(st.sampled_from([f"id-{n}" for n in range(12)]), contents, max_size=12)


def frame(catalog: dict[str, dict[str, Any]], first_row: int = 1) -> pl.DataFrame:
    rows = [
        {"product_id": key, **content, "source_row": row, "content_hash": repr(content)}
        for row, (key, content) in enumerate(catalog.items(), start=first_row)
    ]
    return pl.DataFrame(rows, schema=SCHEMA)


def expected(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[str, list[str]]]:
    told: dict[str, tuple[str, list[str]]] = {}
    for key in before.keys() | after.keys():
        if key not in before:
            told[key] = ("added", [])
        elif key not in after:
            told[key] = ("removed", [])
        elif columns := [name for name in COMPARED if before[key][name] != after[key][name]]:
            told[key] = ("changed", columns)
    return told


@settings(max_examples=60, deadline=None)
@given(before=catalogs, after=catalogs, rows_at_once=st.integers(1, 5))
def test_changes_are_those_of_a_plain_comparison(before, after, rows_at_once):
    with TemporaryDirectory() as folder:
        output = Path(folder) / "changes.parquet"
        old, new = frame(before).lazy(), frame(after, first_row=100).lazy()
        counts = write_changes(old, new, output, rows_at_once)
        rows = pl.read_parquet(output)
    told = {row["product_id"]: (row["change"], row["changed_columns"]) for row in rows.to_dicts()}
    wanted = expected(before, after)
    assert told == wanted
    assert rows["product_id"].is_sorted()
    assert counts.before - counts.removed + counts.added == counts.after == len(after)
    assert counts.none == (not wanted)
    for row in rows.to_dicts():
        side = before if row["change"] == "removed" else after
        assert row["name"] == side[row["product_id"]]["name"]
        assert (row["source_row"] >= 100) == (row["change"] != "removed")


def test_neither_row_numbers_nor_the_recipe_of_the_hash_are_changes():
    catalog = {"a": TOP}
    other = frame(catalog, first_row=7).with_columns(content_hash=pl.lit("another recipe"))
    assert change_counts(frame(catalog).lazy(), other.lazy()) == ChangeCounts(
        added=0, removed=0, changed=0, before=1, after=1
    )


def test_a_column_that_one_version_lacks_is_not_compared():
    catalog = {"a": TOP}
    older = frame(catalog).drop("brand").with_columns(content_hash=pl.lit("older"))
    assert change_counts(older.lazy(), frame(catalog).lazy()).none


def test_units_are_counted_at_every_level():
    products = pl.LazyFrame(
        {
            "department": ["Clothing", "Clothing", "Clothing", "Toys"],
            "category": ["Men's", "Men's", None, "Cars"],
            "subcategory": ["Shirts", None, None, None],
        },
        schema=dict.fromkeys(("department", "category", "subcategory"), pl.String),
    )
    assert {(r["level"], r["path"]): r["units"] for r in category_units(products).to_dicts()} == {
        ("department", "Clothing"): 3,
        ("department", "Toys"): 1,
        ("category", "Clothing > Men's"): 2,
        ("category", "Toys > Cars"): 1,
        ("subcategory", "Clothing > Men's > Shirts"): 1,
    }


def test_an_empty_list_is_no_value():
    products = frame(
        {
            "a": {**TOP, "brand": None},
            "b": {**TOP, "attributes": [{"name": "Fit", "value": "Slim"}], "retail_price": None},
        }
    )
    shares = filled_shares(products.lazy())
    assert [shares[name] for name in COMPARED] == [1.0, 0.5, 0.5, 0.5]
    assert set(filled_shares(products.head(0).lazy()).values()) == {0.0}
    unknown = products.with_columns(attributes=pl.lit(None, SCHEMA["attributes"]))
    assert filled_shares(unknown.lazy())["attributes"] == 0.0


@pytest.mark.parametrize("wrong", [{"max_row_drop": 1.5}, {"min_category_units": 0}, {"drop": 1}])
def test_thresholds_out_of_bounds_are_refused(wrong):
    with pytest.raises(ValidationError):
        RefreshPolicy.model_validate(wrong)

from pathlib import Path

import polars as pl
import pytest
from pydantic import ValidationError

from retail_assistant.catalog.assortment import (
    AssortmentPolicy,
    assortment_exclusions,
    select_assortment,
)
from retail_assistant.catalog.source import CatalogError
from retail_assistant_tests.catalogs import cleaned


def products(*groups: tuple[str, str | None, str | None, int]) -> pl.DataFrame:
    rows = [levels for *levels, units in groups for _ in range(units)]
    frame = pl.DataFrame(rows, schema=["department", "category", "subcategory"], orient="row")
    return frame.with_row_index("source_row", offset=1).with_columns(
        pl.format("p{}", "source_row").alias("product_id")
    )


CATALOG = products(
    ("Clothing", "Women's Clothing", "Western Wear", 10),
    ("Clothing", "Women's Clothing", "Ethnic Wear", 9),
    ("Clothing", "Women's Clothing", None, 12),
    ("Clothing", "Men's Clothing", "Shirts", 3),
    ("Clothing", "Pet Clothing", "Coats", 20),
    ("Clothing", None, None, 1),
    ("Footwear", "Women's Footwear", "Flats", 30),
)


def test_kept_and_excluded_are_all_products_with_a_reason_each() -> None:
    policy = AssortmentPolicy()
    kept = select_assortment(CATALOG.lazy(), policy)
    excluded = assortment_exclusions(CATALOG.lazy(), policy).collect()
    assert kept["subcategory"].unique().to_list() == ["Western Wear"]
    assert kept.columns == CATALOG.columns
    assert dict(excluded["reason"].value_counts().iter_rows()) == {
        "rare_subcategory": 9,
        "no_subcategory": 12,
        "rare_category": 3,
        "other_category": 21,
        "other_department": 30,
    }
    together = [*kept["product_id"], *excluded["product_id"]]
    assert sorted(together) == sorted(CATALOG["product_id"])
    assert excluded["detail"].null_count() == 0
    assert "Ethnic Wear has 9 products, fewer than 10" in excluded["detail"].to_list()


def test_empty_lists_and_zero_units_keep_everything() -> None:
    policy = AssortmentPolicy(departments=[], categories=[], min_units=0)
    assert select_assortment(CATALOG.lazy(), policy).equals(CATALOG)
    assert assortment_exclusions(CATALOG.lazy(), policy).collect().is_empty()


@pytest.mark.fault(
    "No product is left for the assistant",
    "One line names the departments that there are",
)
def test_an_empty_assortment_names_the_departments() -> None:
    with pytest.raises(CatalogError, match=r"Clothing \(55\), Footwear \(30\)"):
        select_assortment(CATALOG.lazy(), AssortmentPolicy(departments=["Toys"]))
    with pytest.raises(CatalogError, match="it has no products"):
        select_assortment(CATALOG.clear().lazy(), AssortmentPolicy())


def test_the_policy_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValidationError):
        AssortmentPolicy.model_validate({"min_unit": 3})
    with pytest.raises(ValidationError):
        AssortmentPolicy(min_units=-1)


def test_the_real_assortment(real_catalog: Path) -> None:
    rows = cleaned(real_catalog).products.lazy()
    kept = select_assortment(rows, AssortmentPolicy())
    assert kept.height == 373
    assert kept.height + assortment_exclusions(rows, AssortmentPolicy()).collect().height == 999

"""What the UI shows of a catalog adds up, whatever the catalog's texts are."""

import base64
import io
import re
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from retail_assistant.catalog.assortment import AssortmentPolicy, select_assortment
from retail_assistant.catalog.clean import CleanedCatalog, clean_catalog
from retail_assistant.catalog.lineage import duplicate_sources, product_sources, same_columns
from retail_assistant.catalog.mapping import Columns
from retail_assistant.catalog.near_duplicates import SCHEMA
from retail_assistant.catalog.overview import (
    LEVELS,
    Overview,
    assortment_overview,
    attribute_coverage,
    empty_columns,
    missing_values,
    prices,
    products_overview,
    rejected_overview,
)
from retail_assistant.catalog.schema import ProductSchema, RejectedSchema
from retail_assistant.catalog.synthesize import write_catalog

HOSTILE = "](javascript:alert(1)) <script> $\\frac{$ %s \u202e\x00\n# \U0001f457 कुर्ता"


@pytest.fixture(scope="module")
def cleaned(tmp_path_factory: pytest.TempPathFactory) -> CleanedCatalog:
    folder = tmp_path_factory.mktemp("catalog")
    write_catalog(folder / "catalog.csv", rows=3000, seed=2)
    return clean_catalog(str(folder / "catalog.csv"), folder)


def assert_shows(overview: Overview) -> None:
    """Every picture is one PNG image in markdown, and nothing else."""
    assert overview.pictures
    for picture in overview.pictures.values():
        found = re.fullmatch(r"!\[[\w ]+\]\(data:image/png;base64,([\w+/=]+)\)", picture)
        assert found
        with Image.open(io.BytesIO(base64.b64decode(found[1]))) as image:
            assert image.format == "PNG"
            assert min(image.size) > 80
            # Something is drawn.
            assert len(image.convert("L").getcolors(256) or []) > 5


def hostile(rows: int = 3) -> pl.DataFrame:
    products = pl.DataFrame(
        {
            "product_id": [f"p{n}" for n in range(rows)],
            "name": HOSTILE,
            "department": HOSTILE,
            "category": None,
            "attributes": [[{"name": HOSTILE, "value": "x"}, {"name": HOSTILE, "value": "y"}]]
            * rows,
            "retail_price": [None, 1e-3, 1e9][:rows],
        },
        schema_overrides={"category": pl.String},
    )
    empty = ProductSchema.create_empty()
    return pl.concat([empty, products], how="diagonal_relaxed")


def test_products_overview_counts_every_product(cleaned: CleanedCatalog) -> None:
    products = pl.scan_parquet(cleaned.products)
    overview = products_overview(products)
    assert_shows(overview)
    frame = products.collect()
    assert overview.tables["categories"]["products"].sum() == frame.height
    assert overview.tables["categories"]["share"].sum() == pytest.approx(1)
    assert overview.numbers["without_brand"] == frame["brand"].null_count() / frame.height > 0
    assert overview.numbers["department_values"] == frame["department"].n_unique()
    # Columns that are always filled are no numbers of their own.
    assert "without_name" not in overview.numbers


def test_missing_values_are_nulls_and_empty_lists(cleaned: CleanedCatalog) -> None:
    products = pl.read_parquet(cleaned.products)
    missing = {row["column"]: row["rows"] for row in missing_values(products.lazy()).to_dicts()}
    assert list(missing) == products.columns
    assert missing["attributes"] == products.filter(pl.col("attributes").list.len() == 0).height > 0
    assert missing["retail_price"] == products["retail_price"].null_count() > 0


def test_a_column_that_nobody_fills_is_named(cleaned: CleanedCatalog) -> None:
    products = pl.scan_parquet(cleaned.products)
    assert empty_columns(missing_values(products)) == []
    unbranded = products.with_columns(brand=pl.lit(None, pl.String), image_urls=pl.lit([]))
    assert empty_columns(missing_values(unbranded)) == ["brand", "image_urls"]


def test_an_attribute_counts_once_a_product() -> None:
    stated = [
        [{"name": "Fabric", "value": "Silk"}, {"name": "Fabric", "value": "Wool"}],
        [{"name": "Fabric", "value": "Silk"}, {"name": None, "value": "Hand wash"}],
        [],
        [{"name": "Neck", "value": "Round"}],
    ]
    coverage = attribute_coverage(pl.LazyFrame({"attributes": stated}))
    assert coverage.rows() == [("Fabric", 2, 0.5), ("", 1, 0.25), ("Neck", 1, 0.25)]


def test_every_price_is_in_its_bin() -> None:
    asked = [10.0, 12.0, 99.9, 100.0, 1000.0, 54321.0, 1e9]
    bins = prices(pl.LazyFrame({"retail_price": [*asked, None]}))
    assert bins["products"].to_list() == [2, 1, 1, 1, 1, 1]
    found = [bins.filter((pl.col("low") <= price) & (price < pl.col("high"))) for price in asked]
    assert [hits.height for hits in found] == [1] * len(asked)


def test_the_steps_lead_from_the_file_to_the_assortment(cleaned: CleanedCatalog) -> None:
    policy = AssortmentPolicy(min_units=20)
    products = pl.scan_parquet(cleaned.products)
    overview = assortment_overview(products, cleaned.summary.rejected, policy)
    assert_shows(overview)
    steps = overview.tables["steps"]
    assert steps["left"].to_list()[0] == 3000
    assert steps["step"].to_list()[-1] == "assortment"
    kept = select_assortment(products, policy).height
    assert steps["left"].to_list()[-1] == kept == overview.tables["categories"]["products"].sum()
    assert 3000 + steps["change"].sum() == kept
    fewer = steps.with_columns(before=pl.col("left").shift()).drop_nulls()
    assert (fewer["before"] + fewer["change"]).to_list() == fewer["left"].to_list()


def test_rejected_rows_are_counted_by_reason(cleaned: CleanedCatalog) -> None:
    overview = rejected_overview(pl.scan_parquet(cleaned.rejected))
    assert_shows(overview)
    assert dict(overview.tables["reasons"].select("reason", "rows").iter_rows()) == (
        cleaned.summary.reasons
    )


def test_a_catalog_without_rows_has_an_overview() -> None:
    products, rejected = ProductSchema.create_empty().lazy(), RejectedSchema.create_empty().lazy()
    assert_shows(products_overview(products))
    assert_shows(rejected_overview(rejected))
    steps = assortment_overview(products, 0, AssortmentPolicy()).tables["steps"]
    assert steps["left"].unique().to_list() == [0]


def test_catalog_text_is_drawn_and_never_read() -> None:
    overview = products_overview(hostile().lazy())
    assert_shows(overview)
    # A level that no product has is no value.
    assert [overview.numbers[f"{name}_values"] for name in LEVELS] == [1, 0, 0]


def test_every_product_column_names_the_columns_it_comes_from(
    real_catalog: Path, tmp_path: Path
) -> None:
    found = clean_catalog(str(real_catalog), tmp_path).summary.columns
    sources = product_sources(Columns(), found)
    assert list(sources) == ProductSchema.column_names()
    assert {source for listed in sources.values() for source in listed} <= set(found)
    assert [name for name, listed in sources.items() if not listed] == ["source_row"]
    assert sources["subcategory"] == ["product_category_tree"]


def test_lineage_follows_the_mapping() -> None:
    columns = Columns(
        product_id="sku",
        category=["level1", "level2"],
        specifications=None,
        attributes={"Fabric": "material", "Color": "colour"},
        images=["front", "back"],
        brand="maker",
    )
    sources = product_sources(columns)
    assert sources["product_id"] == ["sku"]
    assert sources["department"] == ["level1", "level2"]
    assert sources["attributes"] == ["material", "colour"]
    assert sources["image_urls"] == ["front", "back"]
    without_brand = product_sources(columns, ["sku", "product_name", "level1", "level2"])
    assert without_brand["brand"] == without_brand["attributes"] == []


def test_lineage_of_later_tables_names_product_columns() -> None:
    columns = ProductSchema.column_names()
    assert same_columns(columns)["brand"] == ["brand"]
    assert list(duplicate_sources()) == list(SCHEMA)
    assert {name for listed in duplicate_sources().values() for name in listed} <= set(columns)

from pathlib import Path

import polars as pl
import pytest

from retail_assistant.catalog.dirt import DIRT_KINDS
from retail_assistant.catalog.schema import FLIPKART_COLUMNS
from retail_assistant.catalog.synthesize import CHUNK_ROWS, synthesize, write_catalog
from retail_assistant_tests.catalogs import assortment_of, cleaned, cleaned_frame

SHIPPED = Path(__file__).resolve().parents[2] / "retail_assistant" / "data" / "catalog.csv"


def catalog(rows: int, seed: int = 1, dirt: float = 0.05, *, long: bool = False) -> pl.DataFrame:
    return pl.concat(synthesize(rows, seed, dirt, long=long))


def test_the_shipped_catalog_is_what_the_generator_writes(tmp_path: Path) -> None:
    write_catalog(tmp_path / "catalog.csv", rows=600, seed=7, dirt=0.08)
    assert (tmp_path / "catalog.csv").read_bytes() == SHIPPED.read_bytes()
    assert SHIPPED.stat().st_size < 900_000


def test_the_shipped_catalog_fills_the_default_assortment() -> None:
    result = cleaned(SHIPPED)
    assert result.summary.rows_in == 600 == result.products.height + result.rejected.height
    assert result.rejected.height > 0
    kept = assortment_of(SHIPPED)
    assert kept.height >= 330
    assert kept["category"].n_unique() == 3
    assert kept.group_by("category", "subcategory").len().height >= 12


def test_longer_catalogs_begin_with_shorter_ones() -> None:
    long = catalog(CHUNK_ROWS + 1000, dirt=0.3)
    for rows in (0, 1, 7, 1000):
        short = list(synthesize(rows, 1, 0.3))
        assert not short or pl.concat(short).equals(long.head(rows))
    assert catalog(CHUNK_ROWS + 10, dirt=0.3).equals(long.head(CHUNK_ROWS + 10))


def test_long_rows_are_as_long_as_real_ones(real_catalog: Path) -> None:
    real = pl.read_csv(real_catalog, infer_schema=False)
    long = catalog(5000, dirt=0.0, long=True)
    description, specifications = pl.col("description"), pl.col("product_specifications")
    measures = (
        description.str.len_bytes(),
        description.str.split(" ").list.len(),
        specifications.str.len_bytes(),
        specifications.str.count_matches('"value"=>'),
        pl.col("image").str.len_bytes(),
        pl.sum_horizontal(pl.all().str.len_bytes()),
    )
    for measure in measures:
        mean = real.select(measure.fill_null(0).mean()).item()
        assert long.select(measure.mean()).item() == pytest.approx(mean, rel=0.1)
    whitespace = description.str.contains(r"\s\s").mean()
    assert long.select(whitespace).item() == pytest.approx(real.select(whitespace).item(), abs=0.1)


def test_long_rows_are_the_same_products_with_more_to_say() -> None:
    short = cleaned_frame(catalog(300, dirt=0.0)).products
    long = cleaned_frame(catalog(300, dirt=0.0, long=True)).products
    same = ["product_id", "name", "brand", "categories", "retail_price", "discounted_price"]
    assert long.select(same).equals(short.select(same))
    for less, more in zip(short["attributes"], long["attributes"], strict=True):
        assert more.head(len(less)).equals(less)
    assert catalog(CHUNK_ROWS + 9, long=True).head(300).equals(catalog(300, long=True))


def test_seeds_differ_and_ids_do_not_repeat() -> None:
    first, second = catalog(2000, seed=1, dirt=0.0), catalog(2000, seed=2, dirt=0.0)
    assert first.columns == list(FLIPKART_COLUMNS)
    assert set(first.dtypes) == {pl.String()}
    ids = pl.concat([first, second])["uniq_id"]
    assert ids.n_unique() == 4000


def test_a_clean_catalog_is_all_products_of_six_to_ten_attributes() -> None:
    products = cleaned_frame(catalog(3000, dirt=0.0)).products
    assert products.height == 3000
    lengths = products["attributes"].list.len()
    assert (lengths.min(), lengths.max()) == (6, 10)
    clothing = products.filter(department="Clothing")
    assert 0.65 < clothing.height / 3000 < 0.78
    assert 0.2 < clothing["name"].is_duplicated().mean() < 0.35
    named = clothing.explode("attributes").unnest("attributes", separator="_")
    in_name = named.filter(pl.col("name").str.contains(pl.col("attributes_value"), literal=True))
    assert {"Pattern", "Occasion", "Sleeve"} <= set(in_name["attributes_name"])
    assert "Fabric" not in set(in_name["attributes_name"])
    assert named["attributes_name"].null_count() > 0


def test_products_that_share_a_name_agree_with_it() -> None:
    products = cleaned_frame(catalog(3000, dirt=0.0)).products
    products = products.filter(pl.col("name").is_duplicated())
    patterns = (
        products.explode("attributes")
        .unnest("attributes", separator="_")
        .filter(attributes_name="Pattern")
        .filter(pl.col("name").str.contains(" (Solid|Printed|Striped) "))
    )
    assert patterns.height > 20
    agrees = patterns["name"].str.contains(patterns["attributes_value"], literal=True)
    assert agrees.all()


def test_dirt_shows_as_rejections_and_gaps() -> None:
    dirty = catalog(4000, dirt=1.0)
    assert dirty["product_specifications"].str.contains('"value"=>nil', literal=True).any()
    assert dirty["product_name"].str.contains("&#39;", literal=True).any()
    assert dirty["retail_price"].str.starts_with("Rs. ").any()
    counts = cleaned_frame(dirty).summary
    assert set(counts.reasons) == {
        "missing_id",
        "invalid_id",
        "missing_name",
        "missing_category",
        "duplicate_id",
    }
    assert counts.rows_in == 4000 == counts.products + counts.rejected
    # Five of the kinds make a row unusable, evenly drawn (a repeated id may repeat a lost one).
    assert 0.15 < counts.rejected / 4000 < 5.5 / len(DIRT_KINDS)


def test_defects_of_text_are_repaired_by_cleaning() -> None:
    products = cleaned_frame(catalog(4000, dirt=1.0)).products
    odd = r"&#|&amp;|\u200b|\ufeff|â€"
    for column in ("name", "department", "category", "brand"):
        assert not products[column].str.contains(odd).any()
    assert products["retail_price"].null_count() > 0


@pytest.mark.parametrize("wrong", [{"rows": -1}, {"seed": -1}, {"dirt": 1.5}])
def test_wrong_arguments_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="allowed are"):
        list(synthesize(**{"rows": 1, "seed": 1, "dirt": 0.0} | wrong))

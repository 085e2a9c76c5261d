import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retail_assistant.catalog.products import (
    CleanedCatalog,
    category_levels,
    clean_catalog,
    clean_file,
    image_urls,
    price,
    summary,
)
from retail_assistant.catalog.schema import FLIPKART_COLUMNS, ProductSchema
from retail_assistant.catalog.source import CatalogError, read_catalog

GOOD = {
    "uniq_id": "id-1",
    "product_name": "Velmora Women&#39;s Top",
    "product_category_tree": '["Clothing >> Women\'s Clothing >> Western Wear >> Tops"]',
    "product_specifications": '{"product_specification"=>[{"key"=>"Fabric", "value"=>"Linen"}]}',
    "retail_price": "Rs. 1,299",
    "discounted_price": "649",
    "image": '["https://images.example.com/a.jpeg"]',
    "description": "A <b>linen</b> top.",
    "brand": "Velmora",
}
CELL = (
    st.none()
    | st.sampled_from(["a", "A1", " ", "nil", "[]", '["a >> b >> c..."]'])
    | st.text(max_size=20)
)


def raw(*rows: dict[str, str | None]) -> pl.LazyFrame:
    schema = dict.fromkeys(FLIPKART_COLUMNS, pl.String)
    frame = pl.LazyFrame(
        [{**dict.fromkeys(FLIPKART_COLUMNS), **row} for row in rows], schema=schema
    )
    return frame.with_row_index("source_row", offset=1)


def cell(expression: pl.Expr, text: str | None) -> object:
    frame = pl.DataFrame({"text": [text]}, schema={"text": pl.String})
    found = frame.select(expression).item()
    return found.to_list() if isinstance(found, pl.Series) else found


def reasons(cleaned: CleanedCatalog) -> list[tuple[int, str]]:
    return list(cleaned.rejected.select("source_row", "reason").iter_rows())


def test_a_good_row_becomes_a_product() -> None:
    cleaned = clean_catalog(raw(GOOD))
    product = cleaned.products.row(0, named=True)
    content_hash = product.pop("content_hash")
    assert len(content_hash) == 32
    assert product == {
        "product_id": "id-1",
        "name": "Velmora Women's Top",
        "brand": "Velmora",
        "description": "A linen top.",
        "description_keywords": ["linen"],
        "categories": ["Clothing", "Women's Clothing", "Western Wear", "Tops"],
        "department": "Clothing",
        "category": "Women's Clothing",
        "subcategory": "Western Wear",
        "attributes": [{"name": "Fabric", "value": "Linen"}],
        "image_urls": ["https://images.example.com/a.jpeg"],
        "retail_price": 1299.0,
        "discounted_price": 649.0,
        "source_row": 1,
    }


def test_every_unusable_row_is_rejected_with_its_reason() -> None:
    cleaned = clean_catalog(
        raw(
            GOOD | {"product_name": None},
            GOOD,
            GOOD | {"uniq_id": " \u200b"},
            GOOD | {"uniq_id": "../etc/passwd"},
            GOOD | {"uniq_id": "x" * 65},
            GOOD | {"uniq_id": "2", "product_name": "*** \u200b"},
            GOOD | {"uniq_id": "3", "product_category_tree": "nil"},
            GOOD | {"product_name": "The same id again"},
            GOOD | {"uniq_id": "4", "product_name": "n" * 501},
        )
    )
    assert cleaned.rows_in == 9
    assert cleaned.products["source_row"].to_list() == [2]
    assert reasons(cleaned) == [
        (1, "missing_name"),
        (3, "missing_id"),
        (4, "invalid_id"),
        (5, "invalid_id"),
        (6, "missing_name"),
        (7, "missing_category"),
        (8, "duplicate_id"),
        (9, "invalid_name"),
    ]
    duplicate = cleaned.rejected.filter(reason="duplicate_id").row(0, named=True)
    assert duplicate["detail"] == "the id is that of row 2"
    assert json.loads(duplicate["raw"])["product_name"] == "The same id again"
    assert summary(cleaned).reasons["invalid_id"] == 2


def test_the_content_hash_follows_the_content_and_not_the_row() -> None:
    same = GOOD | {"uniq_id": "id-1", "product_rating": "4"}
    other = GOOD | {"discounted_price": "650"}
    first, second, third = (
        clean_catalog(raw(*rows)).products.filter(product_id="id-1")["content_hash"].item()
        for rows in ((GOOD,), (GOOD | {"uniq_id": "0"}, same), (other,))
    )
    assert first == second != third


def test_the_content_hash_is_the_same_in_another_process(tmp_path: Path) -> None:
    raw(GOOD).drop("source_row").collect().write_csv(tmp_path / "c.csv")
    code = (
        "import sys\n"
        "from retail_assistant.catalog.products import clean_catalog\n"
        "from retail_assistant.catalog.source import read_catalog\n"
        "print(clean_catalog(read_catalog(sys.argv[1])).products['content_hash'].item())"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "c.csv")],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    ).stdout.strip()
    assert printed == clean_catalog(raw(GOOD)).products["content_hash"].item()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.fixed_dictionaries(dict.fromkeys(FLIPKART_COLUMNS, CELL)), max_size=6))
def test_no_row_is_lost_and_products_are_valid(rows: list[dict[str, str | None]]) -> None:
    cleaned = clean_catalog(raw(*rows))
    assert cleaned.rows_in == len(rows) == cleaned.products.height + cleaned.rejected.height
    seen = [*cleaned.products["source_row"], *cleaned.rejected["source_row"]]
    assert sorted(seen) == list(range(1, len(rows) + 1))
    ProductSchema.validate(cleaned.products)


@pytest.mark.parametrize(
    ("tree", "levels"),
    [
        ('["Clothing >> Women\'s Clothing >> Tops"]', ["Clothing", "Women's Clothing", "Tops"]),
        ('["Bags, Wallets &amp; Belts >> Bags"]', ["Bags, Wallets & Belts", "Bags"]),
        ('["Furniture >> Sofas >> FabHome Double Sofa (Finish Co..."]', ["Furniture", "Sofas"]),
        ('["Eternal Crystal Paper Weight..."]', ["Eternal Crystal Paper Weight"]),
        ("[\"Clothing >> Women's Clo", ["Clothing", "Women's Clo"]),
        ('["A >> B", "C >> D"]', ["A", "B"]),
        ('["A >>  >> B >> "]', ["A", "B"]),
        ("A >> B", ["A", "B"]),
        ("[]", []),
        ("nil", []),
        ("", []),
        (None, []),
    ],
)
def test_category_levels(tree: str | None, levels: list[str]) -> None:
    assert cell(category_levels(pl.col("text")), tree) == levels


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("999", 999.0),
        ("Rs. 1,299", 1299.0),
        ("₹ 12,34,567.50/-", 1234567.5),
        ("0", None),
        ("-5", None),
        ("free", None),
        ("9" * 400, None),
        (None, None),
    ],
)
def test_price(text: str | None, amount: float | None) -> None:
    assert cell(price(pl.col("text")), text) == amount


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ('["http://a.example/1.jpg", "http://a.example/2.jpg", "http://a.example/1.jpg"]', [1, 2]),
        ('["http://a.example/1.jpg", "http://a.example/2.j', [1]),
        (r'["http:\/\/a.example\/1.jpg"]', [1]),
        ("http://a.example/1.jpg", [1]),
        ('["ftp://a.example/1.jpg", "javascript:alert(1)"]', []),
        ("nil", []),
        ("[]", []),
        (None, []),
    ],
)
def test_image_urls(text: str | None, urls: list[int]) -> None:
    found = cell(image_urls(pl.col("text")), text)
    assert isinstance(found, list)
    assert [url for url in found if url.endswith(".jpg")] == [
        f"http://a.example/{number}.jpg" for number in urls
    ]


def test_clean_file_writes_both_tables_and_counts_them(tmp_path: Path) -> None:
    rows = raw(GOOD, GOOD, GOOD | {"uniq_id": "2"}).drop("source_row").collect()
    rows.write_csv(tmp_path / "c.csv")
    counted = clean_file(str(tmp_path / "c.csv"), tmp_path / "out")
    assert counted.model_dump() == {
        "rows_in": 3,
        "products": 2,
        "rejected": 1,
        "reasons": {"duplicate_id": 1},
    }
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "products.parquet",
        "rejected.parquet",
    ]
    assert pl.read_parquet(tmp_path / "out" / "products.parquet").height == 2
    with pytest.raises(CatalogError):
        clean_file(str(tmp_path / "absent.csv"), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_the_real_rows_are_all_accounted_for(real_catalog: Path) -> None:
    cleaned = clean_catalog(read_catalog(str(real_catalog)))
    assert cleaned.rows_in == 999 == cleaned.products.height + cleaned.rejected.height
    assert cleaned.products.height == 999
    clothing = cleaned.products.filter(department="Clothing")
    assert dict(clothing["category"].value_counts().iter_rows()) == {
        "Women's Clothing": 271,
        "Men's Clothing": 76,
        "Kids' Clothing": 68,
    }

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retail_assistant.catalog.products import (
    category_levels,
    image_urls,
    prices,
    tidy_rows,
    validated,
    with_content_hash,
)
from retail_assistant.catalog.schema import RAW_COLUMNS, ProductSchema

GOOD = {
    "product_id": "id-1",
    "name": "Velmora Women&#39;s Top",
    "category_tree": '["Clothing >> Women\'s Clothing >> Western Wear >> Tops"]',
    "specifications": '{"product_specification"=>[{"key"=>"Fabric", "value"=>"Linen"}]}',
    "retail_price": "Rs. 1,299",
    "discounted_price": "649",
    "images": '["https://images.example.com/a.jpeg"]',
    "description": "A <b>linen</b> top.",
    "brand": "Velmora",
}
CELL = (
    st.none()
    | st.sampled_from(["a", "A1", " ", "nil", "[]", '["a >> b >> c..."]', GOOD["specifications"]])
    | st.text(max_size=20)
)
LEVEL = st.sampled_from(
    [
        "Clothing",
        "A & B",
        "R&D",
        "a  b",
        " x",
        "1",
        "T...",
        "1.",
        "-",
        "nil",
        "",
        "Café",
        "T…",
        "&amp;",
    ]
) | st.text(max_size=5)
TREE = st.lists(LEVEL, max_size=5).map(lambda levels: f'["{" >> ".join(levels)}"]')
URL = st.sampled_from(
    ["http://a.example/1", "HTTPS://b.example/2,", "https://c.example/?a&b", "http://", "http://é;"]
) | st.text(max_size=5).map("http://d.example/{}".format)
URLS = st.lists(URL, max_size=4).map(lambda urls: "[" + ", ".join(f'"{url}"' for url in urls) + "]")


def raw(*rows: dict[str, str | None]) -> pl.DataFrame:
    schema = dict.fromkeys(RAW_COLUMNS, pl.String)
    frame = pl.DataFrame([{**dict.fromkeys(RAW_COLUMNS), **row} for row in rows], schema=schema)
    return frame.with_row_index("source_row", offset=1)


def products(*rows: dict[str, str | None]) -> pl.DataFrame:
    return with_content_hash(tidy_rows(raw(*rows)))


def texts(*found: str | None) -> pl.Series:
    return pl.Series("text", found, dtype=pl.String)


def test_a_good_row_becomes_a_product() -> None:
    product = products(GOOD).row(0, named=True)
    assert len(product.pop("content_hash")) == 32
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


@pytest.mark.parametrize("field", [name for name in RAW_COLUMNS if name != "product_id"])
def test_the_content_hash_follows_every_field_and_not_the_row(field: str) -> None:
    filler = GOOD | {"product_id": "id-0", "name": "Another"}
    without = products(GOOD | {field: None})["content_hash"].item()
    whole, again = products(GOOD)["content_hash"].item(), products(filler, GOOD)["content_hash"][1]
    assert whole == again != without


def test_the_content_hash_tells_where_one_field_ends_and_the_next_begins() -> None:
    entries = '{{"product_specification"=>[{{"key"=>"{}", "value"=>"{}"}}, {{"value"=>"{}"}}]}}'
    rows = [
        GOOD | {"name": "a b", "brand": "c"},
        GOOD | {"name": "a", "brand": "b c"},
        GOOD | {"specifications": entries.format("ab", "c", "d")},
        GOOD | {"specifications": entries.format("a", "bc", "d")},
        GOOD | {"specifications": entries.format("a", "b", "cd")},
        GOOD | {"category_tree": '["A >> B C"]'},
        GOOD | {"category_tree": '["A B >> C"]'},
        GOOD | {"retail_price": "649", "discounted_price": "Rs. 1,299"},
        GOOD | {"retail_price": None},
        GOOD | {"discounted_price": None, "retail_price": "649"},
    ]
    assert products(*rows)["content_hash"].n_unique() == len(rows)


def test_the_content_hash_never_changes(tmp_path: Path) -> None:
    """Downstream work is reused by it: another value for the same row means doing all again."""
    raw(GOOD).write_parquet(tmp_path / "rows.parquet")
    code = (
        "import sys, polars as pl\n"
        "from retail_assistant.catalog.products import tidy_rows, with_content_hash\n"
        "rows = tidy_rows(pl.read_parquet(sys.argv[1]))\n"
        "print(with_content_hash(rows)['content_hash'].item())"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "rows.parquet")],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    ).stdout.strip()
    assert printed == products(GOOD)["content_hash"].item() == "ffed224815381ab66a4a135aeadfb688"


def test_no_rows_are_no_products() -> None:
    valid, invalid = validated(products())
    assert (valid.height, invalid.height) == (0, 0)
    assert valid.columns == list(ProductSchema.column_names())


def test_what_the_schema_refuses_is_told_by_column() -> None:
    rows = products(GOOD, GOOD | {"name": "n" * 501}, GOOD, GOOD | {"category_tree": None})
    valid, invalid = validated(rows)
    assert valid["source_row"].to_list() == [1, 3]
    assert valid.columns == list(ProductSchema.column_names())
    assert list(invalid.sort("source_row").rows()) == [
        (2, "id-1", "invalid_name", "refused by the product schema: name"),
        (4, "id-1", "invalid_categories", "refused by the product schema: categories, department"),
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.fixed_dictionaries(dict.fromkeys(RAW_COLUMNS, CELL)), max_size=6))
def test_any_row_is_read_and_each_by_itself(rows: list[dict[str, str | None]]) -> None:
    together = products(*rows)
    assert together["source_row"].to_list() == list(range(1, len(rows) + 1))
    alone = [products(row).drop("source_row") for row in rows]
    assert together.drop("source_row").equals(pl.concat([products().drop("source_row"), *alone]))
    valid, invalid = validated(together)
    assert valid.height + invalid.height == len(rows)


@given(TREE)
def test_a_usual_tree_is_read_like_any_other(tree: str) -> None:
    # A space in front makes it one that is read by the general rules.
    usual, other = category_levels(texts(tree, f" {tree}")).to_list()
    assert usual == other


@given(URLS)
def test_a_usual_list_of_images_is_read_like_any_other(urls: str) -> None:
    usual, other = image_urls(texts(urls, f" {urls}")).to_list()
    assert usual == other


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
    assert category_levels(texts(tree)).to_list() == [levels]


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
    assert prices(texts(text)).to_list() == [amount]


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
    (found,) = image_urls(texts(text)).to_list()
    assert [url for url in found if url.endswith(".jpg")] == [
        f"http://a.example/{number}.jpg" for number in urls
    ]

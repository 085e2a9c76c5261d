import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retail_assistant.catalog.clean import clean_catalog, read_summary
from retail_assistant.catalog.profile import CatalogProfile
from retail_assistant.catalog.schema import FLIPKART_COLUMNS, ProductSchema, RejectedSchema
from retail_assistant.catalog.source import CatalogError
from retail_assistant.catalog.synthesize import write_catalog
from retail_assistant_tests.catalogs import Cleaned, cleaned, cleaned_frame
from retail_assistant_tests.conftest import REPOSITORY

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
    | st.sampled_from(["a", "A1", " ", "nil", "[]", '["a >> b >> c..."]', '"', "a\nb", "\r"])
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
)
SHOP = {
    "columns": {
        "product_id": "sku",
        "name": "title",
        "category": ["area", "kind", "sort"],
        "specifications": "facts",
        "specifications_format": "json",
        "attributes": {"Color": "colour"},
        "images": ["front", "back"],
        "retail_price": "price",
        "discounted_price": None,
    },
    "csv": {"delimiter": ";", "encoding": "windows-1252"},
}


def clean_rows(*rows: dict[str, str | None]) -> Cleaned:
    schema = dict.fromkeys(FLIPKART_COLUMNS, pl.String)
    full = [{**dict.fromkeys(FLIPKART_COLUMNS), **row} for row in rows]
    return cleaned_frame(pl.DataFrame(full, schema=schema))


def reasons(found: Cleaned) -> list[tuple[int, str]]:
    return list(found.rejected.select("source_row", "reason").iter_rows())


def test_every_unusable_row_is_rejected_with_its_reason() -> None:
    found = clean_rows(
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
    assert found.summary.rows_in == 9
    assert found.products["source_row"].to_list() == [2]
    assert reasons(found) == [
        (1, "missing_name"),
        (3, "missing_id"),
        (4, "invalid_id"),
        (5, "invalid_id"),
        (6, "missing_name"),
        (7, "missing_category"),
        (8, "duplicate_id"),
        (9, "invalid_name"),
    ]
    duplicate = found.rejected.filter(reason="duplicate_id").row(0, named=True)
    assert duplicate["detail"] == "the id is that of row 2"
    assert "The same id again" in duplicate["raw"]
    assert found.summary.reasons["invalid_id"] == 2


def test_what_a_file_states_and_nobody_can_read_is_counted() -> None:
    found = clean_rows(
        GOOD | {"retail_price": "on request", "image": "see the website"},
        GOOD | {"uniq_id": "2", "retail_price": None, "image": "[]"},
        GOOD | {"uniq_id": "3", "product_specifications": "made of linen"},
        GOOD | {"uniq_id": "4", "product_specifications": "nil"},
    )
    assert found.summary.unread == {"attributes": 1, "image_urls": 1, "retail_price": 1}


@pytest.mark.fault(
    "Every row of the catalog stands twice, or all rows have one id",
    "The first of each id is a product, the rest is rejected; the catalog is held back",
)
@pytest.mark.parametrize("ids", [1, 5])
def test_repeated_rows_are_rejected_and_name_the_first(ids: int) -> None:
    found = clean_rows(*(GOOD | {"uniq_id": f"id-{number % ids}"} for number in range(10)))
    assert found.products["source_row"].to_list() == list(range(1, ids + 1))
    assert found.summary.reasons == {"duplicate_id": 10 - ids}
    assert found.rejected["detail"][-1] == f"the id is that of row {ids}"


def test_the_first_of_a_repeated_id_wins_however_far_apart(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    filler = "x" * 900
    with path.open("w") as file:
        file.write("uniq_id,product_name,product_category_tree,description\n")
        for number in range(60_000):
            identity = "again" if number in (3, 30_000, 59_999) else number
            file.write(f"{identity},Name,A >> B,{filler}\n")
    found = cleaned(path)
    assert reasons(found) == [(30_001, "duplicate_id"), (60_000, "duplicate_id")]
    assert set(found.rejected["detail"]) == {"the id is that of row 4"}
    assert found.products["source_row"].is_sorted()
    assert found.products.height == 59_998


def test_broken_records_and_wrong_bytes_are_rejected_with_their_rows(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_bytes(
        b"uniq_id,product_name,product_category_tree,brand\n"
        b"1,One,A >> B,x\n"
        b'2,"Two,A >> B,x\n'
        b"3,Caf\xe9,A >> B,x\n"
        b"4,Four,A >> B,x,more\n"
        b"5,Five,A >> B\n"
        b'6,Six,A >> B,"never closed\n'
    )
    found = cleaned(path)
    assert found.products["product_id"].to_list() == ["1", "5"]
    assert reasons(found) == [
        (2, "broken_quoting"),
        (3, "invalid_encoding"),
        (4, "too_many_fields"),
        (6, "broken_quoting"),
    ]
    assert found.rejected["raw"].to_list()[0] == '2,"Two,A >> B,x'
    assert found.rejected["product_id"].to_list() == [None, "3", None, None]


def test_another_retailers_file_needs_no_more_than_a_profile(tmp_path: Path) -> None:
    path = tmp_path / "shop.csv"
    path.write_text(
        "sku;title;area;kind;sort;facts;colour;front;back;price\n"
        'A-1;Café-Schürze;Home;Kitchen;Aprons;{"Fabric": "Cotton", "Pockets": 2};<b>sky</b> blue;'
        "https://i.example/1.jpg;https://i.example/2.jpg;12.50\n"
        "A-2;Towel;Home;Kitchen;Towels;{broken;red;;;3\n".replace('"', '""')
        .replace("{", '"{')
        .replace("}", '}"')
        .replace('"{broken', "{broken"),
        encoding="windows-1252",
    )
    found = cleaned(path, CatalogProfile.model_validate(SHOP))
    assert reasons(found) == [(2, "invalid_specifications")]
    product = found.products.row(0, named=True)
    assert product["name"] == "Café-Schürze"
    assert product["categories"] == ["Home", "Kitchen", "Aprons"]
    assert product["attributes"] == [
        {"name": "Fabric", "value": "Cotton"},
        {"name": "Pockets", "value": "2"},
        {"name": "Color", "value": "sky blue"},
    ]
    assert product["image_urls"] == ["https://i.example/1.jpg", "https://i.example/2.jpg"]
    assert (product["retail_price"], product["discounted_price"]) == (12.5, None)


def test_the_version_follows_what_products_say_and_nothing_else() -> None:
    first = clean_rows(GOOD, GOOD | {"uniq_id": "2"}).summary.version
    again = clean_rows(GOOD | {"uniq_id": "2"}, GOOD | {"brand": " Velmora "}).summary.version
    other = clean_rows(GOOD, GOOD | {"uniq_id": "2", "brand": "Else"}).summary.version
    assert first == again != other


def test_a_file_is_cleaned_the_same_in_another_process(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("uniq_id,product_name,product_category_tree\n1,A &amp; B,A >> B\n2,,x\n")
    command = [sys.executable, "-m", "retail_assistant.cli", "catalog", "clean", str(path)]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "out")],
        check=True,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    counted = json.loads(done.stdout)
    assert counted == cleaned(path).summary.model_dump()
    assert read_summary(tmp_path / "out" / "products.parquet").model_dump() == counted
    found = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert found == ["products.parquet", "rejected.parquet"]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.fixed_dictionaries(dict.fromkeys(FLIPKART_COLUMNS, CELL)), min_size=1))
def test_no_row_is_lost_and_tables_are_valid(rows: list[dict[str, str | None]]) -> None:
    found = clean_rows(*rows)
    assert found.summary.rows_in == len(rows) == found.products.height + found.rejected.height
    seen = [*found.products["source_row"], *found.rejected["source_row"]]
    assert sorted(seen) == list(range(1, len(rows) + 1))
    ProductSchema.validate(found.products)
    RejectedSchema.validate(found.rejected)


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=300))
@pytest.mark.fault(
    "The catalog file holds any bytes",
    "Each row is a product or rejected with its reason, or one line refuses the file",
)
def test_any_bytes_are_cleaned_or_refused_in_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / "c.csv"
    path.write_bytes(b"uniq_id,product_name,product_category_tree\n" + content)
    try:
        found = cleaned(path)
    except CatalogError as error:
        assert str(path) in str(error)
        return
    assert found.summary.rows_in == found.products.height + found.rejected.height


@pytest.mark.fault(
    "The catalog file is empty",
    "One line says so; products stay as they were",
)
def test_a_failed_run_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("uniq_id,product_name,product_category_tree\n1,A,B\n")
    clean_catalog(str(tmp_path / "c.csv"), tmp_path / "out")
    before = (tmp_path / "out" / "products.parquet").read_bytes()
    (tmp_path / "bad.csv").write_text("uniq_id,product_name,product_category_tree\n")
    with pytest.raises(CatalogError, match="no data rows"):
        clean_catalog(str(tmp_path / "bad.csv"), tmp_path / "out")
    assert (tmp_path / "out" / "products.parquet").read_bytes() == before
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.mark.fault(
    "The disk is full while the catalog is cleaned",
    "One line says so, and no half table is left",
)
def test_a_full_disk_is_told_in_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    write_catalog(tmp_path / "c.csv", rows=2000, seed=1)
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from retail_assistant.catalog.clean import clean_catalog\n"
        "from retail_assistant.storage import StorageError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try:\n"
        "    clean_catalog(sys.argv[1], Path(sys.argv[2]))\n"
        "except StorageError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "c.csv"), str(tmp_path / "out")],
        check=True,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    written = tmp_path / "out" / "products.parquet"
    assert done.stdout.strip() == f"{written} cannot be written: File too large"
    assert list((tmp_path / "out").iterdir()) == []


def test_progress_goes_up_to_the_whole_file(tmp_path: Path) -> None:
    told: list[tuple[int, int, int]] = []
    (tmp_path / "c.csv").write_text("uniq_id,product_name,product_category_tree\n1,A,B\n2,C,D\n")
    clean_catalog(
        str(tmp_path / "c.csv"),
        tmp_path / "out",
        progress=lambda rows, read, size: told.append((rows, read, size)),
    )
    size = (tmp_path / "c.csv").stat().st_size
    assert told[-1] == (2, size, size)


def test_the_real_rows_are_all_accounted_for(real_catalog: Path) -> None:
    found = cleaned(real_catalog)
    assert (found.summary.rows_in, found.products.height, found.rejected.height) == (999, 999, 0)
    assert found.summary.unread == {}
    clothing = found.products.filter(department="Clothing")
    assert dict(clothing["category"].value_counts().iter_rows()) == {
        "Women's Clothing": 271,
        "Men's Clothing": 76,
        "Kids' Clothing": 68,
    }
    entries = found.products["attributes"].explode().struct.unnest()
    assert (entries["value"].count(), entries.drop_nulls("value")["name"].null_count()) == (
        11_991,
        715,
    )

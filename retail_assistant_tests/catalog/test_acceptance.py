"""Which catalogs are held back, and what accepting one remembers."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from retail_assistant.catalog.acceptance import (
    REFRESH_CHECKS,
    Acceptance,
    CleanedTables,
    first_verdict,
)
from retail_assistant.catalog.changes import RefreshPolicy
from retail_assistant.catalog.clean import SUMMARY, CleanSummary
from retail_assistant.catalog.schema import ProductSchema
from retail_assistant.storage import StorageError, TableRef, TableStore

SCHEMA = ProductSchema.create_empty().schema


@pytest.fixture
def store(tmp_path: Path) -> TableStore:
    return TableStore(tmp_path)


def row(number: int, **fields: Any) -> dict[str, Any]:
    content = {
        "name": f"Top {number}",
        "brand": "Zed",
        "description": "A top.",
        "description_keywords": ["top"],
        "categories": ["Clothing", "Women's Clothing", "Tops" if number % 4 else "Sarees"],
        "department": "Clothing",
        "category": "Women's Clothing",
        "subcategory": "Tops" if number % 4 else "Sarees",
        "attributes": [{"name": "Fabric", "value": "Cotton"}],
        "image_urls": [],
        "retail_price": 10.0,
        "discounted_price": None,
        **fields,
    }
    return {
        "product_id": f"id-{number}",
        **content,
        "source_row": number + 1,
        "content_hash": str(content),
    }


def stored(
    store: TableStore,
    rows: list[dict[str, Any]],
    rejected: int = 2,
    columns: tuple[str, ...] = ("sku", "title"),
) -> CleanedTables:
    """A cleaned catalog as cleaning leaves it, its summary beside the products."""
    summary = CleanSummary(
        rows_in=len(rows) + rejected,
        products=len(rows),
        rejected=rejected,
        reasons={"missing_id": rejected},
        unread={},
        columns=list(columns),
        version="0",
    )
    with store.staging("products") as folder:
        pl.DataFrame(rows, schema=SCHEMA).write_parquet(
            folder / "products.parquet", metadata={SUMMARY: summary.model_dump_json()}
        )
        products = store.adopt(folder / "products.parquet", "products")
    turned_away = pl.DataFrame({"source_row": range(rejected)})
    return CleanedTables(products, store.write(turned_away, "rejected_products"))


def at(store: TableStore, source: str = "gs://shop/catalog.csv") -> Acceptance:
    return Acceptance(store, source)


def failed(store: TableStore, new: CleanedTables, **thresholds: float) -> set[str]:
    accepted = at(store).accepted
    assert accepted is not None
    policy = RefreshPolicy(**thresholds)
    return {
        name for name, check in REFRESH_CHECKS.items() if not check(new, accepted, policy).passed
    }


@pytest.fixture
def accepted(store: TableStore, tmp_path: Path) -> list[dict[str, Any]]:
    rows = [row(number) for number in range(100)]
    assert at(store).accept(stored(store, rows), tmp_path / "changes.parquet") is None
    return rows


CHOPPED = {"enough_products_are_left", "most_products_are_as_before"}


@pytest.mark.parametrize(
    ("edit", "held_back_by"),
    [
        (lambda rows: rows, set()),
        (lambda rows: rows[:81], set()),
        (lambda rows: rows[:79], {"enough_products_are_left"}),
        (lambda rows: rows[:40], CHOPPED),
        (lambda rows: [], set(REFRESH_CHECKS)),
        (lambda rows: [one for one in rows if one["subcategory"] == "Tops"],
         {"no_category_vanished", "enough_products_are_left"}),
        (lambda rows: [row(n, brand=None) for n in range(100)],
         {"no_column_was_lost", "most_products_are_as_before"}),
        (lambda rows: [row(n, attributes=[]) for n in range(100)],
         {"no_column_was_lost", "most_products_are_as_before"}),
        (lambda rows: [row(n, retail_price=11.0) for n in range(51)] + rows[51:],
         {"most_products_are_as_before"}),
        (lambda rows: [row(n, retail_price=11.0) for n in range(50)] + rows[50:], set()),
        (lambda rows: [row(n) for n in range(100, 200)], {"most_products_are_as_before"}),
    ],
)  # fmt: skip
def test_a_catalog_is_held_back_for_what_is_wrong_with_it(store, accepted, edit, held_back_by):
    assert failed(store, stored(store, edit(accepted))) == held_back_by


def test_many_rejected_rows_hold_a_catalog_back_unless_that_was_accepted(store, accepted, tmp_path):
    many = stored(store, accepted, rejected=40)
    assert failed(store, many) == {"few_rows_are_rejected"}
    at(store).accept(many, tmp_path / "changes.parquet")
    assert failed(store, many) == set()
    assert failed(store, stored(store, accepted, rejected=60)) == {"few_rows_are_rejected"}


@pytest.mark.fault(
    "Every row of the catalog stands twice, or all rows have one id",
    "The first of each id is a product, the rest is rejected; the catalog is held back",
)
def test_a_first_catalog_is_held_back_for_its_rejected_rows_only(store):
    def held_back(rows, rejected, **thresholds):
        new = stored(store, [row(number) for number in range(rows)], rejected)
        policy = RefreshPolicy(**thresholds)
        return {name for name in REFRESH_CHECKS if not first_verdict(name, new, policy).passed}

    assert held_back(90, 10) == set()
    assert held_back(50, 50) == {"few_rows_are_rejected"}
    assert held_back(1, 99) == {"few_rows_are_rejected"}
    assert held_back(50, 50, max_rejected_share=0.5) == set()


def test_thresholds_are_the_retailers(store, accepted):
    half = stored(store, accepted[:50])
    assert failed(store, half) == {"enough_products_are_left"}
    assert failed(store, half, max_row_drop=0.5) == set()


@pytest.mark.parametrize("percent", [1, 15, 30, 50])
def test_a_drop_of_exactly_what_is_allowed_passes(percent):
    before, after = (
        CleanedTables(*[TableRef(path=Path("none"), sha256="", rows=rows)] * 2)
        for rows in (100, 100 - percent)
    )
    check = REFRESH_CHECKS["enough_products_are_left"]
    assert check(after, before, RefreshPolicy(max_row_drop=percent / 100)).passed
    assert not check(after, before, RefreshPolicy(max_row_drop=(percent - 1) / 100)).passed


def test_columns_that_the_file_lost_or_gained_are_named(store, accepted):
    mine = at(store).accepted
    assert mine is not None
    renamed = stored(store, accepted, columns=("sku", "name", "colour"))
    verdict = REFRESH_CHECKS["no_column_was_lost"](renamed, mine, RefreshPolicy())
    assert verdict.facts["columns_gone_from_the_file"] == "title"
    assert verdict.facts["columns_new_in_the_file"] == "colour, name"


@pytest.mark.fault(
    "The catalog loses more than half of its products",
    "It is held back, also with a few rows more, until a person accepts it",
)
def test_a_bad_catalog_and_one_more_row_is_still_bad(store, accepted):
    for count in (40, 41, 42):
        assert failed(store, stored(store, accepted[:count])) == CHOPPED


def test_accepting_tells_the_changes_and_tells_them_again(store, accepted, tmp_path):
    output = tmp_path / "changes.parquet"
    changed = [row(0, brand="Quill"), *accepted[2:], row(200)]
    told = []
    # The second time the same products come in another order, in another file.
    for rows in (changed, list(reversed(changed)), changed):
        counts = at(store).accept(stored(store, rows), output)
        assert (counts.added, counts.removed, counts.changed) == (1, 1, 1)
        told.append(pl.read_parquet(output).drop("source_row").to_dicts())
    assert told[0] == told[1] == told[2]
    assert [one["product_id"] for one in told[0]] == ["id-0", "id-1", "id-200"]
    assert [one["changed_columns"] for one in told[0]] == [["brand"], [], []]


def test_a_first_catalog_lists_nothing_however_often_it_is_accepted(store, accepted, tmp_path):
    output = tmp_path / "changes.parquet"
    assert at(store).accept(stored(store, accepted), output) is None
    assert pl.read_parquet(output).is_empty()


@pytest.mark.fault(
    "The pointer to the accepted catalog is damaged",
    "It does not pass for a first catalog; one line names it",
)
def test_a_damaged_pointer_is_no_first_catalog(store, accepted):
    (pointer,) = store.folder("products").glob("accepted-*.json")
    pointer.write_text("{")
    with pytest.raises(StorageError, match="damaged"):
        _ = at(store).accepted


def test_another_source_is_another_catalog(store, accepted, tmp_path):
    other = at(store, "gs://shop/other.csv")
    assert other.accepted is None
    assert other.accept(stored(store, [row(500)]), tmp_path / "changes.parquet") is None
    mine = at(store).accepted
    assert mine is not None
    assert mine.products.rows == len(accepted)


def test_a_path_is_the_same_source_however_it_is_written(store, tmp_path, monkeypatch):
    new = stored(store, [row(1)])
    at(store, str(tmp_path / "shop" / ".." / "catalog.csv")).accept(new, tmp_path / "c.parquet")
    monkeypatch.chdir(tmp_path)
    assert at(store, "catalog.csv").accepted == new

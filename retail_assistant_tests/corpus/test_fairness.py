"""The fairness table counts by group and marks what is far from the whole."""

import polars as pl

from retail_assistant.corpus.fairness import DIMENSIONS, UNSTATED, fairness_table


def _dialogues(ids: list[str], intent: str = "attribute") -> pl.DataFrame:
    schema = {"product_id": pl.String, "intent": pl.String}
    return pl.DataFrame({"product_id": ids, "intent": [intent] * len(ids)}, schema=schema)


def _rows(table: pl.DataFrame, dimension: str) -> dict[str, dict[str, object]]:
    rows = table.filter(pl.col("dimension") == dimension).iter_rows(named=True)
    return {row["group"]: row for row in rows}


def _catalog(product, products_frame) -> pl.DataFrame:
    women = [product(n, "Zed Women's Top", brand="Zed") for n in range(40)]
    men = [product(n, "Bolt Men's Shirt", category="Men's Clothing") for n in range(40, 80)]
    return products_frame([*women, *men])


def test_groups_are_counted(product, products_frame):
    catalog = _catalog(product, products_frame)
    ids = catalog["product_id"].to_list()
    screened = pl.concat(
        [_dialogues(ids[:30]), _dialogues(ids[:10], "unanswerable"), _dialogues(ids[40:50])]
    )
    table = fairness_table(catalog, screened, _dialogues(ids[:4]))
    assert table["dimension"].unique(maintain_order=True).to_list() == list(DIMENSIONS)
    women = _rows(table, "audience")["women"]
    assert {key: women[key] for key in ("products", "asked_about", "coverage")} == {
        "products": 40, "asked_about": 30, "coverage": 0.75,
    }  # fmt: skip
    assert (women["dialogues"], women["declined"], women["declined_share"]) == (40, 10, 0.25)
    assert (women["generated"], women["rejected"]) == (44, 4)
    assert women["rejected_share"] == 4 / 44
    assert _rows(table, "department")["Clothing"]["products"] == 80
    assert set(_rows(table, "brand")) == {"Zed", "Bolt"}


def test_groups_far_from_the_whole_are_marked(product, products_frame):
    catalog = _catalog(product, products_frame)
    ids = catalog["product_id"].to_list()
    declined = _dialogues(ids[40:60], "unanswerable")
    screened = pl.concat([_dialogues(ids[:40]), declined])
    table = fairness_table(catalog, screened, _dialogues([]))
    by_category = _rows(table, "category")
    assert by_category["Men's Clothing"]["far_from_whole"] == ["coverage", "declined_share"]
    assert "declined_share" in by_category["Women's Clothing"]["far_from_whole"]
    assert _rows(table, "department")["Clothing"]["far_from_whole"] == []


def test_small_groups_are_not_judged(product, products_frame):
    few = [product(n, "Zed Women's Top") for n in range(90)]
    one = product(99, "Solo Girl's Frock", brand=None)
    catalog = products_frame([*few, one])
    screened = _dialogues([row["product_id"] for row in few])
    brands = _rows(fairness_table(catalog, screened, _dialogues([])), "brand")
    assert brands[UNSTATED]["coverage"] == 0
    assert brands[UNSTATED]["far_from_whole"] == []


def test_a_product_for_two_audiences_counts_for_both(product, products_frame):
    both = product(1, "Zed Kids' Shorts", category="Kids' Clothing", subcategory=None)
    audiences = _rows(
        fairness_table(products_frame([both]), _dialogues([]), _dialogues([])), "audience"
    )
    assert set(audiences) == {"girl", "boy"}
    assert audiences["girl"]["declined_share"] is None


def test_invented_products_count_nowhere(embedded_assortment, embedded_dialogues):
    rejected = embedded_dialogues.head(0)
    table = fairness_table(embedded_assortment, embedded_dialogues, rejected)
    departments = table.filter(pl.col("dimension") == "department")
    about_products = embedded_dialogues["product_id"].count()
    assert about_products < embedded_dialogues.height
    assert departments["dialogues"].sum() == about_products
    assert departments["products"].sum() == embedded_assortment.height

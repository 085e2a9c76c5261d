"""Splits keep near duplicates together and stay put when the catalog changes elsewhere."""

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from retail_assistant.corpus.splits import APART, SPLIT_SCHEMA, sample_products, split_products
from retail_assistant_tests.catalogs import cleaned


def _some_products(product, count, subcategories=("Tops",)):
    return [
        product(
            number,
            f"Brand{number} Item{number}",
            [("Fabric", f"Weave {number}")],
            subcategory=subcategories[number % len(subcategories)],
        )
        for number in range(1, count + 1)
    ]


def test_a_cluster_of_the_whole_catalog_is_on_one_side(product, products_frame):
    products = products_frame(_some_products(product, 200))
    ids = products["product_id"].to_list()
    # The cluster is named by a product that is not in the assortment.
    duplicates = pl.DataFrame({"product_id": [*ids[:100], "0"], "cluster_id": ["0"] * 101})
    splits = split_products(products, duplicates, seed=0)
    together = splits.filter(pl.col("product_id").is_in(ids[:100]))
    assert together["cluster_id"].unique().to_list() == ["0"]
    assert together["split"].n_unique() == 1
    alone = splits.filter(pl.col("product_id").is_in(ids[100:]))
    assert alone["cluster_id"].to_list() == alone["product_id"].to_list() == ids[100:]
    assert splits["product_id"].to_list() == ids
    assert_frame_equal(split_products(products, duplicates.lazy(), seed=0), splits)


def test_an_empty_assortment_has_no_splits(products_frame):
    assert split_products(products_frame([]), seed=0).schema == SPLIT_SCHEMA


def test_clusters_stay_whole_and_every_product_has_a_side(embedded_assortment, embedded_splits):
    assert embedded_splits["product_id"].sort().equals(embedded_assortment["product_id"].sort())
    sides = embedded_splits.group_by("cluster_id").agg(pl.col("split").n_unique())
    assert sides["split"].max() == 1
    names = embedded_assortment.join(embedded_splits, on="product_id").group_by("name")
    assert names.agg(pl.col("split").n_unique())["split"].max() == 1


def test_sides_depend_on_the_seed_and_are_shared_out_as_asked(product, products_frame):
    products = products_frame(_some_products(product, 600))
    first, second = split_products(products, seed=1), split_products(products, seed=2)
    assert not first.equals(second)
    counts = dict(first["split"].value_counts().iter_rows())
    assert 440 < counts["train"] < 520
    assert 35 < counts["test"] < 90


def test_a_product_keeps_its_side_when_others_come_or_go(embedded_assortment, embedded_splits):
    fewer = split_products(embedded_assortment.sample(fraction=0.7, seed=3), seed=0)
    single = embedded_splits.group_by("cluster_id").len().filter(len=1)
    both = fewer.join(embedded_splits, on="product_id").join(single, on="cluster_id")
    assert both.height > 100
    assert both["split"].equals(both["split_right"])


def _sides(splits):
    return dict(splits.select("product_id", "split").iter_rows())


def _two_sides(product, products_frame):
    """Two products on different sides (of 20), and what would be a near duplicate of both."""
    rows = _some_products(product, 20)
    products = products_frame(rows)
    splits = split_products(products, seed=0, shares=(0.5, 0, 0.5))
    sides = _sides(splits)
    train = next(row for row in rows if sides[row["product_id"]] == "train")
    test = next(row for row in rows if sides[row["product_id"]] == "test")
    return rows, splits, train, test


def test_a_product_keeps_its_side_when_its_cluster_gets_another_name(product, products_frame):
    rows, splits, train, test = _two_sides(product, products_frame)
    for one in (train, test):
        # Its id is smaller than every other: it names the cluster from now on.
        newcomer = {**one, "product_id": "0" * 32, "content_hash": "new"}
        grown = products_frame([*rows, newcomer])
        after = split_products(grown, seed=0, shares=(0.5, 0, 0.5), previous=splits)
        assert _sides(after) == {**_sides(splits), "0" * 32: _sides(splits)[one["product_id"]]}
        assert after.filter(product_id=one["product_id"])["cluster_id"].item() == "0" * 32


def test_a_product_that_joins_two_sides_is_on_none_and_moves_nobody(product, products_frame):
    rows, splits, train, test = _two_sides(product, products_frame)
    bridge = product(99, "Bridge")
    ids = [train["product_id"], test["product_id"], bridge["product_id"]]
    together = pl.DataFrame({"product_id": ids, "cluster_id": [min(ids)] * 3})
    grown = products_frame([*rows, bridge])
    after = split_products(grown, together, seed=0, previous=splits)
    assert _sides(after) == {**_sides(splits), bridge["product_id"]: APART}
    assert after.group_by("cluster_id").agg(pl.col("split").n_unique())["split"].max() == 1
    # Once the bridge is gone or is no duplicate any more, there is nothing to hold apart.
    again = split_products(grown, together.head(0), seed=0, previous=after)
    assert _sides(again)[bridge["product_id"]] != APART
    assert _sides(split_products(products_frame(rows), seed=0, previous=after)) == _sides(splits)


def test_a_product_edited_into_a_duplicate_of_another_side_is_held_apart(product, products_frame):
    rows, splits, train, test = _two_sides(product, products_frame)
    copied = {**train, "product_id": test["product_id"], "content_hash": "edited"}
    others = [row for row in rows if row is not test]
    after = split_products(products_frame([*others, copied]), seed=0, previous=splits)
    assert _sides(after) == {**_sides(splits), test["product_id"]: APART}


def test_earlier_splits_of_another_seed_count_for_nothing(product, products_frame):
    products = products_frame(_some_products(product, 100))
    first = split_products(products, seed=1)
    second = split_products(products, seed=2)
    assert_frame_equal(split_products(products, seed=2, previous=first), second)


def test_real_rows_have_no_product_and_no_cluster_on_two_sides(real_catalog):
    """All clothing of the real rows; then the catalog loses and regains a third of itself."""
    catalog = cleaned(real_catalog).products
    splits = split_products(catalog, seed=7)
    assert splits["product_id"].is_unique().all()
    assert splits.height == catalog.height
    fewer = split_products(catalog.sample(fraction=0.66, seed=1), seed=7, previous=splits)
    regained = split_products(catalog, seed=7, previous=fewer)
    for one in (splits, fewer, regained):
        sides = one.group_by("cluster_id").agg(pl.col("split").n_unique())
        assert sides["split"].max() == 1
        assert splits.select("product_id", "cluster_id").height > sides.height
    assert _sides(regained).items() >= _sides(fewer).items()
    names = catalog.join(splits, on="product_id").group_by("name").agg(pl.col("split").n_unique())
    assert names["split"].max() == 1


def test_row_order_does_not_matter(embedded_assortment, embedded_splits):
    shuffled = embedded_assortment.sample(fraction=1, shuffle=True, seed=5)
    assert_frame_equal(split_products(shuffled, seed=0), embedded_splits)


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.9, 0.2, -0.1), (0.5, 0.2, 0.2)])
def test_wrong_shares_are_refused(product, products_frame, shares):
    with pytest.raises(ValueError, match="must be three non-negative numbers"):
        split_products(products_frame([product(1, "Zed")]), seed=0, shares=shares)


def test_a_sample_has_the_numbers_asked_for(embedded_assortment, embedded_splits):
    sample = sample_products(embedded_assortment, embedded_splits, train=50, evaluation=30, seed=0)
    assert sample.columns == embedded_assortment.columns
    counts = dict(sample.join(embedded_splits, on="product_id")["split"].value_counts().iter_rows())
    assert counts == {"train": 50, "validation": 5, "test": 30}
    assert sample["product_id"].is_sorted()


def test_a_sample_of_all_is_all(embedded_assortment, embedded_splits):
    sample = sample_products(
        embedded_assortment, embedded_splits, train=None, evaluation=None, seed=0
    )
    assert_frame_equal(sample, embedded_assortment.sort("product_id"))


def test_a_sample_takes_what_is_there_and_refuses_negative_counts(
    embedded_assortment, embedded_splits
):
    sample = sample_products(
        embedded_assortment, embedded_splits, train=0, evaluation=10_000, seed=0
    )
    counts = dict(sample.join(embedded_splits, on="product_id")["split"].value_counts().iter_rows())
    tests = embedded_splits.filter(split="test").height
    assert counts == {"validation": 4, "test": tests}
    with pytest.raises(ValueError, match="train=-1"):
        sample_products(embedded_assortment, embedded_splits, train=-1, evaluation=1, seed=0)


def test_a_sample_is_stratified_by_subcategory(product, products_frame):
    products = products_frame(_some_products(product, 400, ("Tops", "Tops", "Tops", "Dresses")))
    splits = split_products(products, seed=0, shares=(1, 0, 0))
    sample = sample_products(products, splits, train=40, evaluation=0, seed=0)
    counts = dict(sample["subcategory"].value_counts().iter_rows())
    assert counts == {"Tops": 30, "Dresses": 10}


def test_a_sample_prefers_different_products_over_duplicates(product, products_frame):
    rows = [product(n, f"Same {n % 5}", [("Fabric", f"Weave {n}")]) for n in range(50)]
    products = products_frame(rows)
    splits = split_products(products, seed=0, shares=(1, 0, 0))
    few = sample_products(products, splits, train=5, evaluation=0, seed=0)
    assert few["name"].n_unique() == 5
    assert sample_products(products, splits, train=20, evaluation=0, seed=0).height == 20

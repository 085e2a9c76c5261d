"""A small edit of the catalog leaves nearly all dialogues as they were."""

import polars as pl
import pytest

from retail_assistant.corpus.reuse import dialogue_reuse
from retail_assistant.corpus.splits import sample_products, split_products
from retail_assistant_tests.corpora import template_dialogues


def generated(assortment: pl.DataFrame, count: int | None) -> pl.DataFrame:
    splits = split_products(assortment, seed=0)
    sample = sample_products(assortment, splits, train=count, evaluation=count, seed=0)
    return template_dialogues(sample, splits, assortment, seed=0)


def edited(assortment: pl.DataFrame, every: int) -> pl.DataFrame:
    """The assortment with another fabric in one of so many products."""
    fabric = pl.element().struct.with_fields(
        pl.when(pl.field("name") == "Fabric").then(pl.lit("Hemp")).otherwise(pl.field("value"))
        .alias("value")
    )  # fmt: skip
    is_edited = pl.col("product_id").rank("ordinal") % every == 0
    attributes = pl.when(is_edited).then(pl.col("attributes").list.eval(fabric))
    return assortment.with_columns(attributes.otherwise(pl.col("attributes")).alias("attributes"))


@pytest.mark.parametrize("count", [50, None])
def test_a_one_percent_edit_leaves_most_dialogues(embedded_assortment, count):
    before = generated(embedded_assortment, count)
    changed = edited(embedded_assortment, every=100)
    assert not changed.equals(embedded_assortment)
    after = generated(changed, count)
    reuse = dialogue_reuse(before, after)
    assert reuse.reused + reuse.new == after.height
    assert before.height - reuse.gone == reuse.reused
    assert reuse.reused >= 0.95 * after.height


def test_the_same_catalog_leaves_all_and_a_first_one_none(embedded_dialogues):
    same = dialogue_reuse(embedded_dialogues.reverse(), embedded_dialogues)
    assert same.model_dump() == {
        "reused": embedded_dialogues.height,
        "new": 0,
        "gone": 0,
        "products": 0,
    }
    first = dialogue_reuse(None, embedded_dialogues)
    assert (first.reused, first.new, first.gone) == (0, embedded_dialogues.height, 0)
    assert first.products == embedded_dialogues["product_id"].drop_nulls().n_unique()


def test_a_dialogue_on_another_side_is_not_the_same(embedded_dialogues):
    moved = embedded_dialogues.with_columns(
        subset=pl.when(pl.col("subset") == "recall").then(pl.lit("train")).otherwise("subset")
    )
    count = embedded_dialogues.filter(subset="recall").height
    reuse = dialogue_reuse(embedded_dialogues, moved)
    assert (reuse.new, reuse.gone) == (count, count)

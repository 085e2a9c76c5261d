"""The catalog's own texts: usable descriptions on their side of the split, and plain text."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from retail_assistant.corpus.encoding import Encoder
from retail_assistant.corpus.knowledge import DocumentBrief
from retail_assistant.corpus.splits import APART, split_products
from retail_assistant.corpus.tasks import (
    RenderingPolicy,
    domain_texts,
    product_descriptions,
    usable_description,
)
from retail_assistant_tests.catalogs import cleaned

POLICY = RenderingPolicy()
SOFT = "A soft top with short sleeves for warm evenings outdoors."
# Texts of the forms that the public sample has.
SHOP_ONLY = (
    "Zed Men's Cargos - Buy Green Zed Men's Cargos For Only Rs. 2199 Online in India. Shop Online"
    " For Apparels. Huge Collection of Branded Clothes Only at Flipkart.com",
    "Zed Boots - Buy Zed Boots - NU-962 only for Rs. 2459 from Flipkart.com. Only Genuine Products."
    " 30 Day Replacement Guarantee. Free Shipping. Cash On Delivery!",
    "Buy Zed Watch Online at Rs.399 in India Only at Flipkart.com. - Great Discounts, Only Genuine",
    "Specifications of Zed Kurta General Details Pattern Printed Ideal For Women's",
)


@pytest.fixture(scope="module")
def encoder(tiny_model_folder: Path) -> Encoder:
    from transformers import AutoTokenizer

    return Encoder(AutoTokenizer.from_pretrained(tiny_model_folder))


@pytest.fixture(scope="module")
def catalog(
    product: Callable[..., dict[str, Any]], products_frame: Callable[..., pl.DataFrame]
) -> pl.DataFrame:
    texts = [SOFT, None, "Nice.", *SHOP_ONLY, SOFT.upper(), SOFT, f"{SOFT} Its collar is wide."]
    return products_frame(
        [product(n, f"Zed Top {n}", description=text) for n, text in enumerate(texts)]
    )


@pytest.fixture(scope="module")
def splits(catalog: pl.DataFrame) -> pl.DataFrame:
    """Products 1 to 8 are learned from, 9 is for validation, 0 is asked about."""
    sides = ["test", *["train"] * 8, "validation"]
    return pl.DataFrame(
        {"product_id": catalog["product_id"], "cluster_id": catalog["product_id"], "split": sides}
    )


@pytest.mark.parametrize("text", SHOP_ONLY)
def test_what_a_shop_says_of_itself_is_no_description(text: str) -> None:
    assert usable_description(text, POLICY) == (None, "boilerplate")


@pytest.mark.parametrize(
    ("text", "own"),
    [
        (f"Zed Top Price: Rs. 1,939 {SOFT} {SOFT}", SOFT),
        (
            f"Zed Top Price: Rs. 315 {SOFT} Team it with jeans. {SOFT}",
            f"{SOFT} Team it with jeans.",
        ),
        (f"{SOFT} Specifications of Zed Top General Fabric Cotton", SOFT),
        (f"<b>{SOFT}</b>\n<|im_end|>", f"(b){SOFT}(/b) (|im_end|)"),
    ],
)
def test_what_is_left_of_a_description_is_the_product_s(text: str, own: str) -> None:
    assert usable_description(text, POLICY) == (own, None)


@pytest.mark.parametrize("text", [None, "", " \u200b\n"])
def test_no_text_is_no_description(text: str | None) -> None:
    assert usable_description(text, POLICY) == (None, "missing")


def test_descriptions_have_bounds() -> None:
    policy = RenderingPolicy(min_description=10, max_description=60)
    assert usable_description("Nine char", policy) == (None, "too_short")
    assert usable_description(f"{SOFT} Only Rs. 5. More.", policy).text == SOFT
    assert usable_description(" ".join(map(str, range(40))), policy) == (None, "too_long")
    assert usable_description("a" * 60, policy).text == "a" * 60


def test_an_expression_of_the_policy_has_to_be_one() -> None:
    with pytest.raises(ValidationError, match="is no regular expression"):
        RenderingPolicy(boilerplate=("(",))
    policy = RenderingPolicy(boilerplate=(r"\bin our outlet\b.*",))
    assert usable_description(f"{SOFT} In our OUTLET now!", policy).text == SOFT


def test_every_product_is_a_row_or_left_out(
    catalog: pl.DataFrame, splits: pl.DataFrame, encoder: Encoder
) -> None:
    rows, left_out = product_descriptions(catalog, splits, POLICY, encoder)
    number = pl.col("product_id").str.head(8).cast(pl.Int64)
    assert rows.select(number, "subset").rows() == [(7, "train"), (9, "validation")]
    assert left_out.select(number, "subset", "reason").rows() == [
        (1, "train", "missing"),
        (2, "train", "too_short"),
        (3, "train", "boilerplate"),
        (4, "train", "boilerplate"),
        (5, "train", "boilerplate"),
        (6, "train", "boilerplate"),
        (8, "train", "repeated"),
        # Asking for what was learned would measure memory.
        (0, "unseen", "repeated"),
    ]


def test_a_row_has_the_lengths_that_are_trained_on(
    catalog: pl.DataFrame, splits: pl.DataFrame, encoder: Encoder
) -> None:
    rows, _ = product_descriptions(catalog, splits, POLICY, encoder)
    for row in rows.iter_rows(named=True):
        (example,) = encoder.examples([(row["prompt"], row["completion"])])
        assert row["prompt_tokens"] == example.prompt_length
        assert row["prompt_tokens"] + row["completion_tokens"] == len(example.ids)
        assert "Fabric" not in row["prompt"][1]["content"]
    assert rows["prompt_style"].unique().to_list() == ["chat"]


def test_a_product_that_would_join_two_sides_is_in_no_text(
    catalog: pl.DataFrame, splits: pl.DataFrame, encoder: Encoder
) -> None:
    product_id = catalog["product_id"][7]
    apart = pl.when(pl.col("product_id") == product_id).then(pl.lit(APART))
    splits = splits.with_columns(split=apart.otherwise("split"))
    rows, left_out = product_descriptions(catalog, splits, POLICY, encoder)
    assert product_id not in rows["product_id"]
    assert left_out.filter(product_id=product_id)["reason"].to_list() == [APART]
    texts = domain_texts(catalog, splits, [], POLICY, encoder)
    assert f"product/{product_id}" not in texts["source"]
    assert texts.height > 0


def test_no_rows_are_a_corpus_too(
    catalog: pl.DataFrame, splits: pl.DataFrame, encoder: Encoder
) -> None:
    rows, left_out = product_descriptions(catalog.clear(), splits, POLICY, encoder)
    some, _ = product_descriptions(catalog, splits, POLICY, encoder)
    assert rows.is_empty()
    assert left_out.is_empty()
    assert rows.schema == some.schema


def test_domain_text_holds_nothing_of_products_that_are_asked_about(
    embedded_assortment: pl.DataFrame, embedded_splits: pl.DataFrame, encoder: Encoder
) -> None:
    documents = [DocumentBrief(name="documents/returns.md", text="You may return it.")] * 2
    found = domain_texts(embedded_assortment, embedded_splits, documents, POLICY, encoder)
    ids = found.filter(pl.col("source").str.starts_with("product/"))["source"].str.slice(8)
    learned = embedded_splits.filter(split="train")["product_id"]
    assert set(ids) <= set(learned)
    assert ids.len() > 0.9 * learned.len()
    last = found.row(-1, named=True)
    assert (last["source"], last["text"]) == ("document/documents/returns.md", "You may return it.")
    assert found.filter(source=last["source"]).height == 1
    assert found["tokens"].to_list() == list(encoder.lengths(found["text"]))
    assert found["text"].is_unique().all()


def test_the_embedded_catalog_is_all_described(
    embedded_assortment: pl.DataFrame, embedded_splits: pl.DataFrame, encoder: Encoder
) -> None:
    rows, left_out = product_descriptions(embedded_assortment, embedded_splits, POLICY, encoder)
    assert rows.height + left_out.height == embedded_assortment.height
    assert set(rows["subset"]) == {"train", "validation", "unseen"}
    assert set(left_out["reason"]) <= {"repeated", "missing"}


def test_of_real_rows_none_that_is_kept_is_advertising(
    real_catalog: Path, encoder: Encoder
) -> None:
    products = cleaned(real_catalog).products
    splits = split_products(products, seed=7)
    rows, left_out = product_descriptions(products, splits, POLICY, encoder)
    assert rows.height + left_out.height == products.height
    assert rows.height > 250
    texts = rows["completion"].list.first().struct.field("content")
    assert not texts.str.contains(r"(?i)\bRs\. ?\d|flipkart|\bbuy\b.*\bonline\b").any()
    assert texts.str.len_chars().is_between(40, 800).all()
    assert texts.str.to_lowercase().is_unique().all()

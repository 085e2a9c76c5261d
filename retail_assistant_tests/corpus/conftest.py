"""Assortments for the corpus tests: a small one made by hand, and the embedded one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl
import pytest

from retail_assistant.catalog.index import CatalogIndex
from retail_assistant.catalog.index_writer import build_index
from retail_assistant.catalog.schema import ProductSchema
from retail_assistant.corpus.splits import split_products
from retail_assistant_tests.catalogs import assortment_of
from retail_assistant_tests.corpora import template_dialogues

MakeProduct = Callable[..., dict[str, Any]]
MakeFrame = Callable[[Sequence[Mapping[str, Any]]], pl.DataFrame]


def _product(
    number: int,
    name: str,
    attributes: Sequence[tuple[str | None, str]] = (),
    category: str | None = "Women's Clothing",
    subcategory: str | None = "Western Wear",
    **fields: Any,
) -> dict[str, Any]:
    """A row of the products frame; its id starts with the number in eight digits."""
    return {
        "product_id": f"{number:08x}{'0' * 24}",
        "name": name,
        "brand": name.split()[0],
        "description": None,
        "description_keywords": [],
        "categories": [level for level in ("Clothing", category, subcategory) if level],
        "department": "Clothing",
        "category": category,
        "subcategory": subcategory,
        "attributes": [{"name": key, "value": value} for key, value in attributes],
        "image_urls": [],
        "retail_price": 999.0,
        "discounted_price": 499.0,
        "source_row": number,
        "content_hash": f"{number:x}",
        **fields,
    }


@pytest.fixture(scope="session")
def product() -> MakeProduct:
    return _product


@pytest.fixture(scope="session")
def products_frame() -> MakeFrame:
    def make(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
        return pl.DataFrame(list(rows), schema=ProductSchema.create_empty().schema)

    return make


@pytest.fixture(scope="session")
def small_catalog(product: MakeProduct, products_frame: MakeFrame) -> pl.DataFrame:
    rows = [
        product(
            1,
            "Zed Printed Women's Top",
            [("Fabric", "Rayon"), ("Neck", "Boat Neck"), ("Ideal For", "Womens")],
        ),
        product(2, "Zed Printed Women's Top", [("Fabric", "Linen"), ("Fabric", "Silk")]),
        product(3, "Quill Women's Tunic", [("Fabric", "Rayon"), (None, "Hand wash only")]),
        product(4, "Marla Maxi Dress", [("Fabric", "Cotton Lycra"), ("Occasion", "Party")]),
        product(5, "Anvi Women's Palazzo", [("Occasion", "Party")], subcategory="Ethnic Wear"),
        product(6, "Oro Women's Dupatta", [("Occasion", "Festive")], subcategory="Ethnic Wear"),
        product(7, "Bolt Men's Shirt", [("Fabric", "Denim")], "Men's Clothing", "Shirts"),
    ]
    return products_frame(rows)


@pytest.fixture(scope="session")
def small_index(
    small_catalog: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> CatalogIndex:
    """A real search index of the small catalog."""
    folder = tmp_path_factory.mktemp("small-catalog") / "index"
    build_index(small_catalog, folder)
    return CatalogIndex.open(folder)


@pytest.fixture(scope="session")
def embedded_assortment() -> pl.DataFrame:
    return assortment_of()


@pytest.fixture(scope="session")
def embedded_splits(embedded_assortment: pl.DataFrame) -> pl.DataFrame:
    return split_products(embedded_assortment, seed=0)


@pytest.fixture(scope="session")
def embedded_dialogues(
    embedded_assortment: pl.DataFrame, embedded_splits: pl.DataFrame
) -> pl.DataFrame:
    """Dialogues about every product of the embedded assortment."""
    return template_dialogues(
        embedded_assortment, embedded_splits, embedded_assortment, seed=0, phrasings_per_fact=2
    )

"""Products that conversations are about, and how to find them by the frame alone."""

from typing import Any

import polars as pl

from retail_assistant.catalog.index import CatalogIndex
from retail_assistant.corpus.retrieval import retrieve
from retail_assistant.serving.understanding.conversation import Plan

SHIRT = "Grinook Formal Women's Shirt"
JOGGERS = "Solwick Checkered Kids' Joggers"
SHARED = "Pelvessa Floral Print Men's Polo"


def value(row: dict[str, Any], attribute: str) -> str | None:
    return next((one["value"] for one in row["attributes"] if one["name"] == attribute), None)


def having(products: pl.DataFrame, **values: str) -> pl.DataFrame:
    """The products whose attributes have these values, by the frame alone."""
    for name, wanted in values.items():
        entry = pl.element().struct
        is_it = (entry.field("name") == name.replace("_", " ")) & (entry.field("value") == wanted)
        products = products.filter(pl.col("attributes").list.eval(is_it).list.any())
    return products


def ids(plan: Plan) -> list[str]:
    return [row["product_id"] for row in plan.products]


def id_of(products: pl.DataFrame, name: str) -> str:
    return str(products.filter(name=name)["product_id"].item())


def reworded(plan: Plan, index: CatalogIndex) -> bool:
    """Whether a plan's records are just what retrieval gives for its question."""
    found = retrieve([plan.question], index)[0]
    return (plan.records, plan.named) == (found.records, found.named)

"""What a catalog row looks like before and after cleaning: the one place for column names."""

from typing import Literal, get_args

import dataframely as dy
import polars as pl

FLIPKART_COLUMNS: tuple[str, ...] = (
    "uniq_id",
    "crawl_timestamp",
    "product_url",
    "product_name",
    "product_category_tree",
    "pid",
    "retail_price",
    "discounted_price",
    "image",
    "is_FK_Advantage_product",
    "description",
    "product_rating",
    "overall_rating",
    "brand",
    "product_specifications",
)
"""The 15 columns of the public Flipkart product sample, in file order."""

RAW_COLUMNS: tuple[str, ...] = (
    "product_id",
    "name",
    "brand",
    "description",
    "category_tree",
    "specifications",
    "images",
    "retail_price",
    "discounted_price",
)
"""The text columns that cleaning reads, whatever the file calls them (see mapping.py)."""

SOURCE_ROW = "source_row"
"""1-based number of the data row in the source file (the header is not counted)."""

ATTRIBUTE = pl.Struct({"name": pl.String, "value": pl.String})
"""One specification entry; ``name`` is null for an entry that came with a value only."""

PRODUCT_ID_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
"""Ids become parts of paths, URLs and partition keys, so nothing else is let through."""

MAX_NAME_CHARACTERS = 500

RejectionReason = Literal[
    "broken_quoting",
    "too_many_fields",
    "record_too_long",
    "invalid_encoding",
    "invalid_specifications",
    "missing_id",
    "invalid_id",
    "missing_name",
    "missing_category",
    "duplicate_id",
    "invalid_name",
    "invalid_brand",
    "invalid_description",
    "invalid_description_keywords",
    "invalid_categories",
    "invalid_department",
    "invalid_category",
    "invalid_subcategory",
    "invalid_attributes",
    "invalid_image_urls",
    "invalid_retail_price",
    "invalid_discounted_price",
    "invalid_source_row",
    "invalid_content_hash",
]
"""Why a row is no product; other ``invalid_<column>``: ``ProductSchema`` refused the value."""

REJECTION_REASONS: tuple[str, ...] = get_args(RejectionReason)


def absent(name: str, kind: pl.DataType) -> pl.Expr:
    """True where the column ``name`` says nothing: it is null, or an empty list. Never null."""
    is_null = pl.col(name).is_null()
    return is_null | (pl.col(name).list.len() == 0) if isinstance(kind, pl.List) else is_null


class ProductSchema(dy.Schema):
    """One clean row per product. Keys are ids, never names: names are shared."""

    product_id = dy.String(primary_key=True, regex=PRODUCT_ID_PATTERN)
    name = dy.String(nullable=False, min_length=1, max_length=MAX_NAME_CHARACTERS)
    brand = dy.String(nullable=True, min_length=1)
    description = dy.String(nullable=True, min_length=1)
    description_keywords = dy.List(dy.String(nullable=False, min_length=1), nullable=False)
    categories = dy.List(dy.String(nullable=False, min_length=1), nullable=False, min_length=1)
    department = dy.String(nullable=False, min_length=1)
    category = dy.String(nullable=True, min_length=1)
    subcategory = dy.String(nullable=True, min_length=1)
    attributes = dy.List(
        dy.Struct(
            {
                "name": dy.String(nullable=True, min_length=1),
                "value": dy.String(nullable=False, min_length=1),
            },
            nullable=False,
        ),
        nullable=False,
    )
    image_urls = dy.List(dy.String(nullable=False, min_length=1), nullable=False)
    retail_price = dy.Float64(nullable=True, min_exclusive=0.0)
    discounted_price = dy.Float64(nullable=True, min_exclusive=0.0)
    source_row = dy.UInt32(nullable=False, min=1)
    content_hash = dy.String(nullable=False, regex=r"^[0-9a-f]{32}$")


class RejectedSchema(dy.Schema):
    """One row per catalog row that did not become a product."""

    source_row = dy.UInt32(primary_key=True, min=1)
    product_id = dy.String(nullable=True)
    reason = dy.String(nullable=False, check=lambda reason: reason.is_in(REJECTION_REASONS))
    detail = dy.String(nullable=False)
    raw = dy.String(nullable=False)

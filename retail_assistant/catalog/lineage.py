"""Which columns each column of a table comes from."""

from collections.abc import Collection, Iterable, Mapping

from retail_assistant.catalog.mapping import Columns, column_names
from retail_assistant.catalog.schema import SOURCE_ROW, ProductSchema

ColumnSources = Mapping[str, list[str]]
"""A table's column -> the columns of the table before it that it is made from."""


def product_sources(columns: Columns, found: Collection[str] | None = None) -> ColumnSources:
    """Return the columns of the retailer's file behind each column of the products.

    ``found`` are the columns that the file has (None: all that ``columns`` names). What is made
    from the place in the file alone (``source_row``) has none.
    """
    category = column_names(columns.category)
    stated = [*column_names(columns.specifications), *columns.attributes.values()]
    sources = {
        "product_id": column_names(columns.product_id),
        "name": column_names(columns.name),
        "brand": column_names(columns.brand),
        "description": column_names(columns.description),
        "description_keywords": column_names(columns.description),
        "categories": category,
        "department": category,
        "category": category,
        "subcategory": category,
        "attributes": stated,
        "image_urls": column_names(columns.images),
        "retail_price": column_names(columns.retail_price),
        "discounted_price": column_names(columns.discounted_price),
        SOURCE_ROW: [],
        "content_hash": columns.used,
    }
    present = set(columns.used if found is None else found)
    return {
        name: [source for source in dict.fromkeys(sources[name]) if source in present]
        for name in ProductSchema.column_names()
    }


def same_columns(columns: Iterable[str]) -> ColumnSources:
    """Return the sources of a table that takes its columns over unchanged."""
    return {name: [name] for name in columns}


def duplicate_sources() -> ColumnSources:
    """Return the columns of the products behind each column of the near duplicates."""
    compared = ["product_id", "name", "attributes"]
    return {
        "product_id": ["product_id"],
        "cluster_id": compared,
        "size": compared,
        "similarity": compared,
    }

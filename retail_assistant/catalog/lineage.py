"""Which columns each column of a table comes from."""

from collections.abc import Collection, Iterable, Mapping

from retail_assistant.catalog.mapping import Columns
from retail_assistant.catalog.schema import SOURCE_ROW, ProductSchema

ColumnSources = Mapping[str, list[str]]
"""A table's column -> the columns of the table before it that it is made from."""


def product_sources(columns: Columns, found: Collection[str] | None = None) -> ColumnSources:
    """Return the columns of the retailer's file behind each column of the products.

    ``found`` are the columns that the file has (None: all that ``columns`` names). What is made
    from the place in the file alone (``source_row``) has none.
    """
    category = _listed(columns.category)
    stated = [*_listed(columns.specifications), *columns.attributes.values()]
    sources = {
        "product_id": _listed(columns.product_id),
        "name": _listed(columns.name),
        "brand": _listed(columns.brand),
        "description": _listed(columns.description),
        "description_keywords": _listed(columns.description),
        "categories": category,
        "department": category,
        "category": category,
        "subcategory": category,
        "attributes": stated,
        "image_urls": _listed(columns.images),
        "retail_price": _listed(columns.retail_price),
        "discounted_price": _listed(columns.discounted_price),
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


def _listed(given: str | list[str] | None) -> list[str]:
    return [] if given is None else [given] if isinstance(given, str) else given

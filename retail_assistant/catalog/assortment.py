"""The part of the catalog that the assistant is trained on."""

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.catalog.schema import SOURCE_ROW
from retail_assistant.catalog.source import CatalogError

REASON = "left out because"
_CATEGORY_UNITS = "_category_units"
_SUB_UNITS = "_subcategory_units"
_CATEGORY = ("department", "category")
_SUBCATEGORY = (*_CATEGORY, "subcategory")


class AssortmentPolicy(BaseModel):
    """Which products the assistant is trained on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    departments: list[str] = Field(
        default=["Clothing"],
        description="departments (level 0 of the category tree) to keep; empty keeps all",
    )
    categories: list[str] = Field(
        default=["Women's Clothing", "Men's Clothing", "Kids' Clothing"],
        description="categories (level 1) to keep; empty keeps all",
    )
    min_units: int = Field(
        default=10,
        ge=0,
        description=(
            "least number of products in a category and in a subcategory (level 2), counted over "
            "the whole catalog; above 0, a product without a subcategory falls out too"
        ),
    )


def select_assortment(products: pl.LazyFrame, policy: AssortmentPolicy) -> pl.DataFrame:
    """Return the products that ``policy`` keeps: the same columns, by ``source_row``.

    Units are counted over the whole catalog; only what is kept is held in memory. Raises
    CatalogError when nothing is left, naming the departments that there are.
    """
    names = products.collect_schema().names()
    judged = judged_products(products, policy).filter(pl.col(REASON).is_null()).select(names)
    kept = judged.collect(engine="streaming")
    if kept.is_empty():
        raise CatalogError(_nothing_left(products, policy))
    return kept.sort(SOURCE_ROW)


def assortment_exclusions(products: pl.LazyFrame, policy: AssortmentPolicy) -> pl.LazyFrame:
    """Return product_id, reason, detail of the products that ``policy`` leaves out.

    Reasons: other_department, other_category, rare_category, no_subcategory, rare_subcategory.
    Together with ``select_assortment`` these are all products. By ``source_row``.
    """
    return (
        judged_products(products, policy)
        .filter(pl.col(REASON).is_not_null())
        .sort(SOURCE_ROW)
        .select("product_id", pl.col(REASON).alias("reason"), _detail(policy).alias("detail"))
    )


def judged_products(products: pl.LazyFrame, policy: AssortmentPolicy) -> pl.LazyFrame:
    """Return ``products`` with REASON: why ``policy`` leaves it out, null where it is kept."""
    units = products.select(_SUBCATEGORY).group_by(_SUBCATEGORY).agg(pl.len().alias(_SUB_UNITS))
    # A handful of groups: the window over them costs nothing, one over the products would.
    units = units.with_columns(pl.col(_SUB_UNITS).sum().over(_CATEGORY).alias(_CATEGORY_UNITS))
    counted = products.join(units, on=_SUBCATEGORY, how="left", nulls_equal=True)
    return counted.with_columns(_reason(policy).alias(REASON))


def _reason(policy: AssortmentPolicy) -> pl.Expr:
    return (
        pl.when(~_is_among("department", policy.departments))
        .then(pl.lit("other_department"))
        .when(~_is_among("category", policy.categories))
        .then(pl.lit("other_category"))
        .when(pl.col(_CATEGORY_UNITS) < policy.min_units)
        .then(pl.lit("rare_category"))
        .when(pl.col("subcategory").is_null() & (policy.min_units > 0))
        .then(pl.lit("no_subcategory"))
        .when(pl.col(_SUB_UNITS) < policy.min_units)
        .then(pl.lit("rare_subcategory"))
    )


def _is_among(column: str, allowed: list[str]) -> pl.Expr:
    if not allowed:
        return pl.lit(value=True)
    names = [name.casefold().replace("\u2019", "'") for name in allowed]
    spelled = pl.col(column).str.to_lowercase().str.replace_all("\u2019", "'")
    return spelled.is_in(names).fill_null(value=False)


def _detail(policy: AssortmentPolicy) -> pl.Expr:
    category = pl.col("category").fill_null("none")
    needed = pl.lit(f" products, fewer than {policy.min_units}")
    texts = {
        "other_department": pl.format("the department is {}", "department"),
        "other_category": pl.format("the category is {}", category),
        "rare_category": pl.format("{} has {}{}", category, _CATEGORY_UNITS, needed),
        "no_subcategory": pl.format("the category tree ends at {}", category),
        "rare_subcategory": pl.format("{} has {}{}", "subcategory", _SUB_UNITS, needed),
    }
    return pl.coalesce(pl.when(pl.col(REASON) == name).then(text) for name, text in texts.items())


def _nothing_left(products: pl.LazyFrame, policy: AssortmentPolicy) -> str:
    sizes = products.group_by("department").len().collect(engine="streaming")
    departments = sizes.sort("len", "department", descending=[True, False])
    there = ", ".join(f"{name} ({count})" for name, count in departments.head(12).iter_rows())
    return (
        f"no product is left in the assortment with departments {policy.departments}, categories "
        f"{policy.categories} and min_units {policy.min_units}; the catalog's departments are: "
        f"{there or 'none, it has no products'}"
    )

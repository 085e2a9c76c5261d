"""What a person looks at to see whether a catalog is as it should be: counts, shares, pictures.

Everything is counted by the streaming engine; only the counts are held in memory. Catalog text is
untrusted: it stands in tables, which show it as it is, and in pictures, as pixels.
"""

from dataclasses import dataclass, field

import polars as pl

from retail_assistant.catalog.assortment import REASON, AssortmentPolicy, judged_products
from retail_assistant.catalog.pictures import bars, histogram, waterfall
from retail_assistant.catalog.schema import absent

LEVELS = ("department", "category", "subcategory")
EXCLUSIONS = (
    "other_department",
    "other_category",
    "rare_category",
    "no_subcategory",
    "rare_subcategory",
)
"""Why a product is not in the assortment, in the order in which the rules are applied."""

_BINS_A_DECADE = 8
_MOST = 15


@dataclass(frozen=True)
class Overview:
    """Numbers, tables of plain text, and pictures as markdown, each under the name to show."""

    numbers: dict[str, float] = field(default_factory=dict)
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    pictures: dict[str, str] = field(default_factory=dict)


def products_overview(products: pl.LazyFrame) -> Overview:
    """How full the columns of ``products`` are, and which categories, attributes and prices."""
    missing = missing_values(products)
    sizes = level_sizes(products)
    attributes = attribute_coverage(products)
    return Overview(
        numbers={
            **{
                f"without_{row['column']}": row["share"]
                for row in missing.to_dicts()
                if row["rows"]
            },
            **{f"{name}_values": sizes[name].drop_nulls().n_unique() for name in LEVELS},
        },
        tables={"missing_values": missing, "categories": sizes, "attributes": attributes},
        pictures={
            "category_sizes": bars(
                _spelled(sizes), "category", "products", "products by category", most=_MOST
            ),
            "attribute_coverage": bars(
                attributes, "attribute", "share", "share of products with the attribute", most=_MOST
            ),
            "retail_prices": histogram(prices(products), "low", "high", "products", "retail price"),
        },
    )


def rejected_overview(rejected: pl.LazyFrame) -> Overview:
    """Why rows of the file became no products."""
    counts = (
        rejected.group_by("reason")
        .agg(rows=pl.len())
        .sort("rows", "reason", descending=[True, False])
        .with_columns(share=pl.col("rows") / pl.col("rows").sum())
        .collect(engine="streaming")
    )
    return Overview(
        tables={"reasons": counts},
        pictures={"rejected_rows": bars(counts, "reason", "rows", "rejected rows by reason")},
    )


def assortment_overview(
    products: pl.LazyFrame, rejected: int, policy: AssortmentPolicy
) -> Overview:
    """How the rows of the file come down to the assortment, and what is in it.

    ``rejected`` is how many rows of the file became no product.
    """
    steps = assortment_steps(products, rejected, policy)
    kept = judged_products(products, policy).filter(pl.col(REASON).is_null())
    sizes = level_sizes(kept)
    return Overview(
        tables={"steps": steps, "categories": sizes},
        pictures={
            "from_file_to_assortment": waterfall(
                steps, "step", "change", "left", "from the file to the assortment"
            ),
            "category_sizes": bars(
                _spelled(sizes), "category", "products", "products by category", most=_MOST
            ),
        },
    )


def missing_values(products: pl.LazyFrame) -> pl.DataFrame:
    """Return column, rows, share: in how many products each column says nothing.

    Null and the empty list both say nothing. In the order of the columns.
    """
    schema = products.collect_schema()
    missing = [absent(name, kind).sum().alias(name) for name, kind in schema.items()]
    counted = products.select(pl.len(), *missing)
    total, *rows = counted.collect(engine="streaming").row(0)
    return pl.DataFrame(
        {"column": list(schema), "rows": rows, "share": [count / max(1, total) for count in rows]},
        schema={"column": pl.String, "rows": pl.Int64, "share": pl.Float64},
    )


def empty_columns(missing: pl.DataFrame) -> list[str]:
    """The columns (of ``missing_values``) in which no product says anything."""
    return missing.filter(pl.col("share") == 1)["column"].to_list()


def level_sizes(products: pl.LazyFrame) -> pl.DataFrame:
    """Return department, category, subcategory, products, share; the largest first."""
    return (
        products.group_by(LEVELS)
        .agg(products=pl.len())
        .sort("products", *LEVELS, descending=[True, False, False, False])
        .with_columns(share=pl.col("products") / pl.col("products").sum())
        .collect(engine="streaming")
    )


def attribute_coverage(products: pl.LazyFrame) -> pl.DataFrame:
    """Return attribute, products, share: how many products state it; the most frequent first.

    An attribute that a product states twice counts once. Entries without a name stand under "".
    """
    named = pl.col("attributes").list.eval(pl.element().struct.field("name").fill_null(""))
    states = products.select(attribute=named.list.unique()).explode("attribute")
    counts = states.drop_nulls().group_by("attribute").agg(products=pl.len())
    found, total = pl.collect_all([counts, products.select(pl.len())], engine="streaming")
    share = pl.col("products") / max(1, total.item())
    return found.with_columns(share=share).sort("products", "attribute", descending=[True, False])


def prices(products: pl.LazyFrame) -> pl.DataFrame:
    """Return low, high, products: the retail prices in bins of equal ratio, eight a decade.

    Prices of one catalog go from tens to tens of thousands, so equal differences would show one
    bar. Bins without products are absent; products without a price are in none.
    """
    # The logarithm of 1000 comes out a little below 3, which is another bin.
    number = (pl.col("retail_price").log10() * _BINS_A_DECADE + 1e-9).floor()
    low, high = (pl.lit(10.0).pow((pl.col("bin") + end) / _BINS_A_DECADE) for end in (0, 1))
    return (
        products.filter(pl.col("retail_price") > 0)
        .group_by(bin=number)
        .agg(products=pl.len())
        .sort("bin")
        .select("products", low=low, high=high)
        .select("low", "high", "products")
        .collect(engine="streaming")
    )


def assortment_steps(
    products: pl.LazyFrame, rejected: int, policy: AssortmentPolicy
) -> pl.DataFrame:
    """Return step, change, left: how the rows of the file come down to the assortment.

    A step is a rule and what it takes away (change up to 0), or names what is left (change null).
    Each product is taken away by the first rule that it breaks, so the steps add up.
    """
    judged = judged_products(products, policy).group_by(REASON).agg(count=pl.len())
    by_reason = dict(judged.collect(engine="streaming").iter_rows())
    kept = by_reason.pop(None, 0)
    read = sum(by_reason.values()) + kept
    steps: list[tuple[str, int | None, int]] = [
        ("rows of the file", None, read + rejected),
        ("rejected", -rejected, read),
        ("products", None, read),
    ]
    left = read
    for reason in EXCLUSIONS:
        left -= by_reason.get(reason, 0)
        steps.append((reason, -by_reason.get(reason, 0), left))
    steps.append(("assortment", None, kept))
    schema = {"step": pl.String, "change": pl.Int64, "left": pl.Int64}
    return pl.DataFrame(steps, schema=schema, orient="row")


def _spelled(sizes: pl.DataFrame) -> pl.DataFrame:
    """category, products of ``level_sizes``, the levels in one text."""
    path = pl.concat_str(LEVELS, separator=" > ", ignore_nulls=True)
    return sizes.select("products", category=path)

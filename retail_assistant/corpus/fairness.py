"""Whom the corpus speaks about, and whom it puts off.

An assistant that learns nothing about girls' clothes, or learns to decline when asked about them,
serves some shoppers worse. The table compares every group of products with the whole corpus by the
four-fifths rule (US Uniform Guidelines on Employee Selection Procedures, 1978, section 4D): a rate
below 80% of another's is a sign of adverse impact.
"""

from typing import Literal, get_args

import polars as pl

from retail_assistant.catalog.garments import audience

Dimension = Literal["department", "category", "audience", "brand"]
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)

LEAST_RATIO = 0.8
"""A rate below this part of the whole's, or the whole's below this part of it, is far from it."""
LEAST_EXPECTED = 5
"""A rate is judged where at least so many would be expected (Cochran's rule for counts)."""
UNSTATED = "(not stated)"

_RATES = {
    "coverage": ("asked_about", "products"),
    "declined_share": ("declined", "dialogues"),
    "rejected_share": ("rejected", "generated"),
}


def fairness_table(
    products: pl.DataFrame, screened: pl.DataFrame, rejected: pl.DataFrame
) -> pl.DataFrame:
    """Coverage, refusals and rejections by department, category, audience and brand.

    `products` is a PRODUCTS frame, `screened` and `rejected` are what the screens left. Dialogues
    about products that do not exist count nowhere. Columns: dimension, group; products, asked_about
    (products with a screened dialogue), coverage; dialogues (screened), declined (of them),
    declined_share; generated (screened and rejected), rejected, rejected_share; far_from_whole: the
    rates (names of columns) that are far from the whole's, in groups large enough to tell. A rate
    of nothing is null. A product for several audiences counts for each. Sorted by dimension, then
    by products, most first.
    """
    counted = _counted(products, screened, rejected)
    whole = counted.select(pl.sum("products", *_COUNTS))
    parts = [
        _grouped(counted, dimension).sort("products", "group", descending=[True, False])
        for dimension in DIMENSIONS
    ]
    return _judged(pl.concat(parts), whole)


_COUNTS = ("asked_about", "dialogues", "declined", "generated", "rejected")


def _counted(
    products: pl.DataFrame, screened: pl.DataFrame, rejected: pl.DataFrame
) -> pl.DataFrame:
    """One row a product: its groups and what is counted."""
    declined = (pl.col("intent") == "unanswerable").sum()
    about = screened.group_by("product_id").agg(dialogues=pl.len(), declined=declined)
    lost = rejected.group_by("product_id").agg(rejected=pl.len())
    counts = pl.col("dialogues", "declined", "rejected").fill_null(0).cast(pl.Int64)
    return (
        products.select(
            "product_id",
            "department",
            "category",
            "brand",
            audience=audience().replace("", None).str.split(" "),
            products=pl.lit(1, dtype=pl.Int64),
        )
        .join(about, on="product_id", how="left")
        .join(lost, on="product_id", how="left")
        .with_columns(counts)
        .with_columns(
            asked_about=(pl.col("dialogues") > 0).cast(pl.Int64),
            generated=pl.col("dialogues") + pl.col("rejected"),
        )
    )


def _grouped(counted: pl.DataFrame, dimension: Dimension) -> pl.DataFrame:
    rows = counted.explode(dimension) if dimension == "audience" else counted
    group = pl.col(dimension).fill_null(UNSTATED).alias("group")
    summed = rows.group_by(group).agg(pl.sum("products", *_COUNTS))
    return summed.select(pl.lit(dimension).alias("dimension"), "group", "products", *_COUNTS)


def _judged(groups: pl.DataFrame, whole: pl.DataFrame) -> pl.DataFrame:
    rates, far = {}, []
    for name, (part, of) in _RATES.items():
        rate = pl.when(pl.col(of) > 0).then(pl.col(part) / pl.col(of))
        total = whole[of].item()
        usual = whole[part].item() / total if total else 0.0
        is_far = (rate < LEAST_RATIO * usual) | (LEAST_RATIO * rate > usual)
        enough = pl.col(of) * usual >= LEAST_EXPECTED
        rates[name] = rate
        far.append(pl.when(is_far & enough).then(pl.lit(name)))
    judged = groups.with_columns(**rates, far_from_whole=pl.concat_list(far).list.drop_nulls())
    return judged.select(
        "dimension", "group", "products", "asked_about", "coverage", "dialogues", "declined",
        "declined_share", "generated", "rejected", "rejected_share", "far_from_whole",
    )  # fmt: skip

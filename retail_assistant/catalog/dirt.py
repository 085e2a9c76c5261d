"""The defects of the synthetic catalog: what real feeds do to a row."""

import polars as pl

_MISSING = {
    "no_id": "uniq_id",
    "no_name": "product_name",
    "no_tree": "product_category_tree",
    "no_specification": "product_specifications",
    "no_description": "description",
    "no_image": "image",
    "no_price": "retail_price",
    "no_brand": "brand",
}
_SPECIFICATION = pl.col("product_specifications")
_NAME = pl.col("product_name")
_TREE = pl.col("product_category_tree")


def _price_text(column: str) -> pl.Expr:
    grouped = pl.col(column).str.replace(r"^(\d+)(\d{3})$", "${1},${2}")
    return pl.format("Rs. {}", grouped)


def _cut(text: pl.Expr, numerator: int, denominator: int) -> pl.Expr:
    return text.str.slice(0, text.str.len_chars() * numerator // denominator)


# Other ways to be dirty: the defect, the column, and what the cell becomes.
_CHANGES: tuple[tuple[str, str, pl.Expr], ...] = (
    ("bad_id", "uniq_id", pl.format("../{}", pl.col("uniq_id").str.slice(0, 20))),
    ("price_text", "retail_price", _price_text("retail_price")),
    ("price_text", "discounted_price", _price_text("discounted_price")),
    (
        "value_only",
        "product_specifications",
        _SPECIFICATION.str.replace(r'"key"=>"[^"]*", ', "").str.replace(
            r'"key"=>"(?:Type|Ideal For)", ', ""
        ),
    ),
    (
        "no_bracket",
        "product_specifications",
        _SPECIFICATION.str.replace("=>[", "=>", literal=True).str.replace(r"\]\}$", "}"),
    ),
    ("cut_tail", "product_specifications", _cut(_SPECIFICATION, 3, 5)),
    ("nil_specification", "product_specifications", pl.lit('{"product_specification"=>nil}')),
    (
        "nil_value",
        "product_specifications",
        _SPECIFICATION.str.replace(r'"value"=>"[^"]*"', '"value"=>nil'),
    ),
    ("entities", "product_name", _NAME.str.replace_all("'", "&#39;")),
    ("entities", "product_category_tree", _TREE.str.replace_all("&", "&amp;")),
    (
        "entities",
        "description",
        pl.format("&quot;{}&quot;", pl.col("description").str.replace_all("&", "&amp;amp;")),
    ),
    ("mojibake", "product_name", _NAME.str.replace_all("'", "\u00e2\u20ac\u2122")),
    ("mojibake", "description", pl.col("description") + " Caf\u00c3\u00a9 style."),
    ("zero_width", "product_name", _NAME.str.replace(" ", "\u200b\u00a0 ", literal=True)),
    ("zero_width", "brand", pl.concat_str(pl.lit("\ufeff"), "brand", pl.lit("\u0301"))),
    ("cut_tree", "product_category_tree", _cut(_TREE, 2, 5) + '..."]'),
)

DIRT_KINDS: tuple[str, ...] = (
    *_MISSING,
    "same_id",
    *dict.fromkeys(kind for kind, _, _ in _CHANGES),
)
"""The defects that a dirty row may have, one each, evenly."""


def with_defects(rows: pl.DataFrame, defects: pl.Series, other_ids: pl.Series) -> pl.DataFrame:
    """Return ``rows`` (the 15 columns) with a defect in each row that ``defects`` names one for.

    ``defects`` is null or one of ``DIRT_KINDS`` for each row; ``other_ids`` is the id that a row
    with a repeated id takes.
    """
    kind = pl.col("_defect")
    missing = [
        pl.when(kind != name).then(column).when(kind.is_null()).then(column).alias(column)
        for name, column in _MISSING.items()
    ]
    repeated = pl.when(kind == "same_id").then("_other_id").otherwise("uniq_id").alias("uniq_id")
    changed = rows.with_columns(defects.alias("_defect"), other_ids.alias("_other_id"))
    changed = changed.with_columns(repeated)
    for name, column, change in _CHANGES:
        changed = changed.with_columns(
            pl.when(kind == name).then(change).otherwise(column).alias(column)
        )
    return changed.with_columns(missing).select(rows.columns)

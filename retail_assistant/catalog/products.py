"""From raw catalog rows to products, with a reason for every row that is none.

Two steps, so that cleaning can be spread over workers: ``tidy_rows`` looks at one row at a time,
``settle`` decides what needs the whole catalog (duplicates) and validates.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.catalog.keywords import keywords
from retail_assistant.catalog.schema import (
    FLIPKART_COLUMNS,
    PRODUCT_ID_PATTERN,
    SOURCE_ROW,
    ProductSchema,
    RejectedSchema,
)
from retail_assistant.catalog.source import read_catalog
from retail_assistant.catalog.specifications import (
    parsed_specifications,
    plain_text,
    unescaped,
)

_PRICE = r"(?i)^(?:rs\.?|inr|₹)?\s*([0-9][0-9,]*(?:\.[0-9]+)?)\s*(?:/-)?$"
_TRUNCATED = r"(?:\.{3}|…)$"
_URL = r"""(?i)https?://[^\s"'<>\\\]\[{}]+"""
_PRODUCT_COLUMNS = tuple(ProductSchema.column_names())
_HASHED_COLUMNS = [name for name in _PRODUCT_COLUMNS if name not in (SOURCE_ROW, "content_hash")]


@dataclass(frozen=True)
class CleanedCatalog:
    """Products and rejected rows of one catalog, both by ``source_row``; together all rows."""

    products: pl.DataFrame
    rejected: pl.DataFrame
    rows_in: int


class CleanSummary(BaseModel):
    """What cleaning did, in counts; rows_in = products + rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows_in: int = Field(ge=0, description="data rows in the source file")
    products: int = Field(ge=0, description="rows that became products")
    rejected: int = Field(ge=0, description="rows that did not")
    reasons: dict[str, int] = Field(description="rejected rows by reason, most frequent first")


def clean_catalog(raw: pl.LazyFrame) -> CleanedCatalog:
    """Return the products of ``raw`` (``read_catalog``) and the rows that are none, with reasons.

    Never raises for what stands in a row: rows_in == products.height + rejected.height. Of rows
    that share an id, the first usable one wins.
    """
    rows = raw.collect()
    tidy = tidy_rows(rows.lazy()).collect()
    return settle(rows, tidy)


def clean_file(uri: str, output: Path) -> CleanSummary:
    """Clean the catalog at ``uri`` into ``output``/products.parquet and rejected.parquet.

    Each file appears whole or not at all. Raises CatalogError where the catalog cannot be read.
    """
    cleaned = clean_catalog(read_catalog(uri))
    output.mkdir(parents=True, exist_ok=True)
    _write_parquet(cleaned.products, output / "products.parquet")
    _write_parquet(cleaned.rejected, output / "rejected.parquet")
    return summary(cleaned)


def summary(cleaned: CleanedCatalog) -> CleanSummary:
    """Return the counts of ``cleaned``."""
    by_reason = (
        cleaned.rejected.group_by("reason").len().sort("len", "reason", descending=[True, False])
    )
    return CleanSummary(
        rows_in=cleaned.rows_in,
        products=cleaned.products.height,
        rejected=cleaned.rejected.height,
        reasons=dict(by_reason.iter_rows()),
    )


def tidy_rows(raw: pl.LazyFrame) -> pl.LazyFrame:
    """Return the product columns of every raw row, less content_hash; each row on its own.

    Nothing is judged yet: ``product_id``, ``name`` and ``department`` may be null here.
    """
    return (
        raw.select(
            plain_text(pl.col("uniq_id")).alias("product_id"),
            plain_text(pl.col("product_name")).alias("name"),
            plain_text(pl.col("brand")).alias("brand"),
            plain_text(pl.col("description")).alias("description"),
            category_levels(pl.col("product_category_tree")).alias("categories"),
            parsed_specifications(pl.col("product_specifications")).alias("attributes"),
            image_urls(pl.col("image")).alias("image_urls"),
            price(pl.col("retail_price")).alias("retail_price"),
            price(pl.col("discounted_price")).alias("discounted_price"),
            pl.col(SOURCE_ROW),
        )
        .with_columns(
            keywords(pl.col("description")).alias("description_keywords"),
            *(
                pl.col("categories").list.get(level, null_on_oob=True).alias(name)
                for level, name in enumerate(("department", "category", "subcategory"))
            ),
        )
        .select(name for name in _PRODUCT_COLUMNS if name != "content_hash")
    )


def settle(rows: pl.DataFrame, tidy: pl.DataFrame) -> CleanedCatalog:
    """Split ``tidy`` (``tidy_rows`` of ``rows``) into products and rejected rows.

    Decides what needs the whole catalog: which of several rows with one id is the product.
    """
    judged = tidy.with_columns(_reason().alias("reason"))
    usable = judged.filter(pl.col("reason").is_null()).drop("reason").sort(SOURCE_ROW)
    first = usable.unique("product_id", keep="first", maintain_order=True)
    repeated = usable.join(first.select("product_id", winner=SOURCE_ROW), on="product_id").filter(
        pl.col(SOURCE_ROW) != pl.col("winner")
    )
    products, invalid = _validated(_with_content_hash(first))
    rejections = pl.concat(
        [
            judged.filter(pl.col("reason").is_not_null()).select(
                SOURCE_ROW, "product_id", "reason", _detail().alias("detail")
            ),
            repeated.select(
                SOURCE_ROW,
                "product_id",
                pl.lit("duplicate_id").alias("reason"),
                pl.format("the id is that of row {}", "winner").alias("detail"),
            ),
            invalid,
        ]
    )
    return CleanedCatalog(products, _with_raw_row(rejections, rows), rows_in=rows.height)


def category_levels(tree: pl.Expr) -> pl.Expr:
    """Return the levels of a category ``tree`` (str, ``["A >> B >> C"]``) as list[str], never null.

    Of several trees the first counts. A last level that ends in "..." is a product name that was
    cut and is dropped, unless it is the only level: then the row would lose its department, and
    it is kept without the mark. (44 of the 999 real rows have no level but a product name; they
    keep it as their department, which no assortment selects.)
    """
    inner = (
        plain_text(unescaped(tree.str.replace(r'(?s)"\s*,\s*".*$', "")))
        .str.replace(r'^\s*\[?\s*"?', "")
        .str.replace(r'"?\s*\]?\s*$', "")
    )
    levels = (
        inner.replace({"nil": None, "null": None})
        .fill_null("")
        .str.split(">>")
        .list.eval(pl.element().str.strip_chars())
        .list.filter(pl.element().str.contains(r"[\p{L}\p{N}]"))
    )
    cut = levels.list.last().str.contains(_TRUNCATED) & (levels.list.len() > 1)
    whole = pl.when(cut).then(levels.list.head(levels.list.len() - 1)).otherwise(levels)
    return whole.list.eval(pl.element().str.replace(_TRUNCATED, "").str.strip_chars_end())


def image_urls(text: pl.Expr) -> pl.Expr:
    """Return the http(s) URLs in ``text`` (str, a JSON list or what is left of one), each once."""
    found = plain_text(unescaped(text.fill_null(""))).fill_null("").str.extract_all(_URL)
    return found.list.eval(pl.element().str.strip_chars_end(",;")).list.unique(maintain_order=True)


def price(text: pl.Expr) -> pl.Expr:
    """Return ``text`` (str: "1299", "Rs. 1,299.00", "₹1299/-") as rupees (f64).

    Null where it is no amount above zero.
    """
    digits = plain_text(text).str.extract(_PRICE).str.replace_all(",", "", literal=True)
    amount = digits.cast(pl.Float64, strict=False)
    return pl.when(amount.is_finite() & (amount > 0)).then(amount)


def _reason() -> pl.Expr:
    return (
        pl.when(pl.col("product_id").is_null())
        .then(pl.lit("missing_id"))
        .when(~pl.col("product_id").str.contains(PRODUCT_ID_PATTERN))
        .then(pl.lit("invalid_id"))
        .when(~_readable(pl.col("name")))
        .then(pl.lit("missing_name"))
        .when(pl.col("department").is_null())
        .then(pl.lit("missing_category"))
    )


def _readable(text: pl.Expr) -> pl.Expr:
    return text.str.contains(r"[\p{L}\p{N}]").fill_null(value=False)


def _detail() -> pl.Expr:
    texts = {
        "missing_id": "uniq_id is empty",
        "invalid_id": f"uniq_id is not of the form {PRODUCT_ID_PATTERN}",
        "missing_name": "product_name has no letter or digit",
        "missing_category": "product_category_tree has no level",
    }
    return pl.col("reason").replace_strict(texts, return_dtype=pl.String)


def _with_content_hash(products: pl.DataFrame) -> pl.DataFrame:
    """Add ``content_hash``: BLAKE2b-128 over the row as JSON, fields in schema order."""
    return products.with_columns(
        pl.struct(_HASHED_COLUMNS)
        .struct.json_encode()
        .map_batches(_digests, return_dtype=pl.String, is_elementwise=True)
        .alias("content_hash")
    ).select(_PRODUCT_COLUMNS)


def _digests(texts: pl.Series) -> pl.Series:
    hashed = [hashlib.blake2b(text.encode(), digest_size=16).hexdigest() for text in texts]
    return pl.Series(texts.name, hashed, dtype=pl.String)


def _validated(products: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows that ``ProductSchema`` accepts, and (source_row, …, detail) of the others."""
    valid, failure = ProductSchema.filter(products)
    rules = sorted(failure.counts())
    # A rule is named "<column>|<what>" by dataframely; only the column goes into the reason.
    failed = [
        pl.when(pl.col(rule) == "invalid").then(pl.lit(rule.split("|")[0])).alias(f"_{rule}")
        for rule in rules
    ]
    names = failure.details().select(SOURCE_ROW, "product_id", *failed) if rules else None
    if names is None:
        return valid.sort(SOURCE_ROW), _no_rejections()
    columns = [f"_{rule}" for rule in rules]
    invalid = names.select(
        SOURCE_ROW,
        "product_id",
        pl.concat_str(pl.lit("invalid_"), pl.coalesce(columns)).alias("reason"),
        pl.format(
            "refused by the product schema: {}",
            pl.concat_list(columns)
            .list.drop_nulls()
            .list.unique(maintain_order=True)
            .list.join(", "),
        ).alias("detail"),
    )
    return valid.sort(SOURCE_ROW), invalid


def _no_rejections() -> pl.DataFrame:
    texts = dict.fromkeys(("product_id", "reason", "detail"), pl.String)
    return pl.DataFrame(schema={SOURCE_ROW: pl.UInt32, **texts})


def _with_raw_row(rejections: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    raw = rows.join(rejections.select(SOURCE_ROW), on=SOURCE_ROW, how="semi").select(
        SOURCE_ROW, pl.struct(FLIPKART_COLUMNS).struct.json_encode().alias("raw")
    )
    joined = rejections.join(raw, on=SOURCE_ROW, how="left", maintain_order="left")
    return RejectedSchema.validate(joined.sort(SOURCE_ROW))


def _write_parquet(frame: pl.DataFrame, path: Path) -> None:
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as folder:
        whole = Path(folder) / path.name
        frame.write_parquet(whole)
        whole.replace(path)

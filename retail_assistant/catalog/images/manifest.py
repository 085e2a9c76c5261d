"""The table of product images: one row for each URL of each product, whatever came of it."""

from collections.abc import Iterator

import dataframely as dy
import polars as pl

from retail_assistant.catalog.images.receipts import (
    RECEIPT_SCHEMA,
    STATUSES,
    image_name,
    thumbnail_name,
)
from retail_assistant.objects import ObjectStore

ROW = ["product_id", "position"]
FACTS = ["sha256", "type", "declared_type", "size", "width", "height"]
ASKED_OF_THE_MOMENT = ["detail", "attempts"]
"""Columns that may differ between two runs that came to the same images."""

MAY_PASS = ("timeout", "connection_error", "http_error", "worker_died")
NEVER_PASSES = ("stored", "skipped", "invalid_url")


class ProductImageSchema(dy.Schema):
    """One row per product, position in its list of images, and URL."""

    product_id = dy.String(primary_key=True)
    position = dy.Int64(primary_key=True, min=0)
    url = dy.String(nullable=False)
    status = dy.String(nullable=False, check=lambda status: status.is_in(STATUSES))
    detail = dy.String(nullable=False)
    object_uri = dy.String(nullable=True)
    sha256 = dy.String(nullable=True, regex=r"^[0-9a-f]{64}$")
    type = dy.String(nullable=True)
    declared_type = dy.String(nullable=True)
    size = dy.Int64(nullable=True, min=0)
    width = dy.Int64(nullable=True, min=1)
    height = dy.Int64(nullable=True, min=1)
    thumbnail_uri = dy.String(nullable=True)
    attempts = dy.Int64(nullable=False, min=0)


def wanted_images(products: pl.LazyFrame) -> pl.DataFrame:
    """Columns product_id, position (from 0), url: every image URL of every product, in order."""
    return (
        products.select("product_id", pl.col("image_urls").alias("url"))
        .with_columns(pl.int_ranges(pl.col("url").list.len(), dtype=pl.Int64).alias("position"))
        .filter(pl.col("url").list.len() > 0)
        .explode("url", "position")
        .select(*ROW, "url")
        .collect(engine="streaming")
    )


class Rounds:
    """Which URLs to ask for next, given what came of those before.

    Mode `all` has one round. Mode `first` asks for the first URL of every product, then for the
    second of those that still have no image, and so on: no URL is asked for that is not needed,
    and one that products share is asked for once.
    """

    def __init__(self, wanted: pl.DataFrame, mode: str) -> None:
        self._wanted = wanted.with_columns(pl.col("url").hash(seed=0).alias("_order"))
        self._mode = mode
        self._parts = [RECEIPT_SCHEMA.to_frame()]

    def __iter__(self) -> Iterator[list[str]]:
        if self._mode == "all":
            yield self._urls(self._wanted)
            return
        last = self._wanted["position"].max()
        for position in range(last + 1 if isinstance(last, int) else 0):
            have = self._with_receipts().filter(pl.col("status") == "stored")
            need = self._wanted.filter(pl.col("position") == position)
            yield self._urls(need.join(have, on="product_id", how="anti"))

    def learn(self, receipts: pl.DataFrame) -> None:
        """Take in what came of URLs."""
        self._parts.append(receipts)

    @property
    def receipts(self) -> pl.DataFrame:
        """What came of all URLs so far."""
        self._parts = [pl.concat(self._parts)]
        return self._parts[0]

    def _urls(self, wanted: pl.DataFrame) -> list[str]:
        """Each once, without those that are known, hosts well mixed."""
        unknown = wanted.join(self.receipts, on="url", how="anti").unique("url")
        return unknown.sort("_order", "url")["url"].to_list()

    def _with_receipts(self) -> pl.DataFrame:
        return self._wanted.join(self.receipts, on="url", how="left")


def image_table(
    wanted: pl.DataFrame, receipts: pl.DataFrame, store: ObjectStore, mode: str, side: int
) -> pl.DataFrame:
    """The manifest: `wanted` in its order, with what came of each row.

    Args:
        wanted: product_id, position, url.
        receipts: `RECEIPT_SCHEMA`, one row a URL.
        store: where the images are.
        mode: the policy's; with `first`, rows after a product's first image are `skipped`.
        side: of thumbnails, pixels.
    """
    table = wanted.join(
        _addressed(receipts, store, side), on="url", how="left", maintain_order="left"
    )
    if mode == "first":
        stored = pl.col("position").filter(pl.col("status") == "stored").min().over("product_id")
        needed = (stored.is_null() | (pl.col("position") <= stored)).fill_null(value=True)
        facts = [*FACTS, "status", "detail", "attempts", "object_uri", "thumbnail_uri"]
        table = table.with_columns(pl.when(needed).then(pl.col(name)) for name in facts)
    filled = table.with_columns(
        pl.col("status").fill_null("skipped"),
        pl.col("detail").fill_null(""),
        pl.col("attempts").fill_null(0),
    )
    return ProductImageSchema.validate(filled.select(ProductImageSchema.column_names()))


def _addressed(receipts: pl.DataFrame, store: ObjectStore, side: int) -> pl.DataFrame:
    """Receipts with the full addresses of what is stored."""
    stored = receipts.select("sha256", "type").filter(pl.col("sha256").is_not_null()).unique()
    pairs = list(stored.iter_rows())
    addresses = stored.with_columns(
        pl.Series("object_uri", [store.uri_of(image_name(*pair)) for pair in pairs], pl.String),
        pl.Series(
            "thumbnail_uri",
            [store.uri_of(thumbnail_name(sha256, side)) for sha256, _ in pairs],
            pl.String,
        ),
    )
    return receipts.join(addresses, on=["sha256", "type"], how="left")


def status_counts(table: pl.DataFrame) -> pl.DataFrame:
    """Columns status, images, most frequent first."""
    return (
        table.group_by("status")
        .agg(pl.len().alias("images"))
        .sort("images", "status", descending=[True, False])
    )


def failed_share(table: pl.DataFrame) -> float:
    """Failed rows of those that were needed (0 to 1); 0 where none was."""
    needed = table.filter(pl.col("status") != "skipped")
    return needed.filter(pl.col("status") != "stored").height / max(1, needed.height)


def failure_reasons(table: pl.DataFrame) -> pl.DataFrame:
    """Columns status, detail, images, most frequent first."""
    failed = table.filter(~pl.col("status").is_in(["stored", "skipped"]))
    return (
        failed.group_by("status", "detail")
        .agg(pl.len().alias("images"))
        .sort("images", "status", "detail", descending=[True, False, False])
    )


def is_worth_another_run(table: pl.DataFrame, *, retry_failed: bool) -> bool:
    """Whether there are failures that another run would ask for again."""
    if retry_failed:
        return not table["status"].is_in(NEVER_PASSES).all()
    return bool(table["status"].is_in(MAY_PASS).any())

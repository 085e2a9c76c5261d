"""What changed between two versions of a catalog, and how much change is plausible.

Both versions are parquet files of up to ten million rows, so nothing here holds a whole one. Two
narrow passes (id and content hash) find the products that differ; only those are looked at in full,
as one 64-bit hash a column.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.catalog.schema import SOURCE_ROW, absent

CHANGES = ("added", "removed", "changed")
ROWS_AT_ONCE = 1_000_000
"""Rows of each version that are compared at once; bounds the memory, not the result."""

_ROWS_READ_WIDE = 100_000
_ID = "product_id"
_HASH = "content_hash"
_NOT_COMPARED = (_ID, SOURCE_ROW, _HASH)
_CHANGE_SCHEMA = pl.Schema(
    {
        _ID: pl.String(),
        "change": pl.String(),
        "name": pl.String(),
        "changed_columns": pl.List(pl.String()),
        SOURCE_ROW: pl.UInt32(),
    }
)


class RefreshPolicy(BaseModel):
    """How much a catalog may differ from the last accepted one before it is held back."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_row_drop: float = Field(
        default=0.2, ge=0, le=1, description="share by which the number of products may fall"
    )
    max_changed_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="share of the accepted products that may be removed or changed",
    )
    max_rejected_share: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="share of the file's rows that may be rejected; an accepted catalog that had"
        " more raises it",
    )
    min_category_units: int = Field(
        default=10,
        ge=1,
        description="a department, category or subcategory of at least so many products must not"
        " vanish",
    )
    max_vanished_categories: int = Field(
        default=0, ge=0, description="how many such categories may vanish all the same"
    )
    max_filled_drop: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="share by which a column's share of filled values may fall; 1 lets a column go",
    )
    min_filled_share: float = Field(
        default=0.05,
        gt=0,
        le=1,
        description="columns that were filled in a smaller share of the products are not watched",
    )


class ChangeCounts(BaseModel):
    """How many products differ between two versions; before - removed + added = after."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    added: int = Field(ge=0, description="ids that only the new version has")
    removed: int = Field(ge=0, description="ids that only the old version has")
    changed: int = Field(ge=0, description="ids of both, with another value in some column")
    before: int = Field(ge=0, description="products of the old version")
    after: int = Field(ge=0, description="products of the new version")

    @property
    def none(self) -> bool:
        """Do both versions hold the same products?"""
        return not (self.added or self.removed or self.changed)


def write_changes(
    before: pl.LazyFrame, after: pl.LazyFrame, output: Path, rows_at_once: int = ROWS_AT_ONCE
) -> ChangeCounts:
    """Write one row a change to the parquet file `output`, by product_id; return the counts.

    Both frames have the columns of ProductSchema; a column that one of them lacks is not compared.
    Rows: product_id, change (added, removed, changed), name and source_row (those of `after`, of
    `before` where it was removed), changed_columns (none where added or removed).
    """
    differing = _differing_ids(before, after, rows_at_once)
    with TemporaryDirectory(dir=output.parent, prefix=".changes-") as folder:
        pieces = [Path(folder) / "0.parquet"]
        write_no_changes(pieces[0])
        for number, ids in enumerate(differing.iter_slices(rows_at_once), start=1):
            pieces.append(Path(folder) / f"{number}.parquet")
            _changes_of(ids, before, after).write_parquet(pieces[-1])
        changes = pl.scan_parquet(pieces)
        changes.sort(_ID).sink_parquet(output, compression="zstd")
    counted = dict(
        pl.scan_parquet(output).group_by("change").len().collect(engine="streaming").iter_rows()
    )
    return ChangeCounts(
        **{change: counted.get(change, 0) for change in CHANGES},
        before=_rows(before),
        after=_rows(after),
    )


def write_no_changes(output: Path) -> None:
    """Write the parquet file of `write_changes` without a row."""
    pl.DataFrame(schema=_CHANGE_SCHEMA).write_parquet(output)


def change_counts(
    before: pl.LazyFrame, after: pl.LazyFrame, rows_at_once: int = ROWS_AT_ONCE
) -> ChangeCounts:
    """Return how many products differ, like `write_changes` without keeping the rows."""
    with TemporaryDirectory(prefix="catalog-changes-") as folder:
        return write_changes(before, after, Path(folder) / "changes.parquet", rows_at_once)


def _differing_ids(before: pl.LazyFrame, after: pl.LazyFrame, rows_at_once: int) -> pl.DataFrame:
    """The ids of products that only one version has, or with another content hash. Unsorted."""
    parts = math.ceil(max(_rows(before), _rows(after)) / rows_at_once) or 1
    return pl.concat([_differing_part(before, after, part, parts) for part in range(parts)])


def _differing_part(
    before: pl.LazyFrame, after: pl.LazyFrame, part: int, parts: int
) -> pl.DataFrame:
    # polars' hash is the same for the same text within a process, which is all that is asked here.
    here = pl.col(_ID).hash() % parts == part
    old, new = (one.select(_ID, _HASH).filter(here) for one in (before, after))
    only_new = new.join(old, on=[_ID, _HASH], how="anti").select(_ID)
    only_old = old.join(new, on=[_ID, _HASH], how="anti").select(_ID)
    differing: pl.DataFrame = pl.concat([only_new, only_old]).unique().collect(engine="streaming")
    return differing


def _changes_of(ids: pl.DataFrame, before: pl.LazyFrame, after: pl.LazyFrame) -> pl.DataFrame:
    """The change rows of the products with these ids; none where only the hash's recipe differs."""
    compared = _compared_columns(before, after)
    old, new = (_digested(one, ids, compared) for one in (before, after))
    both = new.join(old, on=_ID, how="full", coalesce=True, suffix="_before")
    differences = [
        pl.when(pl.col(name) != pl.col(f"{name}_before")).then(pl.lit(name.removeprefix("#")))
        for name in (f"#{column}" for column in compared)
    ]
    names = pl.concat_list(differences).list.drop_nulls()
    is_both = pl.col(SOURCE_ROW).is_not_null() & pl.col(f"{SOURCE_ROW}_before").is_not_null()
    change = (
        pl.when(is_both)
        .then(pl.lit("changed"))
        .when(pl.col(SOURCE_ROW).is_null())
        .then(pl.lit("removed"))
        .otherwise(pl.lit("added"))
    )
    rows: pl.DataFrame = (
        both.with_columns(change=change, changed_columns=pl.when(is_both).then(names))
        .filter((pl.col("change") != "changed") | (pl.col("changed_columns").list.len() > 0))
        .select(
            _ID,
            "change",
            pl.coalesce("name", "name_before").alias("name"),
            pl.col("changed_columns").fill_null([]),
            pl.coalesce(SOURCE_ROW, f"{SOURCE_ROW}_before").alias(SOURCE_ROW),
        )
        .collect(engine="streaming")
    )
    return rows.cast(_CHANGE_SCHEMA)


def _compared_columns(before: pl.LazyFrame, after: pl.LazyFrame) -> list[str]:
    there = set(before.collect_schema().names())
    return [
        name
        for name in after.collect_schema().names()
        if name in there and name not in _NOT_COMPARED
    ]


def _digested(version: pl.LazyFrame, ids: pl.DataFrame, compared: list[str]) -> pl.LazyFrame:
    """The products with these ids, a 64-bit hash for each compared column.

    A wide row is a kilobyte, its digests are a hundred bytes. Slices, because one scan would read
    far ahead.
    """
    digests = [pl.col(name).hash().alias(f"#{name}") for name in compared]
    slices = [
        version.slice(first, _ROWS_READ_WIDE)
        .join(ids.lazy(), on=_ID, how="semi")
        .select(_ID, "name", SOURCE_ROW, *digests)
        .collect(engine="streaming")
        for first in range(0, max(1, _rows(version)), _ROWS_READ_WIDE)
    ]
    return pl.concat(slices).lazy()


def category_units(products: pl.LazyFrame) -> pl.DataFrame:
    """Return the number of products of every department, category and subcategory.

    Columns level (department, category, subcategory), path (the names joined by " > "), units.
    """
    levels = ("department", "category", "subcategory")
    counted = products.group_by(levels).len("units").collect(engine="streaming")
    return pl.concat(_units_by_level(counted, levels)).sort("path")


def _units_by_level(counted: pl.DataFrame, levels: tuple[str, ...]) -> Iterator[pl.DataFrame]:
    for depth, level in enumerate(levels, start=1):
        named = counted.drop_nulls(levels[:depth])
        path = pl.concat_str(levels[:depth], separator=" > ")
        yield (
            named.group_by(level=pl.lit(level), path=path)
            .agg(pl.col("units").sum())
            .with_columns(pl.col("units").cast(pl.UInt32))
        )


def filled_shares(products: pl.LazyFrame) -> dict[str, float]:
    """Return the share of products that have a value in each column, 0 to 1.

    An empty list is no value. All zero for a catalog without products.
    """
    schema = products.collect_schema()
    filled = [
        (~absent(name, kind)).mean().fill_null(0.0).alias(name) for name, kind in schema.items()
    ]
    return products.select(filled).collect(engine="streaming").row(0, named=True)


def _rows(frame: pl.LazyFrame) -> int:
    return int(frame.select(pl.len()).collect(engine="streaming").item())

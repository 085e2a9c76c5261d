"""How frames become versions."""

import polars as pl
import pytest

from retail_assistant.defs.io_managers import frame_version

PLAIN = pl.DataFrame(
    {
        "number": [1, None, 3],
        "text": ["a", None, "a text too long to be stored inline"],
        "tags": [["x"], None, []],
    }
)
HIDDEN = pl.col("number") != 99


def test_equal_frames_have_one_version_however_they_were_computed() -> None:
    filled = PLAIN.with_columns(
        pl.col("number").fill_null(99),
        pl.col("text").fill_null("another text too long to be stored inline"),
        pl.col("tags").fill_null(pl.lit(["y"])),
    )
    with_values_under_nulls = filled.select(
        pl.when(HIDDEN).then(pl.col(name)).alias(name) for name in PLAIN.columns
    )
    in_pieces = pl.concat([PLAIN.head(1), PLAIN.tail(2)], rechunk=False)
    sliced = pl.concat([PLAIN, PLAIN]).slice(3)
    for other in (with_values_under_nulls, in_pieces, sliced):
        assert other.equals(PLAIN)
        assert frame_version(other) == frame_version(PLAIN)


@pytest.mark.parametrize(
    "other",
    [
        PLAIN.reverse(),
        PLAIN.rename({"number": "count"}),
        PLAIN.with_columns(pl.col("number").cast(pl.Int32)),
        PLAIN.with_columns(pl.col("number").fill_null(0)),
        PLAIN.head(2),
    ],
)
def test_other_content_has_another_version(other: pl.DataFrame) -> None:
    assert frame_version(other) != frame_version(PLAIN)

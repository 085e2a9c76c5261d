"""How frames become versions, and how a run stores several partitions."""

from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from retail_assistant.defs.io_managers import StorageIOManager, frame_version
from retail_assistant.storage import StorageError, TableStore

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


LETTERS = dg.StaticPartitionsDefinition(["a", "b", "c"])
RANGE = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "b"}


def materialized(frames: dict[str, pl.DataFrame]) -> dg.ExecuteInProcessResult:
    @dg.asset(partitions_def=LETTERS, backfill_policy=dg.BackfillPolicy.single_run())
    def letters() -> dg.MaterializeResult[dict[str, pl.DataFrame]]:
        return dg.MaterializeResult(value=frames)

    return dg.materialize([letters], resources={"io_manager": StorageIOManager()}, tags=RANGE)


@pytest.mark.usefixtures("fresh_settings")
def test_a_run_of_several_partitions_stores_one_frame_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETAIL_STORAGE_URI", str(tmp_path))
    frames = {"a": PLAIN, "b": PLAIN.reverse()}
    assert materialized(frames).success
    store = TableStore(tmp_path)
    assert store.partitions("letters") == ["a", "b"]
    assert all(store.ref("letters", key).read().equals(frame) for key, frame in frames.items())


@pytest.mark.usefixtures("fresh_settings")
def test_a_partition_without_a_frame_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETAIL_STORAGE_URI", str(tmp_path))
    with pytest.raises(StorageError, match="letters: values for a; allowed: one for each of a, b"):
        materialized({"a": PLAIN})
    assert TableStore(tmp_path).partitions("letters") == []

"""A comparison on disk comes back as it was; files of unknown kinds are refused."""

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from syrupy.assertion import SnapshotAssertion

from retail_assistant.evaluation.archive import (
    FRAMES,
    JSON_REPORT,
    REPORT,
    SCHEMA_VERSION,
    cost_row,
    export_answers,
    read_comparison,
    read_dialogues,
    read_frame,
    write_comparison,
)
from retail_assistant.evaluation.comparison import TABLES, Comparison, compare
from retail_assistant.evaluation.metrics import score
from retail_assistant.storage import StorageError

Frames = Callable[..., pl.DataFrame]
TRAINING = {
    "train_seconds": 12.5,
    "train_tokens": 1000,
    "tokens_per_second": 80.0,
    "trainable_parameters": 64,
    "peak_memory_mib": 900,
    "train_loss": 0.5,
    "eval_loss": None,
    "mlflow_run_id": "r",
}
HISTORY = pl.DataFrame(
    {"step": [1, 2, 2], "loss": [2.0, 1.0, None], "eval_loss": [None, None, 1.5]}
)


@pytest.fixture(scope="module")
def comparison(dialogues: pl.DataFrame, products: pl.DataFrame, predict: Frames) -> Comparison:
    predictions = pl.concat([predict("job-a"), predict("base/grounded", "It is <b>Linen</b>.")])
    return compare(
        score(dialogues, predictions, products),
        baseline={"job-a": "base/grounded"},
        costs=pl.from_dicts([cost_row("job-a", TRAINING, {})], infer_schema_length=None),
        variants=["job-a", "job-b"],
        resamples=200,
    )


def test_a_comparison_comes_back_as_it_was(comparison: Comparison, tmp_path: Path) -> None:
    report = write_comparison(comparison, tmp_path / "report", {"job-a": HISTORY})
    again = read_comparison(tmp_path / "report")
    for name in FRAMES:
        assert_frame_equal(getattr(again, name), getattr(comparison, name))
    assert again.variants == comparison.variants
    assert again.questions == comparison.questions
    assert report == tmp_path / "report" / REPORT


def test_the_json_report_is_the_comparison(comparison: Comparison, tmp_path: Path) -> None:
    write_comparison(comparison, tmp_path, {})
    document = json.loads((tmp_path / JSON_REPORT).read_text())
    version = document.pop("schema_version")
    assert version == SCHEMA_VERSION
    assert document == json.loads(json.dumps(comparison.to_json_dict()))
    assert set(document) == {"variants", "questions", "champion", *TABLES}


def test_the_json_reports_fields_are_as_they_were(
    comparison: Comparison, snapshot: SnapshotAssertion
) -> None:
    fields = {name: dict(getattr(comparison, name).schema) for name in TABLES}
    told = {
        name: {column: str(kind) for column, kind in columns.items()}
        for name, columns in fields.items()
    }
    assert {"schema_version": SCHEMA_VERSION, "tables": told} == snapshot


def test_every_answer_is_exported(comparison: Comparison, tmp_path: Path) -> None:
    write_comparison(comparison, tmp_path / "report", {})
    for name in ("answers.parquet", "answers.csv"):
        assert export_answers(tmp_path / "report", tmp_path / name) == 22
    frame = pl.read_parquet(tmp_path / "answers.parquet")
    assert set(frame["variant"]) == {"job-a", "base/grounded"}
    assert frame["answer"].str.contains("<b>Linen</b>").sum() == 11
    assert pl.read_csv(tmp_path / "answers.csv").height == 22
    with pytest.raises(ValueError, match=r"allowed: \.parquet, \.csv"):
        export_answers(tmp_path / "report", tmp_path / "answers.xlsx")


def test_older_comparisons_are_read_and_have_no_answers(
    comparison: Comparison, tmp_path: Path
) -> None:
    write_comparison(comparison, tmp_path, {})
    for name in {*FRAMES} - {"summary", "tests", "costs", "side_by_side", "missing", "outcomes"}:
        (tmp_path / f"{name}.parquet").unlink()
    assert read_comparison(tmp_path).champion_tests.height == 0
    with pytest.raises(StorageError, match="materialize model_comparison again"):
        export_answers(tmp_path, tmp_path / "answers.csv")


def test_writing_again_gives_the_same_bytes(comparison: Comparison, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_comparison(comparison, tmp_path / folder, {"job-a": HISTORY})
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_histories_without_losses_draw_no_curve(comparison: Comparison, tmp_path: Path) -> None:
    empty = pl.DataFrame({"step": [1], "learning_rate": [0.1]})
    assert write_comparison(comparison, tmp_path, {"job-a": empty}).is_file()


def test_costs_come_from_both_manifests() -> None:
    row = cost_row("job-a", TRAINING, {"seconds job-a": 4.0, "questions": 20, "seconds job-b": 1})
    assert row["variant"] == "job-a"
    assert row["train_seconds"] == 12.5
    assert row["answer_seconds"] == 4.0
    assert row["questions_per_second"] == 5.0
    assert row["seconds_per_question"] == 0.2
    assert "mlflow_run_id" not in row


def test_what_was_not_measured_is_unknown() -> None:
    row = cost_row("job-a", {}, {"questions": 20, "seconds job-a": 0.0})
    assert row["train_seconds"] is None
    assert row["questions_per_second"] is None


@pytest.mark.parametrize(
    ("kind", "write"), [("parquet", "write_parquet"), ("jsonl", "write_ndjson")]
)
def test_frames_are_read_by_their_kind(
    dialogues: pl.DataFrame, tmp_path: Path, kind: str, write: str
) -> None:
    path = tmp_path / f"dialogues.{kind}"
    getattr(dialogues, write)(path)
    assert read_dialogues(path).sort("dialogue_id").equals(dialogues)


def test_a_csv_is_text_but_for_its_evidence(dialogues: pl.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "dialogues.csv"
    digits = dialogues.with_columns(
        pl.concat_str(pl.lit("000"), pl.int_range(pl.len())).alias("code")
    )
    digits.with_columns(pl.col("evidence").struct.json_encode()).write_csv(path)
    assert read_dialogues(path).equals(digits)


@pytest.mark.parametrize("name", ["a.txt", "a", "a.parquet.gz", "a.json"])
def test_an_unknown_kind_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"allowed: \.parquet, \.jsonl, \.csv"):
        read_frame(tmp_path / name)


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_a_broken_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"broken.{kind}"
    path.write_text("{no such thing")
    with pytest.raises(ValueError, match=f"cannot be read as {kind}"):
        read_frame(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read as parquet"):
        read_frame(tmp_path / "none.parquet")

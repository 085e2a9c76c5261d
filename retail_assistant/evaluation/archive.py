"""A comparison on disk: frames as parquet, everything as JSON, the report as one HTML file."""

import io
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from retail_assistant.evaluation.answers import exported, spreadsheet_safe
from retail_assistant.evaluation.comparison import TABLES, WHOLE, Comparison
from retail_assistant.evaluation.curve_plots import training_curves
from retail_assistant.evaluation.page import render_html
from retail_assistant.storage import StorageError, write_atomically
from retail_assistant.storage.crash_points import crossing

FRAMES = (*TABLES, *WHOLE)
CURVES = "curves.parquet"
SCHEMA_VERSION = 1
"""Of the JSON report: higher where a field changes its meaning or goes; new fields may come."""
REPORT = "report.html"
JSON_REPORT = "comparison.json"
ANSWERS = "answers.parquet"
COSTS = (
    "train_seconds",
    "train_tokens",
    "tokens_per_second",
    "trainable_parameters",
    "peak_memory_mib",
    "train_loss",
    "eval_loss",
)


READERS: dict[str, Callable[[Path | io.BytesIO], pl.DataFrame]] = {
    ".parquet": pl.read_parquet,
    ".jsonl": pl.read_ndjson,
    # Ids are text: a guess would take a hash of digits only for a number.
    ".csv": partial(pl.read_csv, infer_schema=False),
}
TEXT_FILES = (".jsonl", ".csv")
EVIDENCE = pl.Struct({"attributes": pl.List(pl.String), "product_ids": pl.List(pl.String)})
EVIDENCE_EXAMPLE = '{"attributes": ["Fabric"], "product_ids": ["…"]}'


def read_frame(path: Path) -> pl.DataFrame:
    """A table from a file.

    Raises:
        ValueError: the file's kind is not known, or it cannot be read.
    """
    reader = READERS.get(path.suffix)
    if reader is None:
        raise ValueError(f"{path}: kind {path.suffix!r}; allowed: {', '.join(READERS)}")
    try:
        return reader(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(f"{path} cannot be read as {path.suffix[1:]}: {error}") from error


def read_predictions(path: Path) -> pl.DataFrame:
    """Predictions from a file, whatever bytes a model wrote.

    In a text file, bytes that are no UTF-8 become U+FFFD, so that one bad answer is one bad answer
    and not a file that cannot be scored.

    Raises:
        ValueError: the file's kind is not known, or it cannot be read.
    """
    try:
        return read_frame(path)
    except ValueError:
        if path.suffix not in TEXT_FILES:
            raise
        content = path.read_bytes()
    mended = content.decode(errors="replace").encode()
    if mended == content:
        return read_frame(path)
    try:
        return READERS[path.suffix](io.BytesIO(mended))
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{path} cannot be read as {path.suffix[1:]}: {error}") from error


def read_dialogues(path: Path) -> pl.DataFrame:
    """Dialogues from a file; a CSV holds no structures, so there `evidence` is JSON.

    Raises:
        ValueError: the file cannot be read, or the evidence is not JSON.
    """
    frame = read_frame(path)
    if frame.schema.get("evidence") != pl.String:
        return frame
    try:
        return frame.with_columns(pl.col("evidence").str.json_decode(EVIDENCE))
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{path}: evidence is not JSON; allowed: {EVIDENCE_EXAMPLE}") from error


def cost_row(variant: str, training: Mapping[str, Any], answering: Mapping[str, Any]) -> dict:
    """What a variant cost, from the metrics of its training and answering manifests."""
    seconds = answering.get(f"seconds {variant}")
    questions = answering.get("questions")
    return {
        "variant": variant,
        **{name: training.get(name) for name in COSTS},
        "answer_seconds": seconds,
        "questions_per_second": questions / seconds if seconds and questions else None,
        "seconds_per_question": seconds / questions if seconds and questions else None,
    }


def write_comparison(
    comparison: Comparison, folder: Path, histories: Mapping[str, pl.DataFrame]
) -> Path:
    """Write a comparison to a folder; the HTML report, written last, is returned.

    Each file is there whole or not at all: the same comparison may be there and be read already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in FRAMES:
        _write_frame(getattr(comparison, name), folder / f"{name}.parquet")
    curves = training_curves(histories)
    _write_frame(curves, folder / CURVES)
    document = {"schema_version": SCHEMA_VERSION, **comparison.to_json_dict()}
    with crossing("comparison"):
        write_atomically(folder / JSON_REPORT, json.dumps(document, indent=1, allow_nan=False))
    html = render_html(comparison, title="Retail assistant: model comparison", curves=curves)
    write_atomically(folder / REPORT, html)
    return folder / REPORT


def export_answers(folder: Path, path: Path) -> int:
    """Every answer of a written comparison, with its question, as one table; its rows.

    A CSV is made so that spreadsheets take no text for a formula.

    Raises:
        ValueError: the file's kind is not known.
        StorageError: the comparison was written before it kept its answers.
    """
    if path.suffix not in (".parquet", ".csv"):
        raise ValueError(f"{path}: kind {path.suffix!r}; allowed: .parquet, .csv")
    if not (folder / "answered.parquet").is_file():
        raise StorageError(f"{folder} has no answers; materialize model_comparison again")
    frame = exported(*(pl.read_parquet(folder / f"{name}.parquet") for name in WHOLE))
    buffer = io.BytesIO()
    if path.suffix == ".csv":
        spreadsheet_safe(frame).write_csv(buffer)
    else:
        frame.write_parquet(buffer)
    write_atomically(path, buffer.getvalue())
    return frame.height


def write_answers(scored: pl.DataFrame, folder: Path) -> None:
    """Keep the SCORED answers that a comparison is of: what is decided on it is decided on them."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_frame(scored, folder / ANSWERS)


def read_answers(folder: Path) -> pl.DataFrame:
    """The SCORED answers that a comparison is of.

    Raises:
        StorageError: it was made before they were kept.
    """
    path = folder / ANSWERS
    if not path.is_file():
        raise StorageError(f"{path} is missing; materialize model_comparison again")
    return pl.read_parquet(path)


def read_comparison(folder: Path) -> Comparison:
    """The comparison that `write_comparison` left in a folder; older ones lack newer frames."""
    paths = {name: folder / f"{name}.parquet" for name in FRAMES}
    frames = {name: pl.read_parquet(path) for name, path in paths.items() if path.is_file()}
    document = json.loads((folder / JSON_REPORT).read_text())
    return Comparison(
        variants=tuple(document["variants"]),
        questions=document["questions"],
        champion=document.get("champion"),
        **frames,
    )


def _write_frame(frame: pl.DataFrame, path: Path) -> None:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    write_atomically(path, buffer.getvalue())

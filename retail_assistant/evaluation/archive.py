"""A comparison on disk: frames as parquet, everything as JSON, the report as one HTML file."""

import io
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from retail_assistant.evaluation.comparison import Comparison
from retail_assistant.evaluation.report import render_html
from retail_assistant.storage import write_atomically

FRAMES = ("summary", "tests", "costs", "side_by_side", "missing", "outcomes")
REPORT = "report.html"
JSON_REPORT = "comparison.json"
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
    }


def write_comparison(
    comparison: Comparison, folder: Path, histories: Mapping[str, pl.DataFrame]
) -> Path:
    """Write a comparison to a folder; the HTML report, written last, is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FRAMES:
        getattr(comparison, name).write_parquet(folder / f"{name}.parquet")
    write_atomically(folder / JSON_REPORT, json.dumps(comparison.to_json_dict(), indent=1))
    curves = [
        history.drop_nulls("loss").select("step", "loss", pl.lit(job).alias("job"))
        for job, history in histories.items()
        if "loss" in history.columns
    ]
    html = render_html(
        comparison,
        title="Retail assistant: model comparison",
        loss_curves=pl.concat(curves) if curves else None,
    )
    write_atomically(folder / REPORT, html)
    return folder / REPORT


def read_comparison(folder: Path) -> Comparison:
    """The comparison that `write_comparison` left in a folder."""
    frames = {name: pl.read_parquet(folder / f"{name}.parquet") for name in FRAMES}
    document = json.loads((folder / JSON_REPORT).read_text())
    return Comparison(
        variants=tuple(document["variants"]), questions=document["questions"], **frames
    )

"""Labels for new texts, batch by batch into a file that a broken-off run goes on with."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from retail_assistant.corpus.encoding import Encoder
from retail_assistant.corpus.labelled_text_files import LabelledTextError, read_text_rows
from retail_assistant.corpus.labelled_texts import TEXT_NAMES, folded, named
from retail_assistant.corpus.rendering import visible_text
from retail_assistant.evaluation.classification.labels import (
    Labels,
    LabelTokens,
    label_scores,
    label_tokens,
    log_odds,
    probabilities,
)
from retail_assistant.evaluation.engine import Engine
from retail_assistant.line_files import continued_file
from retail_assistant.spreadsheets import safe_cell

COLUMNS = ("row", "text", "label", "probability")
SUFFIXES = (".csv", ".jsonl")
BATCH = 128


class NewText(NamedTuple):
    """A text to label: the data row of its file, counted from 1."""

    row: int
    text: str


class Classifier(NamedTuple):
    """A model with what it was trained to say."""

    engine: Engine
    encoder: Encoder
    labels: Labels
    temperature: float
    max_length: int


def new_texts(path: Path, column: str | None = None) -> list[NewText]:
    """The texts of a file, every row of it; what cannot be read is an empty text.

    Raises:
        LabelledTextError: as `read_text_rows`, or it cannot be told which column has the texts.
    """
    columns, rows = read_text_rows(path)
    found = column or named(columns, TEXT_NAMES) or (columns[0] if len(columns) == 1 else None)
    if found not in columns:
        raise LabelledTextError(
            f"{path}: no column {found or 'text'}; allowed: --column with one of"
            f" {', '.join(columns)}"
        )
    texts = ((row.number, visible_text(row.fields.get(found, ""))) for row in rows)
    return [NewText(number, " ".join(text.split())) for number, text in texts]


def label_file(
    classifier: Classifier,
    texts: Sequence[NewText],
    output: Path,
    *,
    resume: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write a row a text into `output` (.csv or .jsonl); returns how many were there already.

    Columns: row, text, label, probability (of that label; scaled by the classifier's temperature).
    An empty text, and one longer than the model reads, has neither label nor probability.
    In a .csv no spreadsheet takes a text for a formula.

    Raises:
        ValueError: another kind of file, one that is there without `resume`, or, with it, one of
            other texts.
    """
    if output.suffix not in SUFFIXES:
        raise ValueError(f"{output}: allowed: a file ending in {' or '.join(SUFFIXES)}")
    written = partial(_written, output, texts)
    with continued_file(output, written, resume=resume) as (stream, done):
        if not output.stat().st_size and output.suffix == ".csv":
            stream.write(_csv_line(COLUMNS))
        for start in range(done, len(texts), BATCH):
            batch = texts[start : start + BATCH]
            stream.writelines(_lines(_labelled(classifier, batch), output.suffix))
            stream.flush()
            progress(min(start + BATCH, len(texts)), len(texts))
    return done


def _labelled(classifier: Classifier, batch: Sequence[NewText]) -> list[dict[str, Any]]:
    labels = classifier.labels
    tokens = label_tokens([one.text for one in batch], labels, classifier.encoder)
    fits = [
        bool(one.text)
        and len(found.prompt) + max(len(found.negative), len(found.positive))
        < classifier.max_length
        for one, found in zip(batch, tokens, strict=True)
    ]
    asked = [found for found, fitting in zip(tokens, fits, strict=True) if fitting]
    chances = iter(_chances(classifier, asked))
    rows: list[dict[str, Any]] = []
    for one, fitting in zip(batch, fits, strict=True):
        row: dict[str, Any] = {"row": one.row, "text": one.text, "label": None, "probability": None}
        if fitting:
            positive = next(chances)
            row["label"] = labels.positive if positive >= 0.5 else labels.negative
            row["probability"] = round(max(positive, 1 - positive), 6)
        rows.append(row)
    return rows


def _chances(classifier: Classifier, asked: Sequence[LabelTokens]) -> list[float]:
    if not asked:
        return []
    odds = log_odds(label_scores(classifier.engine, asked))
    return [float(one) for one in probabilities(odds, classifier.temperature)]


def _lines(rows: Sequence[dict[str, Any]], suffix: str) -> Iterator[str]:
    for row in rows:
        if suffix == ".jsonl":
            yield json.dumps(row, ensure_ascii=False) + "\n"
        else:
            yield _csv_line([row[name] for name in COLUMNS])


def _csv_line(values: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(
        safe_cell(value) if isinstance(value, str) else value for value in values
    )
    return line.getvalue()


def _written(output: Path, texts: Sequence[NewText], lines: Sequence[str]) -> int:
    """How many rows are there; a row is a line, for texts have none of their own."""
    rows = _read_back(lines, output.suffix)
    as_cell: Callable[[str], str] = safe_cell if output.suffix == ".csv" else str
    if len(rows) > len(texts) or any(
        (row, folded(text)) != (one.row, folded(as_cell(one.text)))
        for (row, text), one in zip(rows, texts, strict=False)
    ):
        raise ValueError(f"{output} is of other texts; allowed: another file")
    return len(rows)


def _read_back(lines: Sequence[str], suffix: str) -> list[tuple[int, str]]:
    if suffix == ".jsonl":
        found = map(json.loads, lines)
        return [(row["row"], row["text"]) for row in found]
    return [(int(row["row"]), row["text"]) for row in csv.DictReader(lines)]

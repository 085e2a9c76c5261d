"""Reading a file of labelled texts, every row of it as text: .csv, .tsv, .jsonl and .parquet."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

DELIMITERS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (*DELIMITERS, ".jsonl", ".parquet")
MAX_FILE_BYTES = 256 << 20
MAX_FIELD_CHARACTERS = 1 << 20

_ALLOWED = f"allowed: a file ending in {', '.join(SUFFIXES)}"


class LabelledTextError(ValueError):
    """A file of labelled texts cannot be used; says which, what is wrong and what is allowed."""


class TextRow(NamedTuple):
    """A data row of a file, counted from 1. `problem` says why it has no fields."""

    number: int
    fields: Mapping[str, str]
    problem: str | None = None


def read_text_rows(path: Path) -> tuple[list[str], list[TextRow]]:
    """The columns of a file and its rows; empty lines are no rows.

    Raises:
        LabelledTextError: another kind of file, too large, no UTF-8, no columns or no rows, or a
            quote that is never closed.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise LabelledTextError(f"{path}: {_ALLOWED}")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise LabelledTextError(f"{path}: allowed: up to {MAX_FILE_BYTES >> 20} MiB")
    if suffix == ".parquet":
        columns, rows = _parquet(path)
    elif suffix == ".jsonl":
        rows = list(_json_rows(_text(path)))
        columns = list(dict.fromkeys(name for row in rows for name in row.fields))
    else:
        columns, rows = _separated(path, DELIMITERS[suffix])
    if not rows:
        raise LabelledTextError(f"{path}: no rows; allowed: a file with texts and labels")
    return columns, rows


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelledTextError(
            f"{path}: not UTF-8 at byte {error.start}; allowed: UTF-8"
        ) from error


def _separated(path: Path, delimiter: str) -> tuple[list[str], list[TextRow]]:
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    reader = csv.reader(io.StringIO(_text(path), newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        if not all(header) or len(set(header)) < len(header):
            raise LabelledTextError(
                f"{path}: columns {header}; allowed: a first line of different names"
            )
        return header, list(_numbered(header, reader))
    except csv.Error as error:
        raise LabelledTextError(f"{path}: line {reader.line_num}: {error}") from error


def _numbered(header: Sequence[str], lines: Iterator[list[str]]) -> Iterator[TextRow]:
    for number, values in enumerate(filter(None, lines), start=1):
        if len(values) == len(header):
            yield TextRow(number, dict(zip(header, values, strict=True)))
        else:
            yield TextRow(number, {}, f"{len(values)} fields; the first line has {len(header)}")


def _json_rows(text: str) -> Iterator[TextRow]:
    # Not splitlines(): JSON strings may hold the line separators of Unicode.
    for number, line in enumerate(filter(str.strip, text.split("\n")), start=1):
        try:
            found = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            yield TextRow(number, {}, f"not JSON: {' '.join(str(error).split())[:200]}")
            continue
        if isinstance(found, dict):
            yield TextRow(number, {name: _as_text(value) for name, value in found.items()})
        else:
            yield TextRow(number, {}, "no object with fields")


def _parquet(path: Path) -> tuple[list[str], list[TextRow]]:
    import polars as pl

    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        why = " ".join(str(error).split())[:300]
        raise LabelledTextError(f"{path}: not parquet ({why}); allowed: parquet") from error
    rows = (
        TextRow(number, {name: _as_text(value) for name, value in row.items()})
        for number, row in enumerate(frame.iter_rows(named=True), start=1)
    )
    return frame.columns, list(rows)


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)

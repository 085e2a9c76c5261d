"""`retail-assistant feedback` and `batch`: what a person does in a terminal."""

import csv
import json
from pathlib import Path

import polars as pl
import pytest

from retail_assistant.corpus.knowledge import read_knowledge
from retail_assistant.serving import batch
from retail_assistant.serving.options import get_serving_settings
from retail_assistant.storage import TableStore
from retail_assistant_tests.catalogs import assortment_of
from retail_assistant_tests.serving.feedback.test_report import planted
from retail_assistant_tests.test_cli import Cli, assert_refused, cli

__all__ = ["cli"]

STEWARD = ("--by", "Ann Doe", "--reason", "as our staff says")


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_settings: None) -> Path:
    root = tmp_path / "var"
    monkeypatch.setenv("RETAIL_STORAGE_URI", str(root))
    monkeypatch.delenv("RETAIL_KNOWLEDGE", raising=False)
    get_serving_settings.cache_clear()
    planted(
        root,
        ("do you wrap gifts?", "unknown", [], None, "one"),
        ("do you wrap gifts?", "unknown", [], None, "one"),
        ("is it lined [red]?", None, ["p1"], "down", "one"),
        ("is it warm?", None, ["p1"], "up", "one"),
    )
    return root


def test_the_report_is_told(cli: Cli, storage: Path) -> None:
    told = cli("feedback", "report")
    assert told.code == 0
    for words in ("4 turns, 50.0%", "do you wrap gifts?", "p1", "adapter-one", "0.500"):
        assert words in told.out
    report = json.loads(cli("feedback", "report", "--json").out)
    assert report["unanswered"][0]["asked"] == 2
    assert report["totals"] == {"recorded": 4, "pruned": 0, "forgotten": 0}


def test_turns_are_exported_and_forgotten(cli: Cli, storage: Path, tmp_path: Path) -> None:
    for suffix in ("jsonl", "csv", "parquet"):
        assert cli("feedback", "export", "--output", tmp_path / f"all.{suffix}").code == 0
    assert pl.read_parquet(tmp_path / "all.parquet").height == 4
    with (tmp_path / "all.csv").open(newline="") as stream:
        assert [row["product_ids"] for row in csv.DictReader(stream)] == ["", "", "p1", "p1"]
    first = json.loads((tmp_path / "all.jsonl").read_text().splitlines()[0])
    assert first["question"] == "do you wrap gifts?"
    assert_refused(cli("feedback", "export", "--output", "all.txt"), "allowed", ".jsonl")
    assert cli("feedback", "forget", "a0000").code == 0
    assert_refused(cli("feedback", "forget", "a0000"), "nothing is kept of the answer 'a0000'")
    assert json.loads(cli("feedback", "report", "--json").out)["totals"]["forgotten"] == 1


@pytest.mark.fault(
    "A shopper's question, a review or an answer of a model begins like a spreadsheet formula",
    "Exports (answers, feedback, candidates, labels) have it as text",
)
def test_what_a_shopper_wrote_is_no_formula_in_an_export(
    cli: Cli, storage: Path, tmp_path: Path
) -> None:
    formula = "=1+1, is it warm?"
    planted(storage, (formula, "unknown", [], None, "one"))
    assert cli("feedback", "export", "--output", tmp_path / "all.csv").code == 0
    with (tmp_path / "all.csv").open(newline="") as stream:
        asked = [row["question"] for row in csv.DictReader(stream)]
    assert f"'{formula}" in asked
    assert formula not in asked


def test_old_turns_are_pruned(cli: Cli, storage: Path) -> None:
    told = cli("feedback", "prune")
    assert "4 turns were older than 90 days" in told.out  # they are of a day in the past


def test_a_sheet_is_written_filled_in_and_approved(cli: Cli, storage: Path, tmp_path: Path) -> None:
    product = assortment_of().head(1)
    named = product.with_columns(product_id=pl.lit("p1"), name=pl.lit("Warm Kurta"))
    TableStore(storage).write(named, "assortment")
    sheet, folder = tmp_path / "candidates.csv", tmp_path / "knowledge"
    assert cli("feedback", "candidates", "--output", sheet).code == 0
    with sheet.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["product"] for row in rows] == ["", "Warm Kurta"]
    assert_refused(cli("feedback", "candidates", "--output", sheet), "is there already")

    rows[0] |= {"approved": "yes", "answer": "Yes, for free."}
    rows[1] |= {"approved": "yes"}
    with sheet.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    assert_refused(cli("feedback", "approve", "--sheet", sheet, *STEWARD), "RETAIL_KNOWLEDGE")
    to = ("--knowledge", folder)
    told = cli("feedback", "approve", "--sheet", sheet, *STEWARD, *to)
    assert told.code == 0
    assert "1 questions added to" in told.out
    assert "row 2: not used: no answer" in told.err
    (item,) = read_knowledge(folder).items
    assert (item.asked, item.answer) == ("do you wrap gifts?", "Yes, for free.")


def test_a_file_of_questions_is_answered(
    cli: Cli, storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        batch, "ANSWERING", "retail_assistant_tests.serving.recorded_answers:open_recorded"
    )
    source, output = tmp_path / "questions.csv", tmp_path / "answers.jsonl"
    source.write_text("id,question\n7,Is it warm?\n8,unknown\n9,\n")
    told = cli("batch", "--input", source, "--output", output)
    assert told.code == 0
    assert "3 of 3 questions" in told.err
    assert (
        "(0 were there already): 2 answers, 1 of them declined; 1 errors (1 bad_line)" in told.out
    )
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [line["id"] for line in lines] == ["7", "8", "9"]
    assert_refused(cli("batch", "--input", source, "--output", output), "--resume")
    again = cli("batch", "--input", source, "--output", output, "--resume")
    assert "(3 were there already)" in again.out

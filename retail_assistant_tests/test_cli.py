"""The command line: what it prints, and one clear sentence for what a person can mend."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest

from retail_assistant import __version__
from retail_assistant.cli import main
from retail_assistant.evaluation.archive import write_comparison
from retail_assistant.launch.spec import ArtefactRef, write_artefact_ref
from retail_assistant.settings import Settings, get_settings
from retail_assistant_tests.chat_server import ChatServer
from retail_assistant_tests.evaluation.large import large_comparison

COLUMNS_OF_THE_FLIPKART_SAMPLE = 15
DIALOGUES = pl.DataFrame(
    [
        {
            "dialogue_id": f"q{number}",
            "product_id": product_id,
            "product_name": name,
            "reference": name,
            "intent": "attribute",
            "subset": "unseen",
            "question": f"What is the fabric of {name}?",
            "answer": f"The fabric of {name} is {value}.",
            "asked_attribute": "Fabric",
            "gold_value": value,
            "evidence": {"attributes": ["Fabric"], "product_ids": [product_id]},
        }
        for number, (product_id, name, value) in enumerate(
            [("p1", "Velmora Casual Shirt", "Linen"), ("p2", "Orbina Evening Dress", "Silk")]
        )
    ]
)
PREDICTIONS = pl.DataFrame(
    {
        "dialogue_id": ["q0", "q1"],
        "variant": ["mine", "mine"],
        "answer": ["The fabric of Velmora Casual Shirt is Linen.", "It is Wool."],
        "finish_reason": ["stop", "stop"],
    }
)


class Result(NamedTuple):
    code: int
    out: str
    err: str


Cli = Callable[..., Result]


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fresh_settings: None
) -> Cli:
    """Run the program's entry point with arguments."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["retail-assistant", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        code = ended.value.code
        return Result(code if isinstance(code, int) else int(code is not None), out, err)

    return run


def assert_refused(result: Result, *words: str) -> None:
    """One clear sentence on stderr, exit code 2, no traceback."""
    assert result.code == 2, result
    assert "Traceback" not in result.err
    assert len(result.err.strip().splitlines()) == 1, result.err
    for word in words:
        assert word in result.err


def test_the_version_is_printed(cli: Cli) -> None:
    assert cli("version") == Result(0, f"{__version__}\n", "")


def test_a_catalog_is_synthesized_and_cleaned(cli: Cli, tmp_path: Path) -> None:
    catalog = tmp_path / "catalog.csv"
    written = cli(
        "catalog", "synthesize", "--rows", 60, "--seed", 5, "--dirt", 0.5, "--output", catalog
    )
    assert written.code == 0
    assert len(pl.read_csv(catalog, infer_schema=False).columns) == COLUMNS_OF_THE_FLIPKART_SAMPLE
    cleaned = cli("catalog", "clean", catalog, "--output", tmp_path / "clean")
    assert cleaned.code == 0
    counts = json.loads(cleaned.out)
    assert counts["rows_in"] == counts["products"] + counts["rejected"] == 60
    assert sum(counts["reasons"].values()) == counts["rejected"] > 0
    rows = [pl.read_parquet(path).height for path in (tmp_path / "clean").glob("*.parquet")]
    assert sorted(rows) == sorted([counts["products"], counts["rejected"]])


def test_the_same_seed_writes_the_same_catalog(cli: Cli, tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        arguments = ("--rows", 20, "--seed", seed, "--output", tmp_path / f"{name}.csv")
        assert cli("catalog", "synthesize", *arguments).code == 0
    a, b, c = ((tmp_path / f"{name}.csv").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_a_missing_catalog_is_refused(cli: Cli, tmp_path: Path) -> None:
    result = cli("catalog", "clean", tmp_path / "nothing.csv", "--output", tmp_path / "clean")
    assert_refused(result, "nothing.csv was not found", "allowed")
    assert result.out == ""
    assert not (tmp_path / "clean").exists()


def test_a_catalog_without_its_columns_is_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    result = cli("catalog", "clean", tmp_path / "other.csv", "--output", tmp_path / "clean")
    assert_refused(result, "other.csv", "uniq_id")


@pytest.mark.parametrize("arguments", [("--rows", 0), ("--rows", 5, "--dirt", 2)])
def test_options_out_of_range_are_refused(
    cli: Cli, tmp_path: Path, arguments: tuple[object, ...]
) -> None:
    result = cli("catalog", "synthesize", *arguments, "--output", tmp_path / "x.csv")
    assert result.code == 2
    assert arguments[-2] in result.err
    assert not (tmp_path / "x.csv").exists()


def test_every_setting_is_shown(cli: Cli) -> None:
    result = cli("settings")
    assert result.code == 0
    for name in Settings.model_fields:
        assert f"RETAIL_{name.upper()}" in result.out


def test_a_wrong_setting_is_refused(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETAIL_SEED", "seven")
    assert_refused(cli("settings"), "RETAIL_SEED=seven", "valid integer")


def flat(frame: pl.DataFrame) -> pl.DataFrame:
    """Structures as JSON, as a CSV needs them."""
    return frame.with_columns(pl.col(pl.Struct).struct.json_encode())


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
def test_predictions_are_scored(cli: Cli, tmp_path: Path, kind: str) -> None:
    write = {"parquet": "write_parquet", "jsonl": "write_ndjson", "csv": "write_csv"}[kind]
    for name, frame in (("dialogues", DIALOGUES), ("predictions", PREDICTIONS)):
        getattr(flat(frame) if kind == "csv" else frame, write)(tmp_path / f"{name}.{kind}")
    arguments = ("--dialogues", tmp_path / f"dialogues.{kind}")
    arguments += ("--predictions", tmp_path / f"predictions.{kind}")
    result = cli("evaluate", *arguments, "--json")
    assert result.code == 0, result.err
    document = json.loads(result.out)
    (accuracy,) = [
        row
        for row in document["metrics"]
        if (row["metric"], row["subset"]) == ("strict_accuracy", "unseen")
    ]
    assert (accuracy["value"], accuracy["numerator"], accuracy["denominator"]) == (0.5, 1, 2)
    assert sum(row["questions"] for row in document["outcomes"]) == 2
    table = cli("evaluate", *arguments)
    assert table.code == 0
    assert "strict_accuracy" in table.out


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, ...]:
    """Options that name a file of dialogues and one of predictions."""
    DIALOGUES.write_parquet(tmp_path / "d.parquet")
    PREDICTIONS.write_parquet(tmp_path / "p.parquet")
    return (
        "--dialogues", str(tmp_path / "d.parquet"), "--predictions", str(tmp_path / "p.parquet"),
    )  # fmt: skip


@pytest.fixture
def products(tmp_path: Path) -> Path:
    """The catalog that the dialogues are about."""
    rows = [
        {
            "product_id": row["product_id"],
            "name": row["product_name"],
            "department": "Clothing",
            "category": "Men's Clothing" if row["product_id"] == "p1" else "Women's Clothing",
            "subcategory": None,
            "attributes": [{"name": "Fabric", "value": row["gold_value"]}],
        }
        for row in DIALOGUES.iter_rows(named=True)
    ]
    path = tmp_path / "products.parquet"
    pl.DataFrame(rows, schema_overrides={"subcategory": pl.String}).write_parquet(path)
    return path


def test_errors_rules_and_groups_are_told(cli: Cli, files: tuple[str, ...], products: Path) -> None:
    arguments = (*files, "--products", products, "--by", "category")
    document = json.loads(cli("evaluate", *arguments, "--json").out)
    assert [row["error_class"] for row in document["errors"]] == ["wrong_value"]
    assert document["strict_beside_loose"][0]["strict_right"] == 1
    accuracy = {
        row["group"]: (row["numerator"], row["denominator"])
        for row in document["groups"]
        if row["metric"] == "strict_accuracy"
    }
    assert accuracy == {"Men's Clothing": (1, 1), "Women's Clothing": (0, 1)}
    assert document["judge"] is None
    table = cli("evaluate", *arguments)
    assert table.code == 0
    for words in ("wrong_value", "Error classes", "By group", "Men's Clothing", "loose"):
        assert words in table.out
    assert_refused(cli("evaluate", *files, "--by", "colour"), "--by colour", "subcategory")


def test_a_judge_is_asked_and_compared_with_a_person(
    cli: Cli,
    files: tuple[str, ...],
    products: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert_refused(cli("evaluate", *files, "--judge"), "RETAIL_JUDGE_URL")
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("dialogue_id,variant,truthfulness\nq0,mine,5\nq1,mine,1\n")
    monkeypatch.setenv("RETAIL_STORAGE_URI", str(tmp_path / "var"))
    monkeypatch.setenv("RETAIL_JUDGE_MODEL", "strict")
    with ChatServer().running() as server:
        monkeypatch.setenv("RETAIL_JUDGE_URL", server.url)
        get_settings.cache_clear()
        assert_refused(cli("evaluate", *files, "--judge"), "--products")
        arguments = (*files, "--products", products, "--judge", "--judge-sheet", sheet)
        document = json.loads(cli("evaluate", *arguments, "--json").out)
    (mean,) = [
        row
        for row in document["metrics"]
        if (row["metric"], row["subset"]) == ("truthfulness", "unseen")
    ]
    assert (mean["denominator"], 1 < mean["value"] < 5) == (2, True)
    assert document["judge"]["agreement"]["answers"] == 2
    assert "strict at http" in document["judge"]["judge"]


def test_numbers_that_are_none_are_refused(
    cli: Cli, tmp_path: Path, files: tuple[str, ...]
) -> None:
    path = tmp_path / "p.csv"
    PREDICTIONS.with_columns(sem_score=pl.lit("high")).write_csv(path)
    assert_refused(cli("evaluate", *files[:2], "--predictions", path), "sem_score is no number")


def test_files_that_cannot_be_scored_are_refused(cli: Cli, tmp_path: Path) -> None:
    good, text, broken = (tmp_path / name for name in ("d.parquet", "p.txt", "p.parquet"))
    DIALOGUES.write_parquet(good)
    text.write_text("It is Linen.")
    broken.write_text("no parquet")
    result = cli("evaluate", "--dialogues", good, "--predictions", text)
    assert_refused(result, "p.txt: kind '.txt'", "allowed: .parquet, .jsonl, .csv")
    result = cli("evaluate", "--dialogues", good, "--predictions", broken)
    assert_refused(result, "p.parquet cannot be read as parquet")
    unreadable = tmp_path / "d.csv"
    flat(DIALOGUES).with_columns(evidence=pl.lit("Fabric")).write_csv(unreadable)
    result = cli("evaluate", "--dialogues", unreadable, "--predictions", good)
    assert_refused(result, "d.csv: evidence is not JSON")
    result = cli("evaluate", "--dialogues", good, "--predictions", good)
    assert_refused(result, "predictions", "variant")


def test_a_predictions_file_that_is_not_there_is_refused(cli: Cli, tmp_path: Path) -> None:
    DIALOGUES.write_parquet(tmp_path / "d.parquet")
    missing = tmp_path / "none.parquet"
    result = cli("evaluate", "--dialogues", tmp_path / "d.parquet", "--predictions", missing)
    assert result.code == 2
    assert "does not exist" in result.err


def test_evaluate_documents_its_columns(cli: Cli) -> None:
    described = cli("evaluate", "--help").out
    for column in (
        "dialogue_id",
        "gold_value",
        "evidence",
        "asked_attribute",
        "finish_reason",
        "variant",
    ):
        assert column in described


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of a stored comparison."""
    folder = tmp_path / "var" / "artefacts" / "model_comparison" / "abc"
    write_comparison(large_comparison(4, 2), folder, {})
    ref = ArtefactRef(folder=folder, fingerprint="abc")
    write_artefact_ref(ref, tmp_path / "var", "model_comparison", None)
    monkeypatch.setenv("RETAIL_STORAGE_URI", str(tmp_path / "var"))
    return folder


def test_the_report_is_copied_and_its_answers_are_written(
    cli: Cli, compared: Path, tmp_path: Path
) -> None:
    page, answers = tmp_path / "sent" / "page.html", tmp_path / "answers.csv"
    result = cli("report", "--output", str(page), "--answers", str(answers))
    assert result.code == 0
    assert page.read_bytes() == (compared / "report.html").read_bytes()
    assert pl.read_csv(answers).height == 8
    assert "8 answers" in result.err
    assert_refused(cli("report", "--answers", str(tmp_path / "answers.xls")), ".xls", "allowed")


def test_the_reports_json_stays_json_beside_files(cli: Cli, compared: Path, tmp_path: Path) -> None:
    result = cli("report", "--json", "--answers", str(tmp_path / "answers.parquet"))
    assert json.loads(result.out)["schema_version"] == 1


def test_the_report_is_opened_in_the_browser(
    cli: Cli, compared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, browser = tmp_path / "seen", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {seen}\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    assert cli("report", "--open").code == 0
    assert seen.read_text().strip() == (compared / "report.html").as_uri()


@pytest.mark.parametrize("arguments", [("report",), ("report", "--json"), ("chat",)])
def test_without_a_run_the_next_step_is_told(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("RETAIL_STORAGE_URI", str(tmp_path / "empty"))
    result = cli(*arguments)
    assert_refused(result, "yet;")
    assert "materialize it first" in result.err or "make run" in result.err


def test_storage_of_another_cloud_is_refused(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETAIL_STORAGE_URI", "s3://bucket")
    assert_refused(cli("report"), "RETAIL_STORAGE_URI=s3://bucket", "allowed")

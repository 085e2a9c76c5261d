"""`retail-assistant corpus`: what the data steward reads and decides in a terminal."""

from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from retail_assistant.corpus.approval import SCREENED, ApprovalRecord
from retail_assistant.corpus.splits import split_products
from retail_assistant.definitions import defs
from retail_assistant.settings import get_settings
from retail_assistant.storage import TableRef, TableStore
from retail_assistant_tests.catalogs import assortment_of
from retail_assistant_tests.corpora import template_dialogues
from retail_assistant_tests.test_cli import Cli, assert_refused, cli

__all__ = ["cli"]

STEWARD = ("--by", "Ann Doe", "--reason", "the sample reads well")


@pytest.fixture(scope="module")
def assortment() -> pl.DataFrame:
    return assortment_of()


@pytest.fixture(scope="module")
def dialogues(assortment: pl.DataFrame) -> pl.DataFrame:
    splits = split_products(assortment, seed=0)
    return template_dialogues(assortment.head(40), splits, assortment, seed=0)


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_settings: None) -> Path:
    """An empty storage folder in which a person must decide."""
    monkeypatch.setenv("RETAIL_STORAGE_URI", str(tmp_path))
    monkeypatch.setenv("RETAIL_APPROVAL", "required")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    return tmp_path


@pytest.fixture
def corpus(
    storage: Path,
    assortment: pl.DataFrame,
    dialogues: pl.DataFrame,
    capsys: pytest.CaptureFixture[str],
) -> TableRef:
    """A corpus with its sheet."""
    tables = TableStore(storage)
    rejected = dialogues.head(2).with_columns(reason=pl.lit("leak"), detail=pl.lit("[bold]"))
    tables.write(assortment, "assortment")
    tables.write(rejected, "rejected_dialogues")
    latest = tables.write(dialogues, SCREENED)
    job = dg.define_asset_job("of_this_test", dg.AssetSelection.assets("corpus_sheet"))
    graph = dg.Definitions.merge(defs(), dg.Definitions(jobs=[job]))
    with dg.DagsterInstance.ephemeral() as instance:
        graph.resolve_job_def("of_this_test").execute_in_process(instance=instance)
    capsys.readouterr()
    return latest


def record(storage: Path) -> ApprovalRecord:
    return ApprovalRecord(storage, get_settings().approval_mode)


def test_a_version_is_shown_approved_and_rejected(
    cli: Cli, storage: Path, corpus: TableRef
) -> None:
    before = cli("corpus", "show")
    assert before.code == 0
    assert corpus.sha256 in before.out
    assert f"corpus approve --version {corpus.sha256[:12]}" in before.out
    (sheet,) = (storage / "artefacts" / "corpus_sheet").glob("*/*.html")
    assert str(sheet) in before.out
    assert "train" in before.out

    approved = cli("corpus", "approve", *STEWARD, "--version", corpus.sha256[:12])
    assert approved.code == 0
    assert approved.err == ""
    assert "was approved by Ann Doe" in approved.out
    assert "was approved by Ann Doe" in cli("corpus", "show").out

    rejected = cli("corpus", "reject", "--by", "Bo [red]", "--reason", "on second thought")
    assert rejected.code == 0
    assert rejected.err == ""
    assert "was rejected by Bo [red]" in rejected.out
    assert record(storage).standing(corpus.sha256).state == "rejected"

    lines = cli("corpus", "history").out.splitlines()
    found = [line for line in lines if corpus.sha256[:12] in line]
    assert ["rejected" in found[0], "approved" in found[1]] == [True, True]
    assert "Bo [red]" in found[0]
    assert "on second thought" in found[0]


def test_dagster_knows_what_was_decided_in_the_terminal(
    cli: Cli, storage: Path, corpus: TableRef
) -> None:
    cli("corpus", "approve", *STEWARD)
    with dg.DagsterInstance.from_config(str(storage / "dagster")) as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey("corpus_approval"))
        assert event is not None
        assert event.asset_materialization is not None
        assert event.asset_materialization.metadata["by"].value == "Ann Doe"
        (run,) = instance.get_runs()
        assert (run.job_name, run.status) == ("decide_corpus", dg.DagsterRunStatus.SUCCESS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--by", " ", "--reason", "r"), ("by: ", "at least 1 character")),
        (("--by", "Ann", "--reason", "r" * 1_001), ("reason: ", "at most 1000 characters")),
        ((*STEWARD, "--version", "123"), ("no corpus version begins with '123'", "the latest is")),
    ],
)
def test_a_decision_that_cannot_be_taken_is_refused(
    cli: Cli, storage: Path, corpus: TableRef, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    assert_refused(cli("corpus", "approve", *arguments), *words)
    assert record(storage).decisions() == []


def test_a_corpus_without_its_sheet_is_refused(
    cli: Cli, storage: Path, corpus: TableRef, dialogues: pl.DataFrame
) -> None:
    TableStore(storage).write(dialogues.head(50), SCREENED)
    assert "materialize corpus_sheet" in cli("corpus", "show").out
    assert_refused(cli("corpus", "approve", *STEWARD), "has no sheet yet")
    older = (*STEWARD, "--version", corpus.sha256[:12])
    assert_refused(cli("corpus", "approve", *older), "is not the latest")


def test_a_larger_sheet_is_written_where_it_is_wanted(
    cli: Cli, storage: Path, corpus: TableRef
) -> None:
    sizes = []
    for samples in (1, 20):
        output = storage / f"{samples}.html"
        assert cli("corpus", "sheet", "--output", output, "--samples", samples).code == 0
        sizes.append(output.read_text().count('class="question"'))
        assert corpus.sha256 in output.read_text()
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("command", ["show", "sheet", "approve", "reject"])
def test_without_a_corpus_the_next_step_is_told(cli: Cli, storage: Path, command: str) -> None:
    arguments = STEWARD if command in ("approve", "reject") else ()
    assert_refused(
        cli("corpus", command, *arguments), "screened_dialogues does not exist yet", "materialize"
    )


def test_without_decisions_the_history_is_empty(cli: Cli, storage: Path) -> None:
    result = cli("corpus", "history")
    assert result.code == 0
    assert "decision" in result.out
    assert "approved" not in result.out


@pytest.mark.parametrize("command", ["approve", "reject"])
def test_a_name_and_a_reason_must_be_given(cli: Cli, command: str) -> None:
    assert cli("corpus", command, "--reason", "r").code == 2
    described = cli("corpus", command, "--help").out
    for option in ("--by", "--reason", "--version"):
        assert option in described

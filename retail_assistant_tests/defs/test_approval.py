"""The sheet, the decision and the check as the real assets make them; no heavy work."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from retail_assistant.corpus.approval import SCREENED, ApprovalRecord, short_version
from retail_assistant.corpus.splits import split_products
from retail_assistant.definitions import defs
from retail_assistant.launch.spec import ArtefactRef, write_artefact_ref
from retail_assistant.quickstart import failure_reason
from retail_assistant.settings import get_settings
from retail_assistant.storage import TableRef, TableStore
from retail_assistant_tests.catalogs import assortment_of
from retail_assistant_tests.corpora import template_dialogues

STEWARD = {"decision": "approved", "by": "Ann Doe", "reason": "the sample reads well"}


@pytest.fixture(scope="module")
def assortment() -> pl.DataFrame:
    return assortment_of()


@pytest.fixture(scope="module")
def dialogues(assortment: pl.DataFrame) -> pl.DataFrame:
    splits = split_products(assortment, seed=0)
    return template_dialogues(assortment.head(40), splits, assortment, seed=0)


class Desk:
    """A storage folder with a corpus, and the graph's approval on it."""

    def __init__(
        self, folder: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.folder = folder
        self.instance = instance
        self.graph = defs()
        self._monkeypatch = monkeypatch

    def mode(self, mode: str) -> None:
        self._monkeypatch.setenv("RETAIL_APPROVAL", mode)
        get_settings.cache_clear()

    @property
    def record(self) -> ApprovalRecord:
        return ApprovalRecord(self.folder, get_settings().approval_mode)

    def put(self, dialogues: pl.DataFrame) -> TableRef:
        """Make dialogues the latest corpus."""
        reasons = {"reason": pl.lit("leak"), "detail": pl.lit("asks what is held out")}
        rejected = dialogues.head(2).with_columns(**reasons)
        TableStore(self.folder).write(rejected, "rejected_dialogues")
        return TableStore(self.folder).write(dialogues, SCREENED)

    def run(self, *names: str) -> dg.ExecuteInProcessResult:
        job = dg.define_asset_job("of_this_test", dg.AssetSelection.assets(*names))
        graph = dg.Definitions.merge(self.graph, dg.Definitions(jobs=[job]))
        return graph.resolve_job_def("of_this_test").execute_in_process(
            instance=self.instance, raise_on_error=False
        )

    def decide(self, **config: str) -> dg.ExecuteInProcessResult:
        return self.job(STEWARD | config)

    def job(self, config: dict[str, str], **tags: str) -> dg.ExecuteInProcessResult:
        return self.graph.resolve_job_def("decide_corpus").execute_in_process(
            instance=self.instance,
            raise_on_error=False,
            run_config={"ops": {"corpus_approval": {"config": config}}},
            tags=tags,
        )


@pytest.fixture
def desk(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fresh_settings: None,
    assortment: pl.DataFrame,
    dialogues: pl.DataFrame,
) -> Iterator[Desk]:
    monkeypatch.setenv("RETAIL_STORAGE_URI", str(tmp_path))
    with dg.DagsterInstance.ephemeral() as instance:
        desk = Desk(tmp_path, instance, monkeypatch)
        desk.mode("required")
        TableStore(tmp_path).write(assortment, "assortment")
        desk.put(dialogues)
        yield desk


def told(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    for event in result.get_asset_materialization_events():
        if event.asset_key == dg.AssetKey(asset):
            metadata = event.step_materialization_data.materialization.metadata
            return {name: entry.value for name, entry in metadata.items()}
    raise AssertionError(f"{asset} was not materialized")


def check(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    (evaluation,) = result.get_asset_check_evaluations()
    assert evaluation.check_name == "corpus_is_approved"
    return evaluation


def test_a_new_corpus_waits_and_says_how_to_decide(desk: Desk) -> None:
    result = desk.run("corpus_sheet", "corpus_approval")
    assert not result.success
    assert not check(result).passed
    version = short_version(desk.record.latest.sha256)
    assert f"corpus approve --version {version}" in failure_reason(result)
    assert "decide_corpus" in failure_reason(result)
    assert told(result, "corpus_approval")["state"] == "pending"
    assert desk.record.decisions() == []


def test_the_sheet_is_there_to_be_read(desk: Desk, dialogues: pl.DataFrame) -> None:
    metadata = told(desk.run("corpus_sheet"), "corpus_sheet")
    html = Path(metadata["sheet"]).read_text()
    assert desk.record.latest.sha256 in html
    assert metadata["dialogues"] == dialogues.height
    assert metadata["rejected"] == 2
    assert "| train |" in metadata["overview"]


def test_a_decision_is_recorded_with_name_reason_and_sheet(
    desk: Desk, dialogues: pl.DataFrame
) -> None:
    sheet = told(desk.run("corpus_sheet"), "corpus_sheet")["sheet"]
    result = desk.decide()
    assert result.success
    assert check(result).passed
    metadata = told(result, "corpus_approval")
    assert metadata["state"] == "approved"
    assert (metadata["by"], metadata["reason"]) == ("Ann Doe", "the sample reads well")
    assert metadata["automatic"] is False
    assert metadata["sheet"] == sheet
    (decision,) = desk.record.decisions()
    assert decision.version == desk.record.latest.sha256
    assert decision.counts["dialogues"] == dialogues.height
    again = desk.run("corpus_approval")
    assert again.success
    assert len(desk.record.decisions()) == 1


def test_a_rejected_corpus_is_held_back_with_the_reason(desk: Desk) -> None:
    desk.run("corpus_sheet")
    result = desk.decide(decision="rejected", reason="half of it is about shirts")
    assert not result.success
    assert "rejected by Ann Doe" in failure_reason(result)
    assert "half of it is about shirts" in failure_reason(result)
    assert check(result).metadata["state"].value == "rejected"
    assert desk.decide().success


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"by": " "}, "by: "),
        ({"reason": ""}, "reason: "),
        ({"version": "123"}, "no corpus version begins with '123'"),
    ],
)
def test_an_incomplete_decision_is_refused_in_one_line(
    desk: Desk, config: dict[str, str], named: str
) -> None:
    desk.run("corpus_sheet")
    result = desk.decide(**config)
    assert not result.success
    assert named in failure_reason(result)
    assert "\n" not in failure_reason(result)
    assert desk.record.decisions() == []


def test_only_the_latest_version_can_be_decided_on(desk: Desk, dialogues: pl.DataFrame) -> None:
    old = desk.record.latest.sha256
    desk.put(dialogues.head(100))
    desk.run("corpus_sheet")
    assert "is not the latest" in failure_reason(desk.decide(version=old[:12]))
    assert desk.decide(version=desk.record.latest.sha256[:12]).success
    assert desk.record.standing(old).state == "pending"


def test_nobody_approves_what_has_no_sheet(desk: Desk, dialogues: pl.DataFrame) -> None:
    desk.run("corpus_sheet")
    desk.put(dialogues.head(100))
    assert "has no sheet yet" in failure_reason(desk.decide())
    assert desk.record.decisions() == []


def test_a_run_that_is_repeated_must_name_its_version(desk: Desk) -> None:
    desk.run("corpus_sheet")
    repeated = {"dagster/parent_run_id": "0"}
    assert "give the version" in failure_reason(desk.job(STEWARD, **repeated))
    named = STEWARD | {"version": desk.record.latest.sha256[:12]}
    assert desk.job(named, **repeated).success


def test_the_setting_approves_and_says_so(desk: Desk) -> None:
    desk.mode("auto")
    result = desk.run("corpus_sheet", "corpus_approval")
    assert result.success
    assert "RETAIL_APPROVAL=required" in (check(result).description or "")
    assert check(result).metadata["automatic"].value is True
    (decision,) = desk.record.decisions()
    assert decision.automatic
    desk.mode("required")
    assert not check(desk.run("corpus_approval")).passed


def test_the_next_sheet_is_compared_with_the_last_approved_corpus(
    desk: Desk, dialogues: pl.DataFrame
) -> None:
    desk.run("corpus_sheet")
    first = desk.record.latest.sha256
    desk.decide()
    desk.put(dialogues.head(100))
    metadata = told(desk.run("corpus_sheet"), "corpus_sheet")
    assert metadata["compared_with"] == first
    assert (metadata["kept"], metadata["removed"]) == (100, dialogues.height - 100)


def test_prompts_alone_are_not_made_from_a_corpus_that_waits(desk: Desk) -> None:
    TableStore(desk.folder).write(pl.DataFrame({"product_id": ["p"]}), "product_splits")
    for name in ("catalog_index", "base_model"):
        ref = ArtefactRef(folder=desk.folder / "artefacts" / name / "x", fingerprint="x")
        write_artefact_ref(ref, desk.folder, name, None)
    job = desk.graph.resolve_job_def("render_prompts")
    result = job.execute_in_process(
        instance=desk.instance, partition_key="assistant", raise_on_error=False
    )
    assert failure_reason(result).startswith("prompt_corpus: corpus ")
    assert "waits for the data steward" in failure_reason(result)
    assert not (desk.folder / "artefacts" / "prompt_corpus").exists()


def test_a_damaged_decision_holds_the_corpus_back_and_is_named(desk: Desk) -> None:
    desk.run("corpus_sheet")
    desk.decide()
    (path,) = desk.record.folder.glob("*.json")
    path.write_text("{")
    assert f"{path.name} is damaged" in failure_reason(desk.run("corpus_approval"))


def test_the_launchpad_begins_with_a_whole_decision(desk: Desk) -> None:
    job = desk.graph.resolve_job_def("decide_corpus")
    config = job.run_config["ops"]["corpus_approval"]["config"] if job.run_config else {}
    assert config == {"decision": "approved", "by": "", "reason": "", "version": ""}

"""The classification assets: labelled texts to report, with a tiny model that is really trained."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from typer.testing import CliRunner

from retail_assistant.cli import app
from retail_assistant.corpus.made_up_reviews import labelled_file
from retail_assistant.defs.adapters import adapter
from retail_assistant.defs.classification import (
    classification_baseline,
    classification_report,
    classifications,
    every_text_is_labelled,
    label_quality,
)
from retail_assistant.defs.io_managers import StorageIOManager
from retail_assistant.defs.labelled_texts import cleaned_labelled_texts, observed_labelled_texts
from retail_assistant.defs.prompts import prompt_corpus
from retail_assistant.defs.resources import Launcher
from retail_assistant.launch.spec import ArtefactRef, read_artefact_ref, write_artefact_ref
from retail_assistant.settings import get_settings
from retail_assistant.storage import TableStore
from retail_assistant.training.jobs import StudyError
from retail_assistant_tests.training.storage import fill_storage

JOB = "sentiment-attention"
OF_OTHER_TASKS = ("assortment", "product_splits", "screened_dialogues")
ABOVE = [*OF_OTHER_TASKS, "catalog_index", "base_model", "corpus_approval", "store_knowledge"]
RESOURCES = {"io_manager": StorageIOManager(), "launcher": Launcher()}
REPORTS = [adapter, classifications, classification_report, label_quality, every_text_is_labelled]
ROWS = 120

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def storage(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A storage folder with a base model, labelled texts of a shop's own, and no vLLM."""
    folder = tmp_path_factory.mktemp("classification")
    fill_storage(folder / "var", tiny_model_folder)
    tables = TableStore(folder / "var")
    for name in OF_OTHER_TASKS:
        tables.write(pl.DataFrame({"product_id": ["p1"]}), name)
    index = ArtefactRef(folder=folder / "index", fingerprint="none")
    write_artefact_ref(index, folder / "var", "catalog_index", None)
    file = folder / "own.tsv"
    rows = labelled_file(ROWS, seed=3).rename({"text": "what they wrote", "label": "stars"})
    rows.write_csv(file, separator="\t")
    with file.open("a") as stream:
        stream.write("\tpositive\tpositive\t\n")
    # Its engine alone takes longer to start than all else here.
    (folder / "without" / "vllm.py").parent.mkdir()
    (folder / "without" / "vllm.py").write_text("raise ImportError('not installed here')\n")
    known = os.environ.get("PYTHONPATH", "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder / "without"), known]).strip(":"))
        patch.setenv("RETAIL_STORAGE_URI", str(folder / "var"))
        patch.setenv("RETAIL_LABELLED_TEXTS", str(file))
        patch.setenv("RETAIL_BASE_MODEL", str(tiny_model_folder))
        get_settings.cache_clear()
        yield folder / "var"
    get_settings.cache_clear()


@pytest.fixture(scope="module")
def made(storage: Path) -> dict[str, dg.ExecuteInProcessResult]:
    """The runs of `prepare_classification`, `render_prompts`, `classify_before` and the job's."""
    corpus = [prompt_corpus, *map(dg.AssetSpec, ABOVE), dg.AssetSpec("labelled_texts")]
    given = [prompt_corpus.to_source_asset(), dg.AssetSpec("base_model")]
    baseline = classification_baseline
    found = {"texts": dg.materialize([cleaned_labelled_texts], resources=RESOURCES)}
    found["corpus"] = dg.materialize(corpus, partition_key="sentiment", resources=RESOURCES)
    found["before"] = dg.materialize([baseline, *given], resources=RESOURCES)
    found["job"] = dg.materialize(
        [*REPORTS, baseline.to_source_asset(), *given], partition_key=JOB, resources=RESOURCES
    )
    assert all(run.success for run in found.values())
    return found


def metadata_of(run: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    (event,) = [
        one for one in run.get_asset_materialization_events() if one.asset_key.path == [asset]
    ]
    return dict(event.materialization.metadata)


def test_every_row_of_the_file_is_in_one_of_both_tables(
    made: dict[str, dg.ExecuteInProcessResult], storage: Path
) -> None:
    tables = TableStore(storage)
    used, rejected = (
        tables.ref(name).read() for name in ("labelled_texts", "rejected_labelled_texts")
    )
    assert used.height == ROWS
    assert rejected.select("source_row", "reason").rows() == [(ROWS + 1, "empty_text")]
    assert metadata_of(made["texts"], "labelled_texts")["positive"].value == "positive"
    assert "made_up" not in metadata_of(made["texts"], "labelled_texts")
    assert tables.ref("prompt_corpus", "sentiment").rows == ROWS


def test_training_teaches_that_a_label_follows(
    made: dict[str, dg.ExecuteInProcessResult], storage: Path
) -> None:
    tables = TableStore(storage)
    report = tables.ref("classification_report", JOB).read()
    held = tables.ref("classifications", JOB)
    assert held.rows == tables.ref("classification_baseline").rows
    assert read_artefact_ref(storage, "adapter", JOB).manifest().metrics["prompt_style"] == "plain"
    mass = {row["variant"]: row["value"] for row in report.filter(metric="label_mass").to_dicts()}
    # No token gets likely: the frozen head of random weights is too small for that.
    assert mass["after"] > 2 * mass["before"]
    (accuracy,) = report.filter(metric="accuracy", variant="after").to_dicts()
    assert 0 <= accuracy["low"] <= accuracy["value"] <= accuracy["high"] <= 1
    assert (
        accuracy["texts"]
        == tables.ref("prompt_corpus", "sentiment").read().filter(subset="test").height
    )


def test_the_ui_shows_before_and_after_and_the_labels(
    made: dict[str, dg.ExecuteInProcessResult],
) -> None:
    report = metadata_of(made["job"], "classification_report")
    assert "| accuracy |" in report["summary"].md_str
    for name in ("reliability", "temperature_sweep"):
        assert "data:image/png;base64" in report[name].md_str
    assert len(report["confusion"].records) == 8
    quality = metadata_of(made["job"], "label_quality")
    pairs = {(row.data["first"], row.data["second"]) for row in quality["people"].records}
    assert pairs == {
        ("original", "reviewer_1"),
        ("original", "reviewer_2"),
        ("reviewer_1", "reviewer_2"),
    }
    judged = {row.data["labelling"] for row in quality["accuracy_by_labelling"].records}
    assert judged == {"original", "reviewer_1", "reviewer_2", "majority"}
    assert quality["fleiss"].value["judges"] == 3
    (check,) = made["job"].get_asset_check_evaluations()
    assert check.passed


def test_new_texts_are_labelled_from_the_terminal(
    made: dict[str, dg.ExecuteInProcessResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)  # as where it is not installed
    file, output = tmp_path / "new.csv", tmp_path / "labelled.jsonl"
    file.write_text("review\nSoft and warm.\nIt shrank.\n")
    told = CliRunner().invoke(
        app, ["classify", "--job", JOB, "--input", str(file), "--output", str(output)]
    )
    assert told.exit_code == 0, told.output
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["text"] for row in rows] == ["Soft and warm.", "It shrank."]
    assert {row["label"] for row in rows} <= {"positive", "negative"}


def test_a_job_of_another_task_is_refused(
    made: dict[str, dg.ExecuteInProcessResult], storage: Path
) -> None:
    other = "quickstart-grounded"
    base = read_artefact_ref(storage, "base_model")
    write_artefact_ref(base, storage, "adapter", other)
    with pytest.raises(StudyError, match=f"{other!r} is of the task assistant; allowed: .*{JOB}"):
        dg.materialize(
            [
                classifications,
                adapter.to_source_asset(),
                prompt_corpus.to_source_asset(),
                dg.AssetSpec("base_model"),
            ],
            partition_key=other,
            resources=RESOURCES,
        )


@pytest.mark.usefixtures("fresh_settings")
def test_the_version_of_the_file_follows_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "texts.csv"
    monkeypatch.setenv("RETAIL_LABELLED_TEXTS", str(file))
    versions = []
    for content in ("text,label\na,x\nb,y\n", "text,label\na,x\nc,y\n", "text,label\na,x\nb,y\n"):
        file.write_text(content)
        get_settings.cache_clear()
        look = dg.Definitions(
            [observed_labelled_texts],
            jobs=[dg.define_asset_job("look", "labelled_text_file")],
        ).resolve_job_def("look")
        with dg.DagsterInstance.ephemeral() as instance:
            assert look.execute_in_process(instance=instance).success
            key = dg.AssetKey("labelled_text_file")
            (record,) = instance.fetch_observations(key, limit=1).records
        assert record.asset_observation is not None
        versions.append(record.asset_observation.tags["dagster/data_version"])
    assert versions[0] == versions[2] != versions[1]

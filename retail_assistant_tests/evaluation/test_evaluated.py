"""What can be compared, and why the rest cannot: a real store with real artefacts."""

from pathlib import Path

import polars as pl
import pytest

from retail_assistant.defs.partitions import REGISTRY
from retail_assistant.evaluation.evaluated import (
    NEVER_TRAINED,
    NOT_EVALUATED,
    OTHER_QUESTIONS,
    REMOVED,
    baselines_of,
    cost_rows,
    evaluated_jobs,
    histories,
    model_rows,
    reigning_job,
)
from retail_assistant.launch.spec import ArtefactRef, write_artefact_ref
from retail_assistant.settings import Settings
from retail_assistant.storage import TableStore
from retail_assistant_tests.evaluation.manifests import finished

ASKED = {"q1", "q2"}
JOBS = ("compared", "elsewhere", "trained", "untrained")


def report(*ids: str) -> pl.DataFrame:
    return pl.DataFrame({"dialogue_id": list(ids), "variant": "x"})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    store = TableStore(tmp_path)
    store.write(report("q1", "q2"), "evaluation_report", "compared")
    store.write(report("q1", "q3"), "evaluation_report", "elsewhere")
    store.write(report("q1", "q2"), "evaluation_report", "gone")
    for job in ("compared", "elsewhere", "trained"):
        folder = tmp_path / "artefacts" / "adapter" / job
        history = pl.DataFrame({"step": [1], "loss": [0.5]})
        finished(folder, {"history": history}, metrics={"train_seconds": 9.5}, inputs={})
        write_artefact_ref(ArtefactRef(folder=folder, fingerprint=job), tmp_path, "adapter", job)
    answering = {"questions": 4, "seconds compared": 2.0}
    answers = tmp_path / "artefacts" / "predictions" / "p"
    finished(answers, {}, metrics=answering, inputs={"adapter": "compared"})
    untouched = {"questions": 4, "seconds base/grounded": 8.0, "seconds base/closed-book": 4.0}
    finished(tmp_path / "artefacts" / "baseline_predictions" / "b", {}, untouched, inputs={})
    return tmp_path


def test_every_job_is_compared_or_has_its_reason(root: Path) -> None:
    evaluated = evaluated_jobs(root, JOBS, ASKED)
    assert set(evaluated.reports) == set(evaluated.adapters) == {"compared"}
    assert evaluated.reasons == {
        "elsewhere": OTHER_QUESTIONS,
        "trained": NOT_EVALUATED,
        "untrained": NEVER_TRAINED,
        "gone": REMOVED,
    }
    assert histories(evaluated.adapters)["compared"]["loss"].to_list() == [0.5]


def test_an_empty_store_is_no_error(tmp_path: Path) -> None:
    evaluated = evaluated_jobs(tmp_path, JOBS, ASKED)
    assert evaluated.reports == {}
    assert set(evaluated.reasons.values()) == {NEVER_TRAINED}
    assert cost_rows(tmp_path, {}).height == 2
    assert reigning_job(Settings(storage_uri=str(tmp_path))) is None


def test_a_report_without_its_adapter_is_compared_without_costs(root: Path) -> None:
    (root / "artefacts" / "adapter" / "latest-compared.json").unlink()
    evaluated = evaluated_jobs(root, JOBS, ASKED)
    assert set(evaluated.reports) == {"compared"}
    assert evaluated.adapters == {}


def test_costs_are_those_of_training_and_answering(root: Path) -> None:
    rows = cost_rows(root, evaluated_jobs(root, JOBS, ASKED).adapters)
    costs = {row["variant"]: row for row in rows.to_dicts()}
    assert costs["compared"]["train_seconds"] == 9.5
    assert costs["compared"]["seconds_per_question"] == 0.5
    assert costs["base/grounded"]["train_seconds"] == 0
    assert costs["base/grounded"]["seconds_per_question"] == 2


def test_models_say_how_they_are_prompted_and_trained() -> None:
    jobs = REGISTRY.of_task("assistant")
    rows = {row["variant"]: row for row in model_rows(jobs).to_dicts()}
    assert set(rows) == {*jobs, "base/closed-book", "base/grounded"}
    assert rows["data-50"]["data_fraction"] == 0.5
    assert rows["quickstart-grounded"]["grounding"] == "retrieved"


def test_jobs_are_tested_against_the_model_that_is_prompted_alike(tmp_path: Path) -> None:
    jobs = REGISTRY.of_task("assistant")
    asked = report(*ASKED)
    for job in ("quickstart-grounded", "quickstart-closed-book"):
        TableStore(tmp_path).write(asked, "evaluation_report", job)
    assert baselines_of(jobs, evaluated_jobs(tmp_path, jobs, ASKED)) == {
        "quickstart-grounded": "base/grounded",
        "quickstart-closed-book": "base/closed-book",
    }

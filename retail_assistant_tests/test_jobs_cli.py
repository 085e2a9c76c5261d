"""`retail-assistant jobs`: what is listed, shown and refused, and searches as files and trials."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from retail_assistant.settings import SHIPPED_STUDIES
from retail_assistant.training.jobs import HyperparameterJob
from retail_assistant.training.searching.progress import RunningSearch
from retail_assistant.training.searching.space import Search
from retail_assistant.training.studies import load_registry
from retail_assistant_tests.test_cli import Cli, Result, assert_refused, cli
from retail_assistant_tests.training.searches import BEGUN, begun, end_trial, search_content

__all__ = ["cli"]

STUDY = """
study: mine
description: One job of my own.
jobs:
  my-job: {lora_r: 24, lora_alpha: 48, learning_rate: 1.0e-4, packing: true}
"""
SEARCH = "small-search"


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty storage folder, and a folder of studies with a job and a search."""
    studies = tmp_path / "studies"
    studies.mkdir()
    (studies / "mine.yaml").write_text(STUDY)
    (studies / "search.yaml").write_text(yaml.safe_dump(search_content()))
    monkeypatch.setenv("RETAIL_STUDIES", str(studies))
    monkeypatch.setenv("RETAIL_STORAGE_URI", str(tmp_path / "var"))
    return tmp_path / "var"


def read(result: Result) -> Any:
    """What a command printed as JSON, and nothing else."""
    assert result.code == 0, result
    return json.loads(result.out)


def test_all_jobs_are_listed(cli: Cli, storage: Path) -> None:
    listed = read(cli("jobs", "list", "--json"))
    shipped = load_registry(SHIPPED_STUDIES)
    assert [job["name"] for job in listed] == [*shipped.jobs, "my-job"]
    table = cli("jobs", "list")
    assert all(job["name"] in table.out for job in listed)
    assert "packing" in table.out


def test_the_jobs_of_a_study_are_listed(cli: Cli, storage: Path) -> None:
    listed = read(cli("jobs", "list", "--study", "mine", "--json"))
    assert [(job["name"], job["study"]) for job in listed] == [("my-job", "mine")]
    assert_refused(cli("jobs", "list", "--study", "yours"), "no study 'yours'", "retail")


def test_a_job_is_shown_with_every_value(cli: Cli, storage: Path) -> None:
    shown = read(cli("jobs", "show", "job-1", "--json"))
    assert shown["study"] == "retail"
    assert shown["hyperparameters"]["learning_rate"] == 2e-4
    assert shown["hyperparameters"]["quantization"] == "none"
    assert shown["resources"]["retries"] == 2
    # Nothing is planned for a model that nobody has looked at.
    assert shown["plan"] is None
    assert "base_model does not exist yet" in shown["no_plan"]
    table = cli("jobs", "show", "job-1").out
    assert all(name in table for name in HyperparameterJob.model_fields)


def test_a_job_that_does_not_exist_is_refused(cli: Cli, storage: Path) -> None:
    refused = cli("jobs", "show", "job-9")
    assert_refused(refused, "no job 'job-9'", "allowed: ", "job-0", "my-job")


def test_studies_are_validated(cli: Cli, storage: Path, tmp_path: Path) -> None:
    assert read(cli("jobs", "validate", "--json"))["jobs"] == len(
        load_registry(SHIPPED_STUDIES).jobs
    ) + 1  # fmt: skip
    told = read(cli("jobs", "validate", tmp_path / "studies", "--json"))
    assert (told["studies"], told["jobs"], told["searches"], told["valid"]) == (1, 1, 1, True)
    assert told["notes"] == ["job my-job: lora_r=24 takes the memory of 32 when served"]
    assert "note: job my-job" in cli("jobs", "validate", tmp_path / "studies").out
    assert cli("jobs", "validate", SHIPPED_STUDIES).code == 0


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ("fast: {lora_r: 8, lora_alpha: 16, learning_rate: 20000}",
         ("wrong.yaml: job fast: learning_rate=20000", "less than or equal to 0.1")),
        ("job-0: {lora_r: 8, lora_alpha: 16, learning_rate: 1.0e-4}",
         ("wrong.yaml: job 'job-0' exists in study 'retail' too",)),
    ],
)  # fmt: skip
def test_wrong_studies_are_refused(
    cli: Cli, storage: Path, tmp_path: Path, job: str, words: tuple[str, ...]
) -> None:
    folder = tmp_path / "wrong"
    folder.mkdir()
    (folder / "wrong.yaml").write_text(f"study: s\ndescription: d\njobs:\n  {job}\n")
    assert_refused(cli("jobs", "validate", folder), *words)


def test_the_fields_of_a_job_are_explained(cli: Cli, storage: Path) -> None:
    fields = read(cli("jobs", "fields", "--json"))
    assert list(fields) == list(HyperparameterJob.model_fields)
    assert fields["lora_r"]["required"]
    assert fields["evaluations"]["default"] == 1
    assert all(about["meaning"] for about in fields.values())


@pytest.fixture
def running(storage: Path) -> RunningSearch:
    """A search with two trials that ended and one that failed."""
    running = begun(storage, Search.model_validate(search_content()))
    for loss in (0.9, 0.4, None):
        (trial,) = running.propose(BEGUN)
        if loss is None:
            running.fail(trial, "out of [memory]")
        else:
            end_trial(storage, trial, loss)
    return running


def test_searches_are_listed_with_how_far_they_are(cli: Cli, running: RunningSearch) -> None:
    states = {state["search"]: state for state in read(cli("jobs", "search", "list", "--json"))}
    mine = states[SEARCH]
    assert (mine["trials"], mine["failed"], mine["best_eval_loss"]) == (3, 1, 0.4)
    assert mine["best_trial"] == running.trials()[1].key
    assert states["rank-and-rate"]["started"] is None
    assert "0.4000" in cli("jobs", "search", "list").out


def test_a_search_is_shown_trial_by_trial(cli: Cli, running: RunningSearch) -> None:
    shown = read(cli("jobs", "search", "show", SEARCH, "--json"))
    assert [one["eval_loss"] for one in shown["outcomes"]] == [0.9, 0.4, None]
    table = cli("jobs", "search", "show", SEARCH).out
    assert "[memory]" in table
    best = cli("jobs", "search", "show", SEARCH, "--best").out
    assert yaml.safe_load(best) == yaml.safe_load(shown["best_study"])


def test_a_trial_is_shown_as_a_job(cli: Cli, running: RunningSearch) -> None:
    (first, *_) = running.trials()
    shown = read(cli("jobs", "show", first.key, "--json"))
    assert shown["hyperparameters"] == first.job.hyperparameters.model_dump(mode="json")


def test_a_search_that_has_not_begun_is_refused(cli: Cli, storage: Path) -> None:
    assert_refused(cli("jobs", "search", "show", SEARCH), "has not begun", "jobs search run")
    refused = cli("jobs", "search", "show", "other")
    assert_refused(refused, "no search 'other'", "small-search", "rank-and-rate")


def test_a_job_that_was_never_trained_is_not_tracked(cli: Cli, storage: Path) -> None:
    assert_refused(cli("jobs", "track", "my-job"), "adapter does not exist for my-job yet")

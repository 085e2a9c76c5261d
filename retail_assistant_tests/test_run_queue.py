"""The run queue: what a study says of priority and retries reaches runs without tags."""

from pathlib import Path

import dagster as dg
import pytest

from retail_assistant.run_queue import (
    MAX_RETRIES,
    PARTITION,
    PRIORITY,
    JobQueue,
    missing_tags,
    tags_of,
)
from retail_assistant.settings import get_settings
from retail_assistant.training.resources import ResourceRequest
from retail_assistant.workbench import prepare_instance

STUDY = """
study: urgent
description: Jobs that do not wait.
resources:
  priority: 7
defaults:
  lora_r: 4
  lora_alpha: 8
  learning_rate: 1.0e-3
jobs:
  urgent-job: {}
"""


def test_what_a_job_asks_of_the_queue() -> None:
    assert tags_of(ResourceRequest(priority=-3, retries=4)) == {PRIORITY: "-3", MAX_RETRIES: "4"}
    assert tags_of(ResourceRequest(retries=0)) == {}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_settings: None) -> Path:
    """The folder of the project's own Dagster instance, as `retail-assistant ui` makes it."""
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "urgent.yaml").write_text(STUDY)
    monkeypatch.setenv("RETAIL_STUDIES", str(tmp_path / "studies"))
    monkeypatch.setenv("RETAIL_STORAGE_URI", str(tmp_path / "var"))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    # Set again when the test is over: `prepare_instance` sets it for the process.
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    return prepare_instance(get_settings())


@pytest.mark.usefixtures("home")
def test_a_jobs_run_gets_what_its_study_says() -> None:
    assert missing_tags({PARTITION: "urgent-job"}) == {PRIORITY: "7", MAX_RETRIES: "2"}


@pytest.mark.usefixtures("home")
def test_tags_that_a_run_has_are_kept() -> None:
    assert missing_tags({PARTITION: "urgent-job", PRIORITY: "1"}) == {MAX_RETRIES: "2"}


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("tags", [{}, {PARTITION: "elsewhere"}])
def test_other_runs_are_left_as_they_are(tags: dict[str, str]) -> None:
    assert missing_tags(tags) == {}


@pytest.mark.usefixtures("home")
def test_a_broken_study_holds_up_no_run(tmp_path: Path) -> None:
    (tmp_path / "studies" / "urgent.yaml").write_text("study: [")
    assert missing_tags({PARTITION: "urgent-job"}) == {}


def test_its_databases_are_there_before_two_servers_would_make_them(home: Path) -> None:
    assert list(home.rglob("runs.db"))
    assert list(home.rglob("schedules.db"))


def test_one_training_at_a_time(home: Path) -> None:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert isinstance(instance.run_coordinator, JobQueue)
        pools = instance.get_concurrency_config().pool_config
        assert pools.default_pool_limit == 1
        assert instance.run_retries_enabled
        assert not instance.run_retries_retry_on_asset_or_op_failure

"""Several runs of one partition, and one of a partition that is gone."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from retail_assistant.storage.crash_points import CRASH_TRACE
from retail_assistant_tests.faults.forked import ForkingProcess
from retail_assistant_tests.integration.line import TINY_STUDY, Line
from retail_assistant_tests.training.storage import fill_storage

pytestmark = [pytest.mark.slow, pytest.mark.long_fault]

JOB = "tiny-grounded"
SECONDS = 300


@dataclass(frozen=True)
class TracedLine(Line):
    """A line whose processes note the places that they pass."""

    @property
    def trace(self) -> Path:
        return self.storage.parent / "places.txt"

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {CRASH_TRACE: str(self.trace)}


@pytest.fixture
def line(tiny_model_folder: Path, tmp_path: Path) -> TracedLine:
    """A storage folder that holds what a training needs."""
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "tiny.yaml").write_text(TINY_STUDY)
    line = TracedLine(tmp_path / "var", tmp_path / "studies", tiny_model_folder)
    fill_storage(line.storage, tiny_model_folder)
    (line.storage / "dagster").mkdir()
    with line.instance():
        return line


@pytest.mark.fault(
    "two Dagster runs of one partition at once",
    "both succeed with the same artefact, which is trained once",
)
def test_two_runs_of_one_partition(line: TracedLine) -> None:
    both = [line.start_training(JOB), line.start_training(JOB)]

    assert [_ended(one) for one in both] == [0, 0]

    (manifest,) = (line.storage / "artefacts" / "adapter").glob("*/manifest.json")
    assert line.adapter(JOB).folder == manifest.parent
    passed = line.trace.read_text().splitlines()
    assert passed.count("before work adapter") == 1
    assert passed.count("after pointer adapter tiny-grounded") == 2
    with line.instance() as instance:
        statuses = [run.status for run in instance.get_runs()]
    assert statuses == [dg.DagsterRunStatus.SUCCESS] * 2


def _ended(command: subprocess.Popen[bytes]) -> int:
    return command.wait(timeout=SECONDS)


@pytest.mark.fault(
    "a job is removed from its study while its run is queued",
    "the run fails and names the job and those that there are; nothing is trained",
)
def test_a_partition_that_is_gone(line: TracedLine) -> None:
    module = "retail_assistant_tests.faults.queued_runs"
    folder = line.storage.parent / "children"
    with ForkingProcess(module, folder, line.environment) as children:
        assert children.run("queue", JOB) == 0, children.said()
    study = line.studies / "tiny.yaml"
    study.write_text(study.read_text().replace(JOB, "another-job"))

    with ForkingProcess(module, folder, line.environment) as children:
        assert children.run("begin") == 0, children.said()

    with line.instance() as instance:
        (run,) = instance.get_runs()
        failures = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    assert run.status is dg.DagsterRunStatus.FAILURE
    reasons = [one.dagster_event.step_failure_data.error.to_string() for one in failures]
    assert any(f"no job '{JOB}'; allowed: " in reason for reason in reasons), reasons
    assert "another-job" in " ".join(reasons)
    assert "before work adapter" not in children.places()

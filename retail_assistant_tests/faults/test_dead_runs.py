"""Runs whose process is gone, on a real instance with its pool of trainings."""

import os
from pathlib import Path

import dagster as dg
import pytest

from retail_assistant.dead_runs import end_dead_runs
from retail_assistant_tests.faults.forked import ForkingProcess

SECONDS = 60


@pytest.mark.fault(
    "a run that trains is killed, or its machine loses power",
    "the next command tells Dagster that it failed and frees its place; nobody waits for it",
)
def test_a_dead_run_holds_nobody_up(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DAGSTER_")}
    settings = {"RETAIL_STORAGE_URI": str(tmp_path / "var"), "DAGSTER_DISABLE_TELEMETRY": "1"}
    module = "retail_assistant_tests.faults.pool_runs"
    with ForkingProcess(module, tmp_path / "children", kept | settings) as children:
        assert children.run("train", at="within training", seconds=SECONDS) == -9
        assert children.run("train", seconds=SECONDS) == 0, children.said()

    with dg.DagsterInstance.from_config(str(tmp_path / "var" / "dagster")) as instance:
        last, first = instance.get_runs()
        told = " ".join(entry.message for entry in instance.all_logs(first.run_id))
    assert (first.status, last.status) == (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS)
    assert "is gone: killed, or the machine went down; run it again" in told


def test_a_run_that_works_is_left_alone() -> None:
    ended: list[str] = []

    @dg.asset
    def working(context: dg.AssetExecutionContext) -> None:
        ended.extend(end_dead_runs(context.instance))

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([working], instance=instance)

    assert result.success
    assert ended == []

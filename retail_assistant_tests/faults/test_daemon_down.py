"""A daemon that was away when a schedule was due, on the project's own schedule and instance."""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.load_target import ModuleTarget
from dagster._scheduler.scheduler import launch_scheduled_runs

from retail_assistant.settings import get_settings
from retail_assistant.workbench import prepare_instance

DAY = timedelta(days=1)

pytestmark = [pytest.mark.slow, pytest.mark.long_fault]


@pytest.mark.fault(
    "the daemon is down past a schedule for days, then the clock is put back",
    "when it is back it looks at the catalog once, not once for each time that was missed",
)
def test_what_was_missed_is_done_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_settings: None
) -> None:
    monkeypatch.setenv("RETAIL_STORAGE_URI", str(tmp_path / "var"))
    monkeypatch.setenv("RETAIL_REFRESH", "1")
    monkeypatch.setenv("RETAIL_REFRESH_SCHEDULE", "0 3 * * *")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    home = prepare_instance(get_settings())
    location = ModuleTarget("retail_assistant.definitions", None, None, "retail_assistant")
    start = datetime.now(UTC)
    with (
        dg.DagsterInstance.from_config(str(home)) as instance,
        create_test_daemon_workspace_context(location, instance) as workspace,
    ):

        def looked_after(moment: datetime) -> list[str]:
            """The runs so far, once a daemon that begins at a moment has looked at schedules."""
            list(launch_scheduled_runs(workspace, logging.getLogger(), moment, {}))
            return [run.job_name for run in instance.get_runs()]

        assert looked_after(start) == []
        assert looked_after(start + 4 * DAY) == ["observe_catalog"]
        assert looked_after(start + 4 * DAY) == ["observe_catalog"]
        assert looked_after(start + 2 * DAY) == ["observe_catalog"]
        assert looked_after(start + 5 * DAY) == ["observe_catalog"] * 2

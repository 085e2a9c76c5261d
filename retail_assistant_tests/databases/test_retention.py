"""Old runs that made nothing are removed, and what is the lineage of something is kept."""

from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import text

from retail_assistant.databases.database import Database
from retail_assistant_tests.databases.conftest import cli
from retail_assistant_tests.test_cli import Cli

__all__ = ["cli"]


@dg.observable_source_asset
def supply() -> dg.DataVersion:
    return dg.DataVersion("1")


@dg.asset(deps=[supply])
def made() -> None:
    """Something."""


@dg.asset
def broken() -> None:
    raise ValueError("on purpose")


def test_old_runs_that_made_nothing_are_removed(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETAIL_STORAGE_URI", str(tmp_path / "var"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    assert cli("databases", "prune").out.startswith("0 runs")
    jobs = dg.Definitions(
        assets=[supply, made, broken],
        jobs=[dg.define_asset_job(f"run_{name}", name) for name in ("supply", "made", "broken")],
    )
    with dg.DagsterInstance.from_config(str(tmp_path / "dagster")) as instance:

        def run(name: str) -> str:
            job = jobs.resolve_job_def(f"run_{name}")
            return job.execute_in_process(instance=instance, raise_on_error=False).run_id

        looked, failed, lineage, last_look, young = map(
            run, ("supply", "broken", "made", "supply", "broken")
        )
        with Database("Dagster", folder=tmp_path / "dagster").connected() as connection:
            connection.execute(
                text("UPDATE runs SET create_timestamp = '2020-01-01' WHERE run_id <> :young"),
                {"young": young},
            )
        counted = cli("databases", "prune", "--days", "7")
        assert counted.out.startswith("2 runs"), counted
        assert len(instance.get_runs()) == 5
        removed = cli("databases", "prune", "--days", "7", "--yes")
        assert "removed" in removed.out
        kept = {one.run_id for one in instance.get_runs()}
        assert kept == {lineage, last_look, young}
        assert {looked, failed}.isdisjoint(kept)
        assert instance.get_latest_materialization_event(dg.AssetKey("made"))

"""The launcher as assets use it: real runs of Dagster around real processes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from retail_assistant.defs.resources import Launcher, artefact_result
from retail_assistant.launch.spec import LaunchSpec, Preempted
from retail_assistant_tests.launch.conftest import environment, sample_spec

__all__ = ["environment", "sample_spec"]

MakeSpec = Callable[..., LaunchSpec]


@pytest.fixture(autouse=True)
def _tests_are_found(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])


def asset_of(spec: LaunchSpec, retries: int = 0) -> dg.AssetsDefinition:
    @dg.asset(name="sample")
    def sample(context: dg.AssetExecutionContext, launcher: Launcher) -> Any:
        try:
            return artefact_result(launcher.launch(context, spec))._replace(value=None)
        except Preempted as error:
            raise dg.RetryRequested(retries, 0) from error

    return sample


def run(
    spec: LaunchSpec,
    instance: dg.DagsterInstance,
    launcher: Launcher | None = None,
    **how: Any,
) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [asset_of(spec, **how)],
        resources={"launcher": launcher or Launcher()},
        instance=instance,
        raise_on_error=False,
    )


def test_what_workers_write_is_in_the_runs_log(sample_spec: MakeSpec) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        failed = run(sample_spec(orders="fail"), instance)
        told = [entry.message for entry in instance.all_logs(failed.run_id)]
    assert not failed.success
    assert any("ValueError: the shelf is empty" in line for line in told if "log.txt:" in line)


def test_a_result_leads_to_its_log(sample_spec: MakeSpec) -> None:
    spec = sample_spec()
    with dg.DagsterInstance.ephemeral() as instance:
        done = run(spec, instance)
    (event,) = done.asset_materializations_for_node("sample")
    assert event.metadata["log"].value == str(spec.folder / "log.txt")
    assert Path(event.metadata["log"].value).is_file()
    assert list(spec.folder.glob("messages-*")) == []


def test_work_that_made_room_is_retried_and_goes_on(sample_spec: MakeSpec, tmp_path: Path) -> None:
    spec = sample_spec(orders="room once")
    with dg.DagsterInstance.ephemeral() as instance:
        done = run(spec, instance, retries=1)
        events = [event.event_type for event in done.all_events]
    assert done.success
    assert dg.DagsterEventType.STEP_UP_FOR_RETRY in events
    assert len((spec.folder / "runs.txt").read_text().splitlines()) == 2


def test_retries_are_counted(sample_spec: MakeSpec) -> None:
    spec = sample_spec(orders="room")
    with dg.DagsterInstance.ephemeral() as instance:
        assert not run(spec, instance, retries=1).success
    assert len((spec.folder / "runs.txt").read_text().splitlines()) == 2


@pytest.mark.slow
def test_a_ray_job_reports_to_its_run_as_a_local_process_does(
    sample_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    told: dict[str, str] = {}
    with dg.DagsterInstance.ephemeral() as instance:
        for kind in ("local", "ray"):
            spec = sample_spec(config={"text": kind})
            done = run(spec, instance, launcher=Launcher(kind=kind))
            assert done.success
            told[kind] = "\n".join(entry.message for entry in instance.all_logs(done.run_id))
    assert all("weighing the text" in lines for lines in told.values())
    assert "Ray job sample-" in told["ray"]

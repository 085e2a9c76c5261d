"""Several artefacts by one launch: each is held by the run that makes it, and made once."""

from collections.abc import Callable
from threading import Event, Thread
from typing import Any

import dagster as dg
import pytest

from retail_assistant.defs.answering import launch_together
from retail_assistant.defs.resources import Launcher
from retail_assistant.evaluation.predict import BESIDE, together
from retail_assistant.launch.local import LOG_NAME, run_processes, turn
from retail_assistant.launch.spec import LaunchSpec, Resources, read_manifest
from retail_assistant_tests.launch.conftest import environment, sample_spec

__all__ = ["environment", "sample_spec"]

MakeSpec = Callable[..., LaunchSpec]
SECONDS = 120


def test_a_run_waits_for_what_another_makes_and_makes_the_rest(
    sample_spec: MakeSpec, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    specs = [sample_spec(config={"text": text}) for text in ("linen", "silk", "wool")]
    first, second, third = sorted(specs, key=lambda spec: spec.folder)
    begun = Event()

    @dg.asset
    def sample(context: dg.AssetExecutionContext, launcher: Launcher) -> dg.MaterializeResult[None]:
        begun.set()
        launch_together(context, launcher, specs)
        return dg.MaterializeResult()

    ended: list[dg.ExecuteInProcessResult] = []
    run = Thread(
        target=lambda: ended.append(dg.materialize([sample], resources={"launcher": Launcher()}))
    )
    with turn(third):
        run.start()
        assert begun.wait(SECONDS)
        run_processes(third, environment, third.folder / LOG_NAME)
    run.join(SECONDS)
    assert ended[0].success
    assert all(read_manifest(spec.folder) for spec in specs)
    assert {(spec.folder / "runs.txt").read_text() for spec in specs} == {"run\n"}
    launched = LaunchSpec.model_validate_json((first.folder / "spec.json").read_text())
    assert [one["config"] for one in launched.execution[BESIDE]] == [second.config]


def test_a_launch_needs_what_the_largest_of_its_artefacts_does(sample_spec: MakeSpec) -> None:
    small, large = (
        sample_spec(config={"text": str(size)}, resources=Resources(processes=size))
        for size in (1, 2)
    )
    assert together([small]) == small
    launched: Any = together([small, large])
    assert (launched.folder, launched.resources) == (small.folder, large.resources)

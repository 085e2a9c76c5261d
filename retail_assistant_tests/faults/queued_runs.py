"""A run that waits in the queue while the code location changes; calls for `forked`."""

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run

from retail_assistant.definitions import defs
from retail_assistant.settings import get_settings
from retail_assistant.workbench import prepare_instance

JOB = "train_and_evaluate"
SELECTED = [dg.AssetKey("training_plan"), dg.AssetKey("adapter")]


def queue(partition: str) -> None:
    """Make a run of a partition, as the UI does; it is not begun."""
    prepare_instance(get_settings())
    with dg.DagsterInstance.get() as instance:
        instance.create_run_for_job(
            _job(), tags={"dagster/partition": partition}, asset_selection=frozenset(SELECTED)
        )


def begin() -> None:
    """Take the run out of the queue, with the definitions that there are now."""
    with dg.DagsterInstance.get() as instance:
        (run,) = instance.get_runs()
        execute_run(InMemoryJob(_job()), run, instance)


def _job() -> dg.JobDefinition:
    return defs().resolve_job_def(JOB).get_subset(asset_selection=set(SELECTED))

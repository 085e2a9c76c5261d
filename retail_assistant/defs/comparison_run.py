"""The MLflow run of a comparison, opened by dagster-mlflow.

dagster-mlflow gives a Dagster run one MLflow run, which it finds by a search without a lock: with
trainings side by side two appear for one. It holds where one step of a run is tracked and nothing
runs beside it, as here; trainings have trackers of their own (`training.tracking`). Its hook that
ends the run cannot be named in a job without loading MLflow with the code location, so the run
is ended where it is written.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from retail_assistant.settings import Settings, get_settings
from retail_assistant.training.tracking.mlflow_places import (
    CLIENT_ENVIRONMENT,
    alone,
    experiment_id,
    mlflow_client,
)
from retail_assistant.training.tracking.target import TrackingTarget

EXPERIMENT = "retail_assistant/comparison"
COMPARISON_RUN = "comparison_run"


@dg.resource(description="An open MLflow run (dagster-mlflow), or None where MLflow is away.")
def comparison_run(context: dg.InitResourceContext) -> Iterator[Any]:
    """MLflow's functions with a run open that is tagged with the Dagster run's id.

    A server that is away stops no comparison.
    """
    settings = get_settings()
    try:
        opened = _opened(context, settings)
        mlflow = next(opened)
    except Exception as error:
        _warn(context, f"MLflow is away ({type(error).__name__}: {error}); not recorded there")
        yield None
        return
    yield mlflow
    if mlflow.active_run() is not None:
        mlflow.end_run("FAILED")
    next(opened, None)


def _opened(context: dg.InitResourceContext, settings: Settings) -> Iterator[Any]:
    # Here: importing it takes MLflow with it.
    from dagster_mlflow import mlflow_tracking

    uri = settings.mlflow_tracking_uri
    target = TrackingTarget(uri=uri, experiment=EXPERIMENT, run_name=EXPERIMENT)
    with alone(settings.storage):
        # Made by dagster-mlflow, an experiment would keep its files in the working folder.
        experiment_id(mlflow_client(uri), target)
    run = context.run
    given = {
        "experiment_name": EXPERIMENT,
        "mlflow_tracking_uri": uri,
        "parent_run_id": None,
        "mlflow_run_id": None,
        "env": CLIENT_ENVIRONMENT,
        "env_to_tag": None,
        "extra_tags": {
            "dagster_run_url": f"{settings.dagster_ui}/runs/{run.run_id if run else ''}",
        },
    }
    open_run: Any = mlflow_tracking.resource_fn
    yield from open_run(context.replace_config(given))


def _warn(context: dg.InitResourceContext, words: str) -> None:
    if context.log is not None:
        context.log.warning(words)


@dg.definitions
def comparison_resources() -> dg.Definitions:
    """Binds the resource of this module."""
    return dg.Definitions(resources={COMPARISON_RUN: comparison_run})

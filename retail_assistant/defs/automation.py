"""Named slices of the graph, and when they run."""

import dagster as dg

from retail_assistant.defs.partitions import job_partitions, task_partitions
from retail_assistant.settings import get_settings

prepare = dg.define_asset_job(
    "prepare",
    dg.AssetSelection.groups("catalog", "corpus")
    - dg.AssetSelection.assets("raw_catalog", "prompt_corpus")
    | dg.AssetSelection.assets("base_model"),
    description="From the catalog to screened dialogues, and the base model.",
)
render_prompts = dg.define_asset_job(
    "render_prompts",
    dg.AssetSelection.assets("prompt_corpus"),
    partitions_def=task_partitions,
    description="The prompts of a task.",
)
observe_catalog = dg.define_asset_job(
    "observe_catalog",
    dg.AssetSelection.assets("raw_catalog"),
    description="Look whether the retailer's file has changed.",
)
answer_baselines = dg.define_asset_job(
    "answer_baselines",
    dg.AssetSelection.assets("baseline_predictions"),
    description="The untouched model's answers.",
)
train_and_evaluate = dg.define_asset_job(
    "train_and_evaluate",
    dg.AssetSelection.assets("adapter", "predictions", "evaluation_report"),
    partitions_def=job_partitions,
    description="One hyperparameter job: adapter, answers, scores.",
)
compare_and_promote = dg.define_asset_job(
    "compare_and_promote",
    dg.AssetSelection.assets("model_comparison", "champion"),
    description="All evaluated jobs side by side; the best one promoted.",
)
catalog_refresh = dg.ScheduleDefinition(
    name="catalog_refresh",
    job=prepare,
    cron_schedule=get_settings().refresh_schedule,
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Read the catalog again; unchanged stages keep their results.",
)

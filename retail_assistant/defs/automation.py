"""Named slices of the graph, and when they run."""

from collections.abc import Iterator

import dagster as dg

from retail_assistant.catalog.source import CatalogError
from retail_assistant.catalog.stamp import catalog_stamp, folder_stamp
from retail_assistant.defs.partitions import job_partitions, task_partitions
from retail_assistant.settings import SHIPPED_TEXTS, Settings, get_settings

OBSERVED = dg.AssetSelection.assets(
    "raw_catalog",
    "catalog_profile",
    "store_knowledge",
    "labelled_text_file",
    "base_model_source",
    "promotion_policy",
    "judge",
    "shopper_mix",
)
"""What others have, and change."""

LABELLED_TEXTS = dg.AssetSelection.assets("labelled_texts", "rejected_labelled_texts")

prepare = dg.define_asset_job(
    "prepare",
    dg.AssetSelection.groups("catalog", "corpus")
    - OBSERVED
    - dg.AssetSelection.assets("product_images", "prompt_corpus")
    - LABELLED_TEXTS
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
    OBSERVED,
    description="Look whether the retailer's file, its profile, the store's knowledge, the labelled"
    " texts, the base model, the promotion policy, the judge or the shoppers' mix have changed.",
)
accept_catalog = dg.define_asset_job(
    "accept_catalog",
    dg.AssetSelection.assets("catalog_changes"),
    description="Accept the present catalog, also one that a refresh check holds back.",
)
fetch_images = dg.define_asset_job(
    "fetch_images",
    dg.AssetSelection.assets("product_images"),
    description="The assortment's images; what is stored already is not fetched again.",
)
answer_baselines = dg.define_asset_job(
    "answer_baselines",
    dg.AssetSelection.assets("evaluation_set_audit", "baseline_predictions"),
    description="What the questions can show, and the answers that a job has to beat.",
)
# Dagster warns of its varying backfill policies and does what is wanted: a run a partition, for an
# adapter is trained alone.
train_and_evaluate = dg.define_asset_job(
    "train_and_evaluate",
    dg.AssetSelection.assets("training_plan", "adapter", "predictions", "evaluation_report"),
    partitions_def=job_partitions,
    description="One hyperparameter job: plan, adapter, answers, scores.",
)
prepare_classification = dg.define_asset_job(
    "prepare_classification",
    LABELLED_TEXTS | dg.AssetSelection.assets("base_model"),
    description="Labelled texts, cleaned, and the base model.",
)
classify_before = dg.define_asset_job(
    "classify_before",
    dg.AssetSelection.assets("classification_baseline"),
    description="The untouched model's labels.",
)
train_and_classify = dg.define_asset_job(
    "train_and_classify",
    dg.AssetSelection.assets(
        "training_plan", "adapter", "classifications", "classification_report", "label_quality"
    ),
    partitions_def=job_partitions,
    description="One hyperparameter job of the task sentiment: adapter, labels, before and after.",
)
compare_and_promote = dg.define_asset_job(
    "compare_and_promote",
    dg.AssetSelection.assets(
        "model_comparison", "champion_predictions", "champion_report", "champion"
    ),
    description="All evaluated jobs side by side, and the champion's own answers; the best one"
    " promoted.",
)

_SCHEDULE_STATUS = (
    dg.DefaultScheduleStatus.RUNNING if get_settings().refresh else dg.DefaultScheduleStatus.STOPPED
)
_SENSOR_STATUS = (
    dg.DefaultSensorStatus.RUNNING if get_settings().refresh else dg.DefaultSensorStatus.STOPPED
)

catalog_observation = dg.ScheduleDefinition(
    name="catalog_observation",
    job=observe_catalog,
    cron_schedule=get_settings().refresh_schedule,
    default_status=_SCHEDULE_STATUS,
    description="Read the retailer's file and note its version, whatever its date says.",
)


@dg.sensor(
    name="catalog_arrival",
    job=observe_catalog,
    minimum_interval_seconds=get_settings().refresh_interval,
    default_status=_SENSOR_STATUS,
    description="Look at the retailer's file, its profile, the store's knowledge and the labelled"
    " texts (date and size, not content); observe them if they may have changed.",
)
def catalog_arrival(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Request an observation where the file may have changed since the last look."""
    settings = get_settings()
    try:
        stamps = [
            *map(catalog_stamp, _watched_files(settings)),
            *map(folder_stamp, [settings.knowledge] if settings.knowledge else []),
        ]
    except (CatalogError, OSError) as error:
        return dg.SkipReason(str(error))
    if None in stamps:
        return dg.SkipReason("written to just now: it may not be complete yet")
    stamp = " ".join(map(str, stamps))
    if stamp == context.cursor:
        return dg.SkipReason(f"{settings.catalog_uri} is as it was")
    # No run key: Dagster would never launch the same one again, and a file that is put back with
    # its date has the stamp that it had.
    return dg.SensorResult(run_requests=[dg.RunRequest()], cursor=stamp)


def _watched_files(settings: Settings) -> Iterator[str]:
    yield settings.catalog_uri
    yield str(settings.catalog_profile)
    if settings.labelled_texts != SHIPPED_TEXTS:
        yield str(settings.labelled_texts)


catalog_automation = dg.AutomationConditionSensorDefinition(
    name="catalog_automation",
    target=dg.AssetSelection.groups("catalog", "corpus"),
    default_status=_SENSOR_STATUS,
    minimum_interval_seconds=get_settings().refresh_interval,
    # Our conditions are classes of our own, so the code location evaluates them, not the daemon.
    use_user_code_server=True,
    description="Run what is out of date, up to the prompts, once what it is made from has been"
    " checked.",
)

"""Searches: Optuna proposes trials, each trial is a partition and an adapter of its own."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import polars as pl

from retail_assistant.defs.adapters import CODE_VERSION, GROUP, OWNERS, TRAINING_POOL, train_adapter
from retail_assistant.defs.io_managers import preview, table_facts
from retail_assistant.defs.partitions import (
    REGISTRY,
    corpora_of_search,
    search_partitions,
    trial_partitions,
)
from retail_assistant.defs.resources import Launcher
from retail_assistant.launch.spec import ArtefactRef
from retail_assistant.run_queue import PARTITION, tags_of
from retail_assistant.settings import get_settings
from retail_assistant.storage import TableRef
from retail_assistant.training.searching.progress import (
    SEARCH_ASSET,
    TRIAL_ASSET,
    RunningSearch,
    begin_search,
    current_search,
    find_trial,
)
from retail_assistant.training.searching.report import best_study, trials_plot, trials_table

REPORT_ASSET = "search_report"
SECONDS_BETWEEN_LOOKS = 30
# A trial finds its search by its name, and a report its trials: which they are nobody knows before.
_any = dg.AllPartitionMapping()


@dg.asset(
    name=SEARCH_ASSET,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"optuna"},
    partitions_def=search_partitions,
    ins={"prompt_corpus": dg.AssetIn(partition_mapping=corpora_of_search)},
    code_version="1",
)
def hyperparameter_search(
    context: dg.AssetExecutionContext,
    prompt_corpus: dict[str, TableRef],
    base_model: ArtefactRef,
) -> dg.MaterializeResult[ArtefactRef]:
    """A search that has begun: its sensor then asks for trials until a bound is reached.

    Materializing it again goes on with the trials so far, within the bounds that the file has now;
    where the space, the corpus or the base model has changed it begins anew.
    """
    settings = get_settings()
    search = REGISTRY.search(context.partition_key)
    ref = begin_search(settings.storage, search, prompt_corpus, base_model, datetime.now(UTC))
    running = RunningSearch(settings.storage, ref)
    return dg.MaterializeResult(
        value=ref,
        data_version=dg.DataVersion(ref.fingerprint),
        metadata={
            "search": dg.MetadataValue.json(search.model_dump(mode="json")),
            "trials_so_far": len(running.trials()),
            "deadline": running.record.deadline.isoformat(timespec="seconds"),
        },
    )


@dg.asset(
    name=TRIAL_ASSET,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"pytorch", "mlflow"},
    partitions_def=trial_partitions,
    deps=[dg.AssetDep(SEARCH_ASSET, partition_mapping=_any)],
    pool=TRAINING_POOL,
    code_version=CODE_VERSION,
)
def trial_adapter(
    context: dg.AssetExecutionContext, launcher: Launcher
) -> dg.MaterializeResult[ArtefactRef]:
    """The LoRA adapter of a trial: trained as `adapter` is, on what its search began with."""
    running, trial = find_trial(get_settings().storage, context.partition_key)
    record = running.record
    return train_adapter(context, launcher, trial.job, record.corpora, record.base_model)


@dg.asset(
    name=REPORT_ASSET,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"polars", "parquet"},
    partitions_def=search_partitions,
    deps=[dg.AssetDep(TRIAL_ASSET, partition_mapping=_any)],
    code_version="1",
)
def search_report(hyperparameter_search: ArtefactRef) -> dg.MaterializeResult[pl.DataFrame]:
    """A search's trials, the best of them as a study file, and the way there as a picture."""
    running = RunningSearch(get_settings().storage, hyperparameter_search)
    outcomes, best = running.outcomes(), running.best()
    table = trials_table(running.search, outcomes)
    found: dict[str, Any] = {
        state: sum(one.state == state for one in outcomes) for state in ("finished", "failed")
    }
    if best is not None:
        found |= {
            "best_trial": best.trial.key,
            "best_eval_loss": best.loss,
            "best_study": dg.MetadataValue.md(f"```yaml\n{best_study(running, best)}```"),
            "by_trial": dg.MetadataValue.md(trials_plot(running.search, table)),
        }
    facts = table_facts(table, trials=len(outcomes), **found)
    facts["metadata"]["preview"] = preview(table, rows=running.search.trials)
    return dg.MaterializeResult(value=table, **facts)


train_trial = dg.define_asset_job(
    "train_trial",
    dg.AssetSelection.assets(TRIAL_ASSET),
    partitions_def=trial_partitions,
    description="The adapter of a trial that a search has proposed.",
)
begin_hyperparameter_search = dg.define_asset_job(
    "begin_search",
    dg.AssetSelection.assets(SEARCH_ASSET),
    partitions_def=search_partitions,
    description="Begin a search, or go on with it.",
)
report_search = dg.define_asset_job(
    "report_search",
    dg.AssetSelection.assets(REPORT_ASSET),
    partitions_def=search_partitions,
    description="What a search has found so far.",
)


@dg.sensor(
    name="search_trials",
    jobs=[train_trial, report_search],
    minimum_interval_seconds=SECONDS_BETWEEN_LOOKS,
    # Of no effect until somebody begins a search.
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Ask Optuna for the next trials of every search that has begun, and run them.",
)
def search_trials(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Request a run of every trial that waits, and a report where a trial has ended."""
    reported: dict[str, str] = json.loads(context.cursor or "{}")
    runs: list[dg.RunRequest] = []
    trials: list[str] = []
    for name in REGISTRY.searches:
        running = current_search(get_settings().storage, name)
        if running is None:
            continue
        with running.driving() as ours:
            if not ours:
                context.log.info(f"{name}: a terminal drives it")
                continue
            waiting = advance(context.instance, running)
        trials += [run.partition_key for run in waiting if run.partition_key]
        runs += waiting
        digest = _ended(running)
        if digest and reported.get(name) != digest:
            reported[name] = digest
            runs.append(dg.RunRequest(job_name=report_search.name, partition_key=name))
    if not runs:
        return dg.SkipReason("no search waits for anything")
    return dg.SensorResult(
        run_requests=runs,
        dynamic_partitions_requests=[trial_partitions.build_add_request(trials)],
        cursor=json.dumps(reported),
    )


def advance(instance: dg.DagsterInstance, running: RunningSearch) -> list[dg.RunRequest]:
    """Note what has failed, propose what may run beside the rest; a request for all that waits.

    A trial's run is requested at every look until it has ended; Dagster launches a key once.
    """
    for one in running.outcomes():
        if one.state == "waiting":
            newest = instance.get_runs(
                filters=dg.RunsFilter(tags={PARTITION: one.trial.key}), limit=1
            )
            if newest and newest[0].is_finished:
                status = newest[0].status.value.lower()
                running.fail(one.trial, f"its run {newest[0].run_id} ended: {status}")
    running.propose(datetime.now(UTC))
    return [
        dg.RunRequest(
            run_key=one.trial.key,
            job_name=train_trial.name,
            partition_key=one.trial.key,
            tags=tags_of(one.trial.job.resources),
        )
        for one in running.outcomes()
        if one.state == "waiting"
    ]


def _ended(running: RunningSearch) -> str | None:
    """A digest of all trials that have ended, None where none has."""
    ended = [(one.trial.key, one.loss) for one in running.outcomes() if one.state != "waiting"]
    return hashlib.sha256(json.dumps(ended).encode()).hexdigest()[:16] if ended else None

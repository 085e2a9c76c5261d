"""Which of Dagster's runs need not be kept: sensors and schedules that look around leave many."""

from datetime import UTC, datetime, timedelta

import dagster as dg

RUNS_AT_ONCE = 500
ENDED = [
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
]
KEPT = {dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_CHECK_EVALUATION}


def prunable_runs(instance: dg.DagsterInstance, days: int) -> list[str]:
    """Ids of the runs that ended, began more than `days` days ago, and made nothing.

    A run that materialized or checked an asset is the lineage of what it made; one that holds the
    last observation of an asset says which version that asset has now. Neither is among them.
    """
    before = datetime.now(UTC) - timedelta(days=days)
    wanted = dg.RunsFilter(statuses=ENDED, created_before=before)
    observed = _last_observations(instance)
    found: list[str] = []
    cursor = None
    while True:
        records = instance.get_run_records(wanted, limit=RUNS_AT_ONCE, cursor=cursor)
        ids = [record.dagster_run.run_id for record in records]
        found += [one for one in ids if one not in observed and not _made_something(instance, one)]
        if len(records) < RUNS_AT_ONCE:
            return found
        cursor = ids[-1]


def _last_observations(instance: dg.DagsterInstance) -> set[str]:
    looks = (instance.fetch_observations(key, limit=1) for key in instance.all_asset_keys())
    return {record.run_id for look in looks for record in look.records}


def _made_something(instance: dg.DagsterInstance, run_id: str) -> bool:
    return bool(instance.get_records_for_run(run_id, of_type=KEPT, limit=1).records)

"""When automation compares the models: whenever there is something else to compare.

`eager()` waits until no partition of `evaluation_report` is missing, which with studies that nobody
runs is never. Here what is there is compared: a comparison says which versions it was made from,
and it is out of date once the reports and the baseline that there are have other ones.
"""

import json
from dataclasses import dataclass

import dagster as dg

from retail_assistant.defs.conditions import DATA_VERSION_TAG
from retail_assistant.settings import get_settings

COMPARISON = dg.AssetKey("model_comparison")
BASELINE = dg.AssetKey("baseline_predictions")
REPORTS = dg.AssetKey("evaluation_report")
COMPARED = "compared"
"""The comparison's metadata: asset or asset/partition -> the data version that was compared."""


def comparable_versions(instance: dg.DagsterInstance) -> dict[str, str]:
    """The data versions of the baseline and of every report that there is."""
    reports = sorted(instance.get_materialized_partitions(REPORTS))
    wanted = [(BASELINE, None), *((REPORTS, job) for job in reports)]
    versions = {_name(key, job): _version(instance, key, job) for key, job in wanted}
    return {name: version for name, version in versions.items() if version is not None}


def _name(key: dg.AssetKey, partition: str | None) -> str:
    return key.to_user_string() + (f"/{partition}" if partition else "")


def _version(instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None) -> str | None:
    made = _latest(instance, key, partition)
    return (made.tags or {}).get(DATA_VERSION_TAG) if made else None


def _latest(
    instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None = None
) -> dg.AssetMaterialization | None:
    wanted = dg.AssetRecordsFilter(key, asset_partitions=[partition] if partition else None)
    records = instance.fetch_materializations(wanted, limit=1).records
    return records[0].asset_materialization if records else None


def _compared_versions(instance: dg.DagsterInstance) -> dict[str, str] | None:
    """What the latest comparison was made from; None: there is none, or it does not say."""
    made = _latest(instance, COMPARISON)
    said = made.metadata.get(COMPARED) if made else None
    return dict(said.data) if isinstance(said, dg.JsonMetadataValue) else None  # type: ignore[arg-type]


@dataclass(frozen=True)
class NewToCompare(dg.AutomationCondition[dg.AssetKey]):
    """There are a baseline and a report, in versions that no comparison was made or tried from.

    What failed, or was cancelled, is not run again until a report or the baseline has changed.
    """

    @property
    def name(self) -> str:
        """What the UI calls it."""
        return "new_to_compare"

    def evaluate(
        self, context: dg.AutomationContext[dg.AssetKey]
    ) -> dg.AutomationResult[dg.AssetKey]:
        """True where a comparison made now would be another one."""
        instance = context.asset_graph_view.instance
        now = comparable_versions(instance)
        remembered = json.loads(context.cursor or "{}")
        requested = context.get_previous_requested_subset(context.key)
        # What was requested at the last look was requested for the versions of the last look.
        tried = remembered.get("tried" if requested is None or requested.is_empty else "now")
        made = _compared_versions(instance)
        complete = BASELINE.to_user_string() in now and len(now) > 1
        wanted = complete and now not in (made, tried)
        subset = context.candidate_subset if wanted else context.get_empty_subset()
        # Up to date, by whatever run: the same versions may be tried once more, later on.
        cursor = json.dumps({"now": now, "tried": None if now == made else tried})
        return dg.AutomationResult(context, subset, cursor=cursor)


COMPARE = (NewToCompare() & ~dg.AutomationCondition.in_progress()).with_label("new to compare")
"""Compare what there is, as soon as a report or the baseline is another one."""

comparison_automation = dg.AutomationConditionSensorDefinition(
    name="comparison_automation",
    target=dg.AssetSelection.assets(COMPARISON),
    default_status=dg.DefaultSensorStatus.RUNNING
    if get_settings().refresh
    else dg.DefaultSensorStatus.STOPPED,
    minimum_interval_seconds=get_settings().refresh_interval,
    # The condition is a class of our own, so the code location evaluates it, not the daemon.
    use_user_code_server=True,
    description="Compare the models again when a report or the baseline is another one.",
)

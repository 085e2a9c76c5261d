"""When an asset is out of date, and when automation may run it.

Dagster's own conditions look for events since their last look ("a dependency was updated"), so they
miss what happened before the first look or during a run. What counts here is state, as with `make`:
Dagster records with an asset which versions it was made from; they are compared with those there
are now.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg

DATA_VERSION_TAG = "dagster/data_version"
_CODE = "code version"


@dataclass(frozen=True)
class OutOfDate(dg.AutomationCondition[dg.AssetKey]):
    """The asset, or one that it descends from, is missing or was made from other versions.

    An observed asset is out of date until it was observed. Partitioned ancestors are not followed.
    """

    @property
    def name(self) -> str:
        """What the UI calls it."""
        return "out_of_date"

    def evaluate(
        self, context: dg.AutomationContext[dg.AssetKey]
    ) -> dg.AutomationResult[dg.AssetKey]:
        """True for all of the asset, or for none of it."""
        versions = Versions(context)
        outdated = any(versions.is_out_of_date(key) for key in versions.lineage(context.key))
        subset = context.candidate_subset if outdated else context.get_empty_subset()
        return dg.AutomationResult(context, subset)


@dataclass(frozen=True)
class NewInputs(dg.AutomationCondition[dg.AssetKey]):
    """The asset is missing or was made from other versions, and these were not tried before.

    What failed, or was cancelled, is thus not run again until an input or the code has changed.
    Of a partitioned asset only `partitions` are looked at, which are not made from the assets
    `beside`.
    """

    partitions: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the UI calls it."""
        return "new_inputs"

    def evaluate(
        self, context: dg.AutomationContext[dg.AssetKey]
    ) -> dg.AutomationResult[dg.AssetKey]:
        """True where a run would use versions that neither the asset nor a request has used."""
        versions = Versions(context, self.beside)
        now = versions.now(context.key)
        remembered = json.loads(context.cursor or "{}")
        tried = dict(remembered.get("tried", {}))
        # What was requested at the last look was requested for the versions of the last look.
        tried |= dict.fromkeys(self._requested(context), remembered.get("now"))
        outdated = {
            one for one in self._considered(context) if versions.is_out_of_date(context.key, one)
        }
        # Up to date again, by whatever run: the same versions may be tried once more, later on.
        tried = {one: then for one, then in tried.items() if one in outdated}
        wanted = {one for one in outdated if tried.get(one) != now}
        cursor = json.dumps({"now": now, "tried": tried})
        subset = context.get_empty_subset()
        if wanted and context.partitions_def:
            subset = context.asset_graph_view.get_subset_from_partition_keys(
                context.key, context.partitions_def, wanted
            )
        elif wanted:
            subset = context.candidate_subset
        return dg.AutomationResult(context, subset, cursor=cursor)

    def _considered(self, context: dg.AutomationContext[dg.AssetKey]) -> tuple[str, ...]:
        """The partitions; an asset without any is one partition without a name."""
        return self.partitions if context.partitions_def else ("",)

    def _requested(self, context: dg.AutomationContext[dg.AssetKey]) -> set[str]:
        requested = context.get_previous_requested_subset(context.key)
        if requested is None or requested.is_empty:
            return set()
        if not context.partitions_def:
            return {""}
        return set(requested.expensively_compute_partition_keys())


class Versions:
    """The versions that assets have, and those that they were made from."""

    def __init__(
        self, context: dg.AutomationContext[dg.AssetKey], beside: tuple[str, ...] = ()
    ) -> None:
        self._beside = {dg.AssetKey(name) for name in beside}
        self._graph = context.asset_graph
        self._instance = context.asset_graph_view.instance

    def lineage(self, key: dg.AssetKey) -> Iterator[dg.AssetKey]:
        """The asset and all that it descends from, each once."""
        found = {key}
        waiting = [key]
        while waiting:
            one = waiting.pop()
            yield one
            parents = {parent for parent in self._parents(one) if parent not in found}
            found |= parents
            waiting += sorted(parents)

    def is_out_of_date(self, key: dg.AssetKey, partition: str = "") -> bool:
        """Is the asset missing, or made from other versions than those that there are?"""
        node = self._graph.get(key)
        if node.is_partitioned and not partition:
            return False
        tags = self._latest_tags(key, partition)
        if tags is None:
            return True
        if not node.is_materializable:
            return False
        made_from = dg.DataProvenance.from_tags(tags)
        if made_from is None:
            return True
        then = {one.to_user_string(): v.value for one, v in made_from.input_data_versions.items()}
        then[_CODE] = made_from.code_version
        return any(then.get(name) != version for name, version in self.now(key).items())

    def now(self, key: dg.AssetKey) -> dict[str, str | None]:
        """What a run of the asset would use now: its code version, its inputs' data versions."""
        code_version = self._graph.get(key).code_version
        versions: dict[str, str | None] = {_CODE: code_version} if code_version else {}
        for parent in sorted(self._parents(key)):
            tags = self._latest_tags(parent)
            versions[parent.to_user_string()] = (tags or {}).get(DATA_VERSION_TAG)
        return versions

    def _parents(self, key: dg.AssetKey) -> Iterator[dg.AssetKey]:
        for parent in self._graph.get(key).parent_keys:
            if parent in self._beside or not self._graph.has(parent):
                continue
            if not self._graph.get(parent).is_partitioned:
                yield parent

    def _latest_tags(self, key: dg.AssetKey, partition: str = "") -> dict[str, str] | None:
        """The tags of the latest materialization or observation; None where there is none."""
        wanted = dg.AssetRecordsFilter(key, asset_partitions=[partition] if partition else None)
        if self._graph.get(key).is_materializable:
            made = self._instance.fetch_materializations(wanted, limit=1).records
            event = made[0].asset_materialization if made else None
            return dict(event.tags or {}) if event else None
        observed = self._instance.fetch_observations(wanted, limit=1).records
        seen = observed[0].asset_observation if observed else None
        return dict(seen.tags) if seen else None


def refresh_condition(
    *partitions: str, beside: tuple[str, ...] = ()
) -> dg.AutomationCondition[dg.AssetKey]:
    """Run what is out of date, once all that it is made from is up to date and has been checked.

    An asset that was made again with the same data version makes nothing run. After a failed
    blocking check nothing runs that descends from the asset. Of a partitioned asset only
    `partitions` are run, whatever becomes of the assets `beside`, from which others are made.
    """
    out_of_date = dg.AutomationCondition.any_deps_match(OutOfDate())
    if beside:
        out_of_date = out_of_date.ignore(dg.AssetSelection.assets(*beside))
    return (
        NewInputs(partitions, beside)
        & ~out_of_date
        & ~dg.AutomationCondition.any_deps_in_progress()
        & ~dg.AutomationCondition.in_progress()
        & dg.AutomationCondition.all_deps_blocking_checks_passed()
    ).with_label("refresh")


REFRESH = refresh_condition()
"""For what follows the catalog by itself: everything up to the prompts. Never for training."""

REFRESH_CORPUS = refresh_condition("assistant", beside=("labelled_texts",))
"""For the prompts of dialogues; those of the other tasks are rendered when a person wants them."""

REFRESH_ONCE_MADE = (REFRESH & ~dg.AutomationCondition.missing()).with_label("refresh once made")
"""For what a person must want first, such as fetching from other people's servers."""

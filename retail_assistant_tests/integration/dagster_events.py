"""What a Dagster instance has seen."""

from collections import Counter

import dagster as dg


def event_counts(instance: dg.DagsterInstance) -> Counter[str]:
    """How often each asset was materialized or observed up to now."""
    counted: Counter[str] = Counter()
    for key in instance.all_asset_keys():
        wanted = dg.AssetRecordsFilter(key)
        made = instance.fetch_materializations(wanted, limit=1000).records
        seen = instance.fetch_observations(wanted, limit=1000).records
        counted[key.to_user_string()] = len(made) + len(seen)
    return counted

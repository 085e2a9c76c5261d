"""Which models nobody need take: another one is at least as right and costs no more."""

from collections.abc import Mapping

import polars as pl

COSTS = {
    "train_seconds": "seconds of training",
    "train_tokens": "tokens trained on",
    "seconds_per_question": "seconds an answer",
}
"""What accuracy is weighed against, and what it is called."""

PARETO_SCHEMA = pl.Schema(
    {
        "cost": pl.String,
        "variant": pl.String,
        "spent": pl.Float64,
        "accuracy": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "on_front": pl.Boolean,
        "dominated_by": pl.String,
    }
)


def pareto_fronts(summary: pl.DataFrame, costs: pl.DataFrame) -> pl.DataFrame:
    """PARETO: strict accuracy on unseen products against each cost that was measured.

    A variant is dominated by one that spends no more and is at least as accurate, and better in
    one of the two; `dominated_by` is the most accurate such variant, null on the front. Sorted by
    what was spent.
    """
    accuracies = {
        row["variant"]: row
        for row in summary.filter(metric="strict_accuracy", subset="unseen").to_dicts()
        if row["value"] is not None
    }
    rows = []
    for cost in COSTS:
        if cost not in costs.columns:
            continue
        spent = {
            variant: float(value)
            for variant, value in costs.select("variant", cost).drop_nulls().iter_rows()
            if variant in accuracies
        }
        for variant, value in sorted(spent.items(), key=lambda item: (item[1], item[0])):
            better = _dominating(variant, spent, accuracies)
            row = accuracies[variant]
            interval = (row["value"], row["low"], row["high"])
            rows.append((cost, variant, value, *interval, better is None, better))
    return pl.DataFrame(rows, schema=PARETO_SCHEMA, orient="row")


def _dominating(
    variant: str, spent: Mapping[str, float], accuracies: Mapping[str, Mapping[str, float]]
) -> str | None:
    own = spent[variant], accuracies[variant]["value"]
    others = [
        (accuracies[other]["value"], -cost, other)
        for other, cost in spent.items()
        if cost <= own[0]
        and accuracies[other]["value"] >= own[1]
        and (cost, accuracies[other]["value"]) != own
    ]
    return max(others)[2] if others else None

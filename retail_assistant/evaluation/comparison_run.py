"""A comparison as one MLflow run: every model's scores side by side, the report as its file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from retail_assistant.evaluation.comparison import Comparison

NUMBERS_A_CALL = 900


def comparison_metrics(comparison: Comparison) -> dict[str, float]:
    """`<metric>/<set>/<variant>`, where it was measured (a metric is of one intent, or of all)."""
    measured = comparison.summary.filter(pl.col("value").is_not_null()).select(
        "metric", "subset", "variant", "value"
    )
    return {
        f"{metric}/{subset}/{variant}".replace("base/", "base-"): float(value)
        for metric, subset, variant, value in measured.iter_rows()
    }


def record_comparison(
    run: Any, comparison: Comparison, report: Path, tags: Mapping[str, str]
) -> tuple[str, str]:
    """Write a comparison to the open run of dagster-mlflow's resource, and end that.

    Args:
        run: the resource: MLflow's own functions, with a run open.
        comparison: what is recorded.
        report: the HTML page.
        tags: where the run came from, and the runs of the models that are compared.

    Returns:
        Ids of experiment and run.
    """
    numbers = list(comparison_metrics(comparison).items())
    for start in range(0, len(numbers), NUMBERS_A_CALL):
        run.log_metrics(dict(numbers[start : start + NUMBERS_A_CALL]))
    run.log_params({"questions": comparison.questions, "variants": len(comparison.variants)})
    run.set_tags(dict(tags))
    run.log_artifact(str(report))
    info = run.active_run().info
    run.end_run()
    return str(info.experiment_id), str(info.run_id)

"""A comparison as one MLflow run: every model's scores side by side, the report and its tables as
files.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from retail_assistant.evaluation.comparison import Comparison

NUMBERS_A_CALL = 900


def comparison_metrics(comparison: Comparison) -> dict[str, float]:
    """`<metric>/<set>/<variant>`, where it was measured (a metric is of one intent, or of all).

    Beside the metrics the tests' `difference_to_…` and `p_holm_to_…` baseline and champion.
    """
    measured = comparison.summary.filter(pl.col("value").is_not_null()).select(
        "metric", "subset", "variant", "value"
    )
    numbers = list(measured.iter_rows())
    for name, tests in (("baseline", comparison.tests), ("champion", comparison.champion_tests)):
        for column in ("difference", "p_holm"):
            rows = tests.select("subset", "variant", column).drop_nulls(column)
            numbers += [(f"{column}_to_{name}", *row) for row in rows.iter_rows()]
    return {
        f"{metric}/{subset}/{variant}".replace("base/", "base-"): float(value)
        for metric, subset, variant, value in numbers
    }


def record_comparison(
    run: Any, comparison: Comparison, report: Path, tags: Mapping[str, str]
) -> tuple[str, str]:
    """Write a comparison to the open run of dagster-mlflow's resource, and end that.

    Args:
        run: the resource: MLflow's own functions, with a run open.
        comparison: what is recorded.
        report: the HTML page; the other files of its folder, tables and JSON, are kept too.
        tags: where the run came from, and the runs of the models that are compared.

    Returns:
        Ids of experiment and run.
    """
    numbers = list(comparison_metrics(comparison).items())
    for start in range(0, len(numbers), NUMBERS_A_CALL):
        run.log_metrics(dict(numbers[start : start + NUMBERS_A_CALL]))
    run.log_params({"questions": comparison.questions, "variants": len(comparison.variants)})
    run.set_tags(dict(tags))
    run.log_artifacts(str(report.parent))
    info = run.active_run().info
    run.end_run()
    return str(info.experiment_id), str(info.run_id)

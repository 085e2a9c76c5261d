"""Truthfulness by the judge of the settings, where there is one."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import polars as pl

from retail_assistant.evaluation.judge import (
    configured_judge,
    judge_version,
    judge_with_settings,
)
from retail_assistant.settings import get_settings

NO_JUDGE = {"judge": None, "why": "RETAIL_JUDGE_URL names none: truthfulness is empty"}


@dg.multi_observable_source_asset(
    specs=[
        dg.AssetSpec(
            "judge",
            description="Who judges truthfulness and by which rubric, and the person's sheet that"
            " the judge is compared with: `RETAIL_JUDGE_URL`, `_MODEL` and `_SHEET`.",
            group_name="evaluation",
            owners=["team:machine-learning"],
            kinds={"openai"},
        )
    ]
)
def observed_judge() -> Iterator[dg.ObserveResult]:
    """Look who judges."""
    settings = get_settings()
    yield dg.ObserveResult(
        asset_key="judge",
        data_version=dg.DataVersion(judge_version(settings)),
        metadata={
            "url": settings.judge_url or "none",
            "model": settings.judge_model or "none",
            "sheet": str(settings.judge_sheet or "none"),
        },
    )


def judged_predictions(
    context: dg.AssetExecutionContext,
    prompt_corpus: pl.DataFrame,
    predictions: pl.DataFrame,
    assortment: pl.DataFrame,
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Predictions with `truthfulness`, and what is to be said of the judge.

    Without a judge the predictions stay as they are. A judge that fails costs no report: its column
    is empty where it did, and what it judged is kept for the next materialization.
    """
    choice = configured_judge()
    if choice is None:
        return predictions, NO_JUDGE
    told, facts = judge_with_settings(
        prompt_corpus,
        predictions,
        assortment,
        choice,
        progress=lambda done, whole, note: context.log.debug(f"judged {done} of {whole}: {note}"),
    )
    if facts["problem"]:
        context.log.warning(f"not judged to the end: {facts['problem']}")
    return told, facts

"""Truthfulness by the judge of the settings, where there is one."""

from typing import Any

import dagster as dg
import polars as pl

from retail_assistant.corpus.generate import RESPONSES
from retail_assistant.evaluation.agreement import agreement, read_sheet
from retail_assistant.evaluation.judge import configured_judge, judge_answers, with_truthfulness
from retail_assistant.objects import ObjectStore
from retail_assistant.settings import get_settings

NO_JUDGE = {"judge": None, "why": "RETAIL_JUDGE_URL names none: truthfulness is empty"}


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
    settings, choice = get_settings(), configured_judge()
    if choice is None:
        return predictions, NO_JUDGE
    store = ObjectStore(str(settings.storage / RESPONSES))
    store.check()
    judged = judge_answers(
        prompt_corpus,
        predictions,
        assortment,
        choice,
        store,
        seed=settings.seed,
        progress=lambda done, whole, note: context.log.debug(f"judged {done} of {whole}: {note}"),
    )
    if judged.problem:
        context.log.warning(f"not judged to the end: {judged.problem}")
    facts = dict(judged.facts)
    if settings.judge_sheet is not None:
        sheet = read_sheet(settings.judge_sheet)
        facts["agreement"] = agreement(judged.answers, sheet).model_dump()
    return with_truthfulness(predictions, judged), facts

"""Corpora for tests, as the graph makes them."""

from typing import Any

import polars as pl

from retail_assistant.corpus.dialogues import dialogues_frame
from retail_assistant.corpus.generators.template import TemplateGenerator
from retail_assistant.corpus.planning import DialoguePolicy, plan_dialogues


def template_dialogues(
    products: pl.DataFrame,
    splits: pl.DataFrame,
    catalog: pl.DataFrame,
    *,
    seed: int,
    **policy: Any,
) -> pl.DataFrame:
    """The template generator's dialogues about `products`."""
    briefs = plan_dialogues(products, splits, catalog, DialoguePolicy(**policy), seed=seed)
    return dialogues_frame(TemplateGenerator(seed=seed).write(briefs))

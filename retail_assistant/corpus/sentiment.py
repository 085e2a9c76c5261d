"""Labelled texts become rows of the prompt corpus: `[Text]: … [Sentiment]:`, then the label.

Rows are split by label, so that every side has both in the same proportion, and near duplicates
stay together. A cluster's place is drawn from a hash of its texts: new texts move others to
another side only as far as the shares ask for it.
"""

from collections.abc import Sequence

import polars as pl

from retail_assistant.catalog.near_duplicates import near_duplicates
from retail_assistant.corpus.draws import stable_fraction
from retail_assistant.corpus.encoding import Encoder
from retail_assistant.corpus.labelled_text_files import LabelledTextError
from retail_assistant.corpus.rendering import (
    PROMPT_VERSION,
    render_sentiment,
    render_sentiment_prompt,
)
from retail_assistant.corpus.tasks import MESSAGES

SIDES = ("train", "validation", "test")
SHARES = (0.6, 0.2, 0.2)
_NO_ATTRIBUTES = pl.List(pl.Struct({"name": pl.String, "value": pl.String}))


def split_texts(
    texts: pl.DataFrame, *, seed: int, shares: Sequence[float] = SHARES
) -> pl.DataFrame:
    """`text_id`, `cluster_id` and `subset` (train, validation, test) of each text.

    Columns read: text_id, text, label. A cluster of near duplicates has the label of most of them.

    Raises:
        LabelledTextError: too few texts for both labels on every side.
    """
    clusters = _clusters(texts)
    ids = clusters["cluster_id"].unique().sort().to_list()
    draws = pl.DataFrame(
        {"cluster_id": ids, "draw": [stable_fraction("sentiment", seed, one) for one in ids]},
        schema={"cluster_id": pl.String, "draw": pl.Float64},
    )
    sizes = clusters.group_by("cluster_id").agg(
        stratum=pl.col("label").sort().mode(maintain_order=True).first(), size=pl.len()
    )
    ordered = sizes.join(draws, on="cluster_id").sort("stratum", "draw")
    # The middle of a cluster decides: else the first of a stratum would often be too large a one.
    middle = pl.col("size").cum_sum().over("stratum") - pl.col("size") / 2
    place = middle / pl.col("size").sum().over("stratum")
    subset = (
        pl.when(place < shares[0])
        .then(pl.lit(SIDES[0]))
        .when(place < shares[0] + shares[1])
        .then(pl.lit(SIDES[1]))
        .otherwise(pl.lit(SIDES[2]))
    )
    sided = clusters.join(ordered.with_columns(subset=subset), on="cluster_id")
    _require_both_labels(sided)
    return sided.select("text_id", "cluster_id", "subset").sort("text_id")


def sentiment_rows(texts: pl.DataFrame, encoder: Encoder, *, seed: int) -> pl.DataFrame:
    """The prompt corpus of labelled texts: their columns, subset, prompt, completion and lengths.

    Raises:
        LabelledTextError: as `split_texts`.
        ValueError: as `Encoder.examples`.
    """
    rows = texts.join(split_texts(texts, seed=seed), on="text_id").sort("subset", "text_id")
    prompts = [render_sentiment_prompt(text) for text in rows["text"]]
    completions = [render_sentiment(label) for label in rows["label"]]
    examples = encoder.examples(zip(prompts, completions, strict=True))
    lengths = [(one.prompt_length, len(one.ids) - one.prompt_length) for one in examples]
    return rows.with_columns(
        pl.Series("prompt", prompts, MESSAGES),
        pl.Series("completion", completions, MESSAGES),
        pl.Series("prompt_tokens", [prompt for prompt, _ in lengths], pl.UInt32),
        pl.Series("completion_tokens", [completion for _, completion in lengths], pl.UInt32),
        pl.lit(PROMPT_VERSION).alias("prompt_version"),
        pl.lit(encoder.style).alias("prompt_style"),
    )


def _clusters(texts: pl.DataFrame) -> pl.DataFrame:
    """text_id, label and cluster_id: texts are compared as the names of products are."""
    named = texts.select(
        product_id="text_id", name="text", attributes=pl.lit([], dtype=_NO_ATTRIBUTES)
    )
    found = near_duplicates(named.lazy()).select(text_id="product_id", cluster_id="cluster_id")
    return texts.join(found, on="text_id", how="left").select(
        "text_id", "label", cluster_id=pl.coalesce("cluster_id", "text_id")
    )


def _require_both_labels(sided: pl.DataFrame) -> None:
    counted = sided.group_by("subset").agg(labels=pl.col("label").n_unique())
    if counted.filter(pl.col("labels") == 2).height < len(SIDES):
        found = sided["label"].value_counts(sort=True).rows()
        told = ", ".join(f"{label}: {count}" for label, count in found)
        raise LabelledTextError(
            f"too few different texts to train, validate and test with ({told}); allowed: about 10"
            " of each label or more"
        )

"""How likely each of two labels is after a text: log-probabilities, no generated text."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from retail_assistant.corpus.encoding import Encoder
from retail_assistant.corpus.rendering import render_sentiment, render_sentiment_prompt
from retail_assistant.evaluation.engine import Engine
from retail_assistant.evaluation.statistics import Numbers


class Labels(NamedTuple):
    """Both words that a text can be labelled with."""

    negative: str
    positive: str


class LabelTokens(NamedTuple):
    """A text's prompt as token ids, and those of each label after it."""

    prompt: list[int]
    negative: list[int]
    positive: list[int]


def labels_of(corpus: pl.DataFrame) -> Labels:
    """The labels of a `sentiment` corpus.

    Raises:
        ValueError: it has not exactly one of each.
    """
    found = {
        is_positive: corpus.filter(pl.col("is_positive") == is_positive)["label"].unique().to_list()
        for is_positive in (False, True)
    }
    if any(len(words) != 1 for words in found.values()):
        raise ValueError(f"the corpus has the labels {found}; allowed: one negative, one positive")
    return Labels(found[False][0], found[True][0])


def label_tokens(texts: Sequence[str], labels: Labels, encoder: Encoder) -> list[LabelTokens]:
    """What is read of each text, and what of each label is looked for after it.

    A label is its own tokens without an end: an untouched model knows no place for one. Where one
    label's tokens begin the other's, both have their end, for else the shorter could not lose.
    """
    prompts = [render_sentiment_prompt(text) for text in texts]
    found = []
    pairs = ((prompt, render_sentiment(label)) for prompt in prompts for label in labels)
    examples = encoder.examples(pairs)
    for negative, positive in zip(examples, examples, strict=True):
        sides = [one.ids[one.prompt_length :] for one in (negative, positive)]
        bare = [side[:-1] for side in sides]
        shorter = min(map(len, bare))
        kept = sides if bare[0][:shorter] == bare[1][:shorter] else bare
        found.append(LabelTokens(negative.ids[: negative.prompt_length], kept[0], kept[1]))
    return found


def label_scores(engine: Engine, tokens: Sequence[LabelTokens]) -> pl.DataFrame:
    """The natural log-probability of each label: columns `log_negative`, `log_positive`.

    Of the whole vocabulary's softmax; a label of several tokens has the sum of theirs.

    Raises:
        ValueError: as `Engine.log_probabilities`.
    """
    prompts = [one.prompt for one in tokens for _ in range(2)]
    labels = [label for one in tokens for label in (one.negative, one.positive)]
    sums = [sum(found) for found in engine.log_probabilities(prompts, labels)]
    return pl.DataFrame(
        {"log_negative": sums[::2], "log_positive": sums[1::2]},
        schema={"log_negative": pl.Float64, "log_positive": pl.Float64},
    )


def log_odds(scores: pl.DataFrame) -> Numbers:
    """How much likelier the positive label is, as a natural logarithm."""
    return (scores["log_positive"] - scores["log_negative"]).to_numpy()


def probabilities(odds: Numbers, temperature: float = 1.0) -> Numbers:
    """P(positive), of both labels alone: the softmax of their log-probabilities / temperature."""
    # The tails of exp would overflow.
    scaled = np.clip(np.asarray(odds, float) / temperature, -700, 700)
    return np.asarray(1 / (1 + np.exp(-scaled)))


def label_mass(scores: pl.DataFrame) -> Numbers:
    """How likely the model is to go on with one of both labels at all."""
    return np.exp(scores["log_negative"].to_numpy()) + np.exp(scores["log_positive"].to_numpy())

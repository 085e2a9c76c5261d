"""Labelled texts with classifications that are planted, not a model's."""

import numpy as np
import polars as pl

from retail_assistant.corpus.labelled_texts import LABELLED


def corpus(
    truth: list[bool], label: list[bool], reviews: dict[str, list[bool | None]]
) -> pl.DataFrame:
    """A `sentiment` corpus without prompts, in the order given; every third row is validation."""
    words = {True: "positive", False: "negative", None: None}
    rows = [
        {
            "text_id": f"t{number:04d}",
            "source_row": number,
            "text": f"text {number}, truly {words[true]}",
            "label": words[said],
            "is_positive": said,
            "reviewers": [
                {"reviewer": name, "label": words[given[number]]} for name, given in reviews.items()
            ],
        }
        for number, (true, said) in enumerate(zip(truth, label, strict=True))
    ]
    sides = ["validation" if number % 3 == 0 else "test" for number in range(len(rows))]
    return pl.DataFrame(rows, schema=LABELLED).with_columns(subset=pl.Series(sides))


def classified(
    odds: list[float] | np.ndarray, variant: str = "x", mass: float = 0.9
) -> pl.DataFrame:
    """Classifications with these log-odds, both labels together as likely as `mass`."""
    chance = 1 / (1 + np.exp(-np.asarray(odds, float)))
    return pl.DataFrame(
        {
            "text_id": [f"t{number:04d}" for number in range(len(chance))],
            "variant": [variant] * len(chance),
            "log_negative": np.log(mass * (1 - chance)),
            "log_positive": np.log(mass * chance),
        }
    )

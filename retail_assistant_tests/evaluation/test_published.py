"""The reference implementation's published table, from its counts by our formulas.

Source: GoogleCloudPlatform/accelerated-platforms at 9320f3b, docs/platforms/gke/base/use-cases/
training-ref-arch/model-fine-tuning/README.md, "Our Results".
"""

import polars as pl
import pytest

from retail_assistant.evaluation.metrics import SCORED_SCHEMA, summarize

# model and job: questions, true positives, false positives, no product details; accuracy and
# precision as published, in percent.
PUBLISHED = {
    "Gemma 1.1 7b-it, job 1": (976, 815, 160, 1, 83.50, 83.59),
    "Gemma 1.1 7b-it, job 2": (976, 737, 225, 14, 75.51, 76.61),
    "Gemma 2 9b-it, job 1": (976, 836, 137, 4, 85.66, 86.01),
    "Gemma 2 9b-it, job 2": (976, 812, 164, 0, 83.20, 83.20),
    "Gemma 2 9b-it, job 1, 12838 rows": (3210, 2838, 372, 0, 88.41, 88.41),
    "Gemma 2 9b-it, job 2, 12838 rows": (3210, 2482, 719, 9, 77.32, 77.54),
}
# Its three counts are one more than the questions. With 136 false positives for the 137 printed
# both the sum and the published precision are right.
MISPRINTED = "Gemma 2 9b-it, job 1"


def scored(variant: str, true: int, false: int, nothing: int) -> pl.DataFrame:
    """A SCORED frame of answers that state a trained name, another name, or none."""
    total = true + false + nothing
    ids = [f"q{number}" for number in range(total)]
    return pl.DataFrame(
        {
            "dialogue_id": ids,
            "cluster": ids,
            "variant": variant,
            "subset": "unseen",
            "intent": "attribute",
            "loose_match": [number < true for number in range(total)],
            "loose_stated": [number < true + false for number in range(total)],
        },
    ).select(
        pl.col(name) if name in ("dialogue_id", "cluster", "variant", "subset", "intent")
        or name.startswith("loose") else pl.lit(None, kind).alias(name)
        for name, kind in SCORED_SCHEMA.items()
    )  # fmt: skip


def loose(variant: str, counts: tuple[int, int, int]) -> tuple[float, float]:
    summary = summarize(scored(variant, *counts), seed=1, resamples=10)
    shares = dict(summary.select("metric", "value").iter_rows())
    accuracy, precision = (
        round(100 * shares[f"reference_{name}_loose"], 2) for name in ("accuracy", "precision")
    )
    return accuracy, precision


@pytest.mark.parametrize("variant", sorted(set(PUBLISHED) - {MISPRINTED}))
def test_published_numbers_follow_from_their_counts(variant: str) -> None:
    questions, *counts, accuracy, precision = PUBLISHED[variant]
    true, false, nothing = (int(count) for count in counts)
    assert true + false + nothing == questions
    assert loose(variant, (true, false, nothing)) == (accuracy, precision)


def test_one_published_row_is_off_by_one() -> None:
    questions, true, false, nothing, accuracy, precision = PUBLISHED[MISPRINTED]
    assert true + false + nothing == questions + 1
    assert round(100 * true / (true + false), 2) == 85.92 != precision
    assert loose(MISPRINTED, (int(true), int(false) - 1, int(nothing))) == (accuracy, precision)

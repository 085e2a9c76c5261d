"""Every question and answer: what is kept of them, how they contrast, and how a page holds them."""

import base64
import gzip
import json
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from retail_assistant.evaluation.answers import (
    ANSWERS_SCHEMA,
    ASKED_SCHEMA,
    contrasts,
    exported,
)
from retail_assistant.evaluation.comparison import Comparison, compare
from retail_assistant.evaluation.embedded import Embedded, embedded_answers
from retail_assistant.evaluation.figures import ordered_variants, variant_colours
from retail_assistant.evaluation.metrics import score
from retail_assistant_tests.evaluation.large import large_comparison

Frames = Callable[..., pl.DataFrame]
SYSTEM = "You are our shop's assistant."
RECORD = "<record>\nname: Orbina Printed Women's Top\nFabric: 100% Cotton\n</record>"
HUGE = "word " * 2_000_000  # 10 MB


@pytest.fixture(scope="module")
def prompts(dialogues: pl.DataFrame) -> pl.DataFrame:
    """A PROMPT_CORPUS: the same record in every grounded prompt."""

    def asked(records: str) -> pl.Expr:
        user = pl.concat_str(pl.lit(f"{records}Question: "), pl.col("question"))
        message = pl.struct(pl.lit("user").alias("role"), user.alias("content"))
        system = pl.struct(pl.lit("system").alias("role"), pl.lit(SYSTEM).alias("content"))
        return pl.concat_list(system, message)

    return dialogues.with_columns(
        prompt=asked(""),
        grounded_prompt=asked(f"{RECORD}\n"),
        context_ids=pl.lit(["dddd4444-top"]),
    )


@pytest.fixture(scope="module")
def scored(dialogues: pl.DataFrame, products: pl.DataFrame, predict: Frames) -> pl.DataFrame:
    predictions = [
        predict("job-a", answers={"unseen-4": "The length is 12 cm.", "unseen-6": "Fabric: Silk"}),
        predict("base/grounded", "The fabric is Linen."),
        predict("base/closed-book", answers={"unseen-1": HUGE, "unseen-2": "\u202eright to left"}),
    ]
    return score(dialogues, pl.concat(predictions), products)


@pytest.fixture(scope="module")
def comparison(scored: pl.DataFrame, prompts: pl.DataFrame) -> Comparison:
    models = {"variant": ["job-a", "base/grounded"], "grounding": ["retrieved", "retrieved"]}
    return compare(
        scored,
        baseline={"job-a": "base/grounded"},
        models=pl.DataFrame(models),
        prompts=prompts,
        resamples=50,
    )


def embed(comparison: Comparison, **options: int) -> tuple[Embedded, dict[str, Any]]:
    variants = ordered_variants(comparison)
    embedded = embedded_answers(comparison, variants, variant_colours(comparison), **options)
    return embedded, json.loads(gzip.decompress(base64.b64decode(embedded.payload)))


def test_every_question_and_answer_is_kept_in_full(comparison: Comparison) -> None:
    assert comparison.asked.schema == ASKED_SCHEMA
    assert comparison.answered.schema == ANSWERS_SCHEMA
    assert (comparison.asked.height, comparison.answered.height) == (11, 33)
    huge = comparison.answered.filter(variant="base/closed-book", dialogue_id="unseen-1")
    assert huge["answer"].item() == HUGE
    top = comparison.asked.filter(dialogue_id="unseen-3").row(0, named=True)
    assert top["category"] == "Women's Clothing"
    assert top["prompt"][0] == {"role": "system", "content": SYSTEM}
    assert top["context_ids"] == ["dddd4444-top"]
    assert top["product_name"] == "Orbina Printed Women's Top"


def test_without_a_corpus_prompts_are_unknown(scored: pl.DataFrame) -> None:
    asked = compare(scored, baseline={}, resamples=10).asked
    assert asked.height == 11
    assert asked["prompt"].null_count() == 11


def test_the_score_is_the_share_that_is_right(comparison: Comparison) -> None:
    scores = dict(
        comparison.answered.filter(variant="job-a").select("dialogue_id", "score").iter_rows()
    )
    assert scores["unseen-1"] == 1
    assert scores["unseen-4"] == 0
    # One wrong attribute stated, two expected and omitted.
    assert scores["unseen-6"] == 0
    assert comparison.answered["score"].is_between(0, 1).all()


def test_the_confusion_counts_each_question_once(comparison: Comparison) -> None:
    frame = comparison.confusion
    assert set(frame.select("variant", "against").iter_rows()) == {("job-a", "base/grounded")}
    assert frame["questions"].sum() == 11
    both = frame.filter(outcome="true_positive", against_outcome="true_positive")
    assert both["questions"].sum() == 1  # only the shirt's fabric is linen


def test_topics_count_outcomes_by_what_was_asked(comparison: Comparison) -> None:
    fabric = comparison.topics.filter(
        variant="job-a", dimension="asked_attribute", value="Fabric", outcome="true_positive"
    )
    assert fabric["questions"].sum() == 2
    category = comparison.topics.filter(dimension="category", value="Women's Clothing")
    assert category["questions"].sum() == 18


def test_contrasts_begin_with_the_largest_difference(comparison: Comparison) -> None:
    frame = contrasts(comparison.answered, comparison.asked, "job-a", "base/grounded")
    sizes = frame["difference"].abs().to_list()
    assert sizes == sorted(sizes, reverse=True)
    assert (frame["outcome"] != frame["against_outcome"]).all()
    assert comparison.best_pair == ("job-a", "base/grounded")
    assert comparison.contrasts["dialogue_id"].to_list() == frame["dialogue_id"].to_list()


def test_a_table_of_answers_has_no_structures(comparison: Comparison) -> None:
    frame = exported(comparison.asked, comparison.answered)
    assert frame.height == 33
    assert not any(kind.is_nested() for kind in frame.dtypes)
    row = frame.filter(variant="job-a", dialogue_id="unseen-3").row(0, named=True)
    assert row["grounded_prompt"].startswith(f"system: {SYSTEM}\n\nuser: {RECORD}")


def test_a_page_holds_shared_text_once_and_cuts_long_answers(comparison: Comparison) -> None:
    embedded, document = embed(comparison)
    assert (embedded.questions, embedded.with_texts) == (11, 11)
    assert len(document["texts"]) == len(set(document["texts"]))
    assert max(map(len, document["texts"])) < 2_100
    assert any("more characters" in text for text in document["texts"])
    order = [variant["name"] for variant in document["variants"]]
    assert [order[i] for i in document["pair"]] == ["job-a", "base/grounded"]
    for i, dialogue_id in enumerate(document["questions"]["id"]):
        role, lines = document["questions"]["prompts"][i][1][1]
        assert role == "user"
        assert "\n".join(document["texts"][n] for n in lines).startswith(RECORD)
        answer = document["answers"][order.index("base/grounded")]["text"][i]
        assert document["texts"][answer] == "The fabric is Linen."
        assert dialogue_id in set(comparison.asked["dialogue_id"])


def test_a_page_that_is_full_keeps_the_outcomes(comparison: Comparison) -> None:
    embedded, document = embed(comparison, most_characters=1_000)
    assert 0 < embedded.with_texts < embedded.questions == 11
    assert all(len(own["outcome"]) == 11 for own in document["answers"])
    assert all(len(own["text"]) == embedded.with_texts for own in document["answers"])
    assert len(document["questions"]["text"]) == 11


def test_a_page_of_the_same_comparison_is_the_same(comparison: Comparison) -> None:
    assert embed(comparison)[0] == embed(comparison)[0]


def test_a_page_of_fifty_thousand_answers_stays_small() -> None:
    embedded, document = embed(large_comparison(5_000, 10))
    # The rest of a page is plotly's 5 MB, once.
    assert len(embedded.payload) < 8_000_000
    assert embedded.with_texts == 5_000
    assert sum(len(own["text"]) for own in document["answers"]) == 50_000

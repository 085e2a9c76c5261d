import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from retail_assistant.corpus.splits import sample_products, split_products
from retail_assistant.evaluation.metrics import METRICS, SCORED_SCHEMA, score, summarize
from retail_assistant_tests.catalogs import assortment_of
from retail_assistant_tests.corpora import template_dialogues

Frames = Callable[..., pl.DataFrame]
QUESTIONS = 11
ATTRIBUTE_QUESTIONS = ["recall-1", "unseen-1", "unseen-2", "unseen-3", "unseen-4", "unseen-5"]


def outcomes(scored: pl.DataFrame) -> dict[str, str]:
    return dict(scored.select("dialogue_id", "outcome").iter_rows())


def value(scored: pl.DataFrame, metric: str, subset: str) -> float | None:
    row = summarize(scored, seed=1, resamples=200).filter(metric=metric, subset=subset)
    return row["value"].item()


def test_gold_answers_are_all_right(score_of: Frames) -> None:
    scored = score_of()
    assert scored.schema == SCORED_SCHEMA
    assert scored.height == QUESTIONS
    assert scored["correct"].all(), scored.filter(~pl.col("correct"))
    assert not scored["hallucinated"].any()
    assert value(scored, "strict_accuracy", "unseen") == 1
    assert value(scored, "attribute_f1", "unseen") == 1
    assert value(scored, "abstention_precision", "all") == 1


def test_a_constant_trained_name_wins_the_loose_rule_only(score_of: Frames) -> None:
    scored = score_of("Product Name: Harlow Slim Men's Trousers\nFabric: Wool Blend")
    assert value(scored, "reference_accuracy_loose", "unseen") == 1
    assert value(scored, "strict_accuracy", "unseen") == 0
    assert {outcomes(scored)[key] for key in ATTRIBUTE_QUESTIONS[1:]} == {"wrong_product"}
    assert value(scored, "abstention_recall", "unanswerable") == 0


def test_a_neighbouring_products_answer_is_about_the_wrong_product(score_of: Frames) -> None:
    scored = score_of(answers={"unseen-3": "The fabric of Orbina Evening Women's Dress is Silk."})
    assert outcomes(scored)["unseen-3"] == "wrong_product"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("The fabric of Orbina Printed Women's Top is 100% Cotton.", "true_positive"),
        ("100 % cotton", "true_positive"),
        ("The fabric of Orbina Printed Women's Top is Silk.", "wrong_value"),
        ("It is Silk.", "wrong_value"),
        ("The fabric is Unobtainium.", "wrong_value"),
        ("The fabric is 100% Cotton or Silk or Linen.", "wrong_value"),
        ("The fabric is not 100% Cotton.", "wrong_value"),
        ("The fabric of Orbina Evening Women's Dress is 100% Cotton.", "wrong_product"),
        ("Orbina Printed Women's Top (item eeee5555) is 100% Cotton.", "wrong_product"),
        ("The fabric of Zorbly Deluxe Women's Top is 100% Cotton.", "invented_product"),
        ("Product Name: Zorbly Kurta\nFabric: 100% Cotton", "invented_product"),
        ("I could not find that product in our catalog.", "refused"),
        ("The catalog does not say.", "refused"),
        ("Orbina Printed Women's Top is a lovely gift for every season of life.", "no_details"),
        ("", "no_details"),
        (" \n\u200b\ufeff\t", "no_details"),
        ("\U0001f457\u0301\u202e\ufffd\x00", "no_details"),
        ("\uff11\uff10\uff10\uff05 \uff23\uff4f\uff54\uff54\uff4f\uff4e", "true_positive"),
        # A solid, 76 cm long top for women: all of it stands in the record.
        ("A solid top for women, 76 cm long, in 100% cotton.", "true_positive"),
        (
            "The fabric of Orbina Printed Women's Top is 100% Cotton. "
            "The fabric of Orbina Evening Women's Dress is Silk.",
            "true_positive",
        ),
    ],
)
def test_planted_answers_to_a_fabric_question(score_of: Frames, answer: str, outcome: str) -> None:
    assert outcomes(score_of(answers={"unseen-3": answer}))["unseen-3"] == outcome


@pytest.mark.parametrize(
    ("question", "answer", "right"),
    [
        ("unseen-2", "It suits casual and party.", True),
        ("unseen-2", "The occasion is Party, Casual.", True),
        ("unseen-2", "The occasion is Casual.", False),
        ("unseen-4", "It is 76 centimetres long.", True),
        ("unseen-4", "It is 67 cm long. The length is 67 cm.", False),
        ("unseen-5", "The length is midi.", True),
        ("unseen-5", "Its length is knee length.", True),
        ("unseen-1", "Velmora Casual Men's Shirt is made of linen.", True),
        ("unseen-1", "Velmora Casual Men's Shirt (item bbbb2222) is made of linen.", False),
        ("unseen-1", "The fabric of Harlow Slim Men's Trousers is Linen.", False),
        ("recall-1", "Closure: zip", True),
    ],
)
def test_values_as_a_person_reads_them(
    score_of: Frames, question: str, answer: str, right: bool
) -> None:
    scored = score_of(answers={question: answer}).filter(dialogue_id=question)
    assert scored["correct"].item() is right, scored["outcome"]


def test_refusing_everything_wins_nothing_but_recall_of_abstention(score_of: Frames) -> None:
    scored = score_of("I do not know.")
    assert value(scored, "strict_accuracy", "unseen") == 0
    assert value(scored, "strict_precision", "unseen") is None
    assert value(scored, "abstention_recall", "unanswerable") == 1
    assert value(scored, "abstention_precision", "all") == pytest.approx(2 / QUESTIONS)
    assert value(scored, "alternatives_valid_rate", "unseen") == 0


def test_invented_products_count_once_an_answer(score_of: Frames) -> None:
    scored = score_of("Product Name: Zorbly Kurta\nProduct Name: Bim Bam Saree")
    assert value(scored, "hallucinated_product_rate", "all") == 1
    speaks_of_it = "The fabric of Zenuvia Woven Women's Saree is Silk."
    scored = score_of(answers={"none-1": speaks_of_it})
    assert value(scored, "hallucinated_product_rate", "unanswerable") == 0.5
    assert value(scored, "answered_unanswerable_rate", "unanswerable") == 0.5


def test_answers_that_do_not_stop_are_counted(predict: Frames, score_of: Frames) -> None:
    looping = "The fabric of Orbina Printed Women's Top is 100% Cotton. " * 20
    scored = score_of(answers={"unseen-3": looping}, finish_reason="length")
    assert outcomes(scored)["unseen-3"] == "true_positive"
    assert value(scored, "truncated_rate", "all") == 1


def test_missing_predictions_stay_in_the_denominator(
    dialogues: pl.DataFrame, products: pl.DataFrame, predict: Frames
) -> None:
    some = predict("planted").filter(pl.col("dialogue_id").is_in(["unseen-1", "none-1"]))
    scored = score(dialogues, some, products)
    assert scored.height == QUESTIONS
    assert scored["predicted"].sum() == 2
    assert value(scored, "strict_accuracy", "unseen") == pytest.approx(1 / 5)
    assert value(scored, "unpredicted_rate", "all") == pytest.approx(9 / QUESTIONS)
    assert value(scored, "abstention_recall", "unanswerable") == 0.5


@pytest.mark.parametrize(
    ("answer", "outcome", "right", "contradicted", "unsupported"),
    [
        ("Fabric: 100% Cotton\nLength: 76 cm", "complete", 2, 0, 0),
        ("Fabric: 100% Cotton\nLength: 76 cm\nPattern: Solid\nBrand: Orbina", "complete", 4, 0, 0),
        ("Fabric: 100% Cotton", "incomplete", 1, 0, 0),
        ("Fabric: Silk\nLength: 76 cm", "contradicted", 1, 1, 0),
        ("Fabric: 100% Cotton\nLength: 76 cm\nCategory: Shirts", "contradicted", 2, 1, 0),
        ("Fabric: 100% Cotton\nLength: 76 cm\nProduct Type: Western Wear", "complete", 3, 0, 0),
        ("Fabric: 100% Cotton, Length: 76 cm, Closure: Zip", "contradicted", 2, 0, 1),
        ("A top in 100% cotton, 76 cm long.", "complete", 2, 0, 0),
        ("A top in silk, 76 cm long.", "contradicted", 1, 1, 0),
        ("Price: Rs. 999\nFabric: 100% Cotton\nLength: 76cm", "complete", 3, 0, 0),
        ("Product Name: Orbina Evening Women's Dress\nFabric: Silk", "wrong_product", 0, 1, 0),
        ("The catalog does not say.", "refused", 0, 0, 0),
        ("A lovely thing.", "no_details", 0, 0, 0),
    ],
)
def test_overviews_are_compared_with_the_record(
    score_of: Frames,
    answer: str,
    outcome: str,
    right: int,
    contradicted: int,
    unsupported: int,
) -> None:
    row = score_of(answers={"unseen-6": answer}).row(
        by_predicate=pl.col("dialogue_id") == "unseen-6", named=True
    )
    counted = [row[f"attributes_{name}"] for name in ("right", "contradicted", "unsupported")]
    assert (row["outcome"], counted) == (outcome, [right, contradicted, unsupported])


@pytest.mark.parametrize(
    ("question", "answer", "outcome", "counts"),
    [
        ("unseen-7", "- Orbina Evening Women's Dress", "valid_suggestion", (1, 1)),
        ("unseen-7", "- Orbina Printed Women's Top", "invalid_suggestion", (1, 0)),
        ("unseen-7", "- Harlow Slim Men's Trousers", "invalid_suggestion", (1, 0)),
        ("unseen-7", "- Zorbly Silk Gown", "invalid_suggestion", (1, 0)),
        (
            "unseen-7",
            "- Orbina Evening Women's Dress: nice\n- Zorbly Silk Gown: also",
            "invalid_suggestion",
            (2, 1),
        ),
        (
            "unseen-7",
            "Instead of Orbina Printed Women's Top try Orbina Evening Women's Dress.",
            "valid_suggestion",
            (1, 1),
        ),
        ("unseen-7", "Have a look around!", "no_suggestion", (0, 0)),
        ("unseen-7", "We do not have anything like it in our catalog.", "refused", (0, 0)),
        ("unseen-8", "- Harlow Slim Men's Trousers (item cccc3333)", "valid_suggestion", (1, 1)),
        ("unseen-8", "- Velmora Casual Men's Shirt", "invalid_suggestion", (1, 0)),
        (
            "unseen-8",
            "Goes with Velmora Casual Men's Shirt:\n- Harlow Slim Men's Trousers",
            "valid_suggestion",
            (1, 1),
        ),
        (
            "unseen-8",
            "Goes with Orbina Printed Women's Top:\n- Harlow Slim Men's Trousers",
            "wrong_product",
            (1, 0),
        ),
        ("unseen-8", "- Velmora Casual Men's Shirt (item bbbb2222)", "invalid_suggestion", (1, 0)),
        ("unseen-8", "- Orbina Evening Women's Dress", "invalid_suggestion", (1, 0)),
    ],
)
def test_suggestions_exist_and_fit(
    score_of: Frames, question: str, answer: str, outcome: str, counts: tuple[int, int]
) -> None:
    scored = score_of(answers={question: answer}).filter(dialogue_id=question)
    assert scored["outcome"].item() == outcome
    assert scored.select("suggestions", "suggestions_valid").row(0) == counts


def test_without_a_catalog_suggestions_are_not_judged(
    dialogues: pl.DataFrame, predict: Frames
) -> None:
    scored = score(dialogues, predict("planted"))
    assert outcomes(scored)["unseen-7"] == "not_judged"
    assert value(scored, "strict_accuracy", "unseen") == 1
    assert value(scored, "attribute_f1", "unseen") == 1
    rates = summarize(scored, seed=1, resamples=50).filter(metric="alternatives_valid_rate")
    assert not rates.height


def test_unusable_predictions_are_refused(
    dialogues: pl.DataFrame, products: pl.DataFrame, predict: Frames
) -> None:
    good = predict("planted")
    with pytest.raises(ValueError, match="answers 'none-1' more than once"):
        score(dialogues, pl.concat([good, good.head(1)]), products)
    with pytest.raises(ValueError, match=r"unknown dialogue_id, such as 'train-1'.*unseen"):
        score(dialogues, good.with_columns(dialogue_id=pl.lit("train-1")).head(1), products)
    with pytest.raises(ValueError, match=r"predictions lack the column\(s\) answer"):
        score(dialogues, good.drop("answer"), products)
    with pytest.raises(ValueError, match="no dialogue_id or no variant"):
        score(dialogues, good.with_columns(variant=pl.lit(None, pl.String)), products)


def test_no_predictions_give_no_rows(dialogues: pl.DataFrame, predict: Frames) -> None:
    scored = score(dialogues, predict("planted").clear())
    assert scored.schema == SCORED_SCHEMA
    assert not summarize(scored, seed=1).height


def test_every_metric_has_counts_and_an_interval_and_is_deterministic(score_of: Frames) -> None:
    scored = score_of(answers={"unseen-3": "It is silk.", "none-1": "Silk."})
    summary = summarize(scored, seed=3, resamples=300)
    assert_frame_equal(
        summary, summarize(scored.sample(fraction=1, shuffle=True), seed=3, resamples=300)
    )
    assert set(summary["metric"]) == {metric.name for metric in METRICS}
    measured = summary.filter(pl.col("denominator") > 0)
    assert measured.select(pl.col("low", "value", "high").is_not_null().all()).row(0) == (
        True, True, True,
    )  # fmt: skip
    assert measured.select(
        ((pl.col("low") <= pl.col("value")) & (pl.col("value") <= pl.col("high"))).all()
    ).item()
    ratio = pl.col("numerator") / pl.col("denominator")
    assert measured.select(((pl.col("value") - ratio).abs() < 1e-12).all()).item()
    unseen = summary.filter(metric="strict_accuracy", subset="unseen").row(0, named=True)
    assert (unseen["numerator"], unseen["denominator"], unseen["clusters"]) == (4, 5, 3)


def test_ten_megabytes_are_scored_quickly(score_of: Frames) -> None:
    started = time.perf_counter()
    scored = score_of(answers={"unseen-3": "The fabric is silk. " * 500_000})
    assert time.perf_counter() - started < 2
    assert scored.filter(dialogue_id="unseen-3")["read_in_full"].item() is False


def test_the_generators_gold_answers_are_right_on_real_rows(real_catalog: Path) -> None:
    assortment = assortment_of(real_catalog)
    splits = split_products(assortment, seed=1)
    sample = sample_products(assortment, splits, train=40, evaluation=30, seed=1)
    dialogues = template_dialogues(sample, splits, assortment, seed=1)
    asked = dialogues.filter(pl.col("subset").is_in(["recall", "unseen", "unanswerable"]))
    gold = asked.select(
        "dialogue_id", "answer", variant=pl.lit("gold"), finish_reason=pl.lit("stop")
    )
    neighbours = gold.with_columns(pl.col("answer").shift(7), variant=pl.lit("neighbour"))
    scored = score(dialogues, pl.concat([gold, neighbours.select(gold.columns)]), assortment)
    wrong = scored.filter((pl.col("variant") == "gold") & ~pl.col("correct"))
    assert not wrong.height, wrong.select("outcome", "question", "answer").rows()
    assert not scored.filter(variant="gold")["hallucinated"].any()
    attribute = scored.filter(variant="neighbour", intent="attribute")
    assert attribute["correct"].mean() < 0.1

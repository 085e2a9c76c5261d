from collections.abc import Callable

import polars as pl
import pytest
from pydantic import ValidationError

from retail_assistant.evaluation.comparison import Comparison, compare
from retail_assistant.evaluation.metrics import score
from retail_assistant.evaluation.promotion import PromotionPolicy, decide

Frames = Callable[..., pl.DataFrame]
LENIENT = PromotionPolicy(alpha=0.9)


@pytest.fixture(scope="module")
def compared(
    dialogues: pl.DataFrame, products: pl.DataFrame, predict: Frames
) -> Callable[..., Comparison]:
    def comparison(*frames: pl.DataFrame, costs: pl.DataFrame | None = None) -> Comparison:
        frames = (*frames, predict("base", "The fabric is Linen."))
        scored = score(dialogues, pl.concat(frames), products)
        return compare(scored, baseline="base", costs=costs, resamples=100)

    return comparison


def test_the_most_accurate_eligible_variant_is_promoted(
    compared: Callable[..., Comparison], predict: Frames
) -> None:
    worse = predict("worse", answers={"unseen-4": "12 cm"})
    decision = decide(compared(predict("better"), worse), LENIENT)
    assert decision.promoted == "better"
    assert [verdict.variant for verdict in decision.variants] == ["better", "worse"]
    assert all(len(verdict.rules) == 4 for verdict in decision.variants)


def test_ties_go_to_the_cheaper_variant(
    compared: Callable[..., Comparison], predict: Frames
) -> None:
    frames = [predict(name) for name in ("a-dear", "b-cheap", "c-unknown")]
    costs = pl.DataFrame({"variant": ["a-dear", "b-cheap"], "train_seconds": [90, 30]})
    assert decide(compared(*frames, costs=costs), LENIENT).promoted == "b-cheap"
    assert decide(compared(*frames), LENIENT).promoted == "a-dear"


@pytest.mark.parametrize(
    ("answer", "policy", "rule"),
    [
        ("I do not know.", LENIENT, "min_strict_accuracy"),
        (
            "Product Name: Zorbly Kurta",
            LENIENT.model_copy(update={"min_strict_accuracy": 0}),
            "max_hallucinated_product_rate",
        ),
        (
            "The fabric is Linen.",
            LENIENT.model_copy(update={"min_strict_accuracy": 0}),
            "max_answered_unanswerable_rate",
        ),
        (
            "I do not know.",
            PromotionPolicy(min_strict_accuracy=0, alpha=0.9),
            "beats_baseline",
        ),
    ],
)
def test_each_rule_can_refuse(
    compared: Callable[..., Comparison],
    predict: Frames,
    answer: str,
    policy: PromotionPolicy,
    rule: str,
) -> None:
    decision = decide(compared(predict("job", answer)), policy)
    assert decision.promoted is None
    failed = {verdict.rule for verdict in decision.variants[0].rules if not verdict.passed}
    assert rule in failed
    assert "job" in decision.reason


def test_a_gain_must_be_significant(compared: Callable[..., Comparison], predict: Frames) -> None:
    decision = decide(compared(predict("job")), PromotionPolicy())
    failed = [rule for rule in decision.variants[0].rules if not rule.passed]
    assert [rule.rule for rule in failed] == ["beats_baseline"]
    assert failed[0].value == pytest.approx(2 / 2**4)


def test_the_untouched_model_is_no_candidate(
    compared: Callable[..., Comparison],
) -> None:
    decision = decide(compared(), PromotionPolicy())
    assert decision.promoted is None
    assert decision.variants == ()
    assert "no variant was compared" in decision.reason


def test_what_was_not_measured_fails(
    dialogues: pl.DataFrame, products: pl.DataFrame, predict: Frames
) -> None:
    unseen = dialogues.filter(pl.col("subset").is_in(["unseen", "train"]))
    frames = pl.concat([predict("job"), predict("base", "Linen")])
    kept = frames.join(unseen, on="dialogue_id", how="semi")
    decision = decide(compare(score(unseen, kept, products), baseline="base"), LENIENT)
    rules = {rule.rule: rule for rule in decision.variants[0].rules}
    assert rules["max_answered_unanswerable_rate"].value is None
    assert not rules["max_answered_unanswerable_rate"].passed


def test_a_policy_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValidationError):
        PromotionPolicy.model_validate({"min_accuracy": 0.5})
    with pytest.raises(ValidationError):
        PromotionPolicy(alpha=1.5)

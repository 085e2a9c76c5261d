"""Who is promoted: planted comparisons, with a champion and without."""

import polars as pl
import pytest

from retail_assistant.evaluation.challenge import ChallengeError
from retail_assistant.evaluation.comparison import compare
from retail_assistant.evaluation.promotion import (
    Candidates,
    Incumbent,
    PromotionDecision,
    decide,
)
from retail_assistant.evaluation.promotion_policy import ChallengeRule, Limits, PromotionPolicy
from retail_assistant_tests.evaluation.contests import BASE, answers_of, comparison_of, untouched

POLICY = PromotionPolicy()


def first(*frames: pl.DataFrame, policy: PromotionPolicy = POLICY, **costs: float) -> object:
    return decide(Candidates(comparison_of(*frames, costs=costs_of(costs))), policy)


def costs_of(costs: dict[str, float]) -> pl.DataFrame | None:
    if not costs:
        return None
    return pl.DataFrame({"variant": list(costs), "train_seconds": list(costs.values())})


def against(
    champion: pl.DataFrame | None,
    *frames: pl.DataFrame,
    seconds: float = 40.0,
    policy: PromotionPolicy = POLICY,
    barred: dict[str, str] | None = None,
) -> PromotionDecision:
    """Challengers that answer in 40 seconds each, and a champion that takes `seconds`."""
    names = [frame["variant"][0] for frame in frames]
    costs = pl.DataFrame({"variant": names, "answer_seconds": [40.0] * len(names)})
    candidates = Candidates(
        comparison_of(*frames, costs=costs),
        pl.concat(frames),
        {name: f"{name}-adapter" for name in names},
        barred or {},
    )
    incumbent = Incumbent("old", "old-adapter", champion, {"answer_seconds": seconds})
    return decide(candidates, policy, incumbent)


def failed(decision: PromotionDecision, variant: str) -> set[str]:
    return {rule.rule for rule in decision.verdict(variant).rules if not rule.passed}


def test_the_first_champion_is_the_most_accurate_that_passes_every_rule() -> None:
    decision = first(answers_of("better", [0]), answers_of("worse", range(9)))
    assert isinstance(decision, PromotionDecision)
    assert decision.promoted == "better"
    assert [one.variant for one in decision.variants] == ["better", "worse"]
    assert all(one.eligible and len(one.rules) == 6 for one in decision.variants)
    assert "0.988" in decision.reason


def test_a_tie_for_the_first_champion_goes_to_the_cheaper_one() -> None:
    frames = [answers_of(name) for name in ("a-dear", "b-cheap", "c-unknown")]
    cheap = decide(
        Candidates(comparison_of(*frames, costs=costs_of({"a-dear": 90, "b-cheap": 30}))), POLICY
    )
    assert cheap.promoted == "b-cheap"
    assert decide(Candidates(comparison_of(*frames)), POLICY).promoted == "a-dear"


@pytest.mark.parametrize(
    ("frame", "rule"),
    [
        (answers_of("job", range(50)), "min_strict_accuracy"),
        (answers_of("job", invented=12), "max_hallucinated_product_rate"),
        (answers_of("job", answered=range(11)), "max_answered_unanswerable_rate"),
        (answers_of("job", unseen=20), "min_questions"),
    ],
)
def test_each_limit_can_refuse(frame: pl.DataFrame, rule: str) -> None:
    decision = decide(Candidates(comparison_of(frame)), POLICY)
    assert decision.promoted is None
    assert failed(decision, "job") == {rule}
    assert decision.reason.startswith("nothing is promoted: job: ")


def test_too_few_unanswerable_questions_refuse() -> None:
    policy = PromotionPolicy(limits=Limits(min_unanswerable_questions=21))
    decision = decide(Candidates(comparison_of(answers_of("job"))), policy)
    assert failed(decision, "job") == {"min_unanswerable_questions"}
    assert "20 questions" in decision.reason
    assert "at least 21" in decision.reason


def test_a_gain_over_the_untouched_model_must_be_significant() -> None:
    frames = [answers_of("job", range(5, 80)), untouched()]
    policy = PromotionPolicy(limits=Limits(min_strict_accuracy=0))
    comparison = compare(pl.concat(frames), baseline=BASE, resamples=100)
    decision = decide(Candidates(comparison), policy)
    assert failed(decision, "job") == {"beats_baseline"}
    rule = decision.variants[0].rules[-1]
    assert rule.value == pytest.approx(2 / 2**5)


def test_the_untouched_model_is_no_candidate() -> None:
    decision = decide(Candidates(comparison_of()), POLICY)
    assert decision.promoted is None
    assert decision.variants == ()
    assert "no variant was compared" in decision.reason


def test_what_was_not_measured_fails() -> None:
    frame = answers_of("job").filter(subset="unseen")
    comparison = compare(pl.concat([frame, untouched()]), baseline=BASE, resamples=100)
    rules = {rule.rule: rule for rule in decide(Candidates(comparison), POLICY).variants[0].rules}
    assert rules["max_answered_unanswerable_rate"].value is None
    assert not rules["max_answered_unanswerable_rate"].passed
    assert not rules["min_unanswerable_questions"].passed


def test_a_better_challenger_replaces_the_champion() -> None:
    decision = against(answers_of("old", range(20)), answers_of("new", [0]))
    assert decision.promoted == "new"
    assert decision.incumbent == "old"
    assert decision.reason.startswith("new replaces old: better than the champion: ")
    met = decision.verdict("new").against_champion
    assert met is not None
    assert (met.only_challenger, met.only_champion) == (19, 0)


def test_of_two_better_ones_the_more_accurate_is_promoted() -> None:
    frames = [answers_of("good", range(4)), answers_of("best", range(2))]
    assert against(answers_of("old", range(30)), *frames).promoted == "best"


@pytest.mark.parametrize(
    ("wrong", "seconds", "promoted"),
    [
        (range(1), 80, "new"),  # as good, half the cost
        (range(1), 44, None),  # as good, saves a tenth
        (range(1), 20, None),  # as good, dearer
        (range(30), 80, None),  # worse
    ],
)
def test_an_equal_must_be_cheaper(wrong: range, seconds: float, promoted: str | None) -> None:
    decision = against(answers_of("old"), answers_of("new", wrong), seconds=seconds)
    assert decision.promoted == promoted
    if promoted is None:
        assert decision.reason.startswith("old stays the champion: new: ")


def test_the_policy_names_the_cost_and_the_margin() -> None:
    champion, challenger = answers_of("old"), answers_of("new", range(2))
    strict = PromotionPolicy(challenge=ChallengeRule(margin=0.05))
    assert against(champion, challenger, seconds=80).promoted == "new"
    assert against(champion, challenger, seconds=80, policy=strict).promoted is None
    other = PromotionPolicy(challenge=ChallengeRule(cost="train_seconds"))
    assert "not known of both" in against(champion, challenger, seconds=80, policy=other).reason


def test_the_champion_does_not_challenge_itself() -> None:
    itself = answers_of("old")
    candidates = Candidates(comparison_of(itself), itself, {"old": "old-adapter"})
    decision = decide(candidates, POLICY, Incumbent("old", "old-adapter", itself, {}))
    assert decision.promoted is None
    assert decision.reason == "old stays the champion: nobody challenges it."
    # Its job's next adapter does.
    retrained = Candidates(comparison_of(itself), itself, {"old": "next-adapter"})
    champion = Incumbent("old", "old-adapter", answers_of("old", range(20)), {})
    assert decide(retrained, POLICY, champion).promoted == "old"


def test_a_challenger_that_breaks_a_limit_replaces_nobody() -> None:
    decision = against(answers_of("old", range(30)), answers_of("new", invented=12))
    assert decision.promoted is None
    assert "hallucinated_product_rate" in decision.reason


def test_a_champion_that_keeps_the_limits_no_longer_defends_nothing() -> None:
    broken, rival = answers_of("old", range(41)), answers_of("new", range(35))
    decision = against(broken, rival)
    assert decision.promoted == "new"
    assert "old, keeps a limit no longer: strict_accuracy" in decision.reason
    nobody = against(broken, answers_of("new", range(50)))
    assert nobody.promoted is None
    assert "old stays the champion" in nobody.reason


def test_a_champion_that_cannot_be_asked_defends_nothing() -> None:
    decision = against(None, answers_of("new"))
    assert decision.promoted == "new"
    assert "old, cannot be asked any more" in decision.reason


def test_answers_to_other_questions_are_not_compared() -> None:
    with pytest.raises(ChallengeError, match="materialize champion_predictions"):
        against(answers_of("old", catalog="b"), answers_of("new"))


def test_a_barred_adapter_is_not_promoted() -> None:
    old, new = answers_of("old", range(20)), answers_of("new")
    decision = against(old, new, barred={"new-adapter": "rolled back by Ann: it lied"})
    assert decision.promoted is None
    assert failed(decision, "new") == {"not_barred"}
    assert "rolled back by Ann: it lied" in decision.reason


def test_answers_of_an_unknown_adapter_are_not_promoted() -> None:
    new = answers_of("new")
    decision = decide(Candidates(comparison_of(new), new, {}), POLICY)
    assert decision.promoted is None
    assert failed(decision, "new") == {"known_adapter"}

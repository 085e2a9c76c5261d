"""Challengers against the champion: planted answers, and the tests behind the verdict."""

import math

import numpy as np
import pytest

from retail_assistant.evaluation.challenge import CHAMPION, ChallengeError, challenge, tango_p
from retail_assistant.evaluation.promotion_policy import ChallengeRule
from retail_assistant_tests.evaluation.contests import answers_of

RULE = ChallengeRule()
EVEN = range(0, 40, 2)


@pytest.mark.parametrize(
    ("wrong", "champion_wrong", "costs", "standing"),
    [
        ((), EVEN, (40, 40), "better"),
        ((), (1, 3), (40, 40), "as good"),
        ((1,), (), (30, 40), "as good and cheaper"),
        ((1,), (), (33, 40), "as good"),
        ((1,), (), (50, 40), "as good"),
        ((1,), (), (None, 40), "as good"),
        ((), (), (30, 40), "as good and cheaper"),
        (EVEN, (), (1, 40), "not better"),
        # Eleven one way and nine the other: nearly equal, but that is not shown.
        (range(11), range(40, 49), (1, 40), "not better"),
    ],
)
def test_a_challenger_is_judged(
    wrong: range, champion_wrong: range, costs: tuple[float | None, float], standing: str
) -> None:
    measured = {"job": {"answer_seconds": costs[0]}, CHAMPION: {"answer_seconds": costs[1]}}
    found = challenge(
        answers_of("job", wrong),
        answers_of("whatever", champion_wrong),
        measured,
        RULE,
        seed=0,
        resamples=500,
    )["job"]
    assert found.standing == standing, found.reason
    assert found.questions == 80
    assert found.clusters == 40
    assert found.only_champion == len(set(wrong) - set(champion_wrong))
    assert f"{found.difference:+.3f}" in found.reason


def test_p_is_adjusted_for_the_number_of_challengers() -> None:
    champion = answers_of("champion", range(7))
    alone = challenge(answers_of("a"), champion, {}, RULE, seed=0, resamples=200)
    assert alone["a"].standing == "better"
    assert alone["a"].p_holm == pytest.approx(2 / 2**7)
    frames = [answers_of(name) for name in "abcd"]
    many = challenge(frames[0].vstack(frames[1]).vstack(frames[2]).vstack(frames[3]), champion, {},
                     RULE, seed=0, resamples=200)  # fmt: skip
    assert many["a"].p_holm == pytest.approx(4 * 2 / 2**7)
    assert {one.standing for one in many.values()} == {"as good"}


def test_who_is_worse_on_a_guarded_set_is_not_better() -> None:
    champion = answers_of("champion", EVEN)
    reckless = answers_of("job", answered=range(15))
    found = challenge(reckless, champion, {}, RULE, seed=0, resamples=200)["job"]
    assert found.standing == "not better"
    assert "significantly worse on unanswerable" in found.reason
    unguarded = RULE.model_copy(update={"not_worse_on": ()})
    found = challenge(reckless, champion, {}, unguarded, seed=0, resamples=200)["job"]
    assert found.standing == "better"


def test_other_questions_are_not_compared() -> None:
    with pytest.raises(ChallengeError, match=r"other questions .0 in common, of 100 and 100"):
        challenge(answers_of("job"), answers_of("champion", catalog="b"), {}, RULE, seed=0)


@pytest.mark.parametrize(
    ("only_first", "only_second", "pairs", "margin"),
    [(0, 0, 60, 0.1), (2, 5, 80, 0.1), (10, 1, 40, 0.05), (0, 9, 30, 0.2), (7, 7, 200, 0.03)],
)
def test_tangos_test_is_a_score_test_at_the_likeliest_shares(
    only_first: int, only_second: int, pairs: int, margin: float
) -> None:
    from scipy.optimize import minimize_scalar
    from scipy.stats import norm

    def minus_log_likelihood(share: float) -> float:
        kept = pairs - only_first - only_second
        terms = [(only_first, share - margin), (only_second, share), (kept, 1 - 2 * share + margin)]
        return -sum(n * math.log(max(p, 1e-300)) for n, p in terms if n)

    found = minimize_scalar(
        minus_log_likelihood, bounds=(margin, (1 + margin) / 2), method="bounded",
        options={"xatol": 1e-12},
    )  # fmt: skip
    variance = pairs * (2 * found.x - margin - margin**2)
    score = (only_first - only_second + pairs * margin) / math.sqrt(variance)
    expected = norm.sf(score)
    assert tango_p(only_first, only_second, pairs, margin) == pytest.approx(expected, rel=1e-3)


def test_tangos_test_keeps_its_level() -> None:
    """Where the first is worse by just the margin, it is seldom called not worse."""
    margin, pairs, alpha = 0.1, 100, 0.025
    drawn = np.random.default_rng(1).multinomial(pairs, [0.05, 0.15, 0.8], size=2_000)
    called = [tango_p(int(b), int(c), pairs, margin) < alpha for b, c, _ in drawn]
    assert np.mean(called) < 2 * alpha
    assert np.mean(called) > 0

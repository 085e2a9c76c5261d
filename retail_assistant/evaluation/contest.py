"""From a comparison to a champion: who challenges whom with which answers, and what follows."""

from dataclasses import dataclass

import polars as pl

from retail_assistant.evaluation.archive import read_answers, read_comparison
from retail_assistant.evaluation.candidates import Answering, answered_by, answering_adapter
from retail_assistant.evaluation.challenge import ChallengeError
from retail_assistant.evaluation.champions import Champions
from retail_assistant.evaluation.drift import measured
from retail_assistant.evaluation.promotion import (
    Candidates,
    Incumbent,
    PromotionDecision,
    decide,
)
from retail_assistant.evaluation.promotion_policy import PromotionPolicy
from retail_assistant.evaluation.registry import Champion
from retail_assistant.launch.spec import ArtefactRef

ADAPTER = "adapter"
"""The column of a champion's answers that says which adapter gave them."""


@dataclass(frozen=True)
class Outcome:
    """A decision, and the champion after it; None: there is none, and nobody qualifies."""

    decision: PromotionDecision
    champion: Champion | None


def hold_contest(
    comparison: ArtefactRef,
    report: pl.DataFrame,
    champions: Champions,
    policy: PromotionPolicy,
    *,
    seed: int,
) -> Outcome:
    """Decide on a comparison, and promote the winner.

    Args:
        comparison: the artefact, with the answers that it is of.
        report: SCORED and `ADAPTER`: the champion's own answers; empty where it was not asked. Not
            looked at where the comparison holds the champion's answers.
        champions: the history that a promotion is added to.
        policy: what is asked for.
        seed: of the bootstrap.

    Raises:
        ChallengeError: the champion's answers are missing, or to other questions.
        PromotionError: another champion was made meanwhile, or the winner's files were altered.
        StorageError: the comparison is from before answers were kept with it.
    """
    found = read_comparison(comparison.local)
    answers = read_answers(comparison.local)
    champion = champions.settle()
    answering = _answering(champions, found.tests["variant"].unique().to_list(), answers)
    adapters = {job: one.adapter.fingerprint for job, one in answering.items()}
    candidates = Candidates(found, answers, adapters, champions.bars())
    incumbent = None
    if champion is not None:
        incumbent = _incumbent(champions, champion, candidates, report)
    decision = decide(candidates, policy, incumbent, seed=seed)
    if decision.promoted is not None:
        champion = champions.promote(
            decision,
            answering[decision.promoted],
            instead_of=incumbent.adapter if incumbent else None,
            comparison=comparison.fingerprint,
            numbers=measured(found.summary, decision.promoted),
        )
    return Outcome(decision, champion)


def _answering(
    champions: Champions, jobs: list[str], answers: pl.DataFrame
) -> dict[str, Answering]:
    root = champions.settings.storage
    found = {job: answering_adapter(root, job, answers.filter(variant=job)) for job in jobs}
    return {job: one for job, one in found.items() if one is not None}


def _incumbent(
    champions: Champions, champion: Champion, candidates: Candidates, report: pl.DataFrame
) -> Incumbent:
    adapter = champion.adapter.fingerprint
    known = answered_by(champions.settings.storage, champion.job, adapter)
    return Incumbent(
        job=champion.job,
        adapter=adapter,
        answers=_champions_answers(champions, adapter, candidates, report),
        cost=known.cost if known else {},
    )


def _champions_answers(
    champions: Champions, adapter: str, candidates: Candidates, report: pl.DataFrame
) -> pl.DataFrame | None:
    """Those of the comparison, else its own; None: it cannot be asked."""
    compared = next((job for job, one in candidates.adapters.items() if one == adapter), None)
    if compared is not None and candidates.answers is not None:
        return candidates.answers.filter(variant=compared)
    own = report.filter(pl.col(ADAPTER) == adapter)
    if own.height:
        return own.drop(ADAPTER)
    reign = champions.reign_of(adapter)
    if champions.is_intact(reign) is not None:
        return None
    raise ChallengeError(
        f"the champion, {reign.job}, has not answered these questions: materialize"
        " champion_predictions and champion_report"
    )

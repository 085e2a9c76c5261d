"""Promotion: a policy, checks that hold back what breaks it, and the champion with its history."""

from collections.abc import Iterator
from enum import Enum
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from retail_assistant.defs.evaluation import GROUP, OWNERS
from retail_assistant.defs.io_managers import preview
from retail_assistant.evaluation.archive import read_comparison
from retail_assistant.evaluation.champion_history import ChampionEvent, ChampionHistory
from retail_assistant.evaluation.champions import Champions
from retail_assistant.evaluation.contest import hold_contest
from retail_assistant.evaluation.promotion import (
    LIMITS,
    PromotionDecision,
    RuleVerdict,
    limit_verdicts,
)
from retail_assistant.evaluation.promotion_policy import get_promotion_policy
from retail_assistant.evaluation.registry import Champion
from retail_assistant.launch.spec import ArtefactRef, read_artefact_ref
from retail_assistant.settings import get_settings
from retail_assistant.storage import TableStore

SHOWN_EVENTS = 20
DECIDING_JOB = "decide_champion"
_LIMIT_MEANS = {
    "min_questions": "Enough attribute questions about unseen products were asked.",
    "min_unanswerable_questions": "Enough unanswerable questions were asked.",
    "min_strict_accuracy": "A candidate is accurate enough on unseen products.",
    "max_hallucinated_product_rate": "A candidate invents few enough products.",
    "max_answered_unanswerable_rate": "A candidate answers few enough unanswerable questions.",
}


@dg.multi_observable_source_asset(
    specs=[
        dg.AssetSpec(
            "promotion_policy",
            description="What a model must show before it serves, at `RETAIL_PROMOTION_POLICY`:"
            " limits, the gain over the untouched model and over the champion, drift.",
            group_name=GROUP,
            owners=OWNERS,
            kinds={"yaml"},
        )
    ]
)
def observed_policy() -> Iterator[dg.ObserveResult]:
    """Look which policy is there."""
    policy = get_promotion_policy()
    yield dg.ObserveResult(
        asset_key="promotion_policy",
        data_version=dg.DataVersion(policy.version),
        metadata={
            "path": dg.MetadataValue.path(str(get_settings().promotion_policy)),
            "policy": dg.MetadataValue.json(policy.model_dump(mode="json")),
        },
    )


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(
            limit,
            asset="model_comparison",
            blocking=True,
            description=f"{_LIMIT_MEANS[limit]} Holds `champion` back where nothing serves yet and"
            " the policy says so; else it warns.",
        )
        for limit in LIMITS
    ],
    ins={"model_comparison": dg.AssetIn("model_comparison")},
    can_subset=True,
)
def policy_limits(
    context: dg.AssetCheckExecutionContext, model_comparison: ArtefactRef
) -> Iterator[dg.AssetCheckResult]:
    """The policy's absolute limits, each with the number, interval and reason of each candidate."""
    policy = get_promotion_policy()
    comparison = read_comparison(model_comparison.local)
    verdicts = {
        name: {rule.rule: rule for rule in limit_verdicts(comparison.summary, name, policy.limits)}
        for name in sorted(comparison.tests["variant"].unique())
    }
    serves = ChampionHistory(get_settings()).current()
    for key in sorted(context.selected_asset_check_keys):
        found = {name: rules[key.name] for name, rules in verdicts.items()}
        blocks = serves is None and key.name in policy.limits.blocking
        yield _limit_result(key, found, blocks=blocks, serves=serves)


def _limit_result(
    key: dg.AssetCheckKey,
    found: dict[str, RuleVerdict],
    *,
    blocks: bool,
    serves: Champion | None,
) -> dg.AssetCheckResult:
    passed = any(rule.passed for rule in found.values())
    reasons = "; ".join(f"{name}: {rule.reason}" for name, rule in found.items())
    told = reasons or "no variant was compared with a baseline"
    outcome = f"{serves.job} stays the champion" if serves else "nothing is promoted"
    return dg.AssetCheckResult(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=passed,
        severity=dg.AssetCheckSeverity.ERROR if blocks else dg.AssetCheckSeverity.WARN,
        description=told if passed else f"{outcome}: {told}",
        metadata={"candidates": preview(_rules_table(found), rows=50)},
    )


def _rules_table(found: dict[str, RuleVerdict]) -> pl.DataFrame:
    rows = [{"candidate": name, **rule.model_dump()} for name, rule in found.items()]
    return pl.DataFrame(rows, infer_schema_length=None)


class Action(Enum):
    """What is done about the champion."""

    promote = "promote"
    rollback = "rollback"
    allow = "allow"


class ChampionRequest(dg.Config):
    """Without one, the policy decides on the latest comparison."""

    action: Action = Field(
        default=Action.promote,
        description="promote: the policy decides; rollback: an earlier champion serves again, and"
        " the one that leaves is barred; allow: a barred adapter may be promoted again.",
    )
    to: str = Field(
        default="",
        description="rollback: the number of the champion's event, or its job; empty: the one"
        " before. allow: the adapter's fingerprint, or its job.",
    )
    by: str = Field(default="", description="Your name. It is kept with the event.")
    reason: str = Field(default="", description="Why. It is kept with the event.")


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"mlflow"},
    deps=["model_comparison", "champion_report", "promotion_policy"],
    code_version="2",
)
def champion(
    context: dg.AssetExecutionContext, config: ChampionRequest
) -> dg.MaterializeResult[ArtefactRef]:
    """The model that serves, and why.

    The first one passes every rule of the promotion policy. Later the champion stays unless a
    challenger is better on the same questions, or as good and cheaper. Every promotion and rollback
    is kept for good. To roll back, launch the job `decide_champion`.
    """
    champions = Champions(get_settings(), context.log.warning)
    if config.action is Action.promote:
        return _contested(context, champions)
    if config.action is Action.rollback:
        _refuse_repetition(context, config)
        champions.roll_back(config.to, by=config.by, reason=config.reason)
    else:
        champions.allow(config.to, by=config.by, reason=config.reason)
    serves = champions.settle()
    if serves is None:
        raise dg.Failure(description="nothing was promoted yet", allow_retries=False)
    context.log.info(f"champion: {serves.job}. {champions.events()[-1].reason}")
    return _result(champions, serves)


def _contested(
    context: dg.AssetExecutionContext, champions: Champions
) -> dg.MaterializeResult[ArtefactRef]:
    settings = get_settings()
    outcome = hold_contest(
        read_artefact_ref(settings.storage, "model_comparison"),
        TableStore(settings.storage).ref("champion_report").read(),
        champions,
        get_promotion_policy(),
        seed=settings.seed,
    )
    decision, serves = outcome.decision, outcome.champion
    if serves is None:
        raise dg.Failure(
            description=decision.reason,
            metadata={"verdicts": dg.MetadataValue.json(decision.model_dump(mode="json"))},
            allow_retries=False,
        )
    context.log.info(f"champion: {serves.job}. {decision.reason}")
    return _result(champions, serves, decision)


def _refuse_repetition(context: dg.AssetExecutionContext, config: ChampionRequest) -> None:
    if context.run.tags.get("dagster/parent_run_id") and not config.to:
        raise dg.Failure(
            "this run repeats another one, and the champion may not be the one that was rolled back"
            " then: say to which one",
            allow_retries=False,
        )


def _result(
    champions: Champions, serves: Champion, decision: PromotionDecision | None = None
) -> dg.MaterializeResult[ArtefactRef]:
    told: dict[str, Any] = {}
    if decision is not None:
        told = {
            "decision": decision.reason,
            "promoted": decision.promoted is not None,
            "policy_version": decision.policy.version,
            "verdicts": dg.MetadataValue.json(decision.model_dump(mode="json")),
        }
    return dg.MaterializeResult(
        value=serves.adapter,
        data_version=dg.DataVersion(serves.adapter.fingerprint),
        metadata={
            "job": serves.job,
            "why": serves.why,
            "registered_model": serves.registered_model,
            "event": serves.event,
            **told,
            "history": preview(_table(champions), rows=SHOWN_EVENTS),
        },
    )


def _table(champions: Champions) -> pl.DataFrame:
    """The events, newest first."""
    return pl.DataFrame([_row(champions, one) for one in reversed(champions.events())])


def _row(champions: Champions, event: ChampionEvent) -> dict[str, str]:
    accuracy = next((one.words for one in event.numbers if one.subset == "unseen"), "")
    return {
        "event": str(event.number),
        "at": event.at.isoformat(timespec="seconds"),
        "kind": event.kind,
        "job": event.job,
        "registered": champions.version(event) or "",
        "strict accuracy": accuracy,
        "by": event.by,
        "why": event.reason,
    }


@dg.asset_check(asset="champion")
def champion_is_intact(champion: ArtefactRef) -> dg.AssetCheckResult:
    """The champion's adapter and base model are there, as they were when it was promoted."""
    history = ChampionHistory(get_settings())
    wrong = history.is_intact(history.reign_of(champion.fingerprint))
    return dg.AssetCheckResult(passed=wrong is None, description=wrong or "every file is as it was")


@dg.asset_check(asset="champion")
def champion_is_registered(champion: ArtefactRef) -> dg.AssetCheckResult:
    """The MLflow registry has the champion as a version with the alias `champion`."""
    history = ChampionHistory(get_settings())
    serves = history.current()
    told = history.registrations().told >= history.events()[-1].number
    return dg.AssetCheckResult(
        passed=told,
        severity=dg.AssetCheckSeverity.WARN,
        description=serves.registered_model if serves else "",
        metadata={"adapter": champion.fingerprint},
    )


decide_champion = dg.define_asset_job(
    DECIDING_JOB,
    dg.AssetSelection.assets("champion"),
    config={
        "ops": {"champion": {"config": {"action": "rollback", "to": "", "by": "", "reason": ""}}}
    },
    description="Roll back to an earlier champion, or let a barred one be promoted again, with your"
    " name and a reason: *Open launchpad* in the menu beside *Materialize*.",
)

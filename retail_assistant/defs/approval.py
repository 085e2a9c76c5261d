"""The data steward's part: a sheet to read, a decision, and a check that holds the prompts back."""

from enum import Enum
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from retail_assistant.corpus.approval import (
    ApprovalError,
    ApprovalRecord,
    Decision,
    Standing,
    short_version,
)
from retail_assistant.corpus.profile import get_corpus_profile
from retail_assistant.corpus.sheet import (
    DECIDING_JOB,
    SHEET_VERSION,
    compared_with,
    counts_markdown,
    headline,
    sample_sheet,
    sheet_name,
)
from retail_assistant.defs.conditions import REFRESH
from retail_assistant.defs.io_managers import preview
from retail_assistant.launch.spec import ArtefactRef
from retail_assistant.settings import get_settings
from retail_assistant.storage import TableRef, fingerprint, write_atomically
from retail_assistant.storage.crash_points import crossing

GROUP = "corpus"
OWNERS = ["team:catalog"]
SHOWN_DECISIONS = 20
REPEATED_RUN = "dagster/parent_run_id"


class Verdict(Enum):
    """What may be decided."""

    approved = "approved"
    rejected = "rejected"


class CorpusDecision(dg.Config):
    """A decision of the data steward; without one, only what was decided before is looked up."""

    decision: Verdict | None = Field(
        default=None, description="approved or rejected; none: only look."
    )
    by: str = Field(default="", description="Your name. It is kept with the decision.")
    reason: str = Field(default="", description="Why. It is kept with the decision.")
    version: str = Field(
        default="",
        description="The version that you looked at, as its sheet names it (its beginning will do);"
        " empty: the latest, whichever that is.",
    )


def approval_record() -> ApprovalRecord:
    """The decisions in this environment's storage."""
    settings = get_settings()
    return ApprovalRecord(settings.storage, settings.approval_mode)


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"polars", "html"},
    code_version=f"{SHEET_VERSION}.{fingerprint(get_corpus_profile().approval.model_dump())[:8]}",
    automation_condition=REFRESH,
)
def corpus_sheet(
    context: dg.AssetExecutionContext,
    screened_dialogues: TableRef,
    rejected_dialogues: TableRef,
    assortment: TableRef,
) -> dg.MaterializeResult[ArtefactRef]:
    """What the data steward reads: a sample of the corpus, what was rejected, what has changed.

    Changes are those since the version that was approved last.
    """
    settings, policy = get_settings(), get_corpus_profile().approval
    version, cost = screened_dialogues.sha256, _cost(context.instance)
    last = approval_record().last_approved(besides=version)
    identity = fingerprint(
        {
            "dialogues": version,
            "rejected": rejected_dialogues.sha256,
            "assortment": assortment.sha256,
            "last": last.decision.model_dump() if last else None,
            "policy": policy.model_dump(),
            "cost": cost,
            "seed": settings.seed,
            "code": SHEET_VERSION,
        }
    )
    folder = settings.storage / "artefacts" / "corpus_sheet" / identity
    screened, rejected = screened_dialogues.read(), rejected_dialogues.read()
    path = folder / sheet_name(version)
    if not path.is_file():
        html = sample_sheet(
            version,
            screened,
            rejected,
            assortment.read(),
            last_approved=last,
            policy=policy,
            seed=settings.seed,
            cost=cost,
        )
        with crossing("sheet"):
            write_atomically(path, html)
    context.log.info(f"{headline(screened, rejected)} The sheet: {path}")
    changes = compared_with(last, screened)
    return dg.MaterializeResult(
        value=ArtefactRef(folder=folder, fingerprint=identity),
        data_version=dg.DataVersion(identity),
        metadata={
            "sheet": dg.MetadataValue.path(str(path)),
            "version": version,
            "dialogues": screened.height,
            "rejected": rejected.height,
            "overview": dg.MetadataValue.md(counts_markdown(screened, version)),
            "compared_with": last.decision.version if last else "nothing was approved before",
            **(changes.counts if changes else {}),
        },
    )


def _cost(instance: dg.DagsterInstance) -> dict[str, str]:
    """What the last generation cost, as `dialogues` tells it."""
    event = instance.get_latest_materialization_event(dg.AssetKey("dialogues"))
    made = event.asset_materialization if event else None
    told = made.metadata.get("cost") if made else None
    return {"cost of the last generation": str(told.value)} if told else {}


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"json"},
    code_version=f"1.{get_settings().approval_mode}",
    automation_condition=REFRESH,
)
def corpus_approval(
    context: dg.AssetExecutionContext,
    config: CorpusDecision,
    screened_dialogues: TableRef,
    rejected_dialogues: TableRef,
    corpus_sheet: ArtefactRef,
) -> dg.MaterializeResult:
    """Who approved or rejected which version of the corpus, when and why.

    A version is the content of `screened_dialogues`. Materialized without configuration, it looks
    up what was decided on the latest version. To decide, launch the job `decide_corpus`.
    """
    record = approval_record()
    screened = record.target(config.version) if config.decision else screened_dialogues
    sheet = corpus_sheet.local / sheet_name(screened.sha256)
    counts = _counts(screened, rejected_dialogues)
    if config.decision:
        _require_it_was_seen(context, config, screened, sheet)
        record.record_decision(
            screened.sha256,
            config.decision.value,
            by=config.by,
            reason=config.reason,
            counts=counts,
        )
    standing = record.settle(screened.sha256, counts)
    context.log.info(standing.words)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(f"{screened.sha256[:20]}-{standing.state}"),
        metadata={
            **_told(standing),
            **counts,
            "sheet": dg.MetadataValue.path(str(sheet)),
            "decisions": preview(_table(record.decisions()), rows=SHOWN_DECISIONS),
        },
    )


def _counts(screened: TableRef, rejected: TableRef) -> dict[str, int]:
    products = screened.scan().select(pl.col("product_id").drop_nulls().n_unique())
    return {
        "dialogues": screened.rows,
        "products": products.collect().item(),
        "rejected": rejected.rows,
    }


def _require_it_was_seen(
    context: dg.AssetExecutionContext, config: CorpusDecision, screened: TableRef, sheet: Path
) -> None:
    """A person decides on what that person could look at."""
    name = short_version(screened.sha256)
    if not sheet.is_file():
        raise ApprovalError(f"corpus {name} has no sheet yet: materialize corpus_sheet first")
    if context.run.tags.get(REPEATED_RUN) and not config.version:
        raise ApprovalError(
            "this run repeats another one, and the latest corpus may not be the one that was"
            f" decided on then: give the version (the latest is {name})"
        )


def _told(standing: Standing) -> dict[str, Any]:
    told: dict[str, Any] = {
        "version": standing.version,
        "state": standing.state,
        "found": standing.words,
        "automatic": bool(standing.decision and standing.decision.automatic),
    }
    if standing.decision:
        told |= {"by": standing.decision.by, "reason": standing.decision.reason}
        told["at"] = dg.MetadataValue.timestamp(standing.decision.at)
    return told


def _table(decisions: list[Decision]) -> pl.DataFrame:
    """The decisions, newest first."""
    return pl.DataFrame(
        [
            {
                "at": one.at.isoformat(timespec="seconds"),
                "version": short_version(one.version),
                "decision": one.decision,
                "by": one.by,
                "reason": one.reason,
                "automatic": one.automatic,
            }
            for one in reversed(decisions)
        ]
    )


@dg.asset_check(
    asset="corpus_approval",
    additional_ins={"screened_dialogues": dg.AssetIn("screened_dialogues")},
    blocking=True,
)
def corpus_is_approved(screened_dialogues: TableRef) -> dg.AssetCheckResult:
    """The latest version of the corpus was approved; until then no prompts are made from it."""
    standing = approval_record().standing(screened_dialogues.sha256)
    return dg.AssetCheckResult(
        passed=standing.state == "approved",
        description=standing.words,
        metadata=_told(standing),
    )


decide_corpus = dg.define_asset_job(
    DECIDING_JOB,
    dg.AssetSelection.assets("corpus_approval"),
    config={
        "ops": {
            "corpus_approval": {
                "config": {"decision": "approved", "by": "", "reason": "", "version": ""}
            }
        }
    },
    description="Approve or reject the corpus, with your name and a reason: *Open launchpad* in the"
    " menu beside *Materialize*. A run that rejects ends as failed: that is the check, which holds"
    " the prompts back.",
)

"""`retail-assistant corpus`: what the data steward does, from a terminal.

A decision goes through the job `decide_corpus`, as in the UI, so that Dagster knows of it.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from retail_assistant.asset_job import run_asset_job
from retail_assistant.corpus.approval import (
    ApprovalRecord,
    Verdict,
    checked_decision,
    short_version,
)
from retail_assistant.launch.spec import ArtefactRef, read_artefact_ref
from retail_assistant.settings import get_settings
from retail_assistant.storage import StorageError, TableStore, write_atomically

corpus_app = typer.Typer(
    no_args_is_help=True,
    help="The training corpus: look at its latest version, approve or reject it.",
)
console = Console(width=None if sys.stdout.isatty() else 140)

By = Annotated[str, typer.Option(help="Your name; it is kept with the decision.")]
Reason = Annotated[str, typer.Option(help="Why; it is kept with the decision.")]
Version = Annotated[
    str,
    typer.Option(
        help="The version that you looked at, or its beginning, as its sheet names it;"
        " default: the latest. Only the latest can be decided on."
    ),
]


@corpus_app.command()
def show() -> None:
    """The latest version: what is in it, whether it is approved, where its sheet is."""
    from retail_assistant.corpus.sheet import counts_table, generators, headline

    record = _record()
    latest = record.latest
    screened = latest.read()
    rejected = TableStore(record.root).ref("rejected_dialogues").read()
    console.print(
        f"version  {latest.sha256}\n"
        f"state    {record.standing(latest.sha256).words}\n"
        f"sheet    {_sheet_of(latest.sha256)}\n"
        f"holds    {headline(screened, rejected)}\n"
        f"written  by {', '.join(generators(screened))}",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
    table = Table("subset", "intent", "dialogues")
    for subset, row in counts_table(screened).items():
        for intent, count in row.items():
            table.add_row(subset, intent, str(count))
    console.print(table)


@corpus_app.command()
def approve(by: By, reason: Reason, version: Version = "") -> None:
    """Approve the latest version: prompts are made from it."""
    _decide("approved", by, reason, version)
    console.print(
        "Next: make run, or materialize prompt_corpus; with catalog_automation on it runs by itself"
    )


@corpus_app.command()
def reject(by: By, reason: Reason, version: Version = "") -> None:
    """Reject the latest version: no prompts are made from it."""
    _decide("rejected", by, reason, version)


@corpus_app.command()
def history() -> None:
    """Every decision so far, the newest first."""
    table = Table("at (UTC)", "version", "decision", "by", "dialogues", "reason")
    for one in reversed(_record().decisions()):
        table.add_row(
            f"{one.at:%Y-%m-%d %H:%M:%S}",
            short_version(one.version),
            one.decision,
            escape(one.by),
            str(one.counts.get("dialogues", "")),
            escape(one.reason),
        )
    console.print(table)


@corpus_app.command()
def sheet(
    output: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("corpus.html"),
    samples: Annotated[
        int | None,
        typer.Option(min=1, max=100, help="Dialogues for each intent of each subset."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Another seed, other dialogues; default: RETAIL_SEED.")
    ] = None,
) -> None:
    """Write the latest version's sheet once more: with a larger sample, or with another one."""
    from retail_assistant.corpus.profile import get_corpus_profile
    from retail_assistant.corpus.sheet import sample_sheet

    record = _record()
    latest, tables = record.latest, TableStore(record.root)
    policy = get_corpus_profile().approval
    html = sample_sheet(
        latest.sha256,
        latest.read(),
        tables.ref("rejected_dialogues").read(),
        tables.ref("assortment").read(),
        last_approved=record.last_approved(besides=latest.sha256),
        policy=policy.model_copy(update={"samples": samples}) if samples else policy,
        seed=get_settings().seed if seed is None else seed,
    )
    write_atomically(output, html)
    console.print(str(output), soft_wrap=True, highlight=False, markup=False)


def _record() -> ApprovalRecord:
    settings = get_settings()
    return ApprovalRecord(settings.storage, settings.approval_mode)


def _sheet_of(version: str) -> str:
    from retail_assistant.corpus.sheet import sheet_name

    try:
        made: ArtefactRef = read_artefact_ref(get_settings().storage, "corpus_sheet")
    except StorageError:
        return "not made yet: materialize corpus_sheet"
    path = made.local / sheet_name(version)
    return str(path) if path.is_file() else "of another version: materialize corpus_sheet again"


def _decide(verdict: Verdict, by: str, reason: str, version: str) -> None:
    """Check what can be checked at once, then let Dagster do it."""
    from datetime import UTC, datetime

    record = _record()
    target = record.target(version).sha256
    checked_decision(version=target, decision=verdict, by=by, reason=reason, at=datetime.now(UTC))
    before = len(record.decisions())
    config = {"decision": verdict, "by": by, "reason": reason, "version": target}
    failure = run_asset_job("decide_corpus", "corpus_approval", config)
    # A run that rejects fails too: its check holds the prompts back.
    if len(record.decisions()) == before:
        raise StorageError(failure or "the decision was not recorded")
    console.print(record.standing(target).words, soft_wrap=True, highlight=False, markup=False)

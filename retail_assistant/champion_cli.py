"""`retail-assistant champion`: the promoted models, why, and the way back.

A rollback goes through the job `decide_champion`, as in the UI, so that Dagster knows of it.
"""

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from retail_assistant.asset_job import run_asset_job
from retail_assistant.settings import get_settings
from retail_assistant.storage import StorageError

champion_app = typer.Typer(
    no_args_is_help=True,
    help="The promoted models: who serves and why, the history, rollback.",
)
console = Console(width=None if sys.stdout.isatty() else 140)
errors = Console(stderr=True)

By = Annotated[str, typer.Option(help="Your name; it is kept with the event.")]
Reason = Annotated[str, typer.Option(help="Why; it is kept with the event.")]
Json = Annotated[bool, typer.Option("--json", help="Everything, as JSON.")]


@champion_app.command("list")
def list_champions(as_json: Json = False) -> None:
    """Every promotion and rollback so far, the newest first, with its numbers and why."""
    champions = _champions()
    serves = champions.settle()
    events = [_document(champions, event) for event in reversed(champions.events())]
    if as_json:
        sys.stdout.write(json.dumps(events, indent=1) + "\n")
        return
    table = Table("", "no.", "at (UTC)", "event", "job", "registered", "unseen right", "by", "why")
    for column in table.columns:
        column.overflow = "fold"
    table.columns[-1].ratio = 1
    for event in events:
        now = serves is not None and event["number"] == serves.event
        table.add_row(
            "*" if now else "x" if event["may_not_serve"] else "",
            str(event["number"]),
            event["at"][:16].replace("T", " "),
            event["kind"],
            escape(event["job"]),
            event["registered_model"] or "",
            _accuracy(event),
            escape(event["by"]),
            escape(event["reason"]),
        )
    console.print(table)
    console.print("*: serves now; x: rolled back, may not serve", highlight=False)


@champion_app.command()
def show(as_json: Json = False) -> None:
    """The champion: who serves, why, with which numbers and by which rules."""
    from retail_assistant.evaluation.registry import read_champion

    champions = _champions()
    champions.settle()
    serves = read_champion(get_settings())
    reign = next(one for one in champions.events() if one.number == serves.event)
    document = _document(champions, reign)
    if as_json:
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
        return
    lines = {
        "champion": f"{serves.job} (grounding: {serves.grounding})",
        "event": f"{reign.number}, {reign.kind} by {reign.by}, {reign.at:%Y-%m-%d %H:%M} UTC",
        "why": reign.reason,
        "adapter": str(serves.adapter.folder),
        "files": champions.altered(reign) or "intact",
        "signature": _signature(champions, reign),
        "registry": serves.registered_model,
        "policy": reign.policy_version or "not kept",
    }
    for name, words in lines.items():
        console.print(f"{name:<10}{words}", soft_wrap=True, highlight=False, markup=False)
    numbers = Table("metric", "set", "when promoted, with 95% interval")
    for one in reign.numbers:
        numbers.add_row(one.metric, one.subset, escape(one.words))
    console.print(numbers)


@champion_app.command()
def rollback(
    by: By,
    reason: Reason,
    to: Annotated[
        str,
        typer.Option(help="The number of its event, or its job; default: the champion before."),
    ] = "",
) -> None:
    """Let an earlier champion serve again; the one that leaves is barred until `allow`."""
    from retail_assistant.evaluation.champion_history import checked_words

    checked_words(by, reason)
    target = _champions().target(to)
    _decide({"action": "rollback", "to": str(target.number), "by": by, "reason": reason})
    serves = _champions().current()
    words = f"{serves.job} serves ({serves.registered_model})" if serves else ""
    console.print(words, soft_wrap=True, highlight=False, markup=False)


@champion_app.command()
def allow(
    adapter: Annotated[
        str, typer.Argument(help="The barred adapter's fingerprint (its beginning), or its job.")
    ],
    by: By,
    reason: Reason,
) -> None:
    """Lift the bar of a rolled-back adapter: it may be promoted again, if it is the best."""
    from retail_assistant.evaluation.champion_history import checked_words

    checked_words(by, reason)
    _decide({"action": "allow", "to": adapter, "by": by, "reason": reason})
    event = _champions().events()[-1]
    console.print(f"{event.job} ({event.adapter}) may be promoted again", highlight=False)


@champion_app.command()
def sign(by: By, reason: Reason) -> None:
    """Sign the present champion, where it was promoted without a key (RETAIL_SIGNING_KEY)."""
    serves = _champions().sign(by=by, reason=reason)
    console.print(f"{serves.job} is signed, by event {serves.event}", highlight=False, markup=False)


def _champions() -> Any:
    from retail_assistant.evaluation.champions import Champions

    return Champions(get_settings(), lambda words: errors.print(escape(words), soft_wrap=True))


def _signature(champions: Any, event: Any) -> str:
    if get_settings().trusted_keys is not None:
        return champions.untrusted(event) or "by a trusted key"
    signed = champions.signature_path(champions.path_of(event).read_bytes()).is_file()
    return "there; it is compared where RETAIL_TRUSTED_KEYS is set" if signed else "none"


def _document(champions: Any, event: Any) -> dict[str, Any]:
    """An event, with what is known by now."""
    return {
        **event.model_dump(mode="json"),
        "registered_model": champions.version(event),
        "may_not_serve": event.made_a_champion and event.adapter in champions.barred(),
    }


def _accuracy(event: dict[str, Any]) -> str:
    found = (one for one in event["numbers"] if one["metric"] == "strict_accuracy")
    unseen = next((one for one in found if one["subset"] == "unseen"), None)
    return "" if unseen is None else f"{unseen['value']:.1%} of {unseen['denominator']}"


def _decide(config: dict[str, str]) -> None:
    before = len(_champions().events())
    failure = run_asset_job("decide_champion", "champion", config)
    if len(_champions().events()) == before:
        raise StorageError(failure or "nothing was done")

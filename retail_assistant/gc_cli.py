"""`retail-assistant gc`: what nothing refers to any more; into the trash, and out of it again."""

import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from retail_assistant.operations.garbage.collection import Candidate, garbage
from retail_assistant.operations.garbage.trash import collections, empty, restore, throw_away
from retail_assistant.settings import get_settings

gc_app = typer.Typer(
    invoke_without_command=True,
    help="Garbage: artefacts, tables, images and logs that nothing in force refers to.",
)
console = Console(width=None if sys.stdout.isatty() else 140)
OLD_DAYS = 30.0
CHAMPIONS = 5


@gc_app.callback()
def collect(
    context: typer.Context,
    older_than: Annotated[
        float, typer.Option(min=0, help="Days; what was written since is kept.")
    ] = OLD_DAYS,
    champions: Annotated[
        int, typer.Option(min=1, help="So many of the last champions may be rolled back to.")
    ] = CHAMPIONS,
    delete: Annotated[
        bool, typer.Option("--delete", help="Move it to the trash; else it is only listed.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """List what nothing in force refers to; with --delete move it to the trash.

    In force is what a pointer, the champion, an approved corpus, a search or a run that is at work
    names, and whatever was made from or refers to that.
    """
    if context.invoked_subcommand is not None:
        return
    root = get_settings().storage
    if delete:
        thrown = throw_away(root, older_than=older_than, champions=champions)
        if as_json:
            _print_json(thrown.model_dump(mode="json"))
            return
        if not thrown.trash:
            console.print("there is nothing that nothing refers to", highlight=False)
            return
        console.print(_table(thrown.moved))
        for one in thrown.kept:
            console.print(f"stays, in use again: {one.path}", highlight=False, markup=False)
        console.print(
            f"{decimal(thrown.bytes)} in the trash ({thrown.trash}); put back:"
            " retail-assistant gc restore; for good: retail-assistant gc empty",
            highlight=False,
        )
        return
    found = garbage(root, older_than=older_than, champions=champions)
    if as_json:
        listed = [one.model_dump(mode="json") for one in found.candidates]
        _print_json({"candidates": listed, "bytes": found.bytes})
        return
    console.print(_table(found.candidates))
    console.print(
        f"{decimal(found.bytes)} in {len(found.candidates)} that nothing refers to;"
        f" {len(found.references.reasons)} artefacts and tables stay. Nothing was changed:"
        " --delete moves them to the trash",
        highlight=False,
    )


@gc_app.command("trash")
def show_trash() -> None:
    """What is in the trash."""
    table = Table("collection", "at (UTC)", "things", "size")
    for name, contents in collections(get_settings().storage):
        size = sum(one.bytes for one in contents.candidates)
        table.add_row(
            name, f"{contents.at:%Y-%m-%d %H:%M}", str(len(contents.candidates)), decimal(size)
        )
    console.print(table)


@gc_app.command("restore")
def put_back(
    collection: Annotated[
        str, typer.Argument(help="As `gc trash` names it; default: the last.")
    ] = "",
) -> None:
    """Put what was thrown away back to its place."""
    back, taken = restore(get_settings().storage, collection)
    for one in taken:
        console.print(f"not back, its place is taken: {one.path}", highlight=False, markup=False)
    console.print(f"{len(back)} things are back at their places", highlight=False)


@gc_app.command("empty")
def empty_trash(
    older_than: Annotated[
        float, typer.Option(min=0, help="Days; what was thrown away since stays.")
    ] = 0.0,
) -> None:
    """Delete what is in the trash, for good."""
    freed = empty(get_settings().storage, older_than=older_than)
    console.print(f"{decimal(freed)} deleted", highlight=False)


def _table(candidates: list[Candidate]) -> Table:
    table = Table("what", "kind", "size", "days old", "why")
    table.columns[0].overflow = "fold"
    for one in candidates:
        table.add_row(
            escape(one.path), one.kind, decimal(one.bytes), f"{one.days:.0f}", escape(one.reason)
        )
    return table


def _print_json(document: dict) -> None:
    sys.stdout.write(json.dumps(document, indent=1) + "\n")

"""`retail-assistant verify`: whether everything in the storage is as it was made."""

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from retail_assistant.settings import get_settings

console = Console(width=None if sys.stdout.isatty() else 140)
errors = Console(stderr=True)


def verify(
    quick: Annotated[
        bool, typer.Option("--quick", help="Names and sizes only; no file is read.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Compare everything in the storage with the hashes it was made with.

    Says what is missing, altered, unreadable, not signed as is asked for, or orphaned, and what to
    do about each. Exit code 1 where something is damaged; what is orphaned only takes room.
    """
    from retail_assistant.operations.verification.verification import verify as verify_storage

    columns = (TextColumn("comparing"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("comparing", total=None)
        found = verify_storage(
            get_settings(),
            quick=quick,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        sys.stdout.write(found.model_dump_json(indent=1) + "\n")
        raise typer.Exit(0 if found.is_intact else 1)
    for one in found.findings:
        # Whole lines, to be copied: paths are long.
        for name, words in ((one.problem, one.path), ("", one.detail), ("", one.remedy)):
            console.print(f"{name:<11}{words}", soft_wrap=True, highlight=False, markup=False)
    damaged = sum(one.is_damage for one in found.findings)
    orphaned = len(found.findings) - damaged
    console.print(
        f"{found.place}: {found.files} files compared, {decimal(found.bytes)} read;"
        f" {damaged or 'nothing'} damaged, {orphaned or 'nothing'} orphaned",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
    raise typer.Exit(0 if found.is_intact else 1)

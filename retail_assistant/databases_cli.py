"""`retail-assistant databases`, `backup`, `restore`: what keeps the state of Dagster and MLflow."""

import sys
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from retail_assistant.settings import get_settings

MEANINGS = {
    "missing": "has no tables yet: `retail-assistant databases migrate` makes them",
    "behind": "of an older version: `retail-assistant databases migrate` brings it up to date",
    "current": "up to date",
    "newer": "made by a newer version, which this one does not know",
}


class Which(StrEnum):
    """One of the databases, as a pod names it that knows the other's password not."""

    DAGSTER = "dagster"
    MLFLOW = "mlflow"


Only = Annotated[Which | None, typer.Option(help="Only this one: the other one is not known here.")]

databases_app = typer.Typer(
    no_args_is_help=True,
    help="The databases of Dagster and MLflow: schema, and what need not be kept.",
)
console = Console(width=None if sys.stdout.isatty() else 140)


@databases_app.command()
def check(only: Only = None) -> None:
    """Whether both databases answer and have this version's schema; exit code 1: no."""
    found = [(database, database.state()) for database in _databases(only)]
    table = Table("database", "where", "schema")
    for database, state in found:
        table.add_row(database.name, database.place, f"{state}: {MEANINGS[state]}")
    console.print(table)
    raise typer.Exit(int(any(state != "current" for _, state in found)))


@databases_app.command("migrate")
def migrate_databases(only: Only = None) -> None:
    """Make the tables of both databases, or bring them to this version; as often as you like.

    Several at once wait for each other.
    """
    from retail_assistant.databases.migration import migrate

    for database in _databases(only):
        before = migrate(database)
        words = "was up to date" if before == "current" else f"was {before}, is up to date now"
        _say(f"{database.name}: {database.place} {words}")


@databases_app.command()
def prune(
    days: Annotated[int, typer.Option(min=1, help="How long runs are kept at least.")] = 30,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove them; without it, only count.")
    ] = False,
) -> None:
    """Remove Dagster's old runs that made nothing: that only looked, failed or were cancelled.

    Runs that made something are kept whatever their age: they are the lineage of what they made.
    """
    from dagster import DagsterInstance

    from retail_assistant.databases.retention import prunable_runs
    from retail_assistant.workbench import prepare_instance

    prepare_instance(get_settings())
    with DagsterInstance.get() as instance:
        found = prunable_runs(instance, days)
        for run_id in found if yes else ():
            instance.delete_run(run_id)
    words = "removed" if yes else "would be removed; --yes does it"
    _say(f"{len(found)} runs that made nothing and are older than {days} days: {words}")


def backup(
    to: Annotated[
        str, typer.Option(help="A folder, or gs://bucket/prefix; a new folder is made in it.")
    ],
) -> None:
    """Save the databases of Dagster and MLflow, and the champion with its history."""
    from retail_assistant.databases.backup import make_backup

    address = make_backup(_place(), to, _say)
    _say(f"the backup: {address}")


def restore(
    source: Annotated[str, typer.Option("--from", help="The folder of one backup.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Look whether it is whole and what it would replace.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Replace what is there.")] = False,
) -> None:
    """Put a backup in the place of the databases and the champion that are here."""
    from retail_assistant.databases.backup import restore_backup

    restore_backup(_place(), source, overwrite=yes, dry_run=dry_run, say=_say)


def _say(words: str) -> None:
    console.print(words, soft_wrap=True, highlight=False, markup=False)


def _databases(only: Which | None) -> list[Any]:
    from retail_assistant.databases.places import dagster_database, databases, mlflow_database
    from retail_assistant.workbench import instance_folder

    settings = get_settings()
    if only is Which.DAGSTER:
        return [dagster_database(instance_folder(settings))]
    mlflow = mlflow_database(settings)
    if mlflow is None:
        server = settings.mlflow_tracking_uri
        _say(f"MLflow: behind the server {server}, which knows its database")
    if only is Which.MLFLOW:
        return [mlflow] if mlflow else []
    return databases(settings, instance_folder(settings))


def _place() -> Any:
    from retail_assistant.databases.backup import Place
    from retail_assistant.workbench import instance_folder

    settings = get_settings()
    return Place.of(settings, instance_folder(settings))

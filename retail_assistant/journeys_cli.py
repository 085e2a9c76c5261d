"""`retail-assistant journeys`: shopping conversations that the assistant has to master."""

import json
import sys
from pathlib import Path
from typing import Annotated

import polars as pl
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from retail_assistant.launch.spec import ArtefactRef, read_artefact_ref
from retail_assistant.settings import get_settings

journeys_app = typer.Typer(
    no_args_is_help=True,
    help="Shopping conversations of several turns: what they are, and how the champion does.",
)
console = Console(width=None if sys.stdout.isatty() else 140)
errors = Console(stderr=True)

Folder = Annotated[
    Path | None,
    typer.Option(exists=True, file_okay=False, help="Journeys of your own; default: the shipped."),
]


@journeys_app.command("list")
def list_journeys(folder: Folder = None) -> None:
    """Every journey: its kind, its turns, what the shopper says first."""
    from retail_assistant.serving.journeys.scenario import SHIPPED, load_journeys

    table = Table("kind", "journey", "turns", "hostile", "begins with")
    for kind, journey in load_journeys(folder or SHIPPED).journeys:
        first = journey.turns[0].shopper
        hostile = "x" if journey.hostile else ""
        table.add_row(kind, journey.id, str(len(journey.turns)), hostile, escape(first))
    console.print(table)


@journeys_app.command("run")
def run_journeys(
    only: Annotated[
        list[str] | None, typer.Option(help="A journey or a kind; may be repeated.")
    ] = None,
    folder: Folder = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Another seed, other products; default: RETAIL_SEED.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write every check there: .parquet.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Summary and failures, as JSON.")] = False,
) -> None:
    """Play the journeys with the champion, here and now; exit code 1 where one fails."""
    import asyncio
    import os

    from retail_assistant.catalog.index import CatalogIndex
    from retail_assistant.launch.local import quiet_environment
    from retail_assistant.serving.in_process import open_assistant
    from retail_assistant.serving.journeys.report import check_rows, journey_rows
    from retail_assistant.serving.journeys.runner import play_all
    from retail_assistant.serving.journeys.scenario import SHIPPED, load_journeys
    from retail_assistant.serving.journeys.stock import Stock
    from retail_assistant.serving.options import get_serving_settings

    suite = load_journeys(folder or SHIPPED)
    suite = suite.only(only) if only else suite
    settings, serving = get_settings(), get_serving_settings()
    os.environ.update(quiet_environment() | {"VLLM_LOGGING_LEVEL": "ERROR", "TQDM_DISABLE": "1"})
    ref: ArtefactRef = read_artefact_ref(settings.storage, "catalog_index")
    stock = Stock.of(CatalogIndex.open(ref.part("index")))
    with open_assistant(settings, serving, lambda text: errors.print(escape(text))) as assistant:
        played = asyncio.run(
            play_all(
                suite,
                assistant,
                stock,
                seed=settings.seed if seed is None else seed,
                max_tokens=serving.max_answer_tokens,
                progress=lambda done, total: errors.print(f"{done} of {total}", highlight=False),
            )
        )
    checks = check_rows(played, stock)
    if output is not None:
        checks.write_parquet(output)
    _print(checks, as_json=as_json)
    raise typer.Exit(0 if journey_rows(checks)["passed"].all() else 1)


def _print(checks: pl.DataFrame, *, as_json: bool) -> None:
    from retail_assistant.serving.journeys.report import (
        failures,
        headline,
        latencies,
        skipped_rows,
        summarize_journeys,
    )

    summary, failed, skipped = summarize_journeys(checks), failures(checks), skipped_rows(checks)
    if as_json:
        told = {"summary": summary.to_dicts(), "failed": failed.to_dicts()}
        told |= {"skipped": skipped.to_dicts(), "seconds": [latencies(checks)]}
        sys.stdout.write(json.dumps(told, indent=1) + "\n")
        return
    table = Table("of", "name", "passed", "of all", "95% interval")
    for row in summary.to_dicts():
        counts = (str(row["passed"]), str(row["all"]))
        table.add_row(row["of"], row["name"], *counts, f"{row['low']:.2f} to {row['high']:.2f}")
    console.print(table)
    for row in failed.to_dicts():
        console.print(
            f"{row['journey']}, turn {row['turn']}, {row['check']}: {row['wrong']}\n"
            f"  shopper: {row['shopper']}\n  answer:  {row['answer']}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    for row in skipped.to_dicts():
        console.print(f"skipped: {row['journey']}: {row['skipped']}", markup=False, highlight=False)
    console.print(headline(checks), markup=False, highlight=False)

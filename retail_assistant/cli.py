"""`retail-assistant`: the same functions as the asset graph, from a terminal."""

import json
import logging
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from retail_assistant import __version__
from retail_assistant.batch_cli import batch
from retail_assistant.champion_cli import champion_app
from retail_assistant.corpus_cli import corpus_app
from retail_assistant.costs_cli import costs
from retail_assistant.databases.database import DatabaseError
from retail_assistant.databases_cli import backup, databases_app, restore
from retail_assistant.feedback_cli import feedback_app
from retail_assistant.gc_cli import gc_app
from retail_assistant.jobs_cli import jobs_app
from retail_assistant.journeys_cli import journeys_app
from retail_assistant.keys_cli import keys_app
from retail_assistant.launch.spec import LaunchError, read_artefact_ref
from retail_assistant.metrics_cli import metrics
from retail_assistant.serve_cli import serve
from retail_assistant.settings import Settings, SettingsError, get_settings
from retail_assistant.storage import StorageError, write_atomically
from retail_assistant.telemetry.logs import log_format, set_up_logs
from retail_assistant.training.jobs import CLASSIFIED_TASK
from retail_assistant.verify_cli import verify

QUICKSTART_JOBS = ["quickstart-closed-book", "quickstart-grounded"]
EVALUATE_HELP = """Score a predictions file by the code of the `evaluation_report` asset.

Files may be .parquet, .jsonl or .csv.

--dialogues, a row a question: dialogue_id, product_id, product_name, reference, intent (attribute,
overview, alternative, complement, unanswerable), subset (recall, unseen, unanswerable), question,
answer (the gold answer), asked_attribute, gold_value, evidence (attributes, product_ids; JSON in a
.csv); rows with subset=train serve the loose rule.

--predictions, a row an answer: dialogue_id, variant (a model's name), answer, finish_reason (stop,
length, none); optional: prompt_tokens, completion_tokens, sem_score, truthfulness.

--products: the PRODUCTS table that answers are compared with (parquet); without it the facts in
the dialogues are, and suggestions are not judged.
"""

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
catalog_app = typer.Typer(no_args_is_help=True, help="Catalog files.")
app.add_typer(catalog_app, name="catalog")
app.add_typer(champion_app, name="champion")
app.add_typer(corpus_app, name="corpus")
app.add_typer(databases_app, name="databases")
app.add_typer(feedback_app, name="feedback")
app.add_typer(gc_app, name="gc")
app.add_typer(jobs_app, name="jobs")
app.add_typer(journeys_app, name="journeys")
app.add_typer(keys_app, name="keys")
app.command()(backup)
app.command()(batch)
app.command()(restore)
app.command()(costs)
app.command()(metrics)
app.command()(serve)
app.command()(verify)
# Piped into a file, tables need not squeeze into 80 columns.
console = Console(width=None if sys.stdout.isatty() else 140)
errors = Console(stderr=True)
logger = logging.getLogger(__name__)


@app.command()
def run(
    job: Annotated[
        list[str] | None, typer.Option(help="A hyperparameter job; may be repeated.")
    ] = None,
) -> None:
    """The main job: catalog to compared and promoted model; unchanged work is kept."""
    from retail_assistant.workbench import prepare_instance, require_free_space

    settings = get_settings()
    require_free_space(settings)
    prepare_instance(settings)

    from retail_assistant.defs.partitions import REGISTRY
    from retail_assistant.quickstart import run_classifiers, run_slices, times_table

    if job and all(REGISTRY.job(name).task == CLASSIFIED_TASK for name in job):
        ended = run_classifiers(job, console)
        if ended[-1].failure is None:
            _print_classifiers(job, settings)
        console.print(times_table(ended))
        raise typer.Exit(_told(ended[-1].failure))
    named = dict.fromkeys(job or QUICKSTART_JOBS)
    jobs = [REGISTRY.evaluated_job(name).name for name in named]
    finished = run_slices(jobs, console)
    failure = finished[-1].failure
    if failure is None or finished[-1].name == "compare_and_promote":
        _print_report(settings)
    console.print(times_table(finished))
    if _told(failure):
        raise typer.Exit(1)
    _say_where_things_are(settings)


def _told(failure: str | None) -> int:
    """The exit code of a run, after its failure was told."""
    if failure is None:
        return 0
    errors.print(f"[red]{escape(failure)}[/red]", soft_wrap=True, highlight=False)
    return 1


def _print_classifiers(jobs: list[str], settings: Settings) -> None:
    from rich.table import Table

    from retail_assistant.storage import TableStore

    for job in jobs:
        table = Table("measure", "of", "value", "95% interval", title=f"{job}: test texts")
        report = TableStore(settings.storage).ref("classification_report", job).read()
        for row in report.drop_nulls("value").to_dicts():
            interval = "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
            table.add_row(row["metric"], row["variant"], f"{row['value']:.3f}", interval)
        console.print(table)


def _say_where_things_are(settings: Settings) -> None:
    folder = read_artefact_ref(settings.storage, "model_comparison").local
    console.print(
        f"\nThe report:  {folder / 'report.html'}   (or: make report)"
        f"\nThe UI:      make ui    then {settings.dagster_ui} and {settings.mlflow_ui}"
        "\nThe chat:    make serve (a page for shoppers, an API) or make chat (in the terminal)",
        soft_wrap=True,
        highlight=False,
    )


@app.command()
def report(
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    output: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Copy the page (one HTML file) there.")
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Write every answer there: .parquet or .csv."),
    ] = None,
) -> None:
    """The latest model comparison."""
    from retail_assistant.evaluation.archive import JSON_REPORT, REPORT, export_answers

    settings = get_settings()
    folder = read_artefact_ref(settings.storage, "model_comparison").local
    if answers:
        rows = export_answers(folder, answers)
        errors.print(f"{rows} answers in {answers}", soft_wrap=True, highlight=False, markup=False)
    if output:
        write_atomically(output, (folder / REPORT).read_bytes())
        errors.print(f"the page: {output}", soft_wrap=True, highlight=False, markup=False)
    if as_json:
        sys.stdout.write((folder / JSON_REPORT).read_text() + "\n")
    elif not (answers or output or show):
        _print_report(settings)
    page = (output or folder / REPORT).resolve()
    if show and not webbrowser.open(page.as_uri()):
        raise ValueError(f"no browser could be started; open {page}")


def _print_report(settings: Settings) -> None:
    from retail_assistant.evaluation.archive import read_comparison
    from retail_assistant.evaluation.report import print_report

    folder = read_artefact_ref(settings.storage, "model_comparison").local
    print_report(read_comparison(folder), console)


@app.command()
def chat(
    question: Annotated[
        str | None, typer.Option(help="Ask this and end; without it, ask until you leave.")
    ] = None,
) -> None:
    """Talk with the champion: every question is looked up in the catalog and answered from it."""
    from retail_assistant.serving.chat import converse
    from retail_assistant.serving.options import get_serving_settings

    raise typer.Exit(converse(get_settings(), get_serving_settings(), question, console))


@app.command()
def classify(
    job: Annotated[str, typer.Option(help="A trained job of the task sentiment.")],
    texts: Annotated[
        Path,
        typer.Option("--input", exists=True, dir_okay=False, help=".csv, .tsv, .jsonl, .parquet"),
    ],
    output: Annotated[Path, typer.Option(dir_okay=False, help="The file to write: .csv or .jsonl")],
    column: Annotated[
        str | None, typer.Option(help="The column of the texts; default: found by its name.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an output that was broken off.")
    ] = False,
) -> None:
    """Label new texts with a trained classifier: row, text, label, probability."""
    from retail_assistant.defs.partitions import REGISTRY
    from retail_assistant.evaluation.classification.labelling import label_file, new_texts
    from retail_assistant.evaluation.classification.trained import open_classifier

    found = new_texts(texts, column)
    with open_classifier(
        REGISTRY.classifying_job(job).name, get_settings().storage, errors.print
    ) as classifier:
        kept = label_file(
            classifier,
            found,
            output,
            resume=resume,
            progress=lambda done, total: errors.print(f"{done} of {total} texts", highlight=False),
        )
    console.print(
        f"{len(found) - kept} texts labelled, {kept} were there already: {output}", highlight=False
    )


@app.command(help=EVALUATE_HELP)
def evaluate(
    dialogues: Annotated[Path, typer.Option(exists=True, dir_okay=False)],
    predictions: Annotated[Path, typer.Option(exists=True, dir_okay=False)],
    products: Annotated[Path | None, typer.Option(exists=True, dir_okay=False)] = None,
    by: Annotated[
        str | None, typer.Option(help="Also by: intent, department, category or subcategory.")
    ] = None,
    sem_score: Annotated[
        bool, typer.Option("--sem-score", help="Compute SemScore (loads MiniLM, some seconds).")
    ] = False,
    judge: Annotated[
        bool, typer.Option("--judge", help="Ask the judge of RETAIL_JUDGE_URL; needs --products.")
    ] = False,
    judge_sheet: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="A person's judgements (CSV: dialogue_id, variant, truthfulness), to compare the"
            " judge with; default: RETAIL_JUDGE_SHEET.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, not tables.")] = False,
) -> None:
    """Score a predictions file."""
    from retail_assistant.evaluation.file_evaluation import evaluate_files, print_evaluation

    evaluation = evaluate_files(
        dialogues,
        predictions,
        products,
        by=by,
        sem_score=sem_score,
        judge=judge,
        judge_sheet=judge_sheet,
    )
    if as_json:
        sys.stdout.write(json.dumps(evaluation.to_json_dict(), indent=1) + "\n")
    else:
        print_evaluation(evaluation, console)


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="The Dagster web server's port.")] = 3000,
    mlflow_port: Annotated[int, typer.Option(help="The MLflow server's port.")] = 5000,
) -> None:
    """Dagster web server and daemon, and MLflow, on 127.0.0.1; Ctrl-C ends them all."""
    from retail_assistant.workbench import (
        prepare_instance,
        require_free_port,
        run_servers,
        server_commands,
        server_environment,
    )

    settings = get_settings()
    prepare_instance(settings)
    require_free_port(port, "--port (make ui PORT=…)")
    require_free_port(mlflow_port, "--mlflow-port (make ui MLFLOW_PORT=…)")
    console.print(
        f"Dagster  http://127.0.0.1:{port}\nMLflow   http://127.0.0.1:{mlflow_port}\n"
        "Ctrl-C ends both."
    )
    commands = server_commands(settings, port, mlflow_port)
    raise typer.Exit(run_servers(commands, server_environment(settings)))


@app.command("settings")
def show_settings() -> None:
    """Every setting: its variable, its value here, and what it does."""
    from rich.table import Table

    from retail_assistant.serving.options import get_serving_settings

    table = Table("variable", "value", "meaning")
    for settings in (get_settings(), get_serving_settings()):
        prefix = settings.model_config["env_prefix"]
        for name, field in type(settings).model_fields.items():
            value = escape(str(getattr(settings, name)))
            table.add_row(f"{prefix}{name.upper()}", value, escape(field.description or ""))
    console.print(table)


@catalog_app.command()
def synthesize(
    rows: Annotated[int, typer.Option(min=1, help="Data rows to write.")],
    output: Annotated[Path, typer.Option(help="The CSV file to write.")],
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same file.")] = 7,
    dirt: Annotated[float, typer.Option(min=0, max=1, help="Share of damaged rows.")] = 0.05,
) -> None:
    """Write an invented catalog in the public Flipkart sample's 15 columns."""
    from retail_assistant.catalog.synthesize import write_catalog

    write_catalog(output, rows=rows, seed=seed, dirt=dirt)
    console.print(f"{rows} rows in {output}", highlight=False)


@catalog_app.command()
def clean(
    catalog: Annotated[
        str, typer.Argument(help="A CSV (also .gz, .zst) or parquet file, or gs://…")
    ],
    output: Annotated[Path, typer.Option(help="Folder for products and rejected rows.")],
    mapping: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="A profile (YAML) that says which column holds what; default:"
            " RETAIL_CATALOG_PROFILE.",
        ),
    ] = None,
) -> None:
    """Clean a catalog outside Dagster: products.parquet, rejected.parquet; prints the counts."""
    from rich.progress import Progress

    from retail_assistant.catalog.clean import clean_catalog
    from retail_assistant.catalog.profile import CatalogProfile, get_profile
    from retail_assistant.profiles import load_profile

    profile = load_profile(mapping, CatalogProfile) if mapping else get_profile()
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("cleaning", total=None)
        cleaned = clean_catalog(
            catalog,
            output,
            profile,
            lambda rows, read, size: bar.update(
                task, completed=read, total=size, description=f"{rows} rows"
            ),
        )
    sys.stdout.write(cleaned.summary.model_dump_json() + "\n")


@app.command()
def version() -> None:
    """The version of this package."""
    console.print(__version__)


def main() -> None:
    """Entry point: one clear line for what a person can mend, a traceback for what they cannot."""
    from retail_assistant.workbench import WorkbenchError

    known = (SettingsError, StorageError, LaunchError, WorkbenchError, DatabaseError)
    mendable = (*known, ValueError, OSError)
    set_up_logs()
    try:
        app()
    except mendable as error:
        if log_format() == "json":
            logger.error("%s", error)  # noqa: TRY400 (one clear line is all that a person needs)
            raise SystemExit(2) from error
        errors.print(f"[red]{escape(str(error))}[/red]", soft_wrap=True, highlight=False)
        raise SystemExit(2) from error
    except KeyboardInterrupt as error:
        errors.print("interrupted; the next run goes on from what is finished")
        raise SystemExit(130) from error


if __name__ == "__main__":
    main()

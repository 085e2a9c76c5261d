"""`retail-assistant jobs`: studies, jobs and searches, from a terminal."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape
from rich.table import Column, Table

from retail_assistant.base_model import BaseModelFacts
from retail_assistant.launch.spec import read_artefact_ref
from retail_assistant.settings import SHIPPED_STUDIES, get_settings
from retail_assistant.storage import StorageError
from retail_assistant.training.jobs import HyperparameterJob, Job, StudyError
from retail_assistant.training.planning.plan import ParallelismPlan, plan_for
from retail_assistant.training.planning.plan_table import plan_table
from retail_assistant.training.searching.progress import (
    TRIAL_ASSET,
    RunningSearch,
    current_search,
    find_trial,
)
from retail_assistant.training.searching.space import Search
from retail_assistant.training.studies import Registry, load_registry, notes

jobs_app = typer.Typer(
    no_args_is_help=True, help="Hyperparameter jobs: the studies' own, and those of searches."
)
search_app = typer.Typer(
    no_args_is_help=True, help="Searches: Optuna proposes jobs within a space of a YAML file."
)
jobs_app.add_typer(search_app, name="search")
console = Console(width=None if sys.stdout.isatty() else 140)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, not a table.")]
SearchName = Annotated[str, typer.Argument(help="The search; see `jobs search list`.")]


def _registry() -> Registry:
    return load_registry(SHIPPED_STUDIES, get_settings().studies)


def _print_json(content: Any) -> None:
    sys.stdout.write(json.dumps(content, indent=2) + "\n")


@jobs_app.command("list")
def list_jobs(
    study: Annotated[str | None, typer.Option(help="Only the jobs of this study.")] = None,
    as_json: AsJson = False,
) -> None:
    """All jobs of all studies: the shipped ones and those of RETAIL_STUDIES."""
    registry = _registry()
    if study is not None and study not in registry.studies:
        raise StudyError(f"no study {study!r}; allowed: {', '.join(registry.studies)}")
    jobs = [job for job in registry.jobs.values() if study in (None, job.study)]
    if as_json:
        _print_json([job.model_dump(mode="json") for job in jobs])
        return
    table = Table("study", "task", "epochs", "r / alpha", "targets", "learning rate", "also")
    table.columns.insert(0, Column("job", no_wrap=True))
    for job in jobs:
        given = job.hyperparameters
        targets = given.target_modules
        table.add_row(
            job.name,
            job.study,
            job.task,
            f"{given.epochs:g}",
            f"{given.lora_r} / {given.lora_alpha}",
            escape(targets if isinstance(targets, str) else ", ".join(targets)),
            f"{given.learning_rate:g}",
            _also(given),
        )
    console.print(table)


def _also(job: HyperparameterJob) -> str:
    """What is not as it mostly is."""
    told = {
        "grounded": job.grounding != "none",
        job.quantization: job.quantization != "none",
        f"{job.data_fraction:.0%} of the data": job.data_fraction < 1,
        "domain stage": "domain" in job.stages,
        "packing": job.packing,
        "rsLoRA": job.use_rslora,
        "early stopping": job.early_stopping_patience is not None,
    }
    return ", ".join(words for words, holds in told.items() if holds)


@jobs_app.command("show")
def show_job(
    name: Annotated[str, typer.Argument(help="A job, or a trial that a search has proposed.")],
    as_json: AsJson = False,
) -> None:
    """One job: every hyperparameter, what it asks of machines, and how it would be trained here."""
    job = _job(name)
    plan = _plan(job)
    if as_json:
        told: dict[str, Any] = (
            {"plan": None, "no_plan": plan}
            if isinstance(plan, str)
            else {"plan": plan.model_dump(mode="json")}
        )
        _print_json({**job.model_dump(mode="json"), **told})
        return
    console.print(
        f"[bold]{job.name}[/bold]: study {job.study}, task {job.task},"
        f" base model {escape(job.base_model or 'any')}",
        highlight=False,
    )
    for title, values in (("hyperparameters", job.hyperparameters), ("resources", job.resources)):
        table = Table("field", "value", "meaning", title=title, title_justify="left")
        for field, about in type(values).model_fields.items():
            shown = escape(str(getattr(values, field)))
            table.add_row(field, shown, escape(about.description or ""))
        console.print(table)
    _print_plan(plan)


def _job(name: str) -> Job:
    registry = _registry()
    if name not in registry.jobs:
        try:
            return find_trial(get_settings().storage, name)[1].job
        except StudyError:
            pass
    return registry.job(name)


def _plan(job: Job) -> ParallelismPlan | str:
    """The plan of a job on this machine (or RETAIL_DEVICES), else why there is none."""
    settings = get_settings()
    try:
        facts = read_artefact_ref(settings.storage, "base_model").path("facts").read_text()
        return plan_for(job, settings, BaseModelFacts.model_validate_json(facts))
    except (StorageError, ValueError) as error:
        return str(error)


def _print_plan(plan: ParallelismPlan | str) -> None:
    console.print("\nplan", style="italic")
    if isinstance(plan, str):
        console.print(plan, soft_wrap=True, highlight=False, markup=False)
        return
    console.print(Markdown(plan_table(plan)))


@jobs_app.command("validate")
def validate_jobs(
    folder: Annotated[
        Path | None,
        typer.Argument(
            exists=True, file_okay=False, help="Study files; default: those that are in force."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check study files: each by itself, and that no name is one of the shipped studies'."""
    folders = [SHIPPED_STUDIES, folder or get_settings().studies]
    registry = load_registry(*folders)
    own = load_registry(folder) if folder else registry
    found = notes(own)
    if as_json:
        counts = {name: len(getattr(own, name)) for name in ("studies", "jobs", "searches")}
        _print_json({**counts, "valid": True, "notes": found})
        return
    console.print(
        f"{len(own.jobs)} jobs in {len(own.studies)} studies, {len(own.searches)} searches: valid"
    )
    for note in found:
        console.print(f"note: {note}", soft_wrap=True, highlight=False, markup=False)


@search_app.command("list")
def list_searches(as_json: AsJson = False) -> None:
    """All searches, and how far each is."""
    states = [_state(search) for search in _registry().searches.values()]
    if as_json:
        _print_json(states)
        return
    table = Table("search", "space", "at most", "begun", "trials", "failed", "best eval_loss")
    for state in states:
        best = state["best_eval_loss"]
        table.add_row(
            state["search"],
            escape(", ".join(state["space"])),
            f"{state['most_trials']} trials, {state['hours']:g} h",
            state["started"] or "no",
            str(state["trials"]),
            str(state["failed"]),
            "" if best is None else f"{best:.4f}",
        )
    console.print(table)


def _state(search: Search) -> dict[str, Any]:
    running = current_search(get_settings().storage, search.search)
    outcomes = running.outcomes() if running else []
    best = running.best() if running else None
    return {
        "search": search.search,
        "description": search.description,
        "task": search.task,
        "space": list(search.space),
        "most_trials": search.trials,
        "hours": search.hours,
        "started": running.record.started.isoformat(timespec="seconds") if running else None,
        "over": running.is_over(datetime.now(UTC)) if running else False,
        "trials": len(outcomes),
        "failed": sum(one.state == "failed" for one in outcomes),
        "best_trial": best.trial.key if best else None,
        "best_eval_loss": best.loss if best else None,
    }


@search_app.command("run")
def run_search(name: SearchName) -> None:
    """Begin a search, or go on with it, until a bound of it is reached; needs no daemon.

    Trials are trained one after the other, whatever `parallel` says; with `retail-assistant ui` and
    the asset `hyperparameter_search` they run beside each other.
    """
    from retail_assistant.workbench import prepare_instance, require_free_space

    settings = get_settings()
    search = _registry().search(name)
    require_free_space(settings)
    prepare_instance(settings)

    from retail_assistant.search_session import run_trials

    failure = run_trials(search.search, console)
    if failure:
        raise StudyError(failure)
    show_search(name)


@search_app.command("show")
def show_search(
    name: SearchName,
    as_json: AsJson = False,
    best: Annotated[
        bool, typer.Option("--best", help="Only the best job, as a study file (YAML).")
    ] = False,
) -> None:
    """A search's trials, and the best of them as a study file."""
    from retail_assistant.training.searching.report import best_study, trials_table

    running = _begun(name)
    found = running.best()
    study = best_study(running, found) if found else None
    if best:
        if study is None:
            raise StudyError(f"search {name}: no trial has finished yet")
        sys.stdout.write(study)
        return
    table = trials_table(running.search, running.outcomes())
    if as_json:
        _print_json(
            {
                **_state(running.search),
                "outcomes": table.to_dicts(),
                "best_study": study,
            }
        )
        return
    shown = Table(*table.columns)
    for row in table.iter_rows():
        shown.add_row(*(escape(_cell(value)) for value in row))
    console.print(shown)
    if study:
        console.print("The best, for a folder of studies (RETAIL_STUDIES):\n")
        sys.stdout.write(study)


def _begun(name: str) -> RunningSearch:
    search = _registry().search(name)
    running = current_search(get_settings().storage, search.search)
    if running is None:
        raise StudyError(
            f"search {name} has not begun; materialize hyperparameter_search in the UI, or:"
            f" retail-assistant jobs search run {name}"
        )
    return running


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
    return "" if value is None else str(value)


@jobs_app.command("fields")
def list_fields(as_json: AsJson = False) -> None:
    """Every field of a job: its default and meaning, for who writes a study."""
    described = {
        name: {
            "default": None if about.is_required() else about.get_default(),
            "required": about.is_required(),
            "meaning": about.description or "",
        }
        for name, about in HyperparameterJob.model_fields.items()
    }
    if as_json:
        _print_json(described)
        return
    table = Table("field", "default", "meaning")
    for name, about in described.items():
        default = "(required)" if about["required"] else str(about["default"])
        table.add_row(name, escape(default), escape(str(about["meaning"])))
    console.print(table)


@jobs_app.command("track")
def track_job(
    name: Annotated[
        str | None,
        typer.Argument(help="A trained job, or a trial; default: all that MLflow does not know."),
    ] = None,
) -> None:
    """Send to MLflow what it did not get of trainings; one that died is marked KILLED."""
    from retail_assistant.training.tracking.tracker import untold, upload

    settings = get_settings()
    folders = [_trained(name)] if name else untold(settings.storage)
    if not folders:
        console.print("MLflow has everything")
    for folder in folders:
        run = upload(
            folder,
            lambda words: console.print(words, highlight=False, markup=False),
            uri=settings.mlflow_tracking_uri,
        )
        if run is None:
            raise StudyError(f"{folder} was never tracked")
        console.print(
            f"{name or folder.name}: {run.pending} records are still to be sent"
            if run.pending
            else f"{name or folder.name}: MLflow has everything",
            highlight=False,
        )


def _trained(name: str) -> Path:
    """The artefact of a trained job or trial."""
    asset = "adapter" if name in _registry().jobs else TRIAL_ASSET
    return read_artefact_ref(get_settings().storage, asset, _job(name).name).local

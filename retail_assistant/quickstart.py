"""The main job in one go: the graph's named slices, in order, on the real Dagster instance."""

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg
from rich.console import Console
from rich.table import Table

from retail_assistant.definitions import defs

BEFORE_TRAINING: tuple[tuple[str, str | None], ...] = (
    ("observe_catalog", None),
    ("prepare", None),
    ("render_prompts", "assistant"),
    ("answer_baselines", None),
)

BEFORE_CLASSIFYING: tuple[tuple[str, str | None], ...] = (
    ("observe_catalog", None),
    # All tasks have one prompt corpus, which is made of the catalog's tables too.
    ("prepare", None),
    ("prepare_classification", None),
    ("render_prompts", "sentiment"),
    ("classify_before", None),
)


@dataclass(frozen=True)
class Slice:
    """A finished slice of the graph."""

    name: str
    seconds: float
    failure: str | None


def run_slices(jobs: Sequence[str], console: Console) -> list[Slice]:
    """Run the graph for the given hyperparameter jobs; stops at the first slice that fails."""
    trained = [("train_and_evaluate", job) for job in jobs]
    return _run_in_order([*BEFORE_TRAINING, *trained, ("compare_and_promote", None)], console)


def run_classifiers(jobs: Sequence[str], console: Console) -> list[Slice]:
    """As `run_slices`, for jobs of the task sentiment."""
    trained = [("train_and_classify", job) for job in jobs]
    return _run_in_order([*BEFORE_CLASSIFYING, *trained], console)


def _run_in_order(slices: Sequence[tuple[str, str | None]], console: Console) -> list[Slice]:
    # Of no use to who runs this: the versions are locked.
    for category in (dg.BetaWarning, dg.PreviewWarning):
        warnings.simplefilter("ignore", category)
    warnings.filterwarnings("ignore", "Asset job .* varying BackfillPolicies")
    finished: list[Slice] = []
    code_location = defs()
    with dg.DagsterInstance.get() as instance:
        for number, (name, partition) in enumerate(slices, start=1):
            label = name if partition is None else f"{name} {partition}"
            console.print(f"[bold]{number}/{len(slices)} {label}[/bold]")
            finished.append(_run(code_location, instance, name, partition, label))
            if finished[-1].failure:
                break
    return finished


def _run(
    code_location: dg.Definitions,
    instance: dg.DagsterInstance,
    name: str,
    partition: str | None,
    label: str,
) -> Slice:
    started = time.monotonic()
    result = code_location.resolve_job_def(name).execute_in_process(
        instance=instance,
        partition_key=partition,
        raise_on_error=False,
        run_config={"loggers": {"console": {}}},
    )
    return Slice(
        label, time.monotonic() - started, None if result.success else failure_reason(result)
    )


def failure_reason(result: dg.ExecuteInProcessResult) -> str:
    """The first failure's own words, without Dagster's wrapping."""
    checks: dict[str | None, str] = {}
    for event in result.all_events:
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            if not check.passed and check.description:
                asset = check.asset_check_key.asset_key.to_user_string()
                checks[event.step_key] = f"{asset}: {check.description}"
        if event.is_step_failure:
            return checks.get(event.step_key) or f"{event.step_key}: {_own_words(event)}"
    return "the run failed; its log is in the Dagster UI"


def _own_words(event: dg.DagsterEvent) -> str:
    """What the code that failed has said: not Dagster around it, and not what it explained."""
    data = event.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return data.user_failure_data.description
    error = data.error
    while error and error.cause and (error.cls_name or "").startswith("Dagster"):
        error = error.cause
    if error is None:
        return "failed"
    _, _, words = error.message.strip().partition(f"{error.cls_name}: ")
    return words or error.message.strip()


def times_table(finished: Sequence[Slice]) -> Table:
    """Where the time went."""
    table = Table("slice", "seconds", title="Where the time went")
    table.columns[1].justify = "right"
    for one in finished:
        table.add_row(one.name, f"{one.seconds:.0f}")
    table.add_row("[bold]all[/bold]", f"[bold]{sum(one.seconds for one in finished):.0f}[/bold]")
    return table

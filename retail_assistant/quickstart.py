"""The main job in one go: the graph's named slices, in order, on the real Dagster instance."""

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from rich.console import Console
from rich.table import Table

from retail_assistant.definitions import defs
from retail_assistant.defs.partitions import REGISTRY


@dataclass(frozen=True)
class Slice:
    """A named job of the graph, or the part of it that makes some assets.

    For one partition, or for several neighbouring ones in one run.
    """

    job: str
    partitions: tuple[str, ...] = ()
    assets: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""

    @property
    def name(self) -> str:
        """What is done, and for whom."""
        return " ".join([self.title or self.job, ", ".join(self.partitions)]).strip()

    @property
    def partition(self) -> str | None:
        """The only partition; None: there are several, or none."""
        return self.partitions[0] if len(self.partitions) == 1 else None

    @property
    def tags(self) -> dict[str, str]:
        """What makes a run one of several partitions."""
        if len(self.partitions) < 2:
            return {}
        return {
            "dagster/asset_partition_range_start": self.partitions[0],
            "dagster/asset_partition_range_end": self.partitions[-1],
        }


BEFORE_TRAINING = (
    Slice("observe_catalog"),
    Slice("prepare"),
    Slice("render_prompts", ("assistant",)),
)

BEFORE_CLASSIFYING = (
    Slice("observe_catalog"),
    # All tasks have one prompt corpus, which is made of the catalog's tables too.
    Slice("prepare"),
    Slice("prepare_classification"),
    Slice("render_prompts", ("sentiment",)),
    Slice("classify_before"),
)

JOB = "train_and_evaluate"


@dataclass(frozen=True)
class Finished:
    """A slice of the graph that has ended."""

    name: str
    seconds: float
    failure: str | None


def run_slices(jobs: Sequence[str], console: Console) -> list[Finished]:
    """Run the graph for the given hyperparameter jobs; stops at the first slice that fails."""
    return run_in_order(main_job(jobs, list(REGISTRY.jobs)), console)


def run_classifiers(jobs: Sequence[str], console: Console) -> list[Finished]:
    """As `run_slices`, for jobs of the task sentiment."""
    trained = [Slice("train_and_classify", (job,)) for job in jobs]
    return run_in_order([*BEFORE_CLASSIFYING, *trained], console)


def main_job(jobs: Sequence[str], partitions: Sequence[str]) -> list[Slice]:
    """The slices for some jobs: all are trained before any is asked.

    An engine takes half a minute to start. One answers for neighbouring jobs, and the first for the
    baselines too: what asks them afterwards finds them answered.
    """
    trained = [Slice(JOB, (job,), ("training_plan", "adapter"), title="train") for job in jobs]
    groups = neighbours(jobs, partitions)
    first = {"ops": {"predictions": {"config": {"baselines": True}}}}
    asked = [
        Slice(
            JOB,
            group,
            ("predictions",),
            config={} if number else first,
            title="answer" if number else "answer baselines,",
        )
        for number, group in enumerate(groups)
    ]
    # A run of several partitions gives them one data version. Each one's own is noted here.
    evaluated = ("predictions", "evaluation_report")
    scored = [Slice(JOB, (job,), evaluated, title="score") for job in jobs]
    ending = [Slice("answer_baselines"), *scored, Slice("compare_and_promote")]
    return [*BEFORE_TRAINING, *trained, *asked, *ending]


def neighbours(jobs: Sequence[str], partitions: Sequence[str]) -> list[tuple[str, ...]]:
    """The jobs in groups without a gap between: a run is of a range of partitions."""
    places = sorted({partitions.index(job) for job in jobs})
    groups: list[list[int]] = []
    for place in places:
        if groups and groups[-1][-1] == place - 1:
            groups[-1].append(place)
        else:
            groups.append([place])
    return [tuple(partitions[place] for place in group) for group in groups]


def run_in_order(
    slices: Sequence[Slice], console: Console, code_location: dg.Definitions | None = None
) -> list[Finished]:
    """Run slices in order, with Dagster's own instance; stops at the first that fails."""
    # Of no use to who runs this: the versions are locked.
    for category in (dg.BetaWarning, dg.PreviewWarning):
        warnings.simplefilter("ignore", category)
    warnings.filterwarnings("ignore", "Asset job .* varying BackfillPolicies")
    finished: list[Finished] = []
    code_location = code_location or defs()
    with dg.DagsterInstance.get() as instance:
        for number, one in enumerate(slices, start=1):
            console.print(f"[bold]{number}/{len(slices)} {one.name}[/bold]")
            finished.append(_run(code_location, instance, one))
            if finished[-1].failure:
                break
    return finished


def _run(code_location: dg.Definitions, instance: dg.DagsterInstance, one: Slice) -> Finished:
    started = time.monotonic()
    result = code_location.resolve_job_def(one.job).execute_in_process(
        instance=instance,
        partition_key=one.partition,
        asset_selection=[dg.AssetKey(name) for name in one.assets] or None,
        tags=one.tags,
        raise_on_error=False,
        run_config={"loggers": {"console": {}}, **one.config},
    )
    return Finished(
        one.name, time.monotonic() - started, None if result.success else failure_reason(result)
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


def times_table(finished: Sequence[Finished]) -> Table:
    """Where the time went."""
    table = Table("slice", "seconds", title="Where the time went")
    table.columns[1].justify = "right"
    for one in finished:
        table.add_row(one.name, f"{one.seconds:.0f}")
    table.add_row("[bold]all[/bold]", f"[bold]{sum(one.seconds for one in finished):.0f}[/bold]")
    return table

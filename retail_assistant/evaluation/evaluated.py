"""Which jobs can be compared, what is known of them, and why the others cannot."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from retail_assistant.evaluation.archive import cost_row
from retail_assistant.evaluation.baselines import BASELINE_OF_GROUNDING, BASELINES
from retail_assistant.evaluation.comparison import MODELS_SCHEMA
from retail_assistant.evaluation.registry import read_champion
from retail_assistant.launch.spec import ArtefactRef, finished_artefacts, read_artefact_ref
from retail_assistant.settings import Settings
from retail_assistant.storage import StorageError, TableStore
from retail_assistant.training.jobs import Job

NEVER_TRAINED = "never trained"
NOT_EVALUATED = "trained, but not evaluated"
OTHER_QUESTIONS = "evaluated on another corpus"
REMOVED = "removed from the studies"
_TIMED = "seconds "
_UNTRAINED = {"train_seconds": 0.0, "train_tokens": 0}


class Evaluated(NamedTuple):
    """Reports (SCORED) by job; their adapters, as far as they are there; the others' reasons."""

    reports: dict[str, pl.DataFrame]
    adapters: dict[str, ArtefactRef]
    reasons: dict[str, str]


def evaluated_jobs(root: Path, jobs: Iterable[str], asked: Collection[str]) -> Evaluated:
    """The jobs that were evaluated on just the `asked` questions (dialogue ids)."""
    store = TableStore(root)
    stored = store.partitions("evaluation_report")
    reports: dict[str, pl.DataFrame] = {}
    reasons: dict[str, str] = {}
    adapters = {job: ref for job in jobs if (ref := _adapter(root, job)) is not None}
    for job in jobs:
        if job not in stored:
            reasons[job] = NOT_EVALUATED if job in adapters else NEVER_TRAINED
            continue
        report = store.ref("evaluation_report", job).read()
        if set(report["dialogue_id"]) == set(asked):
            reports[job] = report
        else:
            reasons[job] = OTHER_QUESTIONS
    reasons |= {job: REMOVED for job in stored if job not in reports and job not in reasons}
    return Evaluated(reports, {job: adapters[job] for job in reports if job in adapters}, reasons)


def _adapter(root: Path, job: str) -> ArtefactRef | None:
    try:
        return read_artefact_ref(root, "adapter", job)
    except StorageError:
        return None


def histories(adapters: Mapping[str, ArtefactRef]) -> dict[str, pl.DataFrame]:
    """The training histories, by job."""
    return {job: pl.read_parquet(ref.path("history")) for job, ref in adapters.items()}


def baselines_of(jobs: Mapping[str, Job], evaluated: Evaluated) -> dict[str, str]:
    """The untouched model that each job is tested against: the one that is prompted alike."""
    return {
        name: BASELINE_OF_GROUNDING[jobs[name].hyperparameters.grounding]
        for name in evaluated.reports
    }


def model_rows(jobs: Mapping[str, Job]) -> pl.DataFrame:
    """MODELS (without baselines): what each job and each untouched model is."""
    rows: list[tuple[Any, ...]] = [
        (
            job.name,
            None,
            job.study,
            job.hyperparameters.grounding,
            job.hyperparameters.data_fraction,
        )
        for job in jobs.values()
    ]
    rows += [(name, None, None, grounding, None) for name, grounding in BASELINES.items()]
    return pl.DataFrame(rows, schema=MODELS_SCHEMA, orient="row")


def cost_rows(root: Path, adapters: Mapping[str, ArtefactRef]) -> pl.DataFrame:
    """What was measured of each job and of the untouched models (whose training cost nothing)."""
    rows = [
        cost_row(job, ref.manifest().metrics, _answering(root, "predictions", ref.fingerprint))
        for job, ref in adapters.items()
    ]
    answering = _answering(root, "baseline_predictions", None)
    timed = {name.removeprefix(_TIMED) for name in answering if name.startswith(_TIMED)}
    rows += [cost_row(name, _UNTRAINED, answering) for name in sorted({*BASELINES, *timed})]
    return pl.from_dicts(rows, infer_schema_length=None)


def _answering(root: Path, name: str, adapter: str | None) -> dict[str, Any]:
    """Metrics of the newest answers of an asset, made with this adapter (None: with none)."""
    for _, manifest in finished_artefacts(root, name):
        if manifest.inputs.get("adapter") == adapter:
            return dict(manifest.metrics)
    return {}


def reigning_job(settings: Settings) -> str | None:
    """The champion's job; None before the first promotion."""
    try:
        return read_champion(settings).job
    except StorageError:
        return None

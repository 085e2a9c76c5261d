"""The evaluation stage: the same questions to every model, scored, compared, and one promoted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from retail_assistant.defs.adapters import TRAINING_POOL, adapter
from retail_assistant.defs.comparison_run import COMPARISON_RUN
from retail_assistant.defs.io_managers import frame_version, preview, table_facts, table_result
from retail_assistant.defs.partitions import (
    REGISTRY,
    assistant_corpus,
    job_partitions,
    task_of_job,
)
from retail_assistant.defs.resources import Launcher
from retail_assistant.evaluation.archive import cost_row, read_comparison, write_comparison
from retail_assistant.evaluation.baselines import BASELINE_OF_GROUNDING, BASELINES
from retail_assistant.evaluation.comparison import Comparison, compare
from retail_assistant.evaluation.comparison_run import record_comparison
from retail_assistant.evaluation.metrics import score, summarize
from retail_assistant.evaluation.pictures import accuracy_bars, loss_curve
from retail_assistant.evaluation.predict import together
from retail_assistant.evaluation.promotion import PromotionPolicy, decide
from retail_assistant.evaluation.registry import publish
from retail_assistant.evaluation.report import headline, markdown_summary
from retail_assistant.launch.spec import (
    ArtefactRef,
    LaunchSpec,
    Resources,
    read_artefact_ref,
    read_manifest,
)
from retail_assistant.settings import get_settings
from retail_assistant.storage import TableRef, TableStore, fingerprint
from retail_assistant.training.jobs import EVALUATED_TASK, Job
from retail_assistant.training.planning.devices import Devices
from retail_assistant.training.tracking.tracker import tracked_run

GROUP = "evaluation"
OWNERS = ["team:machine-learning"]
MAX_ANSWER_TOKENS = 96
GIB_A_PROCESS = 4.0
"""Main memory of an answering process; what a GPU holds is not in it."""


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"vllm", "parquet"},
    ins={"prompt_corpus": dg.AssetIn(partition_mapping=assistant_corpus)},
    pool=TRAINING_POOL,
    code_version="1",
)
def baseline_predictions(
    context: dg.AssetExecutionContext,
    launcher: Launcher,
    prompt_corpus: TableRef,
    assortment: TableRef,
    base_model: ArtefactRef,
) -> dg.MaterializeResult[pl.DataFrame]:
    """The untouched model's answers, from memory and with records, and plain retrieval's."""
    variants = [{"name": name, "grounding": grounding} for name, grounding in BASELINES.items()]
    spec = LaunchSpec(
        name="baseline_predictions",
        module="retail_assistant.evaluation.predict",
        config={
            "variants": variants,
            "max_tokens": MAX_ANSWER_TOKENS,
            "retrieval_only": True,
        },
        inputs={
            "prompt_corpus": prompt_corpus.sha256,
            "assortment": assortment.sha256,
            "base_model": base_model.fingerprint,
        },
        paths={
            "prompt_corpus": prompt_corpus.path,
            "assortment": assortment.path,
            "base_model": base_model.folder / "model",
        },
        code_version="1",
        root=get_settings().storage,
    )
    return _predictions_result(launcher.launch(context, spec))


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"vllm", "parquet"},
    partitions_def=job_partitions,
    backfill_policy=dg.BackfillPolicy.single_run(),
    ins={"prompt_corpus": dg.AssetIn(partition_mapping=task_of_job)},
    pool=TRAINING_POOL,
    code_version="2",
)
def predictions(
    context: dg.AssetExecutionContext,
    launcher: Launcher,
    prompt_corpus: dict[str, TableRef],
    base_model: ArtefactRef,
    adapter: dict[str, ArtefactRef],
) -> dg.MaterializeResult[dict[str, pl.DataFrame]]:
    """The jobs' answers to the evaluation questions; all jobs of a run share one engine.

    An adapter that the engine does not serve as it was trained (compared with PEFT, and with the
    untouched model) gets no answers.
    """
    jobs = {key: REGISTRY.evaluated_job(key) for key in context.partition_keys}
    specs = {
        key: prediction_spec(job, prompt_corpus[job.task], base_model, adapter[key])
        for key, job in jobs.items()
    }
    launch_together(context, launcher, list(specs.values()))
    frames = {}
    for key, spec in specs.items():
        ref = ArtefactRef(folder=spec.folder, fingerprint=spec.fingerprint)
        frames[key] = pl.read_parquet(ref.path("predictions"))
        facts = table_facts(frames[key], **_predictions_metadata(ref))
        context.add_asset_metadata(facts["metadata"], partition_key=key)
    versions = {key: frame_version(frame) for key, frame in frames.items()}
    # Dagster knows one data version of a run; of several partitions it names all their content.
    version = fingerprint(versions) if len(versions) > 1 else next(iter(versions.values()))
    return dg.MaterializeResult(value=frames, data_version=dg.DataVersion(version))


def prediction_spec(
    job: Job, corpus: TableRef, base_model: ArtefactRef, adapter_ref: ArtefactRef
) -> LaunchSpec:
    """What answers a job's questions: its own artefact, whichever jobs are answered beside it."""
    settings = get_settings()
    variant = {"name": job.name, "grounding": job.hyperparameters.grounding}
    devices = Devices.parsed(settings.devices)
    gpus = devices.count if devices.kind == "cuda" else 0
    processes = gpus or job.resources.processes
    return LaunchSpec(
        name="predictions",
        module="retail_assistant.evaluation.predict",
        config={"variants": [variant], "max_tokens": MAX_ANSWER_TOKENS},
        inputs={
            "prompt_corpus": corpus.sha256,
            "base_model": base_model.fingerprint,
            "adapter": adapter_ref.fingerprint,
        },
        paths={
            "prompt_corpus": corpus.path,
            "base_model": base_model.folder / "model",
            "adapter": adapter_ref.folder / "adapter",
        },
        code_version="2",
        root=settings.storage,
        resources=Resources(
            processes=processes,
            gpus=gpus,
            cpus=processes if processes > 1 else None,
            memory_gib=GIB_A_PROCESS * processes,
        ),
    )


def launch_together(
    context: dg.AssetExecutionContext, launcher: Launcher, specs: Sequence[LaunchSpec]
) -> None:
    """Answer for all artefacts that are not there yet, with one engine.

    Raises:
        LaunchError: some have no answers; the others keep theirs.
    """
    missing = [spec for spec in specs if read_manifest(spec.folder) is None]
    for spec in specs:
        if spec not in missing:
            context.log.info(f"{spec.name} {spec.fingerprint}: unchanged, kept")
    if missing:
        launcher.launch(context, together(missing))


def _predictions_result(ref: ArtefactRef) -> dg.MaterializeResult[pl.DataFrame]:
    return table_result(pl.read_parquet(ref.path("predictions")), **_predictions_metadata(ref))


def _predictions_metadata(ref: ArtefactRef) -> dict[str, Any]:
    metrics = {key.replace(" ", "_"): value for key, value in ref.manifest().metrics.items()}
    return {
        "fingerprint": ref.fingerprint,
        "artefact": dg.MetadataValue.path(str(ref.folder)),
        **metrics,
    }


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"polars", "scipy"},
    partitions_def=job_partitions,
    ins={"prompt_corpus": dg.AssetIn(partition_mapping=task_of_job)},
    code_version="1",
)
def evaluation_report(
    prompt_corpus: pl.DataFrame, predictions: pl.DataFrame, assortment: pl.DataFrame
) -> dg.MaterializeResult[pl.DataFrame]:
    """Every answer judged, and the job's metrics with 95% intervals over products."""
    scored = score(prompt_corpus, predictions, assortment)
    summary = summarize(scored, seed=get_settings().seed)
    return table_result(
        scored,
        metrics=preview(summary, rows=60),
        outcomes=preview(scored["outcome"].value_counts(sort=True), rows=20),
        accuracy=dg.MetadataValue.md(accuracy_bars(summary)),
    )


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"polars", "plotly", "mlflow"},
    ins={"prompt_corpus": dg.AssetIn(partition_mapping=assistant_corpus)},
    deps=[evaluation_report, adapter],
    required_resource_keys={COMPARISON_RUN},
    code_version="1",
)
def model_comparison(
    context: dg.AssetExecutionContext,
    prompt_corpus: pl.DataFrame,
    baseline_predictions: pl.DataFrame,
    assortment: pl.DataFrame,
) -> dg.MaterializeResult[ArtefactRef]:
    """All evaluated jobs and the untouched model side by side: tables, tests, plots, answers."""
    settings = get_settings()
    scored = [score(prompt_corpus, baseline_predictions, assortment)]
    reports, outdated = _reports_on(scored[0])
    scored += reports.values()
    artefacts = {job: read_artefact_ref(settings.storage, "adapter", job) for job in reports}
    histories = {job: pl.read_parquet(ref.path("history")) for job, ref in artefacts.items()}
    comparison = compare(
        pl.concat(scored),
        baseline={
            job: BASELINE_OF_GROUNDING[REGISTRY.job(job).hyperparameters.grounding]
            for job in reports
        },
        costs=pl.from_dicts(_costs(artefacts), infer_schema_length=None) if artefacts else None,
        variants=list(REGISTRY.of_task(EVALUATED_TASK)),
        seed=settings.seed,
    )
    if outdated:
        context.log.warning(f"evaluated on another corpus, left out: {', '.join(outdated)}")
    parts = {job: frame_version(frame) for job, frame in reports.items()}
    identity = fingerprint({"reports": parts, "baseline": frame_version(scored[0])})
    folder = settings.storage / "artefacts" / "model_comparison" / identity
    report = write_comparison(comparison, folder, histories)
    context.log.info(headline(comparison))
    url = _record(context, comparison, report, artefacts)
    return dg.MaterializeResult(
        value=ArtefactRef(folder=folder, fingerprint=identity),
        data_version=dg.DataVersion(identity),
        metadata={
            "headline": headline(comparison),
            "report": dg.MetadataValue.path(str(report)),
            "comparison": dg.MetadataValue.md(markdown_summary(comparison)),
            "accuracy": dg.MetadataValue.md(accuracy_bars(comparison.summary)),
            "loss": dg.MetadataValue.md(loss_curve(histories)),
            "tests": preview(comparison.tests, rows=20),
            "costs": preview(comparison.costs, rows=20),
            "not_evaluated": preview(comparison.missing, rows=20),
            **({"mlflow_run": dg.MetadataValue.url(url)} if url else {}),
        },
    )


def _record(
    context: dg.AssetExecutionContext,
    comparison: Comparison,
    report: Path,
    artefacts: dict[str, ArtefactRef],
) -> str | None:
    """Where MLflow shows the comparison; None: it is away, which stops nothing."""
    run = getattr(context.resources, COMPARISON_RUN)
    if run is None:
        return None
    tracked = {job: tracked_run(ref.folder) for job, ref in artefacts.items()}
    tags = {f"run.{job}": one.run_id for job, one in tracked.items() if one and one.run_id}
    try:
        experiment, run_id = record_comparison(run, comparison, report, tags)
    except Exception as error:
        context.log.warning(f"not recorded in MLflow: {type(error).__name__}: {error}")
        return None
    return f"{get_settings().mlflow_ui}/#/experiments/{experiment}/runs/{run_id}"


def _reports_on(baseline: pl.DataFrame) -> tuple[dict[str, pl.DataFrame], list[str]]:
    """Reports on the same questions as the baseline's, by job; and jobs with older questions."""
    store = TableStore(get_settings().storage)
    asked = set(baseline["dialogue_id"])
    reports: dict[str, pl.DataFrame] = {}
    outdated = []
    for job in store.partitions("evaluation_report"):
        if job not in REGISTRY.jobs:
            continue
        report = store.ref("evaluation_report", job).read()
        if set(report["dialogue_id"]) == asked:
            reports[job] = report
        else:
            outdated.append(job)
    return reports, outdated


def _costs(artefacts: dict[str, ArtefactRef]) -> list[dict]:
    rows = []
    for job, ref in artefacts.items():
        answering = _answering_metrics(job, ref)
        rows.append(cost_row(job, ref.manifest().metrics, answering))
    return rows


def _answering_metrics(job: str, adapter_ref: ArtefactRef) -> dict:
    """Metrics of the newest predictions that were made with this adapter."""
    folder = get_settings().storage / "artefacts" / "predictions"
    for path in sorted(folder.glob("*/manifest.json"), key=lambda p: -p.stat().st_mtime):
        manifest = read_manifest(path.parent, verify=False)
        if manifest and manifest.inputs.get("adapter") == adapter_ref.fingerprint:
            return manifest.metrics
    return {}


@dg.asset(group_name=GROUP, owners=OWNERS, kinds={"mlflow"}, code_version="1")
def champion(
    context: dg.AssetExecutionContext, model_comparison: ArtefactRef
) -> dg.MaterializeResult[ArtefactRef]:
    """The promoted model and why: it passed every rule of the promotion policy."""
    policy = PromotionPolicy()
    decision = decide(read_comparison(model_comparison.folder), policy)
    if decision.promoted is None:
        raise dg.Failure(
            description=decision.reason,
            metadata={"verdicts": dg.MetadataValue.json(decision.model_dump(mode="json"))},
            allow_retries=False,
        )
    ref = read_artefact_ref(get_settings().storage, "adapter", decision.promoted)
    job = REGISTRY.job(decision.promoted)
    version = publish(decision, ref, job, get_settings())
    context.log.info(f"champion: {decision.promoted}. {decision.reason}")
    return dg.MaterializeResult(
        value=ref,
        data_version=dg.DataVersion(ref.fingerprint),
        metadata={
            "job": decision.promoted,
            "why": decision.reason,
            "registered_model": version,
            "verdicts": dg.MetadataValue.json(decision.model_dump(mode="json")),
        },
    )


@dg.asset_check(asset="evaluation_report", partitions_def=job_partitions)
def every_question_is_answered(evaluation_report: pl.DataFrame) -> dg.AssetCheckResult:
    """No question went without an answer; those that did still count as wrong."""
    unanswered = evaluation_report.filter(finish_reason="none").height
    return dg.AssetCheckResult(
        passed=unanswered == 0,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"unanswered": unanswered, "questions": evaluation_report.height},
    )


@dg.asset_check(asset="model_comparison")
def a_job_was_compared(model_comparison: ArtefactRef) -> dg.AssetCheckResult:
    """At least one trained model stands beside the untouched one."""
    comparison = read_comparison(model_comparison.folder)
    return dg.AssetCheckResult(
        passed=comparison.tests.height > 0,
        metadata={"variants": ", ".join(comparison.variants), "questions": comparison.questions},
    )

"""The evaluation stage: the same questions to every model, scored and compared."""

from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from retail_assistant.defs.adapters import TRAINING_POOL, adapter
from retail_assistant.defs.answering import (
    ANSWERS_VERSION,
    baseline_spec,
    launch_together,
    prediction_spec,
)
from retail_assistant.defs.comparison_automation import COMPARE, COMPARED, comparable_versions
from retail_assistant.defs.comparison_run import COMPARISON_RUN
from retail_assistant.defs.io_managers import frame_version, preview, table_facts, table_result
from retail_assistant.defs.judging import judged_predictions
from retail_assistant.defs.partitions import (
    REGISTRY,
    assistant_corpus,
    job_partitions,
    task_of_job,
)
from retail_assistant.defs.resources import Launcher
from retail_assistant.evaluation.archive import (
    REPORT,
    read_comparison,
    write_answers,
    write_comparison,
)
from retail_assistant.evaluation.breakdowns import breakdowns, strict_beside_loose
from retail_assistant.evaluation.comparison import Comparison, compare
from retail_assistant.evaluation.comparison_run import record_comparison
from retail_assistant.evaluation.errors import error_counts
from retail_assistant.evaluation.evaluated import (
    baselines_of,
    cost_rows,
    evaluated_jobs,
    histories,
    model_rows,
    reigning_job,
)
from retail_assistant.evaluation.metrics import score, summarize
from retail_assistant.evaluation.pictures import accuracy_bars, drawn
from retail_assistant.evaluation.report import headline, markdown_summary, missing
from retail_assistant.evaluation.semantic import EMBEDDING_MODEL
from retail_assistant.launch.spec import ArtefactRef
from retail_assistant.settings import get_settings
from retail_assistant.storage import TableRef, TableStore, fingerprint
from retail_assistant.storage.contents import seal, unseal
from retail_assistant.training.jobs import EVALUATED_TASK
from retail_assistant.training.tracking.tracker import tracked_run

GROUP = "evaluation"
OWNERS = ["team:machine-learning"]


class Company(dg.Config):
    """Who is answered by the same engine."""

    baselines: bool = Field(
        default=False,
        description="Also the baselines: `baseline_predictions` then finds them answered.",
    )


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"vllm", "parquet"},
    ins={"prompt_corpus": dg.AssetIn(partition_mapping=assistant_corpus)},
    pool=TRAINING_POOL,
    code_version=ANSWERS_VERSION,
)
def baseline_predictions(
    context: dg.AssetExecutionContext,
    launcher: Launcher,
    prompt_corpus: TableRef,
    assortment: TableRef,
    base_model: ArtefactRef,
) -> dg.MaterializeResult[pl.DataFrame]:
    """What a job has to beat, on the same questions.

    The untouched model from memory, with records, and with records and answered examples; plain
    retrieval; and the most frequent training answer to everything.
    """
    spec = baseline_spec(prompt_corpus, assortment, base_model)
    return _predictions_result(launcher.launch(context, spec))


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"vllm", "parquet"},
    partitions_def=job_partitions,
    backfill_policy=dg.BackfillPolicy.single_run(),
    ins={"prompt_corpus": dg.AssetIn(partition_mapping=task_of_job)},
    pool=TRAINING_POOL,
    code_version=ANSWERS_VERSION,
)
def predictions(
    context: dg.AssetExecutionContext,
    config: Company,
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
    beside = []
    if config.baselines:
        # No input: what is answered is named by its content, and `baseline_predictions` uses it
        # only where it would ask for the same.
        assortment = TableStore(get_settings().storage).ref("assortment")
        beside = [baseline_spec(prompt_corpus[EVALUATED_TASK], assortment, base_model)]
    launch_together(context, launcher, [*specs.values(), *beside])
    frames = {}
    for key, spec in specs.items():
        ref = ArtefactRef(folder=spec.folder, fingerprint=spec.fingerprint)
        frames[key] = pl.read_parquet(ref.path("predictions"))
        facts = table_facts(frames[key], **_predictions_metadata(ref))
        context.add_asset_metadata(facts["metadata"], partition_key=key)
    versions = {key: frame_version(frame) for key, frame in frames.items()}
    # Dagster writes one data version to all partitions of a run: a result has one set of tags, and
    # an asset one result a run. Of several partitions it names all their content.
    version = fingerprint(versions) if len(versions) > 1 else next(iter(versions.values()))
    return dg.MaterializeResult(value=frames, data_version=dg.DataVersion(version))


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
    deps=["judge"],
    code_version="2",
)
def evaluation_report(
    context: dg.AssetExecutionContext,
    prompt_corpus: pl.DataFrame,
    predictions: pl.DataFrame,
    assortment: pl.DataFrame,
) -> dg.MaterializeResult[pl.DataFrame]:
    """Every answer judged, and the job's metrics with 95% intervals over products."""
    seed = get_settings().seed
    told, judge = judged_predictions(context, prompt_corpus, predictions, assortment)
    scored = score(prompt_corpus, told, assortment)
    summary = summarize(scored, seed=seed)
    return table_result(
        scored,
        metrics=preview(summary, rows=80),
        outcomes=preview(scored["outcome"].value_counts(sort=True), rows=20),
        errors=preview(error_counts(scored), rows=60),
        breakdowns=preview(breakdowns(scored, seed=seed), rows=1000),
        strict_beside_loose=preview(strict_beside_loose(scored), rows=10),
        accuracy=dg.MetadataValue.md(accuracy_bars(summary)),
        embedding_model=EMBEDDING_MODEL,
        judge=dg.MetadataValue.json(judge),
    )


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"polars", "plotly", "mlflow"},
    ins={"prompt_corpus": dg.AssetIn(partition_mapping=assistant_corpus)},
    deps=[evaluation_report, adapter, "judge"],
    required_resource_keys={COMPARISON_RUN},
    automation_condition=COMPARE,
    code_version="2",
)
def model_comparison(
    context: dg.AssetExecutionContext,
    prompt_corpus: pl.DataFrame,
    baseline_predictions: pl.DataFrame,
    assortment: pl.DataFrame,
) -> dg.MaterializeResult[ArtefactRef]:
    """All evaluated jobs and the untouched model side by side: tables, tests, plots, answers."""
    settings = get_settings()
    compared = comparable_versions(context.instance)
    jobs = REGISTRY.of_task(EVALUATED_TASK)
    told, _ = judged_predictions(context, prompt_corpus, baseline_predictions, assortment)
    baseline = score(prompt_corpus, told, assortment)
    evaluated = evaluated_jobs(settings.storage, jobs, set(baseline["dialogue_id"]))
    scored = pl.concat([baseline, *evaluated.reports.values()], how="diagonal_relaxed")
    comparison = compare(
        scored,
        baseline=baselines_of(jobs, evaluated),
        champion=reigning_job(settings),
        costs=cost_rows(settings.storage, evaluated.adapters),
        variants=list(jobs),
        reasons=evaluated.reasons,
        models=model_rows(jobs),
        prompts=prompt_corpus,
        seed=settings.seed,
    )
    identity = fingerprint(
        {
            "tables": {
                "baseline": frame_version(baseline),
                "prompts": frame_version(prompt_corpus),
                **{job: frame_version(frame) for job, frame in evaluated.reports.items()},
            },
            "adapters": {job: ref.fingerprint for job, ref in evaluated.adapters.items()},
            "missing": comparison.missing.rows(),
            "champion": comparison.champion,
            "code": "2",
        }
    )
    folder = settings.storage / "artefacts" / "model_comparison" / identity
    curves = histories(evaluated.adapters)
    unseal(folder)
    write_answers(scored, folder)
    report = write_comparison(comparison, folder, curves)
    seal(folder)
    context.log.info(headline(comparison))
    for line in missing(comparison):
        context.log.info(f"not compared: {line}")
    url = _record(context, comparison, report, evaluated.adapters)
    return dg.MaterializeResult(
        value=ArtefactRef(folder=folder, fingerprint=identity),
        data_version=dg.DataVersion(identity),
        metadata={
            "headline": headline(comparison),
            "report": dg.MetadataValue.path(str(report)),
            **_links(url),
            "comparison": dg.MetadataValue.md(markdown_summary(comparison)),
            **{name: dg.MetadataValue.md(one) for name, one in drawn(comparison, curves).items()},
            "tests": preview(comparison.tests, rows=20),
            "champion_tests": preview(comparison.champion_tests, rows=20),
            "differences": preview(comparison.differences, rows=40),
            "costs": preview(comparison.costs, rows=20),
            "pareto": preview(comparison.pareto, rows=40),
            "confusion": preview(comparison.confusion, rows=60),
            "differ_most": preview(comparison.contrasts, rows=10),
            "not_evaluated": preview(comparison.missing, rows=40),
            COMPARED: dg.MetadataValue.json(compared),
        },
    )


def _links(url: str | None) -> dict[str, dg.MetadataValue]:
    """Where MLflow shows the run, and the report in it: browsers open no path of this machine."""
    if url is None:
        return {}
    return {
        "mlflow_run": dg.MetadataValue.url(url),
        "open_report": dg.MetadataValue.url(f"{url}/artifacts/{REPORT}"),
    }


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
    tracked = {job: tracked_run(ref.local) for job, ref in artefacts.items()}
    tags = {f"run.{job}": one.run_id for job, one in tracked.items() if one and one.run_id}
    try:
        experiment, run_id = record_comparison(run, comparison, report, tags)
    except Exception as error:
        context.log.warning(f"not recorded in MLflow: {type(error).__name__}: {error}")
        return None
    return f"{get_settings().mlflow_ui}/#/experiments/{experiment}/runs/{run_id}"


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
    comparison = read_comparison(model_comparison.local)
    return dg.AssetCheckResult(
        passed=comparison.tests.height > 0,
        metadata={"variants": ", ".join(comparison.variants), "questions": comparison.questions},
    )

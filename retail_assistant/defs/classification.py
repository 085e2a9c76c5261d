"""Classifiers: the labels of a model before and after its training, measured, and doubted."""

import dagster as dg
import polars as pl

from retail_assistant.defs.adapters import TRAINING_POOL
from retail_assistant.defs.answering import engine_spec
from retail_assistant.defs.io_managers import preview, table_result
from retail_assistant.defs.partitions import REGISTRY, job_partitions, task_of_job
from retail_assistant.defs.resources import Launcher
from retail_assistant.evaluation.classification.label_quality import headline
from retail_assistant.evaluation.classification.label_quality import label_quality as quality_of
from retail_assistant.evaluation.classification.pictures import (
    agreement_bars,
    reliability_diagram,
    sweep_curve,
)
from retail_assistant.evaluation.classification.report import (
    AFTER,
    BEFORE,
    scored_texts,
    summary_markdown,
)
from retail_assistant.evaluation.classification.report import (
    classification_report as report_of,
)
from retail_assistant.launch.spec import ArtefactRef, LaunchSpec
from retail_assistant.settings import get_settings
from retail_assistant.storage import TableRef
from retail_assistant.training.jobs import CLASSIFIED_TASK

GROUP = "evaluation"
OWNERS = ["team:machine-learning"]
CODE_VERSION = "1"

sentiment_corpus = dg.SpecificPartitionsPartitionMapping([CLASSIFIED_TASK])


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"vllm", "parquet"},
    ins={"prompt_corpus": dg.AssetIn(partition_mapping=sentiment_corpus)},
    pool=TRAINING_POOL,
    code_version=CODE_VERSION,
)
def classification_baseline(
    context: dg.AssetExecutionContext,
    launcher: Launcher,
    prompt_corpus: TableRef,
    base_model: ArtefactRef,
) -> dg.MaterializeResult[pl.DataFrame]:
    """How likely the untouched model finds each label after the held-out texts."""
    spec = _spec("classification_baseline", BEFORE, prompt_corpus, {"base_model": base_model})
    return _classifications_result(launcher.launch(context, spec))


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"vllm", "parquet"},
    partitions_def=job_partitions,
    ins={"prompt_corpus": dg.AssetIn(partition_mapping=task_of_job)},
    pool=TRAINING_POOL,
    code_version=CODE_VERSION,
)
def classifications(
    context: dg.AssetExecutionContext,
    launcher: Launcher,
    prompt_corpus: TableRef,
    base_model: ArtefactRef,
    adapter: ArtefactRef,
) -> dg.MaterializeResult[pl.DataFrame]:
    """How likely the trained model finds each label after the same texts."""
    REGISTRY.classifying_job(context.partition_key)
    models = {"base_model": base_model, "adapter": adapter}
    spec = _spec("classifications", AFTER, prompt_corpus, models)
    return _classifications_result(launcher.launch(context, spec))


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"polars", "scipy"},
    partitions_def=job_partitions,
    ins={"prompt_corpus": dg.AssetIn(partition_mapping=task_of_job)},
    code_version=CODE_VERSION,
)
def classification_report(
    prompt_corpus: pl.DataFrame,
    classification_baseline: pl.DataFrame,
    classifications: pl.DataFrame,
) -> dg.MaterializeResult[pl.DataFrame]:
    """Accuracy, F1, AUC and calibration before and after, with 95% intervals, on the test texts."""
    scored = scored_texts(prompt_corpus, classification_baseline, classifications)
    report = report_of(scored, seed=get_settings().seed)
    return table_result(
        report.summary,
        summary=dg.MetadataValue.md(summary_markdown(report)),
        confusion=preview(report.confusion, rows=8),
        reliability=dg.MetadataValue.md(reliability_diagram(report.reliability)),
        temperature_sweep=dg.MetadataValue.md(sweep_curve(report.sweep)),
        temperature_sweep_after=preview(report.sweep[AFTER], rows=20),
        fitted_temperatures=dg.MetadataValue.json(report.temperatures),
        mcnemar=dg.MetadataValue.json(report.test),
    )


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"polars", "scipy"},
    partitions_def=job_partitions,
    ins={"prompt_corpus": dg.AssetIn(partition_mapping=task_of_job)},
    code_version=CODE_VERSION,
)
def label_quality(
    prompt_corpus: pl.DataFrame,
    classification_baseline: pl.DataFrame,
    classifications: pl.DataFrame,
) -> dg.MaterializeResult[pl.DataFrame]:
    """Labels that the model confidently doubts; how original labels, reviewers and model agree."""
    scored = scored_texts(prompt_corpus, classification_baseline, classifications)
    quality = quality_of(prompt_corpus, scored, seed=get_settings().seed)
    return table_result(
        quality.doubtful,
        headline=headline(quality),
        doubtful=preview(quality.doubtful, rows=40),
        people=preview(quality.people, rows=40),
        model_and_people=preview(quality.models, rows=40),
        accuracy_by_labelling=preview(quality.accuracy, rows=40),
        fleiss=dg.MetadataValue.json(quality.overall),
        agreement=dg.MetadataValue.md(agreement_bars(pl.concat([quality.people, quality.models]))),
    )


def _spec(name: str, variant: str, corpus: TableRef, models: dict[str, ArtefactRef]) -> LaunchSpec:
    return engine_spec(
        name,
        "retail_assistant.evaluation.classification.predict",
        {"variant": variant},
        {"prompt_corpus": corpus},
        models,
        code_version=CODE_VERSION,
    )


def _classifications_result(ref: ArtefactRef) -> dg.MaterializeResult[pl.DataFrame]:
    return table_result(
        pl.read_parquet(ref.path("classifications")),
        fingerprint=ref.fingerprint,
        artefact=dg.MetadataValue.path(str(ref.folder)),
        **ref.manifest().metrics,
    )


@dg.asset_check(asset="classifications", partitions_def=job_partitions)
def every_text_is_labelled(classifications: pl.DataFrame) -> dg.AssetCheckResult:
    """No held-out text was too long to be labelled; such texts count nowhere."""
    too_long = classifications["log_positive"].null_count()
    return dg.AssetCheckResult(
        passed=too_long == 0,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"too_long": too_long, "texts": classifications.height},
    )

"""The adapters stage: the base model, and one LoRA adapter a hyperparameter job."""

import dagster as dg
import polars as pl

from retail_assistant.base_model import BaseModelFacts, source_version
from retail_assistant.defs.io_managers import preview
from retail_assistant.defs.partitions import REGISTRY, job_partitions, task_of_job
from retail_assistant.defs.resources import Launcher, artefact_result
from retail_assistant.evaluation.pictures import loss_curve
from retail_assistant.launch.spec import ArtefactRef, LaunchSpec, Manifest
from retail_assistant.settings import get_settings
from retail_assistant.storage import TableRef
from retail_assistant.training.jobs import Job

GROUP = "adapters"
OWNERS = ["team:machine-learning"]


@dg.asset(group_name=GROUP, owners=OWNERS, kinds={"huggingface"}, code_version="1")
def base_model(
    context: dg.AssetExecutionContext, launcher: Launcher
) -> dg.MaterializeResult[ArtefactRef]:
    """The model that is fine-tuned, as safetensors: the other root of every adapter's lineage."""
    settings = get_settings()
    spec = LaunchSpec(
        name="base_model",
        module="retail_assistant.base_model",
        config={"name": settings.base_model},
        inputs={"source": source_version(settings.base_model)},
        code_version="1",
        root=settings.storage,
    )
    ref = launcher.launch(context, spec)
    facts = BaseModelFacts.model_validate_json(ref.path("facts").read_text())
    return artefact_result(ref, **facts.model_dump())


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"pytorch", "mlflow"},
    partitions_def=job_partitions,
    ins={"prompt_corpus": dg.AssetIn(partition_mapping=task_of_job)},
    pool="training",
    code_version="1",
)
def adapter(
    context: dg.AssetExecutionContext,
    launcher: Launcher,
    prompt_corpus: TableRef,
    base_model: ArtefactRef,
) -> dg.MaterializeResult[ArtefactRef]:
    """A LoRA adapter, trained by TRL under `accelerate launch`; one partition a job."""
    job = REGISTRY.job(context.partition_key)
    spec = LaunchSpec(
        name="adapter",
        module="retail_assistant.training.finetune",
        config={"hyperparameters": job.hyperparameters.model_dump(mode="json")},
        inputs={"prompt_corpus": prompt_corpus.sha256, "base_model": base_model.fingerprint},
        paths={"prompt_corpus": prompt_corpus.path, "base_model": base_model.folder / "model"},
        code_version="1",
        root=get_settings().storage,
        accelerate=True,
        tracking=_tracking(context, job),
    )
    ref = launcher.launch(context, spec)
    manifest = ref.manifest()
    metrics = manifest.metrics
    history = pl.read_parquet(ref.path("history"))
    return artefact_result(
        ref,
        study=job.study,
        loss_curve=dg.MetadataValue.md(loss_curve({job.name: history})),
        hyperparameters=dg.MetadataValue.json(job.hyperparameters.model_dump(mode="json")),
        history=preview(history, rows=12),
        mlflow_run=dg.MetadataValue.url(_mlflow_url(manifest)),
        **{name: metrics[name] for name in metrics if isinstance(metrics[name], int | float)},
    )


def _tracking(context: dg.AssetExecutionContext, job: Job) -> dict[str, str]:
    settings = get_settings()
    return {
        "uri": settings.mlflow_tracking_uri,
        "experiment": f"retail_assistant/{job.study}",
        "run_name": job.name,
        "tag.dagster_run_id": context.run_id,
        "tag.dagster_run_url": f"{settings.dagster_ui}/runs/{context.run_id}",
        "tag.job": job.name,
        "tag.study": job.study,
    }


def _mlflow_url(manifest: Manifest) -> str:
    run, experiment = (manifest.metrics.get(f"mlflow_{key}_id") for key in ("run", "experiment"))
    ui = get_settings().mlflow_ui
    return f"{ui}/#/experiments/{experiment}/runs/{run}" if run else ui


@dg.asset_check(asset="adapter", partitions_def=job_partitions)
def training_lost_no_rows(adapter: ArtefactRef) -> dg.AssetCheckResult:
    """Rows that do not fit `max_seq_length` would lose their answer; there are none."""
    metrics = adapter.manifest().metrics
    return dg.AssetCheckResult(
        passed=metrics["rows_too_long"] == 0,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"too_long": metrics["rows_too_long"], "used": metrics["train_rows"]},
    )

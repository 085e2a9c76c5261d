"""The adapters stage: the base model, and one LoRA adapter a hyperparameter job."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import polars as pl

from retail_assistant.base_model import BaseModelFacts, shown_card, source_version
from retail_assistant.defs.io_managers import preview
from retail_assistant.defs.partitions import REGISTRY, corpora_of_job, job_partitions
from retail_assistant.defs.resources import Launcher, artefact_result
from retail_assistant.evaluation.pictures import learning_rate_curve, loss_curve
from retail_assistant.launch.spec import ArtefactRef, LaunchSpec, Manifest, Preempted, Resources
from retail_assistant.settings import Settings, get_settings
from retail_assistant.storage import TableRef
from retail_assistant.training.energy import shown_cost
from retail_assistant.training.fitting.out_of_memory import AVAILABLE, PLANNED
from retail_assistant.training.jobs import Job
from retail_assistant.training.model_card import card_text
from retail_assistant.training.planning.plan import ParallelismPlan, plan_for
from retail_assistant.training.planning.plan_table import plan_table
from retail_assistant.training.tracking.tracker import tracked_run, upload

GROUP = "adapters"
OWNERS = ["team:machine-learning"]
TRAINING_POOL = "gpu"
"""What trains or answers takes turns: the instance says how many at once. An answering engine takes
nearly all of a GPU's memory, and all cores of a CPU."""

CODE_VERSION = "3"
"""Of the training."""

CORPUS_INPUTS = {"domain_text": "domain_corpus"}
MODEL_CARD = "README.md"
SECONDS_TO_RETRY = 5
SECONDS_TO_UPLOAD = 20.0


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"huggingface"},
    deps=["base_model_source"],
    code_version="2",
)
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
        code_version="2",
        root=settings.storage,
    )
    ref = launcher.launch(context, spec)
    facts = BaseModelFacts.model_validate_json(ref.path("facts").read_text())
    return artefact_result(
        ref,
        model_card=dg.MetadataValue.md(shown_card(ref.part("model"))),
        shape=dg.MetadataValue.json(facts.shape.model_dump(mode="json")),
        **facts.model_dump(exclude={"shape"}),
    )


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"pytorch", "mlflow"},
    partitions_def=job_partitions,
    ins={"prompt_corpus": dg.AssetIn(partition_mapping=corpora_of_job)},
    pool=TRAINING_POOL,
    code_version=CODE_VERSION,
)
def adapter(
    context: dg.AssetExecutionContext,
    launcher: Launcher,
    prompt_corpus: dict[str, TableRef],
    base_model: ArtefactRef,
) -> dg.MaterializeResult[ArtefactRef]:
    """A LoRA adapter, trained by TRL under `accelerate launch`; one partition a job.

    A job with the domain stage learns from the catalog's own texts first, then from its task's
    rows. What is broken off goes on from its last checkpoint.
    """
    job = REGISTRY.job(context.partition_key)
    return train_adapter(context, launcher, job, prompt_corpus, base_model)


def train_adapter(
    context: dg.AssetExecutionContext,
    launcher: Launcher,
    job: Job,
    corpora: Mapping[str, TableRef],
    base_model: ArtefactRef,
    *,
    name: str = "adapter",
) -> dg.MaterializeResult[ArtefactRef]:
    """Train a job's adapter, unless it is there already; the artefact's folder is under `name`.

    `corpora` has the prompt corpus of each task that the job learns from (`job.corpora`).

    Raises:
        PlanError: the job fits no devices.
        RetryRequested: the training made room, and may go on.
    """
    settings = get_settings()
    job.require_base_model(settings.base_model)
    facts = BaseModelFacts.model_validate_json(base_model.path("facts").read_text())
    plan = plan_for(job, settings, facts)
    spec = training_spec(job, plan, corpora, base_model, settings, name=name)
    spec = spec.model_copy(update={"tracking": _tracking(context, job)})
    context.log.info(f"{job.name}: {plan.strategy}, processes: {plan.ranks}, on {plan.devices}")
    try:
        ref = launcher.launch(context, spec)
    except Preempted as error:
        context.log.warning(str(error))
        raise dg.RetryRequested(job.resources.retries, SECONDS_TO_RETRY) from error
    return _adapter_result(context, ref, job, plan)


def training_spec(
    job: Job,
    plan: ParallelismPlan,
    corpora: Mapping[str, TableRef],
    base_model: ArtefactRef,
    settings: Settings,
    *,
    name: str = "adapter",
) -> LaunchSpec:
    """What is run for a job, and how, by its plan."""
    tables = {CORPUS_INPUTS.get(task, "prompt_corpus"): corpora[task] for task in job.corpora}
    # Of several processes each takes its own rows a step, which makes another adapter.
    ranks = {"ranks": plan.ranks} if plan.ranks > 1 else {}
    return LaunchSpec(
        name=name,
        module="retail_assistant.training.finetune",
        config={
            "task": job.task,
            "hyperparameters": job.hyperparameters.model_dump(mode="json"),
            **ranks,
        },
        inputs={
            **{label: table.sha256 for label, table in tables.items()},
            "base_model": base_model.fingerprint,
        },
        paths={
            **{label: table.path for label, table in tables.items()},
            "base_model": base_model.folder / "model",
        },
        code_version=CODE_VERSION,
        root=settings.storage,
        resources=Resources(
            processes=plan.processes,
            nodes=plan.nodes,
            gpus=plan.gpus // plan.nodes,
            memory_gib=job.resources.memory_gib or plan.host_memory_gib,
            max_runtime_minutes=job.resources.max_runtime_minutes,
        ),
        accelerate=plan.accelerate,
        execution={
            "gradient_checkpointing": plan.gradient_checkpointing,
            PLANNED: plan.estimate.total,
            AVAILABLE: plan.available_gib,
        },
    )


def _adapter_result(
    context: dg.AssetExecutionContext, ref: ArtefactRef, job: Job, plan: ParallelismPlan
) -> dg.MaterializeResult[ArtefactRef]:
    manifest = ref.manifest()
    history = pl.read_parquet(ref.path("history"))
    return artefact_result(
        ref,
        study=job.study,
        loss_curve=dg.MetadataValue.md(loss_curve({job.name: history})),
        learning_rate_curve=dg.MetadataValue.md(learning_rate_curve(history)),
        hyperparameters=dg.MetadataValue.json(job.hyperparameters.model_dump(mode="json")),
        plan=dg.MetadataValue.md(plan_table(plan)),
        history=preview(history, rows=12),
        mlflow_run=dg.MetadataValue.url(_mlflow_url(context, ref)),
        **_shown_outputs(ref, manifest),
        **shown_cost({**manifest.metrics, "gpus": plan.gpus}, get_settings()),
        **{
            name: value
            for name, value in manifest.metrics.items()
            if isinstance(value, int | float)
        },
    )


def _shown_outputs(ref: ArtefactRef, manifest: Manifest) -> dict[str, Any]:
    """What a training leaves to be read: answers on the way, and the model card."""
    shown: dict[str, Any] = {}
    if "samples" in manifest.outputs:
        shown["samples"] = preview(pl.read_parquet(ref.path("samples")), rows=20)
    if MODEL_CARD in manifest.outputs:
        shown["model_card"] = dg.MetadataValue.md(card_text(ref.path(MODEL_CARD)))
    return shown


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


def _mlflow_url(context: dg.AssetExecutionContext, ref: ArtefactRef) -> str:
    """Where MLflow shows the training; what its server has missed is told to it first."""
    run = tracked_run(ref.local)
    if run is not None and (run.pending or run.status is None):
        uri = get_settings().mlflow_tracking_uri
        run = upload(ref.folder, context.log.warning, seconds=SECONDS_TO_UPLOAD, uri=uri)
    ui = get_settings().mlflow_ui
    if run is None or run.run_id is None:
        return ui
    return f"{ui}/#/experiments/{run.experiment_id}/runs/{run.run_id}"


@dg.asset_check(asset="adapter", partitions_def=job_partitions)
def training_lost_no_rows(adapter: ArtefactRef) -> dg.AssetCheckResult:
    """Rows that do not fit `max_seq_length` would lose their answer; there are none."""
    metrics = adapter.manifest().metrics
    return dg.AssetCheckResult(
        passed=metrics["rows_too_long"] == 0,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"too_long": metrics["rows_too_long"], "used": metrics["train_rows"]},
    )

"""The seam to heavy work, and what is bound for an environment."""

import logging
import os
import uuid
from collections.abc import Mapping
from typing import Any, Literal

import dagster as dg
from pydantic import Field, PrivateAttr

from retail_assistant.defs.io_managers import StorageIOManager
from retail_assistant.launch.command import write_spec
from retail_assistant.launch.kuberay import Kubernetes, ray_job_manifest
from retail_assistant.launch.kuberay_template import TemplateError, read_template
from retail_assistant.launch.local import LOG_NAME, run_local
from retail_assistant.launch.logs import following_logs
from retail_assistant.launch.ray_job import failure_of, run_ray_job
from retail_assistant.launch.spec import ArtefactRef, LaunchError, LaunchSpec, read_manifest
from retail_assistant.settings import Settings, get_settings
from retail_assistant.storage.bucket import bucket_of, client
from retail_assistant.storage.lease import wait_for_others
from retail_assistant.telemetry import tracing
from retail_assistant.telemetry.context import context_environment
from retail_assistant.telemetry.logs import CloudFormatter, log_format
from retail_assistant.telemetry.redaction import redacted

SECONDS_BETWEEN_MESSAGES = 2.0


class Launcher(dg.ConfigurableResource):
    """Runs heavy work in processes of its own, unless its artefact is there already.

    The work reports through Dagster Pipes, and what its processes write is told at the level
    "debug"; what they leave in the artefact's folder is the truth.
    """

    kind: Literal["local", "ray", "kuberay"] = Field(
        default="local", description="Where: this machine, a Ray cluster, or Kubernetes."
    )

    _run_span: tracing.Span = PrivateAttr(default=tracing.NO_SPAN)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Begin the trace of a run: whoever launches something is inside it."""
        if context.run is not None:
            run = context.run
            told = {"dagster.job": run.job_name, "dagster.partition": _partition_of(run) or None}
            self._run_span = tracing.begin_run(run.run_id, **told)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """End it, however the run ended."""
        self._run_span.end()

    def launch(self, context: dg.AssetExecutionContext, spec: LaunchSpec) -> ArtefactRef:
        """The finished artefact of a spec. However this ends, nothing of the work runs on.

        Raises:
            Preempted: the work made room; run again it goes on.
            LaunchError: the work did not finish; says why.
        """
        ref = ArtefactRef(folder=spec.folder, fingerprint=spec.fingerprint)
        if read_manifest(spec.folder) is not None:
            context.log.info(f"{spec.name} {spec.fingerprint}: unchanged, kept")
            return ref
        context.log.info(
            f"{spec.name} {spec.fingerprint}: running {spec.module} ({self.kind});"
            f" log: {spec.folder / LOG_NAME}"
        )
        names = {"retail.fingerprint": spec.fingerprint, "retail.launcher": self.kind}
        inside = tracing.inside_run(context.run_id)
        with (
            following_logs(spec.folder, context.log.debug),
            tracing.span(f"launch {spec.name}", parent=inside, **names),
        ):
            given = _told_to_workload(context)
            if self.kind == "kuberay":
                run_kuberay_job(context, spec, get_settings(), given)
            else:
                self._run(context, spec, given)
        return ref

    def _run(
        self, context: dg.AssetExecutionContext, spec: LaunchSpec, told: Mapping[str, str]
    ) -> None:
        # Dagster's own subprocess client signals the direct child only; `accelerate launch` and
        # vLLM have children of their own, which are started, found and ended in `launch`.
        with dg.open_pipes_session(
            context=context,
            context_injector=dg.PipesEnvContextInjector(),
            message_reader=message_reader(context, spec, self.kind),
        ) as session:
            given = {**session.get_bootstrap_env_vars(), **told}
            if self.kind == "local":
                run_local(spec, given)
            else:
                run_ray_job(spec, given, context.log.info)


def _told_to_workload(context: dg.AssetExecutionContext) -> dict[str, str]:
    """What a workload is told of the run that it is for: its logs and its trace say it."""
    fields = {"run_id": context.run_id, "job": context.run.job_name}
    fields |= {"partition": _partition_of(context.run)}
    return tracing.trace_environment() | context_environment(fields)


def _partition_of(run: dg.DagsterRun) -> str:
    """Its partition, or the first and the last of them; empty: it has none."""
    ends = [run.tags.get(f"dagster/asset_partition_range_{end}", "") for end in ("start", "end")]
    return run.tags.get("dagster/partition") or " to ".join(filter(None, ends))


def message_reader(
    context: dg.AssetExecutionContext, spec: LaunchSpec, kind: str
) -> dg.PipesMessageReader:
    """Pipes messages through a file in the artefact's folder, which every node sees, or a bucket.

    Messages in a Ray job's log are lost when the connection that tails it breaks.
    """
    bucket = bucket_of(spec.root)
    if bucket is not None and kind != "local":
        from dagster_gcp.pipes import PipesGCSMessageReader

        return PipesGCSMessageReader(
            bucket=bucket.name, client=client(), interval=SECONDS_BETWEEN_MESSAGES
        )
    return dg.PipesFileMessageReader(str(spec.folder / f"messages-{context.run_id}.jsonl"))


def run_kuberay_job(
    context: dg.AssetExecutionContext,
    spec: LaunchSpec,
    settings: Settings,
    told: Mapping[str, str] | None = None,
) -> None:
    """Run a spec as a RayJob on Kubernetes; `told` are variables beside the settings.

    Raises:
        Preempted: the job made room.
        LaunchError: it failed; says why.
    """
    from dagster_ray.kuberay import PipesKubeRayJobClient

    spec.folder.mkdir(parents=True, exist_ok=True)
    # Here, not on a node with GPUs. It may be a run's own RayJob, which its lost pod has left.
    wait_for_others(spec.folder, context.log.info)
    if read_manifest(spec.folder) is not None:
        return
    write_spec(spec)
    cluster, variables = kubernetes_of(settings, spec.name), {**os.environ, **(told or {})}
    manifest = ray_job_manifest(spec, cluster, variables, uuid.uuid4().hex[:6])
    try:
        client = PipesKubeRayJobClient(
            message_reader=message_reader(context, spec, "kuberay"),
            timeout=settings.kuberay_wait_minutes * 60,
        )
        client.run(context=context, ray_job=manifest)
    except ModuleNotFoundError as error:
        raise LaunchError(
            f"RETAIL_LAUNCHER=kuberay needs the package {error.name}; install it beside dagster-ray"
        ) from error
    except (RuntimeError, TimeoutError) as error:
        # The manifest is the truth: what failed may be the watching.
        if read_manifest(spec.folder) is None:
            raise failure_of(spec, str(error)) from error
    if read_manifest(spec.folder) is None:
        raise failure_of(spec, "the RayJob ended without leaving a manifest")


def kubernetes_of(settings: Settings, asset: str) -> Kubernetes:
    """Where an asset's RayJobs run, by the settings.

    Raises:
        LaunchError: there is no image, or the asset's template cannot be read.
    """
    if settings.kuberay_image is None:
        raise LaunchError("RETAIL_KUBERAY_IMAGE is not set; allowed: the name of an image")
    try:
        folder = settings.kuberay_templates
        template = read_template(folder, asset) if folder else None
    except TemplateError as error:
        raise LaunchError(str(error)) from error
    return Kubernetes(
        image=settings.kuberay_image,
        namespace=settings.kuberay_namespace,
        node_selector=settings.kuberay_nodes,
        storage_claim=settings.kuberay_storage,
        template=template,
    )


def artefact_result(ref: ArtefactRef, **metadata: Any) -> dg.MaterializeResult[ArtefactRef]:
    """An artefact as an asset's result, with what its manifest says of it."""
    manifest = ref.manifest()
    return dg.MaterializeResult(
        value=ref,
        data_version=dg.DataVersion(ref.fingerprint),
        metadata={
            "fingerprint": ref.fingerprint,
            "log": dg.MetadataValue.path(str(ref.folder / LOG_NAME)),
            "seconds": (manifest.finished - manifest.started).total_seconds(),
            "manifest": dg.MetadataValue.json(
                manifest.model_dump(mode="json", exclude={"outputs", "config"})
            ),
            **metadata,
        },
    )


@dg.logger(None, description="One line an event that a person wants to read.")
def plain_console_logger(init_context: dg.InitLoggerContext) -> logging.Logger:
    """Assets' own words and failures, without Dagster's bookkeeping; as JSON where logs are."""
    logger = logging.Logger("retail_assistant", level=logging.INFO)
    handler = logging.StreamHandler()
    plain = _PlainFormatter("%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    handler.setFormatter(CloudFormatter() if log_format() == "json" else plain)
    logger.addHandler(handler)
    return logger


class _PlainFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        meta = getattr(record, "dagster_meta", None) or {}
        step = meta.get("step_key") or meta.get("job_name") or ""
        record.msg = f"{step:<22} {meta.get('orig_message', record.getMessage())}"
        record.args = ()
        return redacted(super().format(record))


def resources_for(settings: Settings) -> dict[str, Any]:
    """What `Definitions` needs beyond the assets, for an environment."""
    return {
        "resources": {
            "io_manager": StorageIOManager(),
            "launcher": Launcher(kind=settings.launcher),
        },
        "loggers": {"console": plain_console_logger},
        # Heavy work has its own process already; another one a step would only import twice.
        "executor": dg.in_process_executor,
    }

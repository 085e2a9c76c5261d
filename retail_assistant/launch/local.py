"""The local launcher: a process group on this machine."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock, Timeout

from retail_assistant.launch.spec import LaunchError, LaunchSpec, Manifest, read_manifest
from retail_assistant.storage import write_atomically

LOG_NAME = "log.txt"
SECONDS_TO_END = 15
LOG_TAIL_LINES = 15
WAIT_FOR_TWIN_SECONDS = 24 * 3600


def run_local(spec: LaunchSpec, environment: Mapping[str, str] | None = None) -> Manifest:
    """Run a workload to its end in its own process group, unless its artefact is there already.

    Two runs of the same fingerprint take turns; the second finds the work done.

    Raises:
        LaunchError: the process failed or was killed; says how, and shows the end of its log.
    """
    spec.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(spec.folder / ".lock", timeout=WAIT_FOR_TWIN_SECONDS):
            done = read_manifest(spec.folder)
            return done if done is not None else _run(spec, environment or {})
    except Timeout as error:
        raise LaunchError(f"{spec.name}: another run holds {spec.folder} for over a day") from error


def _run(spec: LaunchSpec, environment: Mapping[str, str]) -> Manifest:
    spec_path = spec.folder / "spec.json"
    write_atomically(spec_path, spec.model_dump_json(indent=2))
    log_path = spec.folder / LOG_NAME
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [*_command(spec), "--spec", str(spec_path)],
            env={**os.environ, **_quiet(), **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait()
        finally:
            end_group(process)
    manifest = read_manifest(spec.folder)
    if code != 0 or manifest is None:
        raise LaunchError(_reason(spec, code, log_path))
    return manifest


def _command(spec: LaunchSpec) -> list[str]:
    if not spec.accelerate:
        return [sys.executable, "-m", spec.module]
    launch = [sys.executable, "-m", "accelerate.commands.launch"]
    shape = ["--num_processes", str(spec.resources.processes), "--num_machines", "1"]
    shape += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    shape += ["--multi_gpu"] if spec.resources.gpus > 1 else []
    shape += ["--cpu"] if spec.resources.gpus == 0 else []
    return [*launch, *shape, "-m", spec.module]


def _quiet() -> dict[str, str]:
    """Hubs are asked only where the settings name one; progress bars would fill the log."""
    return {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_NO_USAGE_STATS": "1",
        "PYTHONUNBUFFERED": "1",
    }


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and all its children: politely, then not."""
    for end_signal in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, end_signal)
        except ProcessLookupError:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=SECONDS_TO_END)
        if not _group_lives(process.pid):
            return


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _reason(spec: LaunchSpec, code: int, log_path: Path) -> str:
    lines = log_path.read_text(errors="replace").splitlines()
    tail = "\n".join(lines[-LOG_TAIL_LINES:])
    return f"{spec.name}: {_how_it_ended(code)}. Log: {log_path}\n{tail}"


def _how_it_ended(code: int) -> str:
    if code == 0:
        return "the process ended without leaving a manifest"
    if code < 0:
        name = signal.Signals(-code).name
        hint = " (out of memory, or killed by hand)" if name == "SIGKILL" else ""
        return f"the process was killed by {name}{hint}; materialize again to continue"
    return f"the process failed with exit code {code}"

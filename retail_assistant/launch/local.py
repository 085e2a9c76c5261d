"""The local launcher: a process group on this machine."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock, Timeout

from retail_assistant.launch.spec import (
    MANIFEST_NAME,
    LaunchError,
    LaunchSpec,
    Manifest,
    read_manifest,
)
from retail_assistant.launch.workload import LAUNCHER_PID
from retail_assistant.storage import write_atomically

LOG_NAME = "log.txt"
SECONDS_TO_END = 15
LOG_TAIL_LINES = 15
WAIT_FOR_TWIN_SECONDS = 24 * 3600
# A wrapper such as `accelerate launch` survives its killed child and exits with code 1; how the
# child ended stands only in the log (Python's CalledProcessError, torch's elastic agent).
CHILD_KILLED = re.compile(r"died with <Signals\.(SIG\w+): \d+>|Signal \d+ \((SIG\w+)\) received")


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
    # A damaged artefact is made again: until that is done, its old manifest must not vouch for it.
    (spec.folder / MANIFEST_NAME).unlink(missing_ok=True)
    log_path = spec.folder / LOG_NAME
    with log_path.open("ab") as log:
        log_start = log.tell()
        process = subprocess.Popen(
            [*_command(spec), "--spec", str(spec_path)],
            env={
                **os.environ,
                **quiet_environment(),
                LAUNCHER_PID: str(os.getpid()),
                **environment,
            },
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
        raise LaunchError(_reason(spec, code, log_path, log_start))
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


def quiet_environment() -> dict[str, str]:
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


def _reason(spec: LaunchSpec, code: int, log_path: Path, log_start: int) -> str:
    """How the run ended that wrote the log from `log_start` on, and the end of that."""
    log = log_path.read_bytes()[log_start:].decode(errors="replace")
    tail = "\n".join(log.splitlines()[-LOG_TAIL_LINES:])
    return f"{spec.name}: {how_it_ended(code, log)}. Log: {log_path}\n{tail}"


def how_it_ended(code: int, log: str) -> str:
    """A process's end in words, from its exit code (negative: a signal) and its log."""
    if code == 0:
        return "the process ended without leaving a manifest"
    killed_by = signal.Signals(-code).name if code < 0 else _signal_of_child(log)
    if killed_by is None:
        return f"the process failed with exit code {code}"
    hint = " (out of memory, or killed by hand)" if killed_by == "SIGKILL" else ""
    return f"the process was killed by {killed_by}{hint}; materialize again to continue"


def _signal_of_child(log: str) -> str | None:
    """The signal that ended the process under a wrapper, as the wrapper's log tells it."""
    told = list(CHILD_KILLED.finditer(log))
    return next(name for name in told[-1].groups() if name) if told else None

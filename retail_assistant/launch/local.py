"""The local launcher: a workload's processes on this machine.

Of the cluster launchers it is the innermost part: a Ray job runs it on the node that Ray chose.
"""

import re
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from filelock import FileLock, Timeout

from retail_assistant.launch.command import (
    Node,
    command,
    environment,
    quiet_environment,
    write_spec,
)
from retail_assistant.launch.processes import ProcessTree, end_left_behind
from retail_assistant.launch.spec import (
    MANIFEST_NAME,
    PREEMPTED_EXIT_CODE,
    SPEC_NAME,
    LaunchError,
    LaunchSpec,
    Manifest,
    Preempted,
    fetch_inputs,
    read_manifest,
)
from retail_assistant.launch.workload import PREEMPTED_MARK
from retail_assistant.storage import written
from retail_assistant.storage.bucket import fetch_folder, publish, withdraw
from retail_assistant.storage.lease import LeaseError, leased
from retail_assistant.telemetry.logs import readable

__all__ = [
    "LOG_NAME",
    "Turn",
    "how_it_ended",
    "quiet_environment",
    "run_local",
    "run_processes",
    "turn",
]

LOG_NAME = "log.txt"
LOG_TAIL_LINES = 15
WAIT_FOR_TWIN_SECONDS = 24 * 3600
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_A_MINUTE = 60
ROOM_FOR_A_LOG = 16 * 2**20
"""Bytes: where less is left on the disk, the log may lack why the work failed."""

# A wrapper such as `accelerate launch` survives its killed child and exits with code 1; how the
# child ended stands only in the log (Python's CalledProcessError, torch's elastic agent).
# What they add after the child's own last words would push these out of sight.
ELASTIC_AGENT = re.compile(
    r"^[EW]\d{4} .*torch/distributed/elastic/.*\b(failed \(exitcode|closing signal)"
)
TRACEBACK = "Traceback (most recent call last):"
ACCELERATE = "accelerate/commands/launch.py"
TRACEBACK_HEAD = 8
CHILD_KILLED = re.compile(r"died with <Signals\.(SIG\w+): \d+>|Signal \d+ \((SIG\w+)\) received")


def run_local(spec: LaunchSpec, given: Mapping[str, str] | None = None) -> Manifest:
    """Run a workload to its end on this machine, unless its artefact is there already.

    Two runs of the same fingerprint take turns, also those of two machines that share a bucket; the
    second finds the work done. However this ends, an interrupt included, none of the workload's
    processes is left.

    Raises:
        Preempted: it was ended by a SIGTERM that this launcher did not send, or another machine has
            taken the work over.
        LaunchError: it failed, was killed or ran too long; says how, and shows the end of its log.
        StorageError: its folder cannot be written.
    """
    if spec.resources.nodes > 1:
        raise LaunchError(
            f"{spec.name}: nodes={spec.resources.nodes}; allowed with RETAIL_LAUNCHER=local: 1;"
            " several machines need ray or kuberay"
        )
    # What is finished may lie where nobody can write, not even a lock.
    if (done := read_manifest(spec.folder)) is not None:
        return done
    with turn(spec) as mine:
        if mine.done is not None:
            return mine.done
        run_processes(spec, given or {}, spec.folder / LOG_NAME, stop=mine.lost)
        if mine.is_lost and read_manifest(spec.folder) is None:
            raise Preempted(
                f"{spec.name}: another machine has taken the work over, for this one could not"
                " reach the bucket; materialize again to have what it comes to"
            )
        return finished_manifest(spec, spec.folder / LOG_NAME)


@dataclass(frozen=True)
class Turn:
    """A time in which nobody else works in an artefact's folder."""

    done: Manifest | None
    """There is nothing to do."""

    lost: Event | None
    """Set where another machine has taken the work over; None: there is no other machine."""

    @property
    def is_lost(self) -> bool:
        """Whether another machine has taken the work over."""
        return self.lost is not None and self.lost.is_set()


@contextmanager
def turn(spec: LaunchSpec) -> Iterator[Turn]:
    """Hold the artefact's folder, made ready for work, here and in the bucket.

    Raises:
        LaunchError: others have held it for over a day.
        StorageError: it cannot be written.
    """
    with written(spec.folder):
        spec.folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        with written(spec.folder):
            held.callback(_locked(spec).release)
        done, lost = read_manifest(spec.folder), None
        if done is None:
            try:
                lost = held.enter_context(leased(spec.folder, WAIT_FOR_TWIN_SECONDS))
            except LeaseError as error:
                raise _held_by_others(spec) from error
            # What another machine has done while this one waited.
            done = read_manifest(spec.folder)
        if done is None:
            with written(spec.folder):
                _make_ready(spec)
        mine = Turn(done, lost)
        try:
            yield mine
        finally:
            # What who has lost the lease has half done is in the way of who has it.
            if done is None and not mine.is_lost:
                publish(spec.folder)
                # It has grown since the manifest was written.
                publish(spec.folder / LOG_NAME)


def _locked(spec: LaunchSpec) -> FileLock:
    lock = FileLock(spec.folder / ".lock", timeout=WAIT_FOR_TWIN_SECONDS)
    try:
        lock.acquire()
    except Timeout as error:
        raise _held_by_others(spec) from error
    return lock


def _held_by_others(spec: LaunchSpec) -> LaunchError:
    return LaunchError(f"{spec.name}: another run holds {spec.folder} for over a day")


def _make_ready(spec: LaunchSpec) -> None:
    end_left_behind(spec.module, str(spec.folder / SPEC_NAME))
    # A damaged artefact is made again: until then its old manifest must not vouch for it.
    (spec.folder / MANIFEST_NAME).unlink(missing_ok=True)
    withdraw(spec.folder / MANIFEST_NAME)
    # What another machine has left of it, such as checkpoints.
    fetch_folder(spec.folder)
    fetch_inputs(spec)
    write_spec(spec)


def run_processes(
    spec: LaunchSpec,
    given: Mapping[str, str],
    log_path: Path,
    node: Node | None = None,
    stop: Event | None = None,
) -> None:
    """Run a workload's processes on this machine until they or `stop` end them, and end them all.

    Raises:
        Preempted, LaunchError: as `run_local`.
    """
    minutes = spec.resources.max_runtime_minutes
    with log_path.open("ab") as log:
        log_start = log.tell()
        tree = ProcessTree(command(spec, node), environment(spec, given), log)
        try:
            code = _wait(tree, minutes * SECONDS_A_MINUTE if minutes else None, stop)
        finally:
            tree.end()
    if stop is not None and stop.is_set():
        return
    if code is None:
        raise LaunchError(
            f"{spec.name}: ended after max_runtime_minutes={minutes:g}; allow more, then"
            f" materialize again to continue from its last checkpoint."
            f" {_log_tail(log_path, log_start)}"
        )
    if code != 0:
        said = _log_since(log_path, log_start)
        kind = Preempted if _was_preempted(spec, code, said) else LaunchError
        how = how_it_ended(code, said, spec.resources.memory_gib) + _no_room(spec.folder)
        raise kind(f"{spec.name}: {how}. {_log_tail(log_path, log_start)}")


def _wait(tree: ProcessTree, seconds: float | None, stop: Event | None) -> int | None:
    """The exit code; None where time is up or `stop` is set."""
    if stop is None:
        return tree.wait(seconds)
    waited = 0.0
    while not stop.is_set() and (seconds is None or waited < seconds):
        code = tree.wait(SECONDS_BETWEEN_LOOKS)
        if code is not None:
            return code
        waited += SECONDS_BETWEEN_LOOKS
    return None


def finished_manifest(spec: LaunchSpec, log_path: Path) -> Manifest:
    """The manifest that a workload left which ended well.

    Raises:
        LaunchError: it left none.
    """
    manifest = read_manifest(spec.folder)
    if manifest is None:
        how = how_it_ended(0, "") + _no_room(spec.folder)
        raise LaunchError(f"{spec.name}: {how}. {_log_tail(log_path, 0)}")
    return manifest


def _was_preempted(spec: LaunchSpec, code: int, log: str) -> bool:
    if code in (PREEMPTED_EXIT_CODE, -signal.SIGTERM) or _signal_of_child(log) == "SIGTERM":
        return True
    # Wrappers pass on that their child failed, not its exit code.
    return (spec.folder / PREEMPTED_MARK).exists()


def _log_since(log_path: Path, start: int) -> str:
    return log_path.read_bytes()[start:].decode(errors="replace")


def _log_tail(log_path: Path, start: int) -> str:
    """Where the log is, and the end of what was written from `start` on."""
    lines = readable(_log_since(log_path, start)).splitlines()
    tail = "\n".join(own_words(lines)[-LOG_TAIL_LINES:])
    return f"Log: {log_path}\n{tail}"


def own_words(lines: Sequence[str]) -> list[str]:
    """A log without what wrappers say of a child that failed; all of it if there is no more."""
    for number, line in enumerate(lines):
        head = lines[number : number + TRACEBACK_HEAD]
        by_accelerate = line == TRACEBACK and any(ACCELERATE in one for one in head)
        if number and (by_accelerate or ELASTIC_AGENT.match(line)):
            return list(lines[:number])
    return list(lines)


def _no_room(folder: Path) -> str:
    """That the disk is full, where it is: then the log may not say so."""
    free = shutil.disk_usage(folder).free
    if free >= ROOM_FOR_A_LOG:
        return ""
    return f"; the disk of {folder} has {free / 2**20:.1f} MiB left: make room and run it again"


def how_it_ended(code: int, log: str, memory_gib: float | None = None) -> str:
    """A process's end in words, from its exit code (negative: a signal) and its log.

    `memory_gib` is what it was planned to take at most.
    """
    if code == 0:
        return "the process ended without leaving a manifest"
    killed_by = signal.Signals(-code).name if code < 0 else _signal_of_child(log)
    if killed_by is None and code == PREEMPTED_EXIT_CODE:
        return "the process made room after a SIGTERM; materialize again to continue"
    if killed_by is None:
        return f"the process failed with exit code {code}"
    planned = f"; up to {memory_gib:.1f} GiB were planned" if memory_gib else ""
    hint = f" (out of memory, or killed by hand{planned})" if killed_by == "SIGKILL" else ""
    return f"the process was killed by {killed_by}{hint}; materialize again to continue"


def _signal_of_child(log: str) -> str | None:
    """The signal that ended the process under a wrapper, as the wrapper's log tells it."""
    told = list(CHILD_KILLED.finditer(log))
    return next(name for name in told[-1].groups() if name) if told else None

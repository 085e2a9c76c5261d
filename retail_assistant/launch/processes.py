"""A workload's processes: started together, found again wherever they went, ended together."""

import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import IO

import psutil

SECONDS_TO_END = 60
"""From SIGTERM to SIGKILL: time for the step at hand and a checkpoint."""

SECONDS_TO_DIE = 10
SECONDS_BETWEEN_LOOKS = 0.2
LAUNCH_ID = "RETAIL_LAUNCH_ID"


class ProcessTree:
    """A command and all that comes of it.

    A process group is not enough: torch's elastic agent puts every rank in a session of its own,
    and what has lost its parent is nobody's child. So the processes are known by an environment
    variable that all of them inherit, and, where a process has overwritten its environment (as
    those do that write a title over it), by their parent, group or session.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], output: IO[bytes]
    ) -> None:
        self._mark = f"{os.getpid()}-{uuid.uuid4().hex}"
        self._process = subprocess.Popen(
            command,
            env={**environment, LAUNCH_ID: self._mark},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._sessions = {self._process.pid}

    def wait(self, seconds: float | None = None) -> int | None:
        """The command's exit code (negative: a signal), or None where it takes longer."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def members(self) -> list[psutil.Process]:
        """Those of the processes that live; one that is dead and not waited for does not."""
        found: dict[int, psutil.Process] = {}
        parents: dict[int, int] = {}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                parents[process.pid] = process.ppid()
                if self._is_marked(process):
                    found[process.pid] = process
        grown = True
        while grown:
            children = {pid for pid, parent in parents.items() if parent in found} - found.keys()
            for pid in children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    found[pid] = psutil.Process(pid)
            grown = bool(children & found.keys())
        return [process for process in found.values() if is_alive(process)]

    def _is_marked(self, process: psutil.Process) -> bool:
        if os.getsid(process.pid) in self._sessions:
            return True
        with contextlib.suppress(psutil.AccessDenied):
            if process.environ().get(LAUNCH_ID) == self._mark:
                self._sessions.add(os.getsid(process.pid))
                return True
        return False

    def end(self, seconds: float = SECONDS_TO_END) -> None:
        """End all of the processes: politely, and those that are left after `seconds` not."""
        try:
            self._signal_until_gone(signal.SIGTERM, seconds, again=False)
        finally:
            # Also where a second interrupt cuts the waiting short.
            self._signal_until_gone(signal.SIGKILL, SECONDS_TO_DIE, again=True)

    def _signal_until_gone(self, sent: signal.Signals, seconds: float, *, again: bool) -> None:
        deadline = time.monotonic() + seconds
        signalled: set[int] = set()
        while members := self.members():
            for process in members:
                if again or process.pid not in signalled:
                    signalled.add(process.pid)
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.send_signal(sent)
            left = deadline - time.monotonic()
            if left <= 0:
                return
            self.wait(min(left, SECONDS_BETWEEN_LOOKS))
            psutil.wait_procs(members, timeout=min(left, SECONDS_BETWEEN_LOOKS))


def is_alive(process: psutil.Process) -> bool:
    """Whether a process still works; a dead one that nobody waited for does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end_left_behind(*words: str) -> None:
    """End at once, with their groups, the processes whose command line has all these words.

    For who has just taken an artefact's lock: a process that works on it has lost the launcher that
    held the lock, and would notice within seconds, in which two would write to one folder.
    """
    deadline = time.monotonic() + SECONDS_TO_DIE
    while (found := _with_words(words)) and time.monotonic() < deadline:
        for process in found:
            with contextlib.suppress(ProcessLookupError, psutil.Error):
                group = os.getpgid(process.pid)
                if group == os.getpgrp():
                    process.kill()
                else:
                    os.killpg(group, signal.SIGKILL)
        psutil.wait_procs(found, timeout=SECONDS_BETWEEN_LOOKS)


def _with_words(words: Sequence[str]) -> list[psutil.Process]:
    # Those that are dead and not waited for have no command line any more.
    listed = psutil.process_iter(["cmdline"])
    return [
        one
        for one in listed
        if one.pid != os.getpid() and set(words) <= set(one.info["cmdline"] or ())
    ]

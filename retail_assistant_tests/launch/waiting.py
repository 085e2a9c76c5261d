"""Waiting for what other processes do."""

import time
from collections.abc import Callable
from pathlib import Path

import psutil

from retail_assistant.launch.processes import is_alive

SECONDS_TO_START = 60
SECONDS_TO_END = 90


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"{what} did not happen in {seconds} s"
        time.sleep(0.05)


def pids_of(folder: Path) -> list[int]:
    """The processes that lingering workloads have written down: itself and its child, by rank."""
    files = sorted(folder.glob("pids-*.txt"))
    return [int(pid) for file in files for pid in file.read_text().split()]


def lives(pid: int) -> bool:
    """Whether a process works; a zombie does not."""
    return psutil.pid_exists(pid) and is_alive(psutil.Process(pid))

"""One evaluation in several processes: each takes its own shards, the first one gathers them."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from retail_assistant.training.planning.devices import local_devices

RANK = "RANK"
MODULE = "retail_assistant.evaluation.predict"
VISIBLE = "CUDA_VISIBLE_DEVICES"

Item = TypeVar("Item")


def own_rank() -> int:
    """Which of the processes this is."""
    return int(os.environ.get(RANK, "0"))


def share(items: Sequence[Item], processes: int) -> list[Item]:
    """What of some items is this process's: every n-th."""
    return list(items[own_rank() :: processes])


def take_own_device(processes: int) -> None:
    """Keep this process to its GPU, or to its share of the CPU's cores; before torch is loaded."""
    if processes == 1:
        return
    rank, devices = own_rank(), local_devices()
    if devices.kind == "cuda":
        shown = os.environ.get(VISIBLE, ",".join(map(str, range(devices.count)))).split(",")
        os.environ[VISIBLE] = shown[rank % len(shown)]
        return
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[rank::processes] or cores)


@contextmanager
def others(processes: int, arguments: Sequence[str]) -> Iterator[None]:
    """Beside the first process run the others; at the end wait for them.

    Of the same process group: whoever ends this process ends them.

    Raises:
        RuntimeError: one of them failed.
    """
    ranks = range(1, processes) if own_rank() == 0 else range(0)
    children = [
        subprocess.Popen(
            [sys.executable, "-m", MODULE, *arguments], env={**os.environ, RANK: str(rank)}
        )
        for rank in ranks
    ]
    try:
        yield
        codes = [child.wait() for child in children]
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
                child.wait()
    failed = [f"{rank} (exit code {code})" for rank, code in zip(ranks, codes, strict=True) if code]
    if failed:
        raise RuntimeError(f"of {processes} answering processes failed: {', '.join(failed)}")

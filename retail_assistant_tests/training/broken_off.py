"""`python -m … --spec spec.json`: a training whose machine is told to end, or dies, at given steps.

`BREAKS` is JSON, a list of (process, signal, step): when the first process has finished the step,
it sends the signal to the process of that rank. What was done is remembered in `breaks.json`, so
that the next run of the same artefact does not break there again.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from retail_assistant.training import finetune
from retail_assistant.training.tracking.tracker import Tracker

BREAKS = "BREAKS"


class BreakingTracker(Tracker):
    """Tracks nothing; sends the signals that are due."""

    folder: Path

    def metrics(self, values: Mapping[str, Any], step: int) -> None:
        """Called by the first process after every step."""
        done_path = self._folder / "breaks.json"
        done = json.loads(done_path.read_text()) if done_path.exists() else []
        for rank, name, at in json.loads(os.environ[BREAKS]):
            if at == step and at not in done and "loss" in values:
                done_path.write_text(json.dumps([*done, at]))
                os.kill(_process_of(rank), signal.Signals[name])


def _process_of(rank: int) -> int:
    """The process of a rank: this one, or another child of the same parent."""
    if rank == int(os.environ.get("RANK", "0")):
        return os.getpid()
    siblings = psutil.Process().parent().children()
    return next(one.pid for one in siblings if one.environ().get("RANK") == str(rank))


if __name__ == "__main__":
    finetune.Tracker = BreakingTracker  # type: ignore[misc]
    sys.exit(finetune.main())

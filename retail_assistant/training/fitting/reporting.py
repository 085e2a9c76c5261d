"""What a training tells: progress to Dagster, numbers to MLflow, a history, measures."""

import math
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import polars as pl

from retail_assistant.launch.workload import Workload
from retail_assistant.training.tracking.tracker import Tracker

HISTORY = {
    "step": pl.Int64,
    "stage": pl.String,
    "epoch": pl.Float64,
    "loss": pl.Float64,
    "eval_loss": pl.Float64,
    "learning_rate": pl.Float64,
    "grad_norm": pl.Float64,
    "tokens": pl.Int64,
    "seconds": pl.Float64,
}
"""Columns of `history.parquet`: a row a logged step, and one an evaluation; `step`, `tokens` and
`seconds` go on over stages and breaks."""

GOING_ON = ("step", "tokens", "seconds")
TRACKED = ("loss", "eval_loss", "learning_rate", "grad_norm", "epoch", "tokens")


@cache
def reporter_class() -> Any:
    """`Reporter`; made on first use, for its base class takes seconds to import."""
    from transformers import TrainerCallback

    class Reporter(TrainerCallback):
        """Progress to Dagster, numbers to MLflow; `before`: steps of earlier stages."""

        def __init__(self, work: Workload, tracker: Tracker, stage: str, before: int) -> None:
            self._work, self._tracker = work, tracker
            self._stage, self._before = stage, before

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if not state.is_world_process_zero or not logs or "train_runtime" in logs:
                return
            numbers = {key: float(logs[key]) for key in TRACKED if is_number(logs.get(key))}
            self._tracker.metrics(numbers, self._before + state.global_step)
            shown = "eval_loss" if "eval_loss" in numbers else "loss"
            note = f"steps ({self._stage}), {shown} {numbers.get(shown, math.nan):.4f}"
            self._work.progress(state.global_step, state.max_steps, note)

    return Reporter


def is_number(value: Any) -> bool:
    """Whether something is a finite number (a truth value is not)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def stage_history(logged: Iterable[Mapping[str, Any]], stage: str) -> pl.DataFrame:
    """HISTORY rows of a stage from the trainer's log, counted from the stage's own beginning."""
    rows = [
        {name: entry.get(name) for name in HISTORY} | {"stage": stage}
        for entry in logged
        if "loss" in entry or "eval_loss" in entry
    ]
    return pl.DataFrame(rows, schema=HISTORY)


def joined_history(stages: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """The stages' histories one after the other, their steps and sums going on."""
    frames: list[pl.DataFrame] = []
    for stage in stages:
        before = frames[-1] if frames else pl.DataFrame(schema=HISTORY)
        ended = before.select(pl.col(GOING_ON).max().fill_null(0)).row(0, named=True)
        frames.append(stage.with_columns(pl.col(name) + ended[name] for name in GOING_ON))
    return pl.concat([pl.DataFrame(schema=HISTORY), *frames])

"""Plots for the Dagster UI: PNG images inside markdown, no scripts and no requests."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import polars as pl

WIDTH, HEIGHT = 7.0, 3.2
EVALUATION_SETS = ("recall", "unseen")


def _axes() -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    return figure, axes


def _markdown(figure: Any, words: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return f"![{words}](data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()})"


def loss_curve(histories: Mapping[str, pl.DataFrame]) -> str:
    """Training loss (line) and validation loss (dots) by step, as markdown; a line a job."""
    figure, axes = _axes()
    for job, history in histories.items():
        loss = history.drop_nulls("loss") if "loss" in history.columns else history.head(0)
        if not loss.is_empty():
            axes.plot(loss["step"], loss["loss"], label=job)
        if "eval_loss" in history.columns:
            held = history.drop_nulls("eval_loss")
            axes.plot(held["step"], held["eval_loss"], "o", label=f"{job}, validation")
    axes.set(xlabel="step", ylabel="loss", ylim=(0, None))
    axes.legend(frameon=False)
    return _markdown(figure, "training loss by step")


def accuracy_bars(summary: pl.DataFrame) -> str:
    """Strict accuracy with its 95% interval, by evaluation set and variant, as markdown."""
    figure, axes = _axes()
    rows = summary.filter(
        (pl.col("metric") == "strict_accuracy") & pl.col("subset").is_in(EVALUATION_SETS)
    )
    variants = rows["variant"].unique(maintain_order=True).to_list()
    width = 0.8 / max(1, len(variants))
    for position, variant in enumerate(variants):
        own = {row["subset"]: row for row in rows.filter(variant=variant).to_dicts()}
        points = [(i, own[name]) for i, name in enumerate(EVALUATION_SETS) if name in own]
        places = [i + position * width for i, _ in points]
        values = [row["value"] for _, row in points]
        spread = [
            [max(0.0, row["value"] - row["low"]) for _, row in points],
            [max(0.0, row["high"] - row["value"]) for _, row in points],
        ]
        axes.bar(places, values, width * 0.9, yerr=spread, capsize=3, label=variant)
    middle = 0.4 - width / 2
    axes.set_xticks([i + middle for i in range(len(EVALUATION_SETS))], EVALUATION_SETS)
    axes.set(ylabel="strict accuracy", ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper left", bbox_to_anchor=(0, -0.12))
    return _markdown(figure, "strict accuracy by evaluation set and variant")

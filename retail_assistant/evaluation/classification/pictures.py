"""Plots of a classifier for the Dagster UI: PNG images inside markdown."""

from collections.abc import Mapping

import polars as pl

from retail_assistant.catalog.pictures import as_markdown, axes


def reliability_diagram(bins: Mapping[str, pl.DataFrame]) -> str:
    """Share of positives by predicted probability, a line a variant; dots by number of texts."""
    figure, plot = axes(height=4.2)
    plot.plot([0, 1], [0, 1], "--", color="grey", linewidth=1, label="calibrated")
    for variant, frame in bins.items():
        (line,) = plot.plot(frame["predicted"], frame["observed"], label=variant)
        sizes = (frame["texts"] * 400 / max(1, frame["texts"].sum())).to_list()
        plot.scatter(frame["predicted"], frame["observed"], s=sizes, color=line.get_color())
    plot.set(
        xlabel="mean P(positive) of the bin",
        ylabel="share of positives",
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
    )
    plot.legend(frameon=False)
    return as_markdown(figure, "share of positives by predicted probability")


def sweep_curve(sweeps: Mapping[str, pl.DataFrame]) -> str:
    """Expected accuracy by the temperature of sampling, with 95% intervals; a line a variant."""
    figure, plot = axes()
    for variant, frame in sweeps.items():
        plot.plot(frame["temperature"], frame["accuracy"], "o-", label=variant)
        plot.fill_between(frame["temperature"], frame["low"], frame["high"], alpha=0.15)
    plot.set(xlabel="temperature", ylabel="accuracy when sampled", ylim=(0, 1.02))
    plot.legend(frameon=False)
    return as_markdown(figure, "expected accuracy by sampling temperature")


def agreement_bars(pairs: pl.DataFrame) -> str:
    """Cohen's kappa of each two judges with its 95% interval."""
    shown = pairs.drop_nulls("kappa")
    figure, plot = axes(height=0.9 + 0.32 * max(1, shown.height), grid="x")
    labels = [f"{first} / {second}" for first, second in shown.select("first", "second").rows()]
    kappa, low, high = (shown[name].fill_null(shown["kappa"]) for name in ("kappa", "low", "high"))
    spread = [(kappa - low).to_list(), (high - kappa).to_list()]
    plot.barh(range(shown.height), kappa.to_list(), xerr=spread, height=0.7, capsize=3)
    plot.set_yticks(range(shown.height), labels, fontsize=8)
    for written in plot.get_yticklabels():
        written.set_parse_math(False)
    plot.invert_yaxis()
    plot.set(xlabel="Cohen's kappa", xlim=(min([0.0, *low.to_list()]), 1.02))
    return as_markdown(figure, "Cohen's kappa of each two judges")

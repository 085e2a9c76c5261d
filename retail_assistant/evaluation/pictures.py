"""Plots for the Dagster UI: PNG images inside markdown, no scripts and no requests."""

from collections.abc import Mapping, Sequence

import polars as pl

from retail_assistant.catalog.pictures import as_markdown, axes

EVALUATION_SETS = ("recall", "unseen")


def loss_curve(histories: Mapping[str, pl.DataFrame]) -> str:
    """Training loss (line) and validation loss (dots) by step, as markdown; a line a job."""
    figure, plot = axes()
    for job, history in histories.items():
        loss = history.drop_nulls("loss") if "loss" in history.columns else history.head(0)
        if not loss.is_empty():
            plot.plot(loss["step"], loss["loss"], label=job)
        if "eval_loss" in history.columns:
            held = history.drop_nulls("eval_loss")
            plot.plot(held["step"], held["eval_loss"], "o", label=f"{job}, validation")
    plot.set(xlabel="step", ylabel="loss", ylim=(0, None))
    plot.legend(frameon=False)
    return as_markdown(figure, "training loss by step")


def learning_rate_curve(history: pl.DataFrame) -> str:
    """Learning rate by step, as markdown; a line a stage."""
    figure, plot = axes()
    rates = history.drop_nulls("learning_rate")
    for (stage,), own in rates.group_by("stage", maintain_order=True):
        plot.plot(own["step"], own["learning_rate"], label=stage)
    plot.set(xlabel="step", ylabel="learning rate", ylim=(0, None))
    if rates["stage"].n_unique() > 1:
        plot.legend(frameon=False)
    return as_markdown(figure, "learning rate by step")


def accuracy_bars(summary: pl.DataFrame) -> str:
    """Strict accuracy with its 95% interval, by evaluation set and variant, as markdown."""
    figure, plot = axes()
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
        plot.bar(places, values, width * 0.9, yerr=spread, capsize=3, label=variant)
    middle = 0.4 - width / 2
    plot.set_xticks([i + middle for i in range(len(EVALUATION_SETS))], EVALUATION_SETS)
    plot.set(ylabel="strict accuracy", ylim=(0, 1.02))
    plot.legend(frameon=False, fontsize=8, ncols=2, loc="upper left", bbox_to_anchor=(0, -0.12))
    return as_markdown(figure, "strict accuracy by evaluation set and variant")


def mix_bars(groups: pl.DataFrame, subset: str, dimension: str, most: int = 20) -> str:
    """Share of a set's products by group beside the assortment's, as markdown."""
    rows = groups.filter(subset=subset, dimension=dimension, against="assortment").head(most)
    figure, plot = axes(height=1.2 + 0.28 * max(1, rows.height), grid="x")
    places = list(range(rows.height))
    plot.barh([p - 0.2 for p in places], rows["expected_share"], 0.38, label="assortment")
    plot.barh([p + 0.2 for p in places], rows["share"], 0.38, label=f"asked ({subset})")
    plot.set_yticks(places, rows["group"].str.slice(0, 40).to_list(), fontsize=8)
    for written in plot.get_yticklabels():
        # Catalog text, drawn letter by letter: no formulas.
        written.set_parse_math(False)
    plot.invert_yaxis()
    plot.set_xlabel(f"share of products by {dimension}")
    plot.legend(frameon=False, fontsize=8)
    return as_markdown(figure, f"{dimension} of asked products and of the assortment")


def power_curves(questions: Mapping[str, int], shares: Sequence[float]) -> str:
    """Power of the paired test by difference, a line a set and share of discordant questions."""
    from retail_assistant.evaluation.power import POWER, mcnemar_power

    figure, plot = axes()
    for number, (subset, count) in enumerate(questions.items()):
        for share, style in zip(shares, ("-", "--", ":"), strict=False):
            differences = [share * (step / 24) for step in range(25)]
            power = [mcnemar_power(count, one, share) for one in differences]
            label = f"{subset}: {count} questions, {100 * share:.0f}% differ"
            points = [100 * one for one in differences]
            plot.plot(points, power, style, color=f"C{number}", label=label)
    plot.axhline(POWER, color="grey", linewidth=0.8)
    plot.set(xlabel="difference in accuracy, points", ylabel="power", ylim=(0, 1.02))
    plot.legend(frameon=False, fontsize=7)
    return as_markdown(figure, "power of the exact McNemar test")

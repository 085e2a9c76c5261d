"""Plots for the Dagster UI: PNG images inside markdown, no scripts and no requests."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from retail_assistant.catalog.pictures import HEIGHT, WIDTH, as_markdown, axes
from retail_assistant.evaluation.comparison import Comparison
from retail_assistant.evaluation.curve_plots import data_rows
from retail_assistant.evaluation.pareto import COSTS

EVALUATION_SETS = ("recall", "unseen")
MOST_UPRIGHT = 7
_BELOW: dict[str, Any] = {"frameon": False, "fontsize": 8, "ncols": 2, "loc": "outside lower left"}


def drawn(comparison: Comparison, histories: Mapping[str, pl.DataFrame]) -> dict[str, str]:
    """The comparison's pictures that it has numbers for, by name, as markdown."""
    pictures = {"accuracy": accuracy_bars(comparison.summary)}
    if histories:
        pictures["loss"] = loss_curve(histories)
    if comparison.pareto.height:
        pictures["accuracy_by_cost"] = pareto_points(comparison.pareto)
    fractions = data_rows(comparison)
    if fractions.height:
        pictures["accuracy_by_data"] = data_curve(fractions)
    if comparison.best_pair:
        best = comparison.best_pair[0]
        for dimension in ("asked_attribute", "category"):
            if comparison.topics.filter(variant=best, dimension=dimension).height:
                pictures[f"outcomes_by_{dimension}"] = outcome_heat(
                    comparison.topics, best, dimension
                )
    return pictures


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


def pareto_points(pareto: pl.DataFrame) -> str:
    """Strict accuracy on unseen by training seconds and by seconds an answer, as markdown.

    Filled: on the Pareto front, which the dashed line follows.
    """
    from matplotlib.figure import Figure

    costs = [
        cost for cost in ("train_seconds", "seconds_per_question") if cost in set(pareto["cost"])
    ]
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    plots = figure.subplots(1, max(1, len(costs)), squeeze=False, sharey=True)[0]
    names = sorted(pareto["variant"].unique())
    for plot, cost in zip(plots, costs, strict=False):
        rows = pareto.filter(cost=cost)
        front = rows.filter("on_front").unique("spent", keep="last").sort("spent")
        plot.step(front["spent"], front["accuracy"], "--", where="post", color="grey", linewidth=1)
        for row in rows.to_dicts():
            colour = f"C{names.index(row['variant']) % 10}"
            spread = [[row["accuracy"] - row["low"]], [row["high"] - row["accuracy"]]]
            plot.errorbar(
                row["spent"], row["accuracy"], [[max(0.0, one[0])] for one in spread], fmt="o",
                color=colour, mfc=colour if row["on_front"] else "none", capsize=3,
                label=row["variant"],
            )  # fmt: skip
        plot.set(xlabel=COSTS[cost], ylim=(-0.04, 1.04))
        plot.grid(alpha=0.3)
        plot.spines[["top", "right"]].set_visible(False)
    plots[0].set_ylabel("strict accuracy, unseen")
    if costs:
        figure.legend(*plots[0].get_legend_handles_labels(), **_BELOW)
    return as_markdown(figure, "strict accuracy by cost")


def outcome_heat(topics: pl.DataFrame, variant: str, dimension: str, most: int = 25) -> str:
    """Outcomes of a variant (columns) by what was asked about (rows, most asked first)."""
    counts = (
        topics.filter(variant=variant, dimension=dimension)
        .pivot(on="outcome", index="value", values="questions", sort_columns=True)
        .fill_null(0)
        .with_columns(asked=pl.sum_horizontal(pl.selectors.numeric()))
        .sort("asked", "value", descending=[True, False])
        .head(most)
    )
    outcomes = [name for name in counts.columns if name not in ("value", "asked")]
    figure, plot = axes(height=1.4 + 0.26 * max(1, counts.height))
    plot.grid(visible=False)
    numbers = counts.select(outcomes).to_numpy()
    shares = counts.select(pl.col(outcomes) / pl.col("asked")).to_numpy()
    if numbers.size:
        plot.imshow(shares, cmap="Blues", vmin=0, vmax=1.6, aspect="auto")
    for row, column in zip(*numbers.nonzero(), strict=True):
        number = f"{numbers[row, column]:,}"
        plot.text(column, row, number, ha="center", va="center", fontsize=8)
    named = [name.replace("_", "\n") for name in outcomes]
    plot.set_xticks(range(len(outcomes)), named, fontsize=8)
    if len(outcomes) > MOST_UPRIGHT:
        plot.tick_params("x", rotation=40)
    plot.set_yticks(range(counts.height), [_label(value) for value in counts["value"]], fontsize=8)
    for written in plot.get_yticklabels():
        # Catalog text, drawn letter by letter: no formulas.
        written.set_parse_math(False)
    return as_markdown(figure, f"outcomes by {dimension}")


def data_curve(rows: pl.DataFrame) -> str:
    """Strict accuracy by share of the training data, as markdown; a line a study and set."""
    figure, plot = axes()
    for (study, subset), own in rows.group_by("study", "subset", maintain_order=True):
        spread = [
            (own["value"] - own["low"]).clip(0).to_list(),
            (own["high"] - own["value"]).clip(0).to_list(),
        ]
        plot.errorbar(
            own["data_fraction"],
            own["value"],
            spread,
            fmt="o-",
            capsize=3,
            label=f"{study}: {subset}",
        )
    plot.set(xlabel="share of the training rows", ylabel="strict accuracy", ylim=(0, 1.02))
    figure.legend(**_BELOW)
    return as_markdown(figure, "strict accuracy by share of the training data")


def _label(text: str) -> str:
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(printable.split())[:40]


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

"""Plotly figures over a number: loss by step and token, accuracy by data, accuracy by cost."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from retail_assistant.evaluation.comparison import Comparison
from retail_assistant.evaluation.figures import (
    HEIGHT,
    SUBSET_LABELS,
    Plot,
    axis_title,
    error_bars,
    layout,
    plain,
    variant_colours,
)
from retail_assistant.evaluation.pareto import COSTS

CURVES_SCHEMA = pl.Schema(
    {
        "variant": pl.String,
        "step": pl.Int64,
        "tokens": pl.Int64,
        "loss": pl.Float64,
        "eval_loss": pl.Float64,
    }
)
_AXES = {"step": "optimizer step", "tokens": "tokens trained on"}
_OTHER_COLOUR = "#7a8594"
_LEGEND_BELOW = 0.36


def training_curves(histories: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """CURVES from trainings' histories, by variant; rows without a loss are left out."""
    frames = [
        history.select(
            pl.lit(variant).alias("variant"),
            *(
                (pl.col(name) if name in history.columns else pl.lit(None)).cast(kind).alias(name)
                for name, kind in CURVES_SCHEMA.items()
                if name != "variant"
            ),
        )
        for variant, history in sorted(histories.items())
    ]
    joined = pl.concat([pl.DataFrame(schema=CURVES_SCHEMA), *frames])
    return joined.filter(pl.col("loss").is_not_null() | pl.col("eval_loss").is_not_null())


def loss_plot(comparison: Comparison, curves: pl.DataFrame | None, axis: str) -> Plot | None:
    """Training loss (line) and validation loss (dotted, with points) by `step` or `tokens`."""
    import plotly.graph_objects as go

    rows = curves.drop_nulls(axis) if curves is not None else pl.DataFrame(schema=CURVES_SCHEMA)
    if not rows.height:
        return None
    colours = variant_colours(comparison)
    figure = go.Figure()
    for variant, own in sorted(rows.partition_by("variant", as_dict=True).items()):
        name = str(variant[0])
        colour = colours.get(name, _OTHER_COLOUR)
        for loss in ("loss", "eval_loss"):
            points = own.drop_nulls(loss).sort(axis)
            if points.height:
                figure.add_trace(_line(name, colour, points, axis, loss))
    figure.update_layout(**layout(HEIGHT, legend_below=_LEGEND_BELOW))
    figure.update_xaxes(title=axis_title(_AXES[axis]), rangemode="tozero")
    figure.update_yaxes(title=axis_title("loss"), rangemode="tozero")
    note = "Over the answers' tokens. Lines: training; dotted, with points: validation."
    return Plot(f"loss-{axis}", f"Loss by {_AXES[axis]}", note, figure)


def _line(name: str, colour: str, points: pl.DataFrame, axis: str, loss: str) -> Any:
    import plotly.graph_objects as go

    validation = loss == "eval_loss"
    return go.Scatter(
        name=plain(f"{name}, validation" if validation else name),
        legendgroup=name,
        showlegend=not validation,
        x=points[axis].to_list(),
        y=points[loss].to_list(),
        mode="lines+markers" if validation else "lines",
        line={"color": colour, "width": 2, "dash": "dot" if validation else "solid"},
        marker={"size": 7},
        hovertemplate="%{x:,}: %{y:.4f}<extra>%{fullData.name}</extra>",
    )


def data_rows(comparison: Comparison) -> pl.DataFrame:
    """Strict accuracy of the jobs of each study that varies the share of training data.

    Columns: study, variant, data_fraction, subset, value, low, high, numerator, denominator.
    """
    varied = comparison.models.drop_nulls("data_fraction").filter(
        pl.col("data_fraction").n_unique().over("study") > 1
    )
    accuracy = comparison.summary.filter(
        (pl.col("metric") == "strict_accuracy") & pl.col("value").is_not_null()
    )
    return (
        varied.select("study", "variant", "data_fraction")
        .join(accuracy, on="variant")
        .select(
            "study", "variant", "data_fraction", "subset",
            "value", "low", "high", "numerator", "denominator",
        )
        .sort("study", "subset", "data_fraction", "variant")
    )  # fmt: skip


def data_plot(comparison: Comparison) -> Plot | None:
    """Strict accuracy by share of the training data, a line a study and set, with intervals."""
    import plotly.graph_objects as go

    rows = data_rows(comparison)
    if not rows.height:
        return None
    figure = go.Figure()
    for (study, subset), own in rows.group_by("study", "subset", maintain_order=True):
        named = SUBSET_LABELS.get(str(subset), str(subset))
        figure.add_trace(
            go.Scatter(
                name=plain(f"{study}: {named}"),
                x=own["data_fraction"].to_list(),
                y=own["value"].to_list(),
                text=[plain(variant) for variant in own["variant"]],
                error_y=error_bars(own.to_dicts()),
                mode="lines+markers",
                marker={"size": 9},
                hovertemplate="%{text}: %{y:.1%} with %{x:.0%} of the data<extra></extra>",
            )
        )
    figure.update_layout(**layout(HEIGHT, legend_below=_LEGEND_BELOW))
    figure.update_xaxes(
        title=axis_title("share of the training rows"), tickformat=".0%", rangemode="tozero"
    )
    figure.update_yaxes(range=[-0.04, 1.08], tickformat=".0%")
    note = "Strict accuracy of jobs that differ in how much they were trained on."
    return Plot("data", "Accuracy by training data", note, figure)


def pareto_plots(comparison: Comparison) -> list[Plot]:
    """Strict accuracy on unseen against training cost and latency, the Pareto front marked.

    Training is counted in seconds; in tokens where no seconds were measured.
    """
    measured = set(comparison.pareto["cost"])
    trained = next((c for c in ("train_seconds", "train_tokens") if c in measured), None)
    wanted = [cost for cost in (trained, "seconds_per_question") if cost in measured]
    return [_pareto_plot(comparison, str(cost)) for cost in wanted]


def _pareto_plot(comparison: Comparison, cost: str) -> Plot:
    import plotly.graph_objects as go

    rows = comparison.pareto.filter(cost=cost).sort("spent", "accuracy")
    front = rows.filter("on_front").unique("spent", keep="last").sort("spent")
    figure, colours = go.Figure(), variant_colours(comparison)
    figure.add_trace(
        go.Scatter(
            name="Pareto front",
            x=front["spent"].to_list(),
            y=front["accuracy"].to_list(),
            mode="lines",
            line={"color": _OTHER_COLOUR, "width": 1.5, "dash": "dash", "shape": "hv"},
            hoverinfo="skip",
        )
    )
    for row in rows.to_dicts():
        figure.add_trace(_pareto_point(row, colours.get(row["variant"], _OTHER_COLOUR)))
    figure.update_layout(**layout(HEIGHT, legend_below=_LEGEND_BELOW))
    figure.update_xaxes(title=axis_title(COSTS[cost]), rangemode="tozero")
    figure.update_yaxes(range=[-0.04, 1.08], tickformat=".0%")
    title = "Accuracy against answering time"
    if cost != "seconds_per_question":
        title = "Accuracy against training cost"
    note = "Strict accuracy on unseen products. Filled: no other is as right for as little."
    return Plot(f"pareto-{cost}", title, note, figure)


def _pareto_point(row: Mapping[str, Any], colour: str) -> Any:
    import plotly.graph_objects as go

    accuracy = {"value": row["accuracy"], "low": row["low"], "high": row["high"]}
    return go.Scatter(
        name=plain(row["variant"]),
        x=[row["spent"]],
        y=[row["accuracy"]],
        error_y=error_bars([accuracy]),
        mode="markers",
        marker={
            "color": colour,
            "size": 13,
            "symbol": "circle" if row["on_front"] else "circle-open",
            "line": {"width": 2.5, "color": colour},
        },
        hovertemplate="%{y:.1%} for %{x:,.4~g}<extra>%{fullData.name}</extra>",
    )

"""Plotly figures of a comparison: bars with intervals, outcomes, loss, accuracy against cost.

Figures carry no background or font colour: the report's page sets them, light or dark.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from retail_assistant.evaluation.comparison import Comparison

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SUBSET_LABELS = {
    "recall": "Recall: trained facts",
    "unseen": "Unseen products",
    "unanswerable": "Unanswerable",
    "all": "All questions",
}
OUTCOME_COLOURS = {
    "true_positive": "#3f9c75",
    "abstained_right": "#3f9c75",
    "wrong_value": "#d9733f",
    "wrong_product": "#c4524e",
    "invented_product": "#8e3b63",
    "answered_unanswerable": "#c4524e",
    "refused": "#8d97a5",
    "no_details": "#bac1cb",
}
_JOB_COLOURS = ("#3b7dd8", "#e0913c", "#3f9c75", "#a868b5", "#c2a227", "#4aa5b0", "#d0605e")
_BASELINE_COLOURS = ("#98a1ae", "#c3c9d2", "#75808f", "#aab6c4")
_BAR_HEIGHT, _ROW_HEIGHT = 330, 42


class Plot(NamedTuple):
    """A figure with what a reader needs beside it."""

    id: str
    title: str
    note: str
    figure: "Figure"


def ordered_variants(comparison: Comparison) -> list[str]:
    """Baselines, then jobs by strict accuracy on unseen products, the best one last."""

    def accuracy(variant: str) -> float:
        row = comparison.metric(variant, "strict_accuracy", "unseen")
        return row["value"] if row else -1.0

    jobs = set(comparison.tests["variant"])
    by_accuracy = sorted(comparison.variants, key=lambda variant: (accuracy(variant), variant))
    baselines = sorted(variant for variant in comparison.variants if variant not in jobs)
    return baselines + [variant for variant in by_accuracy if variant in jobs]


def variant_colours(comparison: Comparison) -> dict[str, str]:
    """A colour a variant: grey for what was not compared with a baseline, colours for jobs."""
    jobs = set(comparison.tests["variant"])
    ordered = ordered_variants(comparison)
    plain = [variant for variant in ordered if variant not in jobs]
    tested = sorted(variant for variant in ordered if variant in jobs)
    greys = {v: _BASELINE_COLOURS[i % len(_BASELINE_COLOURS)] for i, v in enumerate(plain)}
    return greys | {v: _JOB_COLOURS[i % len(_JOB_COLOURS)] for i, v in enumerate(tested)}


def comparison_plots(comparison: Comparison, loss_curves: pl.DataFrame | None = None) -> list[Plot]:
    """All plots that the comparison has numbers for, in reading order.

    `loss_curves`: columns step, loss, job.
    """
    makers: Sequence[Callable[[], Plot | None]] = (
        lambda: _accuracy_plot(comparison),
        lambda: _precision_plot(comparison),
        lambda: _outcome_plot(comparison),
        lambda: _overview_plot(comparison),
        lambda: _abstention_plot(comparison),
        lambda: _hallucination_plot(comparison),
        lambda: _loss_plot(comparison, loss_curves),
        lambda: _cost_plot(comparison),
    )
    return [plot for make in makers if (plot := make()) is not None]


def _accuracy_plot(comparison: Comparison) -> Plot | None:
    bars = [(SUBSET_LABELS[subset], "strict_accuracy", subset) for subset in ("recall", "unseen")]
    note = "Right product and right value, of all attribute questions of the set."
    return _bar_plot(comparison, "accuracy", "Strict accuracy", note, bars)


def _precision_plot(comparison: Comparison) -> Plot | None:
    bars = [(SUBSET_LABELS[subset], "strict_precision", subset) for subset in ("recall", "unseen")]
    note = "Right answers, of the answers that state a value or another product."
    return _bar_plot(comparison, "precision", "Strict precision", note, bars)


def _overview_plot(comparison: Comparison) -> Plot | None:
    metrics = ("attribute_precision", "attribute_recall", "attribute_f1")
    bars = [(name.removeprefix("attribute_").capitalize(), name, "unseen") for name in metrics]
    bars[-1] = ("F1", "attribute_f1", "unseen")
    note = "Attributes that overviews of unseen products state, against the record."
    return _bar_plot(comparison, "overview", "Overviews: attributes stated", note, bars)


def _abstention_plot(comparison: Comparison) -> Plot | None:
    bars = [
        ("Recall", "abstention_recall", "unanswerable"),
        ("Precision", "abstention_precision", "all"),
    ]
    note = "Recall: unanswerable questions not answered. Precision: abstentions that were right."
    return _bar_plot(comparison, "abstention", "Abstention", note, bars)


def _hallucination_plot(comparison: Comparison) -> Plot | None:
    subsets = ("recall", "unseen", "unanswerable", "all")
    bars = [(name.capitalize(), "hallucinated_product_rate", name) for name in subsets]
    note = "Answers that speak of a product that no catalog has. Lower is better."
    return _bar_plot(comparison, "hallucination", "Hallucinated products", note, bars)


def _bar_plot(
    comparison: Comparison, name: str, title: str, note: str, bars: Sequence[tuple[str, str, str]]
) -> Plot | None:
    """Grouped bars with intervals: one group a (label, metric, subset), one bar a variant."""
    import plotly.graph_objects as go

    colours = variant_colours(comparison)
    figure = go.Figure()
    for variant in ordered_variants(comparison):
        found = [(label, comparison.metric(variant, m, subset)) for label, m, subset in bars]
        rows = [(label, row) for label, row in found if row is not None]
        if rows:
            figure.add_trace(_bar(variant, colours[variant], rows))
    if not figure.data:
        return None
    figure.update_layout(**_layout(_BAR_HEIGHT), barmode="group", bargap=0.28, bargroupgap=0.12)
    figure.update_xaxes(showgrid=False, tickangle=0)
    figure.update_yaxes(range=[0, 1.12], tickformat=".0%", tickvals=[0, 0.25, 0.5, 0.75, 1])
    return Plot(name, title, note, figure)


def _bar(variant: str, colour: str, rows: Sequence[tuple[str, dict[str, Any]]]) -> Any:
    import plotly.graph_objects as go

    return go.Bar(
        name=_plain(variant),
        x=[label for label, _ in rows],
        y=[row["value"] for _, row in rows],
        marker={"color": colour, "cornerradius": 3},
        error_y=_error_bars([row for _, row in rows]),
        customdata=[
            [row["low"], row["high"], row["numerator"], row["denominator"]] for _, row in rows
        ],
        hovertemplate="%{y:.1%} [%{customdata[0]:.1%}, %{customdata[1]:.1%}]<br>"
        "%{customdata[2]} of %{customdata[3]}<extra>%{fullData.name}</extra>",
    )


def _error_bars(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [max(0.0, row["high"] - row["value"]) for row in rows],
        "arrayminus": [max(0.0, row["value"] - row["low"]) for row in rows],
        "thickness": 1.2,
        "width": 4,
        "color": "#7a8594",
    }


def _outcome_plot(comparison: Comparison) -> Plot | None:
    """Stacked bars: what became of the attribute and unanswerable questions of each set."""
    import plotly.graph_objects as go

    counted = comparison.outcomes.filter(pl.col("intent").is_in(["attribute", "unanswerable"]))
    if not counted.height:
        return None
    shares = counted.with_columns(share=pl.col("questions") / pl.sum("questions").over(_ROW_KEYS))
    subsets = [name for name in SUBSET_LABELS if name in set(counted["subset"])]
    order = [(v, subset) for subset in subsets for v in ordered_variants(comparison)[::-1]]
    known = {(r["variant"], r["subset"], r["outcome"]): r for r in shares.iter_rows(named=True)}
    figure = go.Figure()
    for outcome, colour in OUTCOME_COLOURS.items():
        rows = [known.get((variant, subset, outcome)) for variant, subset in order]
        if any(rows):
            figure.add_trace(_outcome_bar(outcome, colour, rows))
    height = 90 + _ROW_HEIGHT * len(order)
    figure.update_layout(**_layout(height, legend_below=30 / height), barmode="stack", bargap=0.55)
    figure.update_layout(margin={"l": 10, "r": 14}, annotations=_row_labels(order))
    figure.update_xaxes(range=[0, 1], tickformat=".0%")
    figure.update_yaxes(range=[len(order) - 0.5, -0.8], visible=False)
    note = "Every attribute and unanswerable question of each set, by what became of it."
    return Plot("outcomes", "What became of the questions", note, figure)


_ROW_KEYS = ["variant", "subset"]


def _outcome_bar(outcome: str, colour: str, rows: Sequence[dict[str, Any] | None]) -> Any:
    import plotly.graph_objects as go

    return go.Bar(
        orientation="h",
        name=outcome.replace("_", " "),
        y=list(range(len(rows))),
        x=[row["share"] if row else 0 for row in rows],
        customdata=[row["questions"] if row else 0 for row in rows],
        marker={"color": colour},
        hovertemplate="%{x:.1%} (%{customdata})<extra>%{fullData.name}</extra>",
    )


def _row_labels(order: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Labels above the bars: beside them they would take a phone's whole width."""
    return [
        {
            "text": f"<b>{_plain(subset)}</b> \u00b7 {_plain(variant)}",
            "x": 0,
            "y": position,
            "yshift": 17,
            "xanchor": "left",
            "showarrow": False,
        }
        for position, (variant, subset) in enumerate(order)
    ]


def _loss_plot(comparison: Comparison, loss_curves: pl.DataFrame | None) -> Plot | None:
    import plotly.graph_objects as go

    if loss_curves is None or not loss_curves.height:
        return None
    colours = variant_colours(comparison)
    figure = go.Figure()
    for i, (key, curve) in enumerate(sorted(loss_curves.partition_by("job", as_dict=True).items())):
        job, points = str(key[0]), curve.sort("step")
        figure.add_trace(
            go.Scatter(
                name=_plain(job),
                x=points["step"].to_list(),
                y=points["loss"].to_list(),
                mode="lines",
                line={"color": colours.get(job, _JOB_COLOURS[i % len(_JOB_COLOURS)]), "width": 2},
            )
        )
    figure.update_layout(**_layout(_BAR_HEIGHT, legend_below=0.32))
    figure.update_xaxes(title="optimizer step")
    figure.update_yaxes(title="loss", rangemode="tozero")
    return Plot("loss", "Training loss", "Loss over the answers' tokens.", figure)


_COST_AXES = (("train_tokens", "tokens trained"), ("train_seconds", "seconds of training"))


def _cost_plot(comparison: Comparison) -> Plot | None:
    """Strict accuracy on unseen against the cost of training, where that was measured."""
    import plotly.graph_objects as go

    columns = comparison.costs.columns
    axis = next(((c, t) for c, t in _COST_AXES if c in columns), None)
    if axis is None:
        return None
    figure, colours = go.Figure(), variant_colours(comparison)
    for variant, cost in comparison.costs.select("variant", axis[0]).drop_nulls().iter_rows():
        row = comparison.metric(variant, "strict_accuracy", "unseen")
        if row is not None:
            figure.add_trace(
                go.Scatter(
                    name=_plain(variant),
                    x=[cost],
                    y=[row["value"]],
                    error_y=_error_bars([row]),
                    mode="markers",
                    marker={"color": colours[variant], "size": 13},
                )
            )
    if not figure.data:
        return None
    figure.update_layout(**_layout(_BAR_HEIGHT, legend_below=0.32))
    figure.update_xaxes(title=axis[1], rangemode="tozero")
    figure.update_yaxes(range=[0, 1.08], tickformat=".0%")
    note = "Strict accuracy on unseen products, with its interval."
    return Plot("cost", "Accuracy against training cost", note, figure)


def _layout(height: int, *, legend_below: float = 0.16) -> dict[str, Any]:
    return {
        "template": "none",
        "height": height,
        "margin": {"l": 48, "r": 12, "t": 8, "b": 40},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": True,
        "legend": {
            "orientation": "h",
            "traceorder": "normal",
            "y": -legend_below,
            "yanchor": "top",
            "x": 0,
        },
        "hoverlabel": {"align": "left"},
    }


def _plain(text: str) -> str:
    """A name as plotly shows it: it reads a little HTML, so brackets are written as entities."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

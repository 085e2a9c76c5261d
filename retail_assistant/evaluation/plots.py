"""Plotly figures of a comparison: bars with intervals, outcomes; curves and costs beside them."""

from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

from retail_assistant.evaluation.comparison import Comparison
from retail_assistant.evaluation.curve_plots import data_plot, loss_plot, pareto_plots
from retail_assistant.evaluation.figures import (
    HEIGHT,
    SUBSET_LABELS,
    Plot,
    error_bars,
    layout,
    ordered_variants,
    plain,
    variant_colours,
)

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
_ROW_HEIGHT = 42


def comparison_plots(comparison: Comparison, curves: pl.DataFrame | None = None) -> list[Plot]:
    """All plots that the comparison has numbers for, in reading order.

    `curves`: CURVES, as `curve_plots.training_curves` makes them.
    """
    makers: Sequence[Callable[[], Plot | None]] = (
        lambda: _accuracy_plot(comparison),
        lambda: _precision_plot(comparison),
        lambda: _outcome_plot(comparison),
        lambda: _overview_plot(comparison),
        lambda: _abstention_plot(comparison),
        lambda: _hallucination_plot(comparison),
        lambda: loss_plot(comparison, curves, "step"),
        lambda: loss_plot(comparison, curves, "tokens"),
        lambda: data_plot(comparison),
    )
    found = [plot for make in makers if (plot := make()) is not None]
    return found + pareto_plots(comparison)


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
    figure.update_layout(**layout(HEIGHT), barmode="group", bargap=0.28, bargroupgap=0.12)
    # As given: a first variant that lacks a group would put it last.
    groups = [label for label, _, _ in bars]
    figure.update_xaxes(showgrid=False, tickangle=0, categoryorder="array", categoryarray=groups)
    figure.update_yaxes(range=[0, 1.12], tickformat=".0%", tickvals=[0, 0.25, 0.5, 0.75, 1])
    return Plot(name, title, note, figure)


def _bar(variant: str, colour: str, rows: Sequence[tuple[str, dict[str, Any]]]) -> Any:
    import plotly.graph_objects as go

    return go.Bar(
        name=plain(variant),
        x=[label for label, _ in rows],
        y=[row["value"] for _, row in rows],
        marker={"color": colour, "cornerradius": 3},
        error_y=error_bars([row for _, row in rows]),
        customdata=[
            [row["low"], row["high"], row["numerator"], row["denominator"]] for _, row in rows
        ],
        hovertemplate="%{y:.1%} [%{customdata[0]:.1%}, %{customdata[1]:.1%}]<br>"
        "%{customdata[2]} of %{customdata[3]}<extra>%{fullData.name}</extra>",
    )


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
    figure.update_layout(**layout(height, legend_below=30 / height), barmode="stack", bargap=0.55)
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
            "text": f"<b>{plain(subset)}</b> \u00b7 {plain(variant)}",
            "x": 0,
            "y": position,
            "yshift": 17,
            "xanchor": "left",
            "showarrow": False,
        }
        for position, (variant, subset) in enumerate(order)
    ]

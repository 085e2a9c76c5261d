"""What all plots of a comparison share: order and colours of variants, layout, error bars.

Figures carry no background or font colour: the report's page sets them, light or dark.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from retail_assistant.evaluation.comparison import Comparison

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SUBSET_LABELS = {
    "recall": "Recall: trained facts",
    "unseen": "Unseen products",
    "unanswerable": "Unanswerable",
    "all": "All questions",
}
HEIGHT = 330
_JOB_COLOURS = ("#3b7dd8", "#e0913c", "#3f9c75", "#a868b5", "#c2a227", "#4aa5b0", "#d0605e")
_BASELINE_COLOURS = ("#98a1ae", "#c3c9d2", "#75808f", "#aab6c4")


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
    without = [variant for variant in ordered if variant not in jobs]
    tested = sorted(variant for variant in ordered if variant in jobs)
    greys = {v: _BASELINE_COLOURS[i % len(_BASELINE_COLOURS)] for i, v in enumerate(without)}
    return greys | {v: _JOB_COLOURS[i % len(_JOB_COLOURS)] for i, v in enumerate(tested)}


def error_bars(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The intervals of rows with value, low and high, as plotly draws them."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [max(0.0, row["high"] - row["value"]) for row in rows],
        "arrayminus": [max(0.0, row["value"] - row["low"]) for row in rows],
        "thickness": 1.2,
        "width": 4,
        "color": "#7a8594",
    }


def layout(height: int, *, legend_below: float = 0.16) -> dict[str, Any]:
    """A plain layout of that height (pixels), its legend so far below (share of the height)."""
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


def plain(text: str) -> str:
    """A name as plotly shows it: it reads a little HTML, so brackets are written as entities."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def axis_title(text: str) -> dict[str, Any]:
    """An axis' title, no larger than the rest and close to its axis."""
    return {"text": plain(text), "font": {"size": 12}, "standoff": 6}

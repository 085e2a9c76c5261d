"""A comparison as one self-contained HTML page: tables, plots, every answer."""

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from retail_assistant.evaluation.comparison import SHOWN_CHARACTERS, Comparison
from retail_assistant.evaluation.embedded import MOST_CHARACTERS, embedded_answers
from retail_assistant.evaluation.figures import SUBSET_LABELS, ordered_variants, variant_colours
from retail_assistant.evaluation.pareto import COSTS
from retail_assistant.evaluation.plots import comparison_plots
from retail_assistant.evaluation.report import (
    FOOTNOTES,
    headline,
    missing_by_reason,
    p_value,
    percent,
    quantity,
    shown_metrics,
)

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"
TESTS_USED = (
    (
        "right or not (attribute, unanswerable)",
        "yes/no of each question",
        "exact McNemar; interval of the difference by bootstrap over products",
        "variants, for each set and reference (baseline, champion)",
    ),
    (
        "strict precision; attribute precision, recall and F1; valid share of alternatives and of"
        " complements; SemScore and truthfulness where they were measured",
        "a ratio of sums over what answers state, or a mean score",
        "paired bootstrap over products: interval and p",
        "variants, for each set, metric and reference",
    ),
)
"""Metric, what it is, its test, and over what Holm's adjustment runs."""


def render_html(
    comparison: Comparison,
    *,
    title: str,
    curves: pl.DataFrame | None = None,
    footnotes: Sequence[str] = (),
    most_characters: int = MOST_CHARACTERS,
) -> str:
    """One HTML file with tables, plots and answers that makes no request to anywhere.

    plotly.js is inlined once; a content security policy refuses everything external and every
    script but the page's own, by their hashes. All text is escaped: catalog and model text is
    untrusted. `curves`: CURVES, of the trainings. `footnotes` follow those about method. Texts of
    answers beyond `most_characters` are left out, and the page says so.
    """
    plots = comparison_plots(comparison, curves)
    variants, colours = ordered_variants(comparison), variant_colours(comparison)
    scripts = _scripts()
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=title,
            headline=headline(comparison),
            comparison=comparison,
            variants=variants,
            colours=colours,
            key_metrics=shown_metrics(comparison),
            subset_labels=SUBSET_LABELS,
            plots=plots,
            figures={plot.id: json.loads(plot.figure.to_json()) for plot in plots},
            summary_rows=comparison.summary.to_dicts(),
            test_rows=comparison.tests.to_dicts(),
            champion_rows=comparison.champion_tests.to_dicts(),
            difference_rows=comparison.differences.to_dicts(),
            tests_used=TESTS_USED,
            cost_columns=[name for name in comparison.costs.columns if name != "variant"],
            cost_rows=comparison.costs.to_dicts(),
            cost_labels=COSTS,
            pareto_rows=comparison.pareto.to_dicts(),
            missing=missing_by_reason(comparison),
            embedded=embedded_answers(
                comparison, variants, colours, most_characters=most_characters
            ),
            shown_characters=f"{SHOWN_CHARACTERS:,}",
            footnotes=[*FOOTNOTES, *footnotes],
            css=(_TEMPLATES / "report.css").read_text(),
            scripts=scripts,
            script_sources=" ".join(map(_source, scripts)),
        )
    )


def _scripts() -> list[str]:
    from plotly.offline import get_plotlyjs

    own = [(_TEMPLATES / name).read_text() for name in ("plots.js", "answers.js")]
    return [get_plotlyjs(), *own]


def _source(script: str) -> str:
    """A script as a content security policy names it, by the hash of its text."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "p_value": p_value, "quantity": quantity}
    return environment

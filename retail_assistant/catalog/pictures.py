"""Plots of a catalog for the Dagster UI: PNG images inside markdown, no scripts and no requests.

Catalog text in them is drawn letter by letter: no formulas, no markup, no control characters.
"""

import base64
import io
import warnings
from typing import Any, Literal

import polars as pl

WIDTH, HEIGHT = 7.0, 3.2

_ROW = 0.24  # inches that a bar takes
_MARGIN = 0.9
_LABEL_CHARACTERS = 48


def axes(
    width: float = WIDTH, height: float = HEIGHT, grid: Literal["x", "y"] = "y"
) -> tuple[Any, Any]:
    """Return an empty figure of that size (inches) and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    drawn = figure.subplots()
    drawn.spines[["top", "right"]].set_visible(False)
    drawn.grid(axis=grid, alpha=0.3)
    drawn.set_axisbelow(True)
    return figure, drawn


def as_markdown(figure: Any, words: str) -> str:
    """Return ``figure`` as a markdown image; ``words`` (ours, not the catalog's) describe it."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box; that is no news to anybody.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format="png", dpi=110)
    return f"![{words}](data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()})"


def bars(frame: pl.DataFrame, label: str, value: str, words: str, most: int = 30) -> str:
    """Return the first ``most`` rows as horizontal bars, as markdown; the rest is counted."""
    shown = frame.head(most)
    figure, drawn = axes(height=_MARGIN + _ROW * max(1, shown.height), grid="x")
    drawn.barh(range(shown.height), shown[value].to_list(), height=0.7)
    _label(drawn, shown[label].to_list())
    more = frame.height - shown.height
    drawn.set_xlabel(f"{words}, {more} more not shown" if more else words)
    return as_markdown(figure, words)


def histogram(frame: pl.DataFrame, low: str, high: str, value: str, words: str) -> str:
    """Return the bins ``low`` to ``high`` (above 0) on a logarithmic scale, as markdown."""
    from matplotlib.ticker import LogLocator, NullFormatter

    figure, drawn = axes()
    widths = (frame[high] - frame[low]).to_list()
    drawn.bar(frame[low].to_list(), frame[value].to_list(), widths, align="edge")
    drawn.set(xlabel=words, ylabel=value)
    drawn.yaxis.set_major_formatter("{x:,.0f}")
    if frame.height:
        drawn.set_xscale("log")
        drawn.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        drawn.xaxis.set_major_formatter("{x:,.0f}")
        drawn.xaxis.set_minor_formatter(NullFormatter())
    return as_markdown(figure, words)


def waterfall(frame: pl.DataFrame, label: str, change: str, left: str, words: str) -> str:
    """Return what each step took away (``change`` up to 0) or what is left (null), as markdown."""
    figure, drawn = axes(height=_MARGIN + _ROW * max(1, frame.height), grid="x")
    for position, row in enumerate(frame.iter_rows(named=True)):
        taken = row[change]
        if taken is None:
            drawn.barh(position, row[left], height=0.7, color="tab:blue")
        else:
            drawn.barh(position, -taken, left=row[left], height=0.7, color="tab:red")
        number = f" {row[left] if taken is None else taken:,}"
        drawn.text(row[left] - (taken or 0), position, number, va="center", fontsize=8)
    _label(drawn, frame[label].to_list())
    drawn.margins(x=0.15)
    drawn.set_xlabel(words)
    return as_markdown(figure, words)


def _label(drawn: Any, texts: list[str | None]) -> None:
    drawn.set_yticks(range(len(texts)), [_plain(text) for text in texts], fontsize=8)
    for written in drawn.get_yticklabels():
        written.set_parse_math(False)
    drawn.invert_yaxis()
    drawn.locator_params(axis="x", nbins=5)
    drawn.xaxis.set_major_formatter(_number)


def _number(value: float, _position: int) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def _plain(text: str | None) -> str:
    printable = "".join(letter if letter.isprintable() else " " for letter in text or "")
    tidy = " ".join(printable.split()) or "(none)"
    return tidy if len(tidy) <= _LABEL_CHARACTERS else tidy[: _LABEL_CHARACTERS - 1] + "…"

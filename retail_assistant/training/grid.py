"""A grid of jobs: every combination of a few values, each with a readable name."""

import itertools
import math
import string
from collections.abc import Mapping
from typing import Any

Axis = list[Any] | dict[str, dict[str, Any]]
"""Values of one field, or named groups of fields that change together."""

MOST_JOBS = 256


class GridError(ValueError):
    """A grid or its name pattern is wrong; the message says what and what is allowed."""


def expand_grid(
    grid: Mapping[str, Axis], study: str, pattern: str | None = None
) -> dict[str, dict[str, Any]]:
    """Job name -> values, the last axis changing fastest.

    An axis is a field with a list of values (`lora_r: [8, 16]`), or a word of your own with groups
    of fields that go together (`adapter: {r8: {lora_r: 8, lora_alpha: 16}, r16: ...}`). A name is
    the study's and the short values joined by `-`, or made by `pattern`, such as
    `tuned-r{lora_r}-{adapter}`.

    Raises:
        GridError: an empty axis, a field on two axes, an unknown word in the pattern, two
            combinations of one name, or more than 256 combinations.
    """
    _check_axes(grid)
    names = pattern or "-".join([study, *(f"{{{axis}}}" for axis in grid)])
    _check_pattern(names, grid)
    jobs: dict[str, dict[str, Any]] = {}
    for choice in itertools.product(*(_settings(axis, values) for axis, values in grid.items())):
        labels = {axis: label for axis, (label, _) in zip(grid, choice, strict=True)}
        name = names.format_map(labels)
        if name in jobs:
            raise GridError(
                f"name={names!r}: two combinations of the grid are named {name!r};"
                f" allowed: a pattern with all of {_words(grid)}"
            )
        jobs[name] = {key: value for _, values in choice for key, value in values.items()}
    return jobs


def read_axis(axis: str, given: Any) -> Axis:
    """An axis as a file has it; a union's own messages would name every alternative.

    Raises:
        GridError: it is neither a list of values nor names with fields.
    """
    if isinstance(given, list):
        return given
    if isinstance(given, dict) and all(isinstance(fields, dict) for fields in given.values()):
        return {str(name): fields for name, fields in given.items()}
    raise GridError(
        f"{axis}={given!r}; allowed: a list of values, or names with fields and values each"
    )


def short(value: Any) -> str:
    """A value as a part of a job's name: `2e-4`, `q-v`, `all-linear`, `on`."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return "-".join(short(item) for item in value)
    if isinstance(value, float):
        return _short_number(value)
    # YAML 1.1 reads 2e-4 as text, 2.0e-4 as a number; the name is the same.
    text = "none" if value is None else str(value)
    try:
        return _short_number(float(text)) if "e" in text.lower() else text.removesuffix("_proj")
    except ValueError:
        return text.removesuffix("_proj")


def _short_number(value: float) -> str:
    if not math.isfinite(value) or value == 0 or 0.01 <= abs(value) < 10_000:
        return f"{value:g}"
    mantissa, exponent = f"{value:.5e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def _settings(axis: str, values: Axis) -> list[tuple[str, dict[str, Any]]]:
    """(label, fields) of every value of an axis."""
    if isinstance(values, dict):
        return list(values.items())
    return [(short(value), {axis: value}) for value in values]


def _check_axes(grid: Mapping[str, Axis]) -> None:
    seen: dict[str, str] = {}
    for axis, values in grid.items():
        if not values:
            raise GridError(f"grid.{axis} is empty; allowed: at least one value")
        fields = {field for _, given in _settings(axis, values) for field in given}
        for field in fields:
            if field in seen:
                raise GridError(f"grid.{axis}: {field} is on the axis {seen[field]} too")
            seen[field] = axis
    combinations = math.prod(len(values) for values in grid.values())
    if combinations > MOST_JOBS:
        raise GridError(f"grid: {combinations} combinations; allowed: at most {MOST_JOBS}")


def _check_pattern(pattern: str, grid: Mapping[str, Axis]) -> None:
    try:
        used = [part for part in string.Formatter().parse(pattern) if part[1] is not None]
    except ValueError as error:
        raise GridError(f"name={pattern!r}: {error}; allowed: text with {_words(grid)}") from error
    for _, word, form, conversion in used:
        if word not in grid or form or conversion:
            raise GridError(
                f"name={pattern!r}: {{{word}}} is no axis; allowed: {_words(grid)} as they stand"
            )


def _words(grid: Mapping[str, Axis]) -> str:
    return ", ".join(f"{{{axis}}}" for axis in grid)

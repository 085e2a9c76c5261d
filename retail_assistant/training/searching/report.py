"""What a search has found: its trials as a table and a picture, its best job as a study file."""

from collections.abc import Sequence

import polars as pl
import yaml

from retail_assistant.catalog.pictures import as_markdown, axes
from retail_assistant.training.searching.progress import Outcome, RunningSearch
from retail_assistant.training.searching.space import Search

_MEASURES = ("train_seconds", "trainable_parameters", "tokens_per_second")
_DIGITS = 6


def trials_table(search: Search, outcomes: Sequence[Outcome]) -> pl.DataFrame:
    """A row a trial, in order: trial, state, the objective, the best so far, its point, measures.

    Seconds and tokens a second are those of the training; `reason` says why a trial failed.
    """
    losses = pl.Series(search.objective, [one.loss for one in outcomes], pl.Float64)
    columns = [
        pl.Series("trial", [one.trial.key for one in outcomes], pl.String),
        pl.Series("state", [one.state for one in outcomes], pl.String),
        losses,
        losses.cum_min().fill_null(strategy="forward").alias("best_so_far"),
    ]
    # A choice may be a number in one file and a word in another: as text they are one column.
    for name in search.space:
        points = [one.trial.params.get(name) for one in outcomes]
        columns.append(pl.Series(name, [_cell(point) for point in points], pl.String))
    for name in _MEASURES:
        values = [one.metrics.get(name) for one in outcomes]
        columns.append(pl.Series(name, values, pl.Float64, strict=False))
    columns.append(pl.Series("reason", [one.reason for one in outcomes], pl.String))
    return pl.DataFrame(columns)


def _cell(value: object) -> str | None:
    if isinstance(value, float):
        return f"{value:.{_DIGITS}g}"
    return None if value is None else str(value)


def trials_plot(search: Search, table: pl.DataFrame) -> str:
    """Every trial's objective (dots) and the lowest so far (line), as markdown."""
    figure, plot = axes()
    numbered = table.with_row_index("number", offset=1).drop_nulls(search.objective)
    plot.plot(numbered["number"], numbered[search.objective], "o", label="trial")
    plot.step(numbered["number"], numbered["best_so_far"], where="post", label="best so far")
    plot.set(xlabel="trial", ylabel="validation loss")
    plot.legend(frameon=False)
    return as_markdown(figure, f"validation loss of the trials of {search.search}")


def best_study(running: RunningSearch, best: Outcome) -> str:
    """The best trial as a study file.

    Its job has the trial's fingerprint, so that its adapter is there already.
    """
    search = running.search
    name = f"{search.search}-best"
    resources = search.resources.model_dump(mode="json", exclude_unset=True)
    content = {
        "study": name,
        "description": f"The best of {len(running.trials())} trials of the search {search.search}:"
        f" {best.trial.key}, {search.objective} {best.loss:.4f}.",
        "task": search.task,
        **({"base_model": search.base_model} if search.base_model else {}),
        # The number of processes is a part of what identifies an adapter.
        **({"resources": resources} if resources else {}),
        "jobs": {name: search.values(best.trial.params)},
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)

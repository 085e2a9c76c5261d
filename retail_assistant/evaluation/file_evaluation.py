"""`retail-assistant evaluate`: a file of predictions scored by the code of the asset graph."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from retail_assistant.evaluation.archive import read_dialogues, read_frame, read_predictions
from retail_assistant.evaluation.breakdowns import DIMENSIONS, breakdown, strict_beside_loose
from retail_assistant.evaluation.errors import error_counts
from retail_assistant.evaluation.judge import configured_judge, judge_with_settings
from retail_assistant.evaluation.metrics import score, summarize
from retail_assistant.settings import get_settings


@dataclass(frozen=True)
class FileEvaluation:
    """Tables about a file of predictions, and what is to be said of the judge (None: not asked)."""

    metrics: pl.DataFrame
    outcomes: pl.DataFrame
    errors: pl.DataFrame
    beside: pl.DataFrame
    groups: pl.DataFrame | None
    judge: dict[str, Any] | None

    def to_json_dict(self) -> dict[str, Any]:
        """Everything, ready for `json.dumps`."""
        return {
            "metrics": self.metrics.to_dicts(),
            "outcomes": self.outcomes.to_dicts(),
            "errors": self.errors.to_dicts(),
            "strict_beside_loose": self.beside.to_dicts(),
            **({"groups": self.groups.to_dicts()} if self.groups is not None else {}),
            "judge": self.judge,
        }


def evaluate_files(
    dialogues: Path,
    predictions: Path,
    products: Path | None,
    *,
    by: str | None = None,
    sem_score: bool = False,
    judge: bool = False,
    judge_sheet: Path | None = None,
) -> FileEvaluation:
    """Score a file of predictions.

    Raises:
        ValueError: a file or an option cannot be used, or they do not go together.
    """
    if by is not None and by not in DIMENSIONS:
        raise ValueError(f"--by {by}; allowed: {', '.join(DIMENSIONS)}")
    asked, answers = read_dialogues(dialogues), _with_numbers(predictions)
    catalog = read_frame(products) if products else None
    # Before anything is asked or embedded: what cannot be scored is told at once.
    scored = score(asked, answers, catalog)
    facts: dict[str, Any] | None = None
    if judge:
        answers, facts = _judged(asked, answers, catalog, judge_sheet)
    if sem_score:
        from retail_assistant.evaluation.semantic import with_sem_scores

        answers = with_sem_scores(answers.drop("sem_score", strict=False), asked)
    if judge or sem_score:
        scored = score(asked, answers, catalog)
    seed = get_settings().seed
    keys = ["variant", "subset", "outcome"]
    return FileEvaluation(
        metrics=summarize(scored, seed=seed),
        outcomes=scored.group_by(keys).len("questions").sort(keys),
        errors=error_counts(scored),
        beside=strict_beside_loose(scored),
        groups=breakdown(scored, by, seed=seed) if by else None,  # type: ignore[arg-type]
        judge=facts,
    )


def _with_numbers(path: Path) -> pl.DataFrame:
    """Predictions of a file; a CSV's numbers are text."""
    answers = read_predictions(path)
    measured = [name for name in ("sem_score", "truthfulness") if name in answers.columns]
    try:
        return answers.with_columns(pl.col(measured).cast(pl.Float64))
    except pl.exceptions.PolarsError as error:
        raise ValueError(
            f"{path}: {' or '.join(measured)} is no number; allowed: a number, or nothing"
        ) from error


def _judged(
    asked: pl.DataFrame, answers: pl.DataFrame, catalog: pl.DataFrame | None, sheet: Path | None
) -> tuple[pl.DataFrame, dict[str, Any]]:
    choice = configured_judge()
    if choice is None:
        raise ValueError("--judge needs RETAIL_JUDGE_URL and RETAIL_JUDGE_MODEL")
    if catalog is None:
        raise ValueError("--judge needs --products: answers are judged by the catalog's records")
    return judge_with_settings(asked, answers, catalog, choice, sheet=sheet)


def print_evaluation(evaluation: FileEvaluation, console: Console) -> None:
    """Metrics, error classes, the two rules beside each other, and the groups, as tables."""
    measured = evaluation.metrics.drop_nulls("value").to_dicts()
    header = ["variant", "set", "metric", "value", "95% interval", "of"]
    keys = ["variant", "subset", "metric"]
    console.print(_table(None, header, ([*_of(row, keys), *_estimate(row)] for row in measured)))
    header = ["variant", "set", "intent", "error class", "answers"]
    errors = (
        [*_of(row, ["variant", "subset", "intent", "error_class"]), f"{row['answers']}/{row['of']}"]
        for row in evaluation.errors.to_dicts()
    )
    console.print(_table("Error classes", header, errors))
    header = ["variant", "set", "strict", "loose", "questions"]
    beside = (
        [*_of(row, ["variant", "subset", "strict_right", "loose_right", "questions"])]
        for row in evaluation.beside.to_dicts()
    )
    console.print(_table("Attribute questions right, by the strict and loose rule", header, beside))
    if evaluation.groups is not None:
        header = ["group", "variant", "set", "metric", "value", "95% interval", "of"]
        groups = (
            [*_of(row, ["group", *keys]), *_estimate(row)] for row in evaluation.groups.to_dicts()
        )
        console.print(_table("By group", header, groups))
    if evaluation.judge is not None:
        told = "; ".join(f"{name}: {value}" for name, value in evaluation.judge.items())
        console.print(Text(f"Judge: {told}"))


def _of(row: dict[str, Any], names: Sequence[str]) -> list[str]:
    return [str(row[name]) for name in names]


def _estimate(row: dict[str, Any]) -> list[str]:
    """Value, interval, and what it is of: a mean has no numerator."""
    interval = "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
    counted = f"{row['denominator']}"
    of = counted if row["numerator"] is None else f"{row['numerator']}/{counted}"
    return [f"{row['value']:.3f}", interval, of]


def _table(title: str | None, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(*header, title=title, title_justify="left")
    for row in rows:
        # Text, not markup: names come from files.
        table.add_row(*(Text(cell) for cell in row))
    return table

"""`retail-assistant batch`: a file of questions answered by the champion."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

console = Console(width=None if sys.stdout.isatty() else 140)
errors = Console(stderr=True)

SECONDS_BETWEEN_LINES = 5.0


def batch(
    questions: Annotated[
        Path,
        typer.Option(
            "--input",
            exists=True,
            dir_okay=False,
            help=".jsonl; .csv, .tsv, .parquet with a column question",
        ),
    ],
    output: Annotated[Path, typer.Option(dir_okay=False, help="The file to write: .jsonl")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an output that was broken off.")
    ] = False,
    concurrency: Annotated[int, typer.Option(min=1, help="Questions answered at a time.")] = 8,
) -> None:
    """Answer a file of questions: a line each, in order.

    A line of the input is {"question": "…"} or {"messages": [{"role": "user", "content": "…"}, …]},
    with an "id" if you like. A line of the output has row, id, and answer with result (products,
    citations, versions), or error with its reason.
    """
    from retail_assistant.serving import batch as answering
    from retail_assistant.serving.options import get_serving_settings

    counts = answering.answer_file(
        answering.opening_of(answering.ANSWERING),
        answering.read_requests(questions),
        output,
        settings=get_serving_settings(),
        resume=resume,
        concurrency=concurrency,
        progress=_Progress().told,
    )
    failed = sum(counts.errors.values())
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts.errors.items())
    console.print(
        f"{counts.lines} lines in {output} ({counts.kept} were there already): {counts.answered}"
        f" answers, {counts.declined} of them declined; {failed} errors"
        + (f" ({reasons})" if reasons else ""),
        soft_wrap=True,
        highlight=False,
        markup=False,
    )


class _Progress:
    """A line on stderr every few seconds, and at the end."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def told(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done == total or now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            errors.print(f"{done} of {total} questions", highlight=False)

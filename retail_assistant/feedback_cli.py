"""`retail-assistant feedback`: what shoppers thought of the answers, and what becomes of it."""

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import polars as pl
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from retail_assistant.serving.feedback.records import Records
from retail_assistant.serving.feedback.shared_records import feedback_records
from retail_assistant.settings import get_settings
from retail_assistant.spreadsheets import spreadsheet_safe
from retail_assistant.storage import StorageError, write_atomically

feedback_app = typer.Typer(
    no_args_is_help=True,
    help="Shoppers' thumbs and unanswered questions: report, export, forget, approve.",
)
console = Console(width=None if sys.stdout.isatty() else 140)
errors = Console(stderr=True)

SHOWN = 20
EXPORTED = (".jsonl", ".csv", ".parquet")


@feedback_app.command()
def report(
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
    top: Annotated[int, typer.Option(min=1, help="Rows of each table.")] = SHOWN,
) -> None:
    """Unanswered questions, products with bad answers, thumbs by model; as of now."""
    from retail_assistant.serving.feedback.report import feedback_report, headline
    from retail_assistant.serving.feedback.store import catalog_if_any

    found = feedback_report(_kept().snapshot(), catalog_if_any(get_settings().storage))
    if as_json:
        sys.stdout.write(json.dumps(found.to_json_dict(), indent=1) + "\n")
        return
    console.print(headline(found), highlight=False)
    _print("not answered", found.unanswered, top)
    _print("products with bad answers", found.products.filter(pl.col("down") > 0), top)
    _print("thumbs by model", found.models, top)


@feedback_app.command()
def export(
    output: Annotated[
        Path, typer.Option(dir_okay=False, help=f"The file to write: {', '.join(EXPORTED)}.")
    ],
) -> None:
    """Write every turn that is kept: a row a turn, personal data masked."""
    import io

    if output.suffix not in EXPORTED:
        raise ValueError(f"{output}: allowed: a file ending in {', '.join(EXPORTED)}")
    turns = _kept().snapshot().turns
    buffer = io.BytesIO()
    if output.suffix == ".parquet":
        turns.write_parquet(buffer)
    elif output.suffix == ".jsonl":
        turns.write_ndjson(buffer)
    else:
        joined = turns.with_columns(pl.col("product_ids").list.join(" "))
        spreadsheet_safe(joined).write_csv(buffer)
    write_atomically(output, buffer.getvalue())
    console.print(f"{turns.height} turns in {output}", highlight=False, markup=False)


@feedback_app.command()
def forget(
    answer_id: Annotated[str, typer.Argument(help="The id that came with the answer.")],
) -> None:
    """Delete all that is kept of an answer: the turn, its thumbs, its rows in the tables."""
    from retail_assistant.serving.feedback.store import forget_answer

    settings = get_settings()
    if not forget_answer(settings.storage, answer_id, settings.feedback_uri):
        raise StorageError(f"nothing is kept of the answer {answer_id!r}")
    console.print(f"{answer_id} is forgotten", highlight=False, markup=False)


@feedback_app.command()
def prune() -> None:
    """Delete what is older than RETAIL_SERVING_FEEDBACK_DAYS; servers do so when they start."""
    from retail_assistant.serving.feedback.store import prune_feedback
    from retail_assistant.serving.options import get_serving_settings

    days = get_serving_settings().feedback_days
    settings = get_settings()
    gone = prune_feedback(settings.storage, days, settings.feedback_uri)
    console.print(f"{gone} turns were older than {days} days", highlight=False)


@feedback_app.command()
def candidates(
    output: Annotated[Path, typer.Option(dir_okay=False, help="The sheet to write (.csv).")] = Path(
        "candidates.csv"
    ),
) -> None:
    """Write the sheet of questions for the next corpus, for a person to answer and approve."""
    from retail_assistant.serving.feedback.candidates import candidate_sheet, feedback_candidates
    from retail_assistant.serving.feedback.store import catalog_if_any

    if output.exists():
        raise ValueError(f"{output} is there already; allowed: another file")
    found = feedback_candidates(_kept().snapshot().turns, catalog_if_any(get_settings().storage))
    write_atomically(output, candidate_sheet(found))
    console.print(
        f"{found.height} questions in {output}. Write `yes` under approved and the right answer"
        " under answer; a question about a product has to name it. Then: retail-assistant"
        f' feedback approve --sheet {output} --by "Your Name" --reason "…"',
        soft_wrap=True,
        highlight=False,
        markup=False,
    )


@feedback_app.command()
def approve(
    sheet: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="The sheet that was filled in.")
    ],
    by: Annotated[str, typer.Option(help="Your name; it is kept with the decision.")],
    reason: Annotated[str, typer.Option(help="Why; it is kept with the decision.")],
    knowledge: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="The knowledge folder; default: RETAIL_KNOWLEDGE."),
    ] = None,
) -> None:
    """Put approved questions with their answers into the store's knowledge, for the next corpus."""
    from retail_assistant.serving.feedback.candidates import approve as put_into
    from retail_assistant.serving.feedback.candidates import read_sheet
    from retail_assistant.serving.feedback.store import known_words

    settings = get_settings()
    folder = knowledge or settings.knowledge
    if folder is None:
        raise ValueError("no knowledge folder; allowed: --knowledge FOLDER, or RETAIL_KNOWLEDGE")
    approval = read_sheet(sheet, folder, known_words(settings.storage))
    for row, why in approval.refused:
        errors.print(f"{sheet}: row {row}: not used: {why}", markup=False, soft_wrap=True)
    path = put_into(approval, folder, settings.storage, by=by, reason=reason)
    console.print(
        f"{len(approval.items)} questions added to {path}; {approval.known} were there already,"
        f" {len(approval.refused)} could not be used, {approval.left} were not approved",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
    if settings.knowledge is None or settings.knowledge.resolve() != folder.resolve():
        console.print(f"For the next corpus: RETAIL_KNOWLEDGE={folder}", markup=False)


def _kept() -> Records:
    settings = get_settings()
    return feedback_records(settings.storage, settings.feedback_uri)


def _print(title: str, frame: pl.DataFrame, top: int) -> None:
    table = Table(*frame.columns, title=f"{title}: {frame.height}", title_justify="left")
    for row in frame.head(top).iter_rows():
        table.add_row(*(escape(_cell(value)) for value in row))
    console.print(table)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return f"{value:.3f}" if isinstance(value, float) else str(value)

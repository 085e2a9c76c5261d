"""From feedback to the next corpus: questions that a person answers, and the store then knows.

What was declined as unknown or got a thumb down is a candidate. The candidates are a sheet (CSV) in
which a person writes the right answer and says yes; what was approved goes to `questions.jsonl` of
the store's knowledge folder, from which the next corpus is made. The decision is kept like one on a
corpus (`corpus.approval`), under `<storage>/serving/feedback/approvals/`.
"""

import csv
import io
import json
from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import polars as pl

from retail_assistant.corpus.approval import ApprovalRecord
from retail_assistant.corpus.draws import stable_digest
from retail_assistant.corpus.knowledge import KnowledgeItem, read_knowledge
from retail_assistant.corpus.labelled_text_files import TextRow, read_text_rows
from retail_assistant.corpus.reading.text import normalise
from retail_assistant.serving.feedback.masking import MASKS, personal_data_left
from retail_assistant.serving.feedback.report import product_names, with_groups
from retail_assistant.spreadsheets import cell_text, safe_cell
from retail_assistant.storage import write_atomically

KNOWN = "questions.jsonl"
CANDIDATES: Mapping[str, Any] = {
    "candidate_id": pl.String,
    "question": pl.String,
    "product_id": pl.String,
    "product": pl.String,
    "unknown": pl.UInt32,
    "down": pl.UInt32,
    "answered_so_far": pl.String,
    "comment": pl.String,
    "last_at": pl.Datetime("ms", "UTC"),
    "answer_ids": pl.List(pl.String),
}
"""A row a question. `unknown`, `down`: how often it was declined so, and got a thumb down;
`answered_so_far`: the last bad answer; `answer_ids`: the turns that it is from."""
COLUMNS = (
    "approved", "question", "answer", "product", "unknown", "down", "answered_so_far", "comment",
    "product_id", "candidate_id",
)  # fmt: skip
YES = frozenset({"yes", "y", "true", "1", "x"})
NO = frozenset({"", "no", "n", "false", "0"})


class CandidateError(ValueError):
    """A sheet that cannot be used; names the file and row, and says what is allowed."""


class Approval(NamedTuple):
    """What became of a sheet's rows; `refused`: row and reason of approved ones not used."""

    items: list[KnowledgeItem]
    refused: list[tuple[int, str]]
    left: int
    known: int
    """Approved rows whose question the knowledge folder has already."""


def feedback_candidates(turns: pl.DataFrame, products: pl.DataFrame | None = None) -> pl.DataFrame:
    """The candidates (CANDIDATES) among turns (FEEDBACK), most asked first.

    `products` (PRODUCTS) gives their names. A question with a masked text in it is none: what it
    asks for is somebody's own.
    """
    bad, unknown = pl.col("verdict") == "down", pl.col("declined") == "unknown"
    asked = turns.filter((bad | unknown) & ~pl.col("question").str.contains(MASKS.pattern))
    found = (
        with_groups(asked.sort("at"))
        .with_columns(bad=bad.fill_null(value=False), unknown=unknown.fill_null(value=False))
        .group_by("group", maintain_order=True)
        .agg(
            question=pl.col("question").mode(maintain_order=True).first(),
            product_id=pl.col("product_ids").first().list.first(),
            unknown=pl.col("unknown").sum(),
            down=pl.col("bad").sum(),
            answered_so_far=pl.col("answer").filter("bad").last(),
            comment=pl.col("comment").filter(pl.col("bad") & (pl.col("comment") != "")).last(),
            last_at=pl.col("at").max(),
            answer_ids=pl.col("answer_id"),
        )
        .join(product_names(products), on="product_id", how="left")
        .sort(
            pl.col("unknown") + pl.col("down"),
            "last_at",
            "question",
            descending=[True, True, False],
        )
    )
    ids = [stable_digest("feedback", *row) for row in found.select("question", "product_id").rows()]
    return found.with_columns(candidate_id=pl.Series(ids, dtype=pl.String)).select(
        pl.col(name).cast(kind) for name, kind in CANDIDATES.items()
    )


def candidate_sheet(candidates: pl.DataFrame) -> str:
    """The sheet as CSV: `approved` and `answer` are for a person to fill in."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in candidates.iter_rows(named=True):
        writer.writerow([_cell(row.get(name)) for name in COLUMNS])
    return text.getvalue()


def read_sheet(path: Path, folder: Path, words: Collection[str] = ()) -> Approval:
    """What a filled-in sheet approves, as the knowledge folder will have it.

    An approved row has a question and an answer without personal data (`words`, the catalog's in
    normal form, are nobody's name), in the limits of the knowledge folder, and where it is about a
    product the question names it. What the folder has already is not added again.

    Raises:
        CandidateError: no sheet of ours, or a word under `approved` that is neither yes nor no.
        KnowledgeError, LabelledTextError: the folder or the file cannot be read.
    """
    columns, rows = read_text_rows(path)
    missing = [name for name in ("approved", "question", "answer") if name not in columns]
    if missing:
        raise CandidateError(
            f"{path}: no column {', '.join(missing)}; allowed: a sheet of"
            " `retail-assistant feedback candidates`"
        )
    approved = [row for row in rows if _is_approved(path, row)]
    refused = [(row.number, why) for row in approved if (why := _unusable(row, words))]
    numbers = {number for number, _ in refused}
    usable = [row for row in approved if row.number not in numbers]
    items, unreadable = _items(usable)
    known = {item.digest for item in read_knowledge(folder).items} if folder.is_dir() else set()
    new = [item for item in items if item.digest not in known]
    return Approval(new, refused + unreadable, len(rows) - len(approved), len(items) - len(new))


def approve(approval: Approval, folder: Path, root: Path, *, by: str, reason: str) -> Path:
    """Add what a sheet approves to the knowledge folder, and keep who decided so; the file.

    `root` is the storage folder. What the folder has stays as it is.

    Raises:
        CandidateError: nothing new is approved.
        ApprovalError: no name or no reason.
    """
    if not approval.items:
        raise CandidateError("nothing new is approved; allowed: `yes` and an answer in some row")
    path = folder / KNOWN
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = [
        json.dumps({"question": item.asked, "answer": item.answer}, ensure_ascii=False)
        for item in approval.items
    ]
    text = before if not before or before.endswith("\n") else f"{before}\n"
    text += "".join(f"{line}\n" for line in lines)
    decisions(root).record_decision(
        _version(approval.items),
        "approved",
        by=by,
        reason=reason,
        counts={"questions": len(lines), "refused": len(approval.refused), "left": approval.left},
    )
    write_atomically(path, text)
    return path


def decisions(root: Path) -> ApprovalRecord:
    """Who approved which candidates, when and why."""
    return ApprovalRecord(root / "serving" / "feedback", "required")


def _version(items: Sequence[KnowledgeItem]) -> str:
    content = json.dumps([[item.asked, item.answer] for item in items])
    return sha256(content.encode()).hexdigest()


def _is_approved(path: Path, row: TextRow) -> bool:
    if row.problem:
        raise CandidateError(f"{path}: row {row.number}: {row.problem}")
    word = row.fields["approved"].strip().casefold()
    if word not in YES | NO:
        raise CandidateError(
            f"{path}: row {row.number}: approved={word!r:.40}; allowed: yes, or nothing"
        )
    return word in YES


def _unusable(row: TextRow, words: Collection[str]) -> str | None:
    for place in ("question", "answer"):
        text = _text(row, place)
        if not text:
            return f"no {place}"
        if kinds := personal_data_left(text, words):
            return f"{', '.join(kinds)} in the {place}"
    product = _text(row, "product") if "product" in row.fields else ""
    if product and normalise(product) not in normalise(_text(row, "question")):
        # "Is it lined?" would be learned of every product.
        return f"the question does not name {product}; if it is about all products, empty that cell"
    return None


def _items(rows: Sequence[TextRow]) -> tuple[list[KnowledgeItem], list[tuple[int, str]]]:
    """The rows as the knowledge folder reads them, and those that it would reject."""
    with TemporaryDirectory(prefix="feedback-") as folder:
        lines = [
            json.dumps({place: _text(row, place) for place in ("question", "answer")})
            for row in rows
        ]
        (Path(folder) / KNOWN).write_text("".join(f"{line}\n" for line in lines))
        knowledge = read_knowledge(Path(folder))
    rejected = knowledge.rejected.select("row", "reason", "detail").rows()
    refused = [(rows[number - 1].number, f"{why}: {detail}") for number, why, detail in rejected]
    return knowledge.items, refused


def _text(row: TextRow, place: str) -> str:
    return cell_text(row.fields[place].strip()).strip()


def _cell(value: Any) -> str:
    return "" if value is None else safe_cell(str(value))

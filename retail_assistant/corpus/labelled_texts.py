"""Texts with one of two labels each: what a classifier is trained on and measured with.

Rows that cannot be used go to a second table with a reason; rows in = rows out + rows rejected.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.corpus.draws import stable_digest
from retail_assistant.corpus.labelled_text_files import (
    LabelledTextError,
    TextRow,
    read_text_rows,
)
from retail_assistant.corpus.rendering import visible_text

RejectionReason = Literal[
    "unreadable", "empty_text", "too_long", "missing_label", "unknown_label",
    "duplicate", "conflicting_labels",
]  # fmt: skip
REVIEWER_PREFIX = "reviewer"
POSITIVE_WORDS = ("positive", "pos", "1", "true", "yes", "good")

LABELLED: dict[str, pl.DataType | type[pl.DataType]] = {
    "text_id": pl.String,
    "source_row": pl.Int64,
    "text": pl.String,
    "label": pl.String,
    "is_positive": pl.Boolean,
    "reviewers": pl.List(pl.Struct({"reviewer": pl.String, "label": pl.String})),
}
REJECTED = {
    "source_row": pl.Int64,
    "reason": pl.String,
    "detail": pl.String,
    "text": pl.String,
    "label": pl.String,
}
TEXT_NAMES = ("text", "review", "sentence", "tweet", "comment", "content")
_LABEL_NAMES = ("label", "sentiment", "class", "polarity", "target")
_SHOWN_LABELS = 8


class LabellingPolicy(BaseModel):
    """Which columns of a file of labelled texts hold what, and what its labels mean."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str | None = Field(None, description="column of the text; default: found by its name")
    label: str | None = Field(None, description="column of the label; default: found by its name")
    reviewers: tuple[str, ...] | None = Field(
        None,
        description="columns with labels by others, one a reviewer; default: all whose names begin"
        f" with {REVIEWER_PREFIX}",
    )
    labels: dict[str, str] = Field(
        {},
        description="a label in the file -> the word for it in the prompt; default: as in the file",
    )
    positive: str | None = Field(
        None,
        description="the word whose probability is told; default: positive, 1, true, yes, or the"
        " second of both in order",
    )
    max_characters: int = Field(2_000, ge=1, le=10_000, description="longest text")


class Columns(NamedTuple):
    """The columns of a file that are read."""

    text: str
    label: str
    reviewers: tuple[str, ...]


class LabelledTexts(NamedTuple):
    """What a file gives.

    `texts` has LABELLED columns, `rejected` REJECTED ones; `labels` are the negative and the
    positive word. `unknown_reviews` counts, by reviewer, what is neither of both labels.
    """

    texts: pl.DataFrame
    rejected: pl.DataFrame
    labels: tuple[str, str]
    unknown_reviews: dict[str, int]


def read_labelled_texts(path: Path, policy: LabellingPolicy) -> LabelledTexts:
    """The texts of a file, cleaned: one row a text, with one of two labels.

    Raises:
        LabelledTextError: as `read_text_rows`; columns that are missing or cannot be told apart;
            one label, or more than two.
    """
    names, rows = read_text_rows(path)
    columns = found_columns(path, names, rows, policy)
    words = {folded(label): word.strip() for label, word in policy.labels.items()}
    kept: list[dict] = []
    rejected: list[tuple] = []
    for row in rows:
        text, label = _text_of(row, columns), row.fields.get(columns.label, "").strip()
        reason, detail = _problem(row, text, label, words, policy)
        if reason:
            rejected.append((row.number, reason, detail, text, label))
        else:
            kept.append({"row": row, "text": text, "label": _word(label, words)})
    labels = _both_labels(path, Counter(one["label"] for one in kept), policy)
    kept = _without_repetition(kept, rejected)
    unknown: Counter[str] = Counter()
    texts = [_labelled(one, columns, words, labels, unknown) for one in kept]
    return LabelledTexts(
        pl.DataFrame(texts, schema=LABELLED, orient="row").sort("text_id"),
        pl.DataFrame(rejected, schema=REJECTED, orient="row").sort("source_row"),
        labels,
        dict(unknown),
    )


def found_columns(
    path: Path, names: Sequence[str], rows: Sequence[TextRow], policy: LabellingPolicy
) -> Columns:
    """Which columns hold text, label and reviewers' labels: as the profile says, or by their names.

    Of two columns that have other names the one with exactly two different values is the label.

    Raises:
        LabelledTextError: names that the file lacks, or no way to tell.
    """
    reviewers = policy.reviewers
    if reviewers is None:
        reviewers = tuple(name for name in names if folded(name).startswith(REVIEWER_PREFIX))
    others = [name for name in names if name not in reviewers]
    text = policy.text or named(others, TEXT_NAMES)
    label = policy.label or named(others, _LABEL_NAMES)
    if len(others) == 2 and (text is None or label is None):
        text, label = _told_apart(others, rows, text, label)
    if text is None or label is None or text == label:
        raise LabelledTextError(
            f"{path}: which of the columns {', '.join(names)} hold text and label? allowed: name"
            " them in the corpus profile (sentiment: text, label), or two columns of which one has"
            " two different values"
        )
    missing = [name for name in (text, label, *reviewers) if name not in names]
    if missing:
        raise LabelledTextError(
            f"{path}: no column {', '.join(missing)}; allowed: {', '.join(names)}"
        )
    return Columns(text, label, reviewers)


def named(names: Sequence[str], known: Sequence[str]) -> str | None:
    """The first of the known names that is among some, as it is spelled there."""
    by_folded = {folded(name): name for name in names}
    return next((by_folded[one] for one in known if one in by_folded), None)


def _told_apart(
    names: Sequence[str], rows: Sequence[TextRow], text: str | None, label: str | None
) -> tuple[str | None, str | None]:
    if text in names or label in names:
        known = text if text in names else label
        other = names[1] if names[0] == known else names[0]
        return (text or other), (label or other)
    values = {name: {folded(row.fields.get(name, "")) for row in rows} - {""} for name in names}
    of_two = [name for name in names if len(values[name]) == 2]
    if len(of_two) != 1:
        return None, None
    return next(name for name in names if name != of_two[0]), of_two[0]


def _text_of(row: TextRow, columns: Columns) -> str:
    return " ".join(visible_text(row.fields.get(columns.text, "")).split())


def _problem(
    row: TextRow, text: str, label: str, words: Mapping[str, str], policy: LabellingPolicy
) -> tuple[RejectionReason | None, str]:
    if row.problem:
        return "unreadable", row.problem
    if not text:
        return "empty_text", ""
    if len(text) > policy.max_characters:
        return "too_long", f"{len(text)} characters; allowed: {policy.max_characters}"
    if not label:
        return "missing_label", ""
    if words and folded(label) not in words:
        return "unknown_label", f"allowed: {', '.join(policy.labels)}"
    return None, ""


def _both_labels(
    path: Path, counted: Mapping[str, int], policy: LabellingPolicy
) -> tuple[str, str]:
    """The negative and the positive word."""
    if len(counted) != 2:
        found = [f"{label} ({count})" for label, count in sorted(counted.items())]
        more = f" and {len(found) - _SHOWN_LABELS} more" if len(found) > _SHOWN_LABELS else ""
        raise LabelledTextError(
            f"{path}: {len(found)} different labels: {', '.join(found[:_SHOWN_LABELS]) or 'none'}"
            f"{more}; allowed: two (or name two of them in the corpus profile, sentiment: labels)"
        )
    ordered = sorted(counted)
    if policy.positive is not None:
        known = named(ordered, [folded(policy.positive)])
        if known is None:
            raise LabelledTextError(
                f"{path}: positive={policy.positive!r}; allowed: {' or '.join(ordered)}"
            )
        positive = known
    else:
        positive = named(ordered, POSITIVE_WORDS) or ordered[1]
    return next(label for label in ordered if label != positive), positive


def _without_repetition(kept: list[dict], rejected: list[tuple]) -> list[dict]:
    """Each text once; texts that say the same under different labels not at all."""
    labels: dict[str, set[str]] = {}
    for one in kept:
        labels.setdefault(folded(one["text"]), set()).add(one["label"])
    first: dict[str, dict] = {}
    for one in kept:
        key, reason, detail = folded(one["text"]), "", ""
        if len(labels[key]) > 1:
            reason, detail = "conflicting_labels", " and ".join(sorted(labels[key]))
        elif key in first:
            reason, detail = "duplicate", f"of row {first[key]['row'].number}"
        if reason:
            rejected.append((one["row"].number, reason, detail, one["text"], one["label"]))
        else:
            first[key] = one
    return list(first.values())


def _labelled(
    one: dict,
    columns: Columns,
    words: Mapping[str, str],
    labels: Sequence[str],
    unknown: Counter[str],
) -> dict:
    reviewers = []
    for name in columns.reviewers:
        given = one["row"].fields.get(name, "").strip()
        word = _word(given, words) if given else None
        if word is not None and word not in labels:
            unknown[name] += 1
            word = None
        reviewers.append({"reviewer": name, "label": word})
    return {
        "text_id": stable_digest("labelled text", folded(one["text"])),
        "source_row": one["row"].number,
        "text": one["text"],
        "label": one["label"],
        "is_positive": one["label"] == labels[1],
        "reviewers": reviewers,
    }


def _word(label: str, words: Mapping[str, str]) -> str:
    return words.get(folded(label), folded(label))


def folded(text: str) -> str:
    """A text without its case and its spacing, as texts and labels are compared."""
    return " ".join(text.casefold().split())

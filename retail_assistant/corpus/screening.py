"""Screens that a dialogue passes before it may train or test a model.

Every dialogue comes out once: screened, or rejected with its first reason in the order of
REJECTION_REASONS and a detail a person can act on. The screens do not trust the generator; a
model's dialogues pass the same ones as the templates'.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal, get_args

import polars as pl

from retail_assistant.corpus.dialogues import DialogueSchema, sorted_dialogues
from retail_assistant.corpus.reading.text import normalise
from retail_assistant.corpus.screens.catalog_text import CatalogText
from retail_assistant.corpus.screens.grounding import ungrounded_because
from retail_assistant.corpus.screens.language import other_language
from retail_assistant.corpus.screens.offensive import (
    NEUTRALISED,
    UNSAFE,
    offensive_wordings,
    sites_in,
)
from retail_assistant.corpus.screens.personal_data import PERSON, personal_data_in, persons_in
from retail_assistant.corpus.screens.policy import ScreenPolicy
from retail_assistant.corpus.screens.repetition import (
    given_away_products,
    given_away_questions,
    question_groups,
    repeated_questions,
)
from retail_assistant.corpus.screens.spoken import Spoken
from retail_assistant.corpus.wording import value_stands_in

RejectionReason = Literal[
    "too_long",
    "unsafe",
    "other_language",
    "offensive",
    "personal_data",
    "ungrounded",
    "gold_in_question",
    "leak",
    "duplicate",
]
REJECTION_REASONS: tuple[RejectionReason, ...] = get_args(RejectionReason)

_FINDINGS = {"order": pl.UInt32, "reason": pl.String, "detail": pl.String}
_PLACES = ("question", "answer")
_WORDS_SHOWN = 5

Finding = tuple[int, str, str]
"""The row's number, the reason and the detail."""
RowScreen = Callable[[Spoken], str | None]


def screen(
    dialogues: pl.DataFrame,
    catalog: pl.DataFrame,
    *,
    splits: pl.DataFrame | None = None,
    documents: Mapping[str, str] | None = None,
    policy: ScreenPolicy | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(screened, rejected): every dialogue is in exactly one of the two.

    `dialogues` is a DialogueSchema frame, `catalog` the products frame they speak of. With
    `splits`, training dialogues that mention a product of another side are a leak, too. `documents`
    are texts of the store's documents by name, which dialogues about the store are checked against.

    Returns the dialogues that passed, and the rejected ones with reason and detail; both sorted.
    Time grows linearly with the dialogues.
    """
    policy = policy or ScreenPolicy()
    ordered = sorted_dialogues(dialogues).with_row_index("order")
    text = CatalogText(catalog)
    found = _by_frame(ordered, policy)
    left = ordered.join(found, on="order", how="anti")
    spoken = [Spoken.of(row, text) for row in left.iter_rows(named=True)]
    found = pl.concat([found, _frame(_by_row(spoken, text, policy, documents))])
    # Repetitions are counted among what is left, so that a bad first row does not take a good one.
    left = ordered.join(found, on="order", how="anti")
    bad = set(found["order"])
    spoken = [one for one in spoken if one.row["order"] not in bad]
    found = pl.concat([found, _repetitions(left, spoken, splits, policy)])
    columns = DialogueSchema.column_names()
    screened = ordered.join(found, on="order", how="anti").select(columns)
    rejected = ordered.join(found, on="order", how="inner").sort("order")
    return screened, rejected.select(*columns, "reason", "detail")


def screening_summary(screened: pl.DataFrame, rejected: pl.DataFrame) -> pl.DataFrame:
    """Counts by reason, in the order of the screens, after a row for what passed.

    Columns: reason (null for the passed), dialogues, share (of all, 0 to 1), example (question and
    answer of the first), detail (of the first).
    """
    total = max(screened.height + rejected.height, 1)
    reason = pl.col("reason").cast(pl.Enum(REJECTION_REASONS))
    example = pl.format("{}\n{}", "question", "answer")
    counted = (
        rejected.group_by(reason, maintain_order=True)
        .agg(dialogues=pl.len(), example=example.first(), detail=pl.col("detail").first())
        .sort("reason")
        .with_columns(reason=pl.col("reason").cast(pl.String))
    )
    passed = pl.DataFrame(
        {"reason": [None], "dialogues": [screened.height], "example": [None], "detail": [None]},
        schema=counted.schema,
    )
    share = pl.col("dialogues") / total
    return (
        pl.concat([passed, counted])
        .with_columns(share=share)
        .select("reason", "dialogues", "share", "example", "detail")
    )


def _by_frame(rows: pl.DataFrame, policy: ScreenPolicy) -> pl.DataFrame:
    """The screens that are expressions."""
    limits = {
        "question": policy.max_question_characters,
        "answer": policy.max_answer_characters,
    }
    found = []
    for place in _PLACES:
        length, limit = pl.col(place).str.len_chars(), limits[place]
        detail = pl.format(f"the {place} has {{}} characters, {limit} are allowed", length)
        found.append(_findings(rows, length > limit, "too_long", detail))
    for place in _PLACES:
        part = pl.col(place).str.extract(f"({UNSAFE}|{NEUTRALISED})")
        detail = pl.format(f"the {place} has {{}}", part)
        found.append(_findings(rows, part.is_not_null(), "unsafe", detail))
    return pl.concat(found).unique("order", keep="first", maintain_order=True)


def _findings(rows: pl.DataFrame, where: pl.Expr, reason: str, detail: pl.Expr) -> pl.DataFrame:
    found = rows.filter(where)
    return found.select("order", reason=pl.lit(reason), detail=detail.cast(pl.String))


def _frame(findings: Sequence[Finding]) -> pl.DataFrame:
    return pl.DataFrame(findings, schema=_FINDINGS, orient="row")


def _by_row(
    spoken: Sequence[Spoken],
    catalog: CatalogText,
    policy: ScreenPolicy,
    documents: Mapping[str, str] | None,
) -> list[Finding]:
    """The first finding of each row by the screens that read it."""
    screens = _row_screens(catalog, policy, documents)
    findings = (_first_finding(one, screens) for one in spoken)
    return [finding for finding in findings if finding is not None]


def _first_finding(
    one: Spoken, screens: Sequence[tuple[RejectionReason, RowScreen]]
) -> Finding | None:
    for reason, look in screens:
        detail = look(one)
        if detail is not None:
            return one.row["order"], reason, detail
    return None


def _row_screens(
    catalog: CatalogText, policy: ScreenPolicy, documents: Mapping[str, str] | None
) -> list[tuple[RejectionReason, RowScreen]]:
    allowed = frozenset(map(normalise, policy.allowed_words))
    known = catalog.words | allowed
    screens: list[tuple[RejectionReason, RowScreen]] = [
        ("other_language", partial(_other_language, catalog=catalog, policy=policy)),
        ("unsafe", partial(_linking, catalog=catalog)),
        ("offensive", partial(_offensive, catalog=catalog, allowed=allowed)),
        ("personal_data", partial(_personal_data, catalog=catalog, policy=policy, known=known)),
        (
            "ungrounded",
            partial(ungrounded_because, catalog=catalog, documents=documents, allowed=allowed),
        ),
        ("gold_in_question", _gold_in_question),
    ]
    return screens[0 if policy.language else 1 :]


def _other_language(one: Spoken, catalog: CatalogText, policy: ScreenPolicy) -> str | None:
    for place, named in (("question", one.question), ("answer", one.answer.named)):
        words = other_language(named, catalog, policy.min_language_share)
        if words:
            return f"the {place} is not in English: {', '.join(words[:_WORDS_SHOWN])}"
    return None


def _linking(one: Spoken, catalog: CatalogText) -> str | None:
    for place in _PLACES:
        records = [catalog.record_text(product_id) for product_id in one.evidence]
        for site in sites_in(one.without_names(place, catalog)):
            if not any(f" {normalise(site)} " in record for record in records):
                return f"the {place} has {site}"
    return None


def _offensive(one: Spoken, catalog: CatalogText, allowed: frozenset[str]) -> str | None:
    for place in _PLACES:
        for found in offensive_wordings(one.without_names(place, catalog)):
            if normalise(found) not in allowed:
                return f"the {place} says {found!r}"
    return None


def _personal_data(
    one: Spoken, catalog: CatalogText, policy: ScreenPolicy, known: frozenset[str]
) -> str | None:
    """Names and item codes of the catalog may look like a person or a number; they are none."""
    patterns = set(policy.personal_data) - {PERSON}
    for place in _PLACES:
        text = one.without_names(place, catalog)
        if kinds := personal_data_in(text, patterns):
            return f"{', '.join(kinds)} in the {place}"
        persons = persons_in(text, known) if PERSON in policy.personal_data else []
        if persons:
            return f"{PERSON} in the {place}: {', '.join(persons)}"
    return None


def _gold_in_question(one: Spoken) -> str | None:
    gold, attribute = one.row["gold_value"], one.row["asked_attribute"] or ""
    if not gold:
        return None
    for place in ("question", "product_name"):
        if one.row[place] and value_stands_in(gold, one.row[place], attribute):
            return f"the gold value {gold!r} can be read off the {place.replace('_', ' ')}"
    return None


def _repetitions(
    rows: pl.DataFrame,
    spoken: Sequence[Spoken],
    splits: pl.DataFrame | None,
    policy: ScreenPolicy,
) -> pl.DataFrame:
    groups = question_groups(spoken, policy.near_duplicate)
    leaks = pl.concat(
        [given_away_questions(rows, groups), given_away_products(rows, spoken, splits)]
    ).with_columns(reason=pl.lit("leak"))
    left = rows.join(leaks, on="order", how="anti")
    repeated = repeated_questions(left, groups).with_columns(reason=pl.lit("duplicate"))
    found = pl.concat([leaks, repeated]).unique("order", keep="first", maintain_order=True)
    return found.select(list(_FINDINGS))

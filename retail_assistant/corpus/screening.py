"""Screens that a dialogue passes before it may train or test a model.

Every dialogue comes out once: screened, or rejected with its first reason in the order of
REJECTION_REASONS and a detail a person can act on. The screens do not trust the generator; a
model's dialogues pass the same ones as the templates'.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Literal, get_args

import polars as pl

from retail_assistant.corpus.dialogues import DialogueSchema, sorted_dialogues
from retail_assistant.corpus.grounding import ungrounded_because
from retail_assistant.corpus.lookup import CatalogLookup
from retail_assistant.corpus.personal_data import personal_data_in
from retail_assistant.corpus.wording import value_stands_in

RejectionReason = Literal[
    "too_long",
    "unsafe",
    "personal_data",
    "ungrounded",
    "gold_in_question",
    "duplicate",
    "leak",
]
REJECTION_REASONS: tuple[RejectionReason, ...] = get_args(RejectionReason)

MAX_QUESTION_CHARACTERS = 400
MAX_ANSWER_CHARACTERS = 1_200

# Markup, scripts, links, control tokens of chat templates, invisible and text-direction characters.
_UNSAFE = (
    r"(?i)</?[a-z!][^>]*>|<\||\|>|\[/?inst\]|```|javascript:|data:text/|\bon(click|error|load)\s*="
    r"|\b(https?|ftp)://|\bwww\.|\bignore (all |any |the )*(previous|above|prior) instructions"
    r"|[\x00-\x08\x0b-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]"
)
_ITEM_CODE = re.compile(r"\(item [^()\s]{1,8}\)")

Row = Mapping[str, Any]
RowScreen = Callable[[Row], str | None]


def screen(
    dialogues: pl.DataFrame,
    catalog: pl.DataFrame,
    *,
    splits: pl.DataFrame | None = None,
    max_question_characters: int = MAX_QUESTION_CHARACTERS,
    max_answer_characters: int = MAX_ANSWER_CHARACTERS,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(screened, rejected): every dialogue is in exactly one of the two.

    `dialogues` is a DialogueSchema frame, `catalog` the products frame they speak of. With
    `splits`, training dialogues that mention a product of another side are a leak, too.

    Returns the dialogues that passed, and the rejected ones with reason and detail; both sorted.
    """
    ordered = sorted_dialogues(dialogues).with_row_index("order")
    columns = DialogueSchema.column_names()
    lookup = CatalogLookup(catalog)
    tables = (
        ("too_long", _too_long(ordered, max_question_characters, max_answer_characters)),
        ("unsafe", _unsafe(ordered)),
        ("personal_data", _by_row(ordered, partial(_personal_data, lookup=lookup))),
        ("ungrounded", _by_row(ordered, partial(ungrounded_because, lookup=lookup))),
        ("gold_in_question", _by_row(ordered, _gold_in_question)),
    )
    found = _first_findings(tables)
    # Repetitions are counted among what is left, so that a bad first row does not take a good one.
    left = ordered.join(found, on="order", how="anti")
    leaks = _leaks(left, splits)
    repeats = _duplicates(left.join(leaks, on="order", how="anti"))
    found = _first_findings((("kept", found), ("leak", leaks), ("duplicate", repeats)))
    screened = ordered.join(found, on="order", how="anti").select(columns)
    rejected = ordered.join(found, on="order", how="inner").sort("order")
    return screened, rejected.select(*columns, "reason", "detail")


def _first_findings(tables: Iterable[tuple[str, pl.DataFrame]]) -> pl.DataFrame:
    """order, reason, detail: the first finding for each row; a table may bring its own reasons."""
    parts = [
        (table if "reason" in table.columns else table.with_columns(reason=pl.lit(reason))).select(
            "order", "reason", "detail"
        )
        for reason, table in tables
    ]
    return pl.concat(parts).unique("order", keep="first", maintain_order=True)


def _findings(rows: pl.DataFrame, where: pl.Expr, detail: pl.Expr) -> pl.DataFrame:
    return rows.filter(where).select("order", detail=detail.cast(pl.String))


def _too_long(rows: pl.DataFrame, question: int, answer: int) -> pl.DataFrame:
    lengths = {"question": question, "answer": answer}
    parts = [
        _findings(
            rows,
            pl.col(column).str.len_chars() > limit,
            pl.format(f"the {column} has {{}} characters, {limit} are allowed", _length(column)),
        )
        for column, limit in lengths.items()
    ]
    return pl.concat(parts)


def _length(column: str) -> pl.Expr:
    return pl.col(column).str.len_chars()


def _unsafe(rows: pl.DataFrame) -> pl.DataFrame:
    parts = [
        _findings(
            rows,
            pl.col(column).str.contains(_UNSAFE),
            pl.format(f"the {column} has {{}}", pl.col(column).str.extract(f"({_UNSAFE})")),
        )
        for column in ("question", "answer")
    ]
    return pl.concat(parts)


def _by_row(rows: pl.DataFrame, finding: RowScreen) -> pl.DataFrame:
    """The rows for which `finding` has a detail: for screens that no frame expression can do."""
    details = [finding(row) for row in rows.iter_rows(named=True)]
    marked = rows.select("order", detail=pl.Series(details, dtype=pl.String))
    return marked.filter(pl.col("detail").is_not_null())


def _personal_data(row: Row, lookup: CatalogLookup) -> str | None:
    """Names and item codes of the catalog may look like a number; they are no person's."""
    text = f"{row['question']}\n{row['answer']}"
    ids = [i for i in row["evidence"]["product_ids"] if i in lookup.products]
    names = [lookup.products[i]["name"] for i in ids]
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, " ")
    kinds = personal_data_in(_ITEM_CODE.sub(" ", text))
    return f"{', '.join(kinds)} in the question or answer" if kinds else None


def _gold_in_question(row: Row) -> str | None:
    gold, attribute = row["gold_value"], row["asked_attribute"] or ""
    if not gold:
        return None
    for place in ("question", "product_name"):
        if row[place] and value_stands_in(gold, row[place], attribute):
            return f"the gold value {gold!r} can be read off the {place.replace('_', ' ')}"
    return None


def _normal(column: str) -> pl.Expr:
    letters_and_digits = pl.col(column).str.to_lowercase().str.replace_all(r"[\W_]+", " ")
    return letters_and_digits.str.strip_chars()


def _duplicates(rows: pl.DataFrame) -> pl.DataFrame:
    """A question comes once in training and once in all that is held out from it."""
    side = pl.col("subset") == "train"
    keyed = rows.with_columns(side=side, normal=_normal("question"))
    repeated = ~(pl.struct("side", "normal").is_first_distinct())
    first = pl.col("dialogue_id").first().over("side", "normal")
    return _findings(
        keyed.with_columns(first=first),
        repeated,
        pl.format("asks the same as dialogue {}", "first"),
    )


def _leaks(rows: pl.DataFrame, splits: pl.DataFrame | None) -> pl.DataFrame:
    """Training rows that give away a held-out question or mention a held-out product."""
    train = rows.filter(pl.col("subset") == "train").with_columns(normal=_normal("question"))
    others = rows.filter(pl.col("subset") != "train").with_columns(normal=_normal("question"))
    questions = others.select("normal").unique()
    same = train.join(questions, on="normal", how="semi").select(
        "order", detail=pl.lit("asks a question that is held out")
    )
    # recall asks about training products by design; its questions are compared above.
    held_out = others.filter(pl.col("subset") != "recall").select("product_id").drop_nulls()
    if splits is not None:
        beyond = splits.filter(pl.col("split") != "train").select("product_id")
        held_out = pl.concat([held_out, beyond])
    evidence = pl.col("evidence").struct.field("product_ids")
    mentioned = pl.concat_list("product_id", evidence)
    mentions = train.select("order", product_id=mentioned).explode("product_id")
    products = mentions.join(held_out.unique(), on="product_id", how="semi")
    detail = pl.format("mentions the held-out product {}", "product_id")
    return pl.concat([same, products.select("order", detail=detail)])

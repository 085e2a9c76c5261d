"""All questions and answers as one small text that a page unpacks: gzip of JSON, in base64.

Texts stand in it once, however many prompts and answers share them (prompts by line). Questions
come by rank (largest disagreement first); once the texts take their room, those of the rest are
left out, their outcomes are not.
"""

import base64
import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from retail_assistant.evaluation.comparison import SHOWN_CHARACTERS, Comparison, cut_text
from retail_assistant.evaluation.outcomes import FALSE_POSITIVES, OUTCOMES, RIGHT

MOST_CHARACTERS = 32_000_000
"""Room for all texts of a page."""

_PROMPT_CHARACTERS = 20_000
_LISTED_CHARACTERS = 300
_CODED = ("subset", "intent", "department", "category", "subcategory", "asked_attribute")
_CODED_ANSWERS = ("outcome", "error_class", "finish_reason")
_SILENT = ("refused", "no_details", "no_suggestion", "not_judged")
_PROMPTS = {"none": "prompt", "retrieved": "grounded_prompt"}


class Embedded(NamedTuple):
    """The text to embed; how many questions it knows, and how many of them with their texts."""

    payload: str
    questions: int
    with_texts: int


class _Texts:
    """Distinct texts, each with a number."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self.characters = 0
        self._numbers: dict[str, int] = {}

    def number(self, text: str | None) -> int:
        """The number of a text, kept from now on; -1 for none."""
        if text is None:
            return -1
        if text not in self._numbers:
            self._numbers[text] = len(self.all)
            self.all.append(text)
            self.characters += len(text)
        return self._numbers[text]


def embedded_answers(
    comparison: Comparison,
    variants: Sequence[str],
    colours: Mapping[str, str],
    *,
    most_characters: int = MOST_CHARACTERS,
) -> Embedded:
    """Everything that a page needs to show any answer, with the variants in that order."""
    asked = comparison.asked.sort("rank")
    texts = _Texts()
    by_variant = [_answers_of(comparison.answered, asked, variant) for variant in variants]
    told = _texts_of_questions(asked, by_variant, texts, most_characters)
    coded = {name: _codes([asked[name]]) for name in _CODED}
    coded |= {name: _codes([own[name] for own in by_variant]) for name in _CODED_ANSWERS}
    grounding = dict(comparison.models.select("variant", "grounding").iter_rows())
    pair = comparison.best_pair or (*variants[-1:], *variants[-1:])
    document = {
        "variants": [
            {"name": name, "colour": colours[name], "grounding": grounding.get(name)}
            for name in variants
        ],
        "pair": [variants.index(name) for name in pair],
        "right": sorted(RIGHT),
        "wrong": sorted(FALSE_POSITIVES),
        "silent": _SILENT,
        "values": {name: values for name, (values, _) in coded.items()},
        "questions": {
            "id": asked["dialogue_id"].to_list(),
            "product": asked["product_id"].to_list(),
            **{name: coded[name][1][0] for name in _CODED},
            **told.questions,
        },
        "answers": [
            {
                **{name: coded[name][1][i] for name in _CODED_ANSWERS},
                "score": own["score"].to_list(),
                "tokens": own["completion_tokens"].to_list(),
                "sem_score": _if_any(own["sem_score"]),
                "truthfulness": _if_any(own["truthfulness"]),
                "text": told.answers[i],
            }
            for i, own in enumerate(by_variant)
        ],
        "texts": texts.all,
    }
    return Embedded(_packed(document), asked.height, told.with_texts)


class _Told(NamedTuple):
    questions: dict[str, list[Any]]
    answers: list[list[int]]
    with_texts: int


def _answers_of(answers: pl.DataFrame, asked: pl.DataFrame, variant: str) -> pl.DataFrame:
    """A variant's answers, a row a question in the order of `asked`."""
    own = answers.filter(variant=variant)
    ranked = asked.select("dialogue_id", "rank").join(own, on="dialogue_id", how="left")
    return ranked.sort("rank").with_columns(cut_text("answer", SHOWN_CHARACTERS))


def _texts_of_questions(
    asked: pl.DataFrame, by_variant: Sequence[pl.DataFrame], texts: _Texts, most: int
) -> _Told:
    shown = asked.with_columns(
        cut_text("question", SHOWN_CHARACTERS), cut_text("gold_answer", SHOWN_CHARACTERS)
    )
    columns: dict[str, list[Any]] = {"text": [], "gold": [], "evidence": [], "found": []}
    columns["prompts"] = []
    answers: list[list[int]] = [[] for _ in by_variant]
    given = zip(*(own["answer"] for own in by_variant), strict=True)
    with_texts = 0
    for row, own in zip(shown.iter_rows(named=True), given, strict=False):
        if texts.characters > most:
            columns["text"].append(texts.number(row["question"][:_LISTED_CHARACTERS]))
            continue
        with_texts += 1
        columns["text"].append(texts.number(row["question"]))
        columns["gold"].append(texts.number(row["gold_answer"]))
        columns["evidence"].append(_evidence(row, texts))
        columns["found"].append(row["context_ids"])
        columns["prompts"].append([_prompt(row[name], texts) for name in _PROMPTS.values()])
        for i, answer in enumerate(own):
            answers[i].append(texts.number(answer))
    return _Told(columns, answers, with_texts)


def _evidence(row: Mapping[str, Any], texts: _Texts) -> dict[str, Any]:
    evidence = row["evidence"] or {}
    return {
        "value": texts.number(row["gold_value"]),
        "attributes": [texts.number(name) for name in evidence.get("attributes") or ()],
        "products": evidence.get("product_ids") or [],
    }


def _prompt(messages: Iterable[Mapping[str, str]] | None, texts: _Texts) -> list[Any] | None:
    """Role and numbers of the lines of each message."""
    if messages is None:
        return None
    return [
        [message["role"], [texts.number(line) for line in _cut(message["content"]).split("\n")]]
        for message in messages
    ]


def _cut(text: str) -> str:
    more = len(text) - _PROMPT_CHARACTERS
    return f"{text[:_PROMPT_CHARACTERS]} … ({more} more characters)" if more > 0 else text


def _codes(columns: Sequence[pl.Series]) -> tuple[list[str], list[list[int]]]:
    """The values of columns in order, and each column as their numbers (-1: null)."""
    found = {value for column in columns for value in column.drop_nulls().unique()}
    values: list[str] = [name for name in OUTCOMES if name in found]
    values += sorted(found.difference(OUTCOMES))
    numbers: dict[str | None, int] = {value: i for i, value in enumerate(values)}
    return values, [[numbers.get(value, -1) for value in column] for column in columns]


def _if_any(column: pl.Series) -> list[float] | None:
    return None if column.null_count() == len(column) else column.to_list()


def _packed(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # A date in the header would make every file another.
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=6, mtime=0)).decode()

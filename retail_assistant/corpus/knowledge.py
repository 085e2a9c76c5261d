"""What a store's people know beside the catalog: terms, questions and answers, documents.

Terms are asked in both directions and questions as they stand; neither needs a model. Questions
about documents do: without a model generator documents are plain text to learn from (the task
`domain_text`) and nothing else.
"""

import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.corpus.dialogues import Dialogue, Evidence, Subset
from retail_assistant.corpus.draws import hash_order, stable_digest, stable_fraction
from retail_assistant.corpus.knowledge_files import (
    Entry,
    KnowledgeError,
    knowledge_version,
    read_documents,
    read_entries,
)
from retail_assistant.corpus.rendering import plain_text
from retail_assistant.corpus.wording import value_stands_in

KNOWLEDGE_VERSION = "1"
GENERATOR = "knowledge"
VALIDATION_SHARE = 0.1
PHRASINGS = 2
"""Ways in which each thing is asked, but for a question that stands as it is."""
EXCERPT_CHARACTERS = 2_000

RejectionReason = Literal[
    "missing_field",
    "unknown_field",
    "too_long",
    "invalid_choices",
    "answer_not_a_choice",
    "duplicate",
]
_REJECTED = {"file": pl.String, "row": pl.Int64, "reason": pl.String, "detail": pl.String}

# What is asked has to fit the limits of the screens.
_MAX_CHARACTERS = {"term": 80, "definition": 300, "question": 300, "answer": 1_000, "choice": 60}
_MAX_ASKED = 400
_MAX_CHOICES = 8
_CHOICE_LETTER = re.compile(r"\(?([A-Za-z])[.):]?")
_PARAGRAPH_END = re.compile(r"\n\s*\n")

_TERM_QUESTIONS = (
    "What does {term} mean?",
    "Can you explain what {term} means?",
    "I keep reading {term}. What is meant by it?",
    "Please define {term}.",
)
_DEFINITION_QUESTIONS = (
    "Which term means: {definition}?",
    "What is the word for this: {definition}?",
    "What do you call this: {definition}?",
    "I am looking for the term that means: {definition}.",
)


class KnowledgeItem(BaseModel):
    """A term with its definition, or a question with its answer (one of `choices`, if any)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["term", "question"]
    file: str
    asked: str = Field(description="the term, or the question")
    answer: str = Field(description="the definition, or the answer")
    choices: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits of what is asked: other answers do not change it."""
        return stable_digest(self.kind, self.asked.casefold())


class DocumentBrief(BaseModel):
    """An excerpt of a store document: whole paragraphs, bounded in length."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="the file's name in the knowledge folder")
    text: str = Field(min_length=1, max_length=EXCERPT_CHARACTERS)

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits: another name or text, another one."""
        return stable_digest(self.name, self.text)


class Knowledge(NamedTuple):
    """What a folder holds; `rejected` (file, row, reason, detail) has the rows not used."""

    items: list[KnowledgeItem]
    documents: list[DocumentBrief]
    rejected: pl.DataFrame


class _UnusableError(ValueError):
    """Why a row is not used."""

    def __init__(self, reason: RejectionReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def read_knowledge(folder: Path) -> Knowledge:
    """The terms, questions and documents of a folder (`knowledge_files` says what may be there).

    Raises:
        KnowledgeError: one line that names the file, the row and what is allowed.
    """
    items: dict[str, KnowledgeItem] = {}
    rejected: list[tuple[str, int, str, str]] = []
    for kind, read in _READERS.items():
        for entry in read_entries(folder, kind):
            try:
                item = read(entry)
                if item.digest in items:
                    raise _UnusableError("duplicate", f"{item.asked!r} stands in a row before")
                items[item.digest] = item
            except _UnusableError as why:
                rejected.append((entry.file, entry.row, why.reason, str(why)))
    documents = document_briefs(read_documents(folder))
    return Knowledge(
        list(items.values()), documents, pl.DataFrame(rejected, schema=_REJECTED, orient="row")
    )


def knowledge_as_of(folder: Path, version: str) -> Knowledge:
    """What a folder holds, if it is still what was looked at (`knowledge_version`).

    Raises:
        KnowledgeError: it has changed, or as `read_knowledge`.
    """
    if knowledge_version(folder) != version:
        raise KnowledgeError(f"{folder} has changed since it was looked at; materialize again")
    return read_knowledge(folder)


def knowledge_dialogues(items: Iterable[KnowledgeItem], seed: int) -> Iterator[Dialogue]:
    """Dialogues about the store's terms and questions.

    An item is on one side, train or validation, with all its phrasings, by a hash of what it asks.
    """
    for item in items:
        yield from _dialogues(item, seed)


def document_briefs(documents: Mapping[str, str]) -> list[DocumentBrief]:
    """Excerpts of documents (name -> text) in their order; paragraphs stay whole where they fit."""
    return [
        DocumentBrief(name=name, text=text)
        for name, whole in documents.items()
        for text in _excerpts(whole)
    ]


def _term(entry: Entry) -> KnowledgeItem:
    _only(entry, "term", "definition")
    return KnowledgeItem(
        kind="term",
        file=entry.file,
        asked=_field(entry, "term"),
        answer=_field(entry, "definition"),
    )


def _question(entry: Entry) -> KnowledgeItem:
    _only(entry, "question", "answer", "choices")
    asked, answer, choices = _field(entry, "question"), _field(entry, "answer"), _choices(entry)
    length = len(asked) + sum(len(choice) + len(", A) ") for choice in choices)
    if length > _MAX_ASKED:
        raise _UnusableError(
            "too_long", f"with its choices {length} characters; allowed: {_MAX_ASKED}"
        )
    return KnowledgeItem(
        kind="question",
        file=entry.file,
        asked=asked,
        answer=_chosen(answer, choices) if choices else answer,
        choices=choices,
    )


_READERS: dict[str, Callable[[Entry], KnowledgeItem]] = {"terms": _term, "questions": _question}


def _only(entry: Entry, *allowed: str) -> None:
    unknown = [name or "one without a name" for name in entry.fields if name not in allowed]
    if unknown:
        raise _UnusableError(
            "unknown_field", f"{', '.join(unknown)}; allowed: {', '.join(allowed)}"
        )


def _field(entry: Entry, name: str) -> str:
    value = entry.fields.get(name)
    # Numbers are answers too; True is what YAML makes of an unquoted yes.
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _UnusableError("missing_field", f"{name}: allowed: text")
    return _text(str(value), name)


def _text(value: str, name: str) -> str:
    limit = _MAX_CHARACTERS[name]
    if len(value) > limit:
        raise _UnusableError("too_long", f"{name}: {len(value)} characters; allowed: {limit}")
    text = plain_text(value, limit)
    if not text:
        raise _UnusableError("missing_field", f"{name} is empty")
    return text


def _choices(entry: Entry) -> tuple[str, ...]:
    given = entry.fields.get("choices") or ()
    parts = given.split("|") if isinstance(given, str) else given
    if not isinstance(parts, list | tuple):
        raise _UnusableError("invalid_choices", "allowed: a list of texts")
    choices = tuple(_text(str(part), "choice") for part in parts)
    different = {choice.casefold() for choice in choices}
    if choices and not 2 <= len(different) == len(choices) <= _MAX_CHOICES:
        raise _UnusableError("invalid_choices", f"allowed: 2 to {_MAX_CHOICES} different ones")
    return choices


def _chosen(answer: str, choices: Sequence[str]) -> str:
    """The choice that an answer names, by its text or by its letter."""
    for choice in choices:
        if choice.casefold() == answer.casefold():
            return choice
    letter = _CHOICE_LETTER.fullmatch(answer)
    number = ord(letter[1].upper()) - ord("A") if letter else len(choices)
    if number >= len(choices):
        raise _UnusableError("answer_not_a_choice", f"{answer!r}; allowed: {', '.join(choices)}")
    return choices[number]


def _dialogues(item: KnowledgeItem, seed: int) -> Iterator[Dialogue]:
    drawn = stable_fraction("knowledge", seed, item.digest)
    subset: Subset = "validation" if drawn < VALIDATION_SHARE else "train"
    if item.kind == "question":
        yield from _series(item, subset, _exam(item, seed) if item.choices else _as_asked(item))
        return
    definition = item.answer.rstrip(".")
    meaning = f"{item.asked}: {definition}."
    asked = _drawn("term", _TERM_QUESTIONS, item, seed)
    yield from _series(item, subset, [(i, t.format(term=item.asked), meaning) for i, t in asked])
    if value_stands_in(item.asked, item.answer):
        return  # turned round, the question would hold its answer
    asked = _drawn("definition", _DEFINITION_QUESTIONS, item, seed)
    turned = [(i, t.format(definition=definition), f"The term is {item.asked}.") for i, t in asked]
    yield from _series(item, subset, turned)


def _drawn(
    kind: str, templates: Sequence[str], item: KnowledgeItem, seed: int
) -> list[tuple[str, str]]:
    named = [(f"{kind}/{number}", text) for number, text in enumerate(templates, start=1)]
    return hash_order(named, lambda one: one[0], kind, seed, item.digest)[:PHRASINGS]


def _as_asked(item: KnowledgeItem) -> list[tuple[str, str, str]]:
    return [("question/1", item.asked, item.answer)]


def _exam(item: KnowledgeItem, seed: int) -> list[tuple[str, str, str]]:
    """The question with its choices in two orders, no letter the same: none is to be learned."""
    drawn = hash_order(item.choices, str, "choices", seed, item.digest)
    asked = []
    for number, ordered in enumerate((drawn, [*drawn[1:], drawn[0]]), start=1):
        lettered = [f"{chr(ord('A') + place)}) {choice}" for place, choice in enumerate(ordered)]
        answer = lettered[ordered.index(item.answer)]
        asked.append((f"choices/{number}", f"{item.asked} {', '.join(lettered)}", answer))
    return asked


def _series(
    item: KnowledgeItem, subset: Subset, asked: Iterable[tuple[str, str, str]]
) -> Iterator[Dialogue]:
    """Dialogues that ask for the same in different ways."""
    first: str | None = None
    for phrasing, question, answer in asked:
        dialogue = Dialogue(
            intent="knowledge",
            subset=subset,
            question=question,
            answer=answer,
            evidence=Evidence(documents=(item.file,)),
            paraphrase_of=first,
            phrasing=phrasing,
            generator=GENERATOR,
            generator_version=KNOWLEDGE_VERSION,
        )
        first = first or dialogue.dialogue_id
        yield dialogue


def _excerpts(document: str) -> Iterator[str]:
    held = ""
    for paragraph in _paragraphs(document):
        for part in _bounded(paragraph):
            if held and len(held) + len(part) + 2 > EXCERPT_CHARACTERS:
                yield held
                held = ""
            held = f"{held}\n\n{part}" if held else part
    if held:
        yield held


def _paragraphs(document: str) -> Iterator[str]:
    for block in _PARAGRAPH_END.split(document.replace("\r\n", "\n")):
        lines = (plain_text(line, 4 * len(line) + 80) for line in block.splitlines())
        if text := "\n".join(filter(None, lines)):
            yield text


def _bounded(paragraph: str) -> list[str]:
    if len(paragraph) <= EXCERPT_CHARACTERS:
        return [paragraph]
    return textwrap.wrap(paragraph, EXCERPT_CHARACTERS)

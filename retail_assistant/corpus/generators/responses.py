"""Reading a model's replies: which questions and answers can be used, and why the rest cannot.

Of every reply what can be used is kept, so one bad question costs no other. Nothing that decides
what is true (gold value, evidence, subset) is taken from a model.
"""

import unicodedata
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from retail_assistant.corpus.briefs import Brief, PlannedQuestion
from retail_assistant.corpus.generators.instructions import wanted_questions
from retail_assistant.corpus.generators.model import Reply
from retail_assistant.corpus.knowledge import DocumentBrief
from retail_assistant.corpus.reading.text import abstaining_clauses, read_text
from retail_assistant.corpus.wording import comparable_text, value_stands_in

Reason = Literal[
    "refused", "cut_off", "malformed", "missing", "bad_questions", "bad_answer", "no_reply"
]
"""`no_reply`: the endpoint failed; the others: what a model wrote, twice, cannot be used."""

_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u02bc\u00b4\u0060", "'"))
_THOUGHTS_END = "</think>"
_SHOWN = 120

Written = TypeVar("Written", bound=BaseModel)


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid")


class WrittenItem(_Form):
    """The questions of one task and their answer."""

    number: int
    questions: list[str]
    answer: str


class WrittenBrief(_Form):
    """What a model writes for a brief."""

    items: list[WrittenItem]


class DocumentQuestion(_Form):
    """A question about a document, and the part of the document that answers it."""

    question: str
    answer: str
    quote: str


class WrittenDocument(_Form):
    """What a model writes about a document."""

    items: list[DocumentQuestion]


class Problem(NamedTuple):
    """Why something of a reply is not used: which question (its key), the kind, and a sentence."""

    key: str
    reason: Reason
    detail: str


class Wording(NamedTuple):
    """The words for one planned question: as many questions as wanted, and their answer."""

    questions: tuple[str, ...]
    answer: str


class BriefReading(NamedTuple):
    """By key of the planned question: its words, or why there are none."""

    words: dict[str, Wording]
    problems: tuple[Problem, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing can be used."""
        return not self.words


class DocumentReading(NamedTuple):
    """Questions that the document answers, and why others are not used."""

    questions: tuple[DocumentQuestion, ...]
    problems: tuple[Problem, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing can be used."""
        return not self.questions


def read_brief(brief: Brief, replies: Sequence[Reply]) -> BriefReading:
    """What the replies (the first, then the repaired one) say together; the last word counts."""
    words: dict[str, Wording] = {}
    problems: dict[str, Problem] = {}
    for reply in replies:
        reading = _read_reply(brief, reply)
        words |= reading.words
        problems = {problem.key: problem for problem in reading.problems}
    left = tuple(problem for key, problem in problems.items() if key not in words)
    return BriefReading(words, left)


def read_document(document: DocumentBrief, replies: Sequence[Reply]) -> DocumentReading:
    """The usable questions of the last reply that has any."""
    questions: tuple[DocumentQuestion, ...] = ()
    problems: tuple[Problem, ...] = ()
    for reply in replies:
        found, problems = _read_document_reply(document, reply)
        questions = found or questions
    return DocumentReading(questions, () if questions else problems)


def _read_reply(brief: Brief, reply: Reply) -> BriefReading:
    keys = [asked.key for asked in brief.questions]
    written = parsed_reply(reply, WrittenBrief)
    if isinstance(written, Unreadable):
        return BriefReading({}, tuple(Problem(key, *written) for key in keys))
    by_number: dict[int, WrittenItem] = {}
    for item in written.items:
        by_number.setdefault(item.number, item)
    words: dict[str, Wording] = {}
    problems: list[Problem] = []
    for number, asked in enumerate(brief.questions, start=1):
        try:
            words[asked.key] = _wording(brief, asked, number, by_number.get(number))
        except _UnusableError as error:
            problems.append(Problem(asked.key, error.reason, str(error)))
    return BriefReading(words, tuple(problems))


class Unreadable(NamedTuple):
    """Why a reply is not the JSON that was asked for."""

    reason: Reason
    detail: str


class _UnusableError(ValueError):
    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def _wording(
    brief: Brief, asked: PlannedQuestion, number: int, item: WrittenItem | None
) -> Wording:
    if item is None:
        raise _UnusableError("missing", f"task {number} is not in it")
    return Wording(
        _questions(brief, asked, number, item.questions),
        _answer(brief, asked, number, item.answer),
    )


def _questions(
    brief: Brief, asked: PlannedQuestion, number: int, written: Sequence[str]
) -> tuple[str, ...]:
    """As many different, usable questions as wanted."""
    usable: dict[str, str] = {}
    complaint = ""
    for question in (" ".join(text.split()) for text in written):
        why = _unusable_question(brief, asked, question)
        if why:
            complaint = complaint or f"; {why}: {_shown(question)}"
        else:
            usable.setdefault(comparable_text(question), question)
    wanted = wanted_questions(asked)
    if len(usable) < wanted:
        counted = f"task {number} needs {wanted} different questions and has {len(usable)}"
        raise _UnusableError("bad_questions", f"{counted} that can be used{complaint}")
    return tuple(usable.values())[:wanted]


def _unusable_question(brief: Brief, asked: PlannedQuestion, question: str) -> str | None:
    if _folded(brief.reference) not in _folded(question):
        return f"one does not call the product {brief.reference}"
    if asked.gold_value and value_stands_in(
        asked.gold_value, question, asked.asked_attribute or ""
    ):
        return "one gives its answer away"
    return None


def _answer(brief: Brief, asked: PlannedQuestion, number: int, written: str) -> str:
    """The answer without blanks around its lines; empty for an overview, which code writes."""
    if asked.intent == "overview":
        return ""
    answer = "\n".join(filter(None, (" ".join(line.split()) for line in written.splitlines())))
    why = _unusable_answer(brief, asked, answer)
    if why:
        raise _UnusableError("bad_answer", f"the answer of task {number} {why}: {_shown(answer)}")
    return answer


def _unusable_answer(brief: Brief, asked: PlannedQuestion, answer: str) -> str | None:
    if not answer:
        return "is empty"
    if asked.intent == "attribute":
        stated = comparable_text(asked.gold_value or "") in comparable_text(answer)
        return None if stated else f'does not say "{asked.gold_value}"'
    if asked.intent == "unanswerable":
        return None if _declines(answer, brief.reference) else "does not say that it is not known"
    folded = _folded(answer)
    missing = [s.called for s in asked.suggestions if _folded(s.called) not in folded]
    return f"does not name {missing[0]}" if missing else None


def _declines(answer: str, reference: str) -> bool:
    """Is it a refusal to whoever reads answers, here and in evaluation?"""
    # A name may itself read like a refusal ("No Details Top").
    nameless = _folded(answer).replace(_folded(reference), "it")
    return bool(abstaining_clauses(read_text(nameless), frozenset()))


def _read_document_reply(
    document: DocumentBrief, reply: Reply
) -> tuple[tuple[DocumentQuestion, ...], tuple[Problem, ...]]:
    written = parsed_reply(reply, WrittenDocument)
    if isinstance(written, Unreadable):
        return (), (Problem(document.name, *written),)
    text = _folded(document.text)
    usable: dict[str, DocumentQuestion] = {}
    problems: list[Problem] = []
    for item in written.items:
        question, answer = " ".join(item.question.split()), " ".join(item.answer.split())
        quote = _folded(item.quote)
        if not question or not answer:
            problems.append(
                Problem(document.name, "bad_questions", "a question or answer is empty")
            )
        elif not quote or quote not in text:
            why = f"a quote is not in the document: {_shown(item.quote)}"
            problems.append(Problem(document.name, "bad_answer", why))
        else:
            kept = DocumentQuestion(question=question, answer=answer, quote=item.quote)
            usable.setdefault(comparable_text(question), kept)
    if not written.items:
        problems.append(Problem(document.name, "missing", "there is no question in it"))
    return tuple(usable.values()), tuple(problems)


def parsed_reply(reply: Reply, form: type[Written]) -> Written | Unreadable:
    """The JSON of a reply, whatever is written around it, or why there is none."""
    if reply.refused:
        return Unreadable("refused", _shown(reply.refusal or "filtered by the endpoint"))
    text = reply.text.rpartition(_THOUGHTS_END)[2]
    start, end = text.find("{"), text.rfind("}")
    try:
        return form.model_validate_json(text[start : end + 1] if 0 <= start < end else text)
    except ValidationError as error:
        if reply.cut_off:
            return Unreadable("cut_off", "it was cut off because it is too long")
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        why = f"it is not the JSON that was asked for: {place} {first['msg']}"
        return Unreadable("malformed", why)


def _folded(text: str) -> str:
    """How names and quotes are compared: apostrophes, case, width and blanks are levelled."""
    return " ".join(unicodedata.normalize("NFKC", text.translate(_APOSTROPHES)).casefold().split())


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."

"""Reading a free-text answer as a person would: which product, which value, or "I do not know".

A reading says what the answer states. Whether that is right is `outcomes`' business.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from retail_assistant.corpus.phrasing import attribute_wording
from retail_assistant.corpus.reading.catalog_facts import (
    CatalogFacts,
    PhraseIndex,
    Span,
    ValueMeaning,
    longest,
    value_forms,
)
from retail_assistant.corpus.reading.names import (
    MAX_CHARACTERS,
    NamedText,
    Question,
    StatedProduct,
    read_names,
)
from retail_assistant.corpus.reading.text import Text, abstaining_clauses, is_negated, normalise

__all__ = [
    "MAX_CHARACTERS",
    "AnswerReading",
    "CatalogFacts",
    "Question",
    "StatedProduct",
    "StatedValue",
    "normalise",
    "read_answer",
]


@dataclass(frozen=True)
class StatedValue:
    """A value of the asked attribute that an answer asserts: the phrase and what it can mean."""

    phrase: str
    atoms: frozenset[str]


@dataclass(frozen=True)
class AnswerReading:
    """What an answer states.

    `named`: its words, and the products that they name. `declining`: the clauses that say "I do not
    know". `unknown_products`: names that no catalog product has. `names_asked`: the asked product
    is named (in full, in part or with a slip of the pen). `claims`: something is said to be the
    asked attribute, in whatever words. `abstained`: says that it does not know and asserts nothing.
    `read_in_full`: False where only the first MAX_CHARACTERS characters were read.
    """

    named: NamedText
    declining: frozenset[int]
    products: tuple[StatedProduct, ...]
    unknown_products: tuple[str, ...]
    values: tuple[StatedValue, ...]
    names_asked: bool
    claims: bool
    abstained: bool
    stopped: bool
    empty: bool
    read_in_full: bool


def read_answer(
    answer: str, question: Question, facts: CatalogFacts, *, finish_reason: str = "stop"
) -> AnswerReading:
    """Read one answer to one question.

    Names and values are matched longest first on normal forms, values outside names only. A value
    that is denied ("not cotton") or stands in a clause that abstains is not stated.
    """
    named = read_names(answer, question, facts)
    text, masked = named.text, named.masked
    abstaining = abstaining_clauses(text, masked | _gold_denials(text, question))
    others = _clauses_of_others(text, named.spans, question) if named.asked else frozenset()
    values = _stated_values(text, masked, abstaining | others, question, facts)
    claims = _claims(text, masked, abstaining | others, question)
    return AnswerReading(
        named=named,
        declining=abstaining,
        products=named.products,
        unknown_products=named.unknown,
        values=values,
        names_asked=named.asked,
        claims=claims,
        abstained=bool(abstaining) and not claims and not values,
        stopped=finish_reason == "stop",
        empty=not text.words,
        read_in_full=len(answer) <= MAX_CHARACTERS,
    )


def _clauses_of_others(text: Text, spans: Sequence[Span], question: Question) -> frozenset[int]:
    """Clauses that name another product and not the asked one: what they say is not about it."""
    asked = f" {normalise(question.product_name or '')} "
    own = {text.clauses[span.start] for span in spans if f" {span.phrase} " in asked}
    return frozenset(text.clauses[span.start] for span in spans) - own


_HIDDEN = "\u25a1"
_BARE_ANSWER_WORDS = 3
_COPULAS = frozenset({"is", "are", "was", "were", "be"})
_CLAIMING = _COPULAS | {"has", "have", "as"}
_ARTICLES = frozenset({"a", "an", "the", "made", "of", "from", "in", "with", "for", "only", "also"})


def _stands_as_value(text: Text, start: int) -> bool:
    """Whether a word stands where an answer puts a value: after "is", a colon or a line start."""
    position = start
    while text.words[position - 1] in _ARTICLES and text.gaps[position].isspace():
        if position == 0 or "\n" in text.gaps[position]:
            break
        position -= 1
    gap = text.gaps[position]
    after_mark = "\n" in gap or ":" in gap or "=" in gap
    return after_mark or text.words[position - 1] in _COPULAS


def _stated_values(
    text: Text,
    masked: frozenset[int],
    skipped: frozenset[int],
    question: Question,
    facts: CatalogFacts,
) -> tuple[StatedValue, ...]:
    """Values of the asked attribute that the answer asserts outside names and skipped clauses."""
    if not question.asked_attribute:
        return ()
    table = facts.values_of(question.asked_attribute)
    gold = PhraseIndex(_gold_forms(question, facts))
    words = [_HIDDEN if position in masked else word for position, word in enumerate(text.words)]
    stated: dict[StatedValue, None] = {}
    for span in longest([*table.matches(words), *gold.matches(words)]):
        meaning = table.meanings.get(span.phrase) or gold.meanings[span.phrase]
        placed = meaning.strong or _stands_as_value(text, span.start)
        skip = text.clauses[span.start] in skipped or is_negated(text, span.start)
        if placed and not skip:
            stated[StatedValue(span.phrase, meaning.atoms)] = None
    return tuple(stated)


def _gold_forms(question: Question, facts: CatalogFacts) -> Mapping[str, ValueMeaning]:
    """Forms of the gold value that the catalog's vocabulary lacks."""
    attribute = question.asked_attribute or ""
    known = facts.values_of(attribute).meanings
    forms = value_forms(attribute, [question.gold_value or ""])
    return {phrase: meaning for phrase, meaning in forms.items() if phrase not in known}


def _gold_denials(text: Text, question: Question) -> frozenset[int]:
    """Where the gold value is said by denying: "gives No Collar" declines nothing."""
    gold = normalise(question.gold_value or "")
    if not gold.startswith("no "):
        return frozenset()
    spans = PhraseIndex({gold: None}).matches(text.words)
    return frozenset(i for span in spans for i in range(span.start, span.end))


def _claims(
    text: Text, masked: frozenset[int], skipped: frozenset[int], question: Question
) -> bool:
    """Whether something is said to be the asked attribute: "<attribute> ... is/: <anything>"."""
    if not question.asked_attribute:
        return False
    free = [i for i, clause in enumerate(text.clauses) if clause not in skipped and i not in masked]
    if 0 < len(free) == len(text.words) <= _BARE_ANSWER_WORDS:
        return True
    noun = attribute_wording(question.asked_attribute).noun
    attribute = set(normalise(f"{question.asked_attribute} {noun}").split()) - _ARTICLES
    mentioned: set[int] = set()
    for i in free:
        if text.clauses[i] in mentioned and (
            text.words[i - 1] in _CLAIMING or ":" in text.gaps[i] or "=" in text.gaps[i]
        ):
            return True
        if text.words[i] in attribute:
            mentioned.add(text.clauses[i])
    return False

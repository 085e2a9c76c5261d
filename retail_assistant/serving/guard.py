"""What a model may say to a shopper: nothing that the catalog's records contradict.

Every sentence (or line) of an answer is read as evaluation reads it (`corpus.reading`) and compared
with the records that the answer was to be made from. A wrong value is replaced by the recorded
one; a product that was not in the records, an attribute that a record does not have, a link, a
promise about stock or delivery, praise, and what is about nothing that was looked up is left out:
a record's text may hold orders to the model, and this is what obeying them looks like. Prices are
compared as numbers.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from retail_assistant.catalog.index import CatalogIndex
from retail_assistant.catalog.keywords import stop_words
from retail_assistant.corpus.phrasing import attribute_answer, attribute_answers, attribute_wording
from retail_assistant.corpus.reading.answers import (
    AnswerReading,
    CatalogFacts,
    Question,
    read_answer,
)
from retail_assistant.corpus.reading.catalog_facts import PhraseIndex, ProductFacts, value_atoms
from retail_assistant.corpus.reading.names import NamedText
from retail_assistant.corpus.reading.text import normalise
from retail_assistant.corpus.rendering import (
    MAX_NAME_CHARACTERS,
    item_code,
    plain_text,
)
from retail_assistant.serving.forbidden import forbidden
from retail_assistant.serving.prices import current_price
from retail_assistant.serving.record_words import FRAME, RecordWords, words_of
from retail_assistant.serving.turns import Correction

Record = Mapping[str, Any]

_MONEY = re.compile(
    r"(?:₹|\brs\.?|\binr\b|\bprice[^\d\n]{0,40}?|\bcosts?[^\d\n]{0,20}?)\s*(\d[\d,]*(?:\.\d+)?)"
    r"|(\d[\d,]*(?:\.\d+)?)\s*(?:rupees|inr\b|rs\b)",
    re.I,
)
# "The warranty of … is", "its origin is": what is spoken of.
_SUBJECT = re.compile(
    r"\b(?:the|its|their) ((?:[a-z][a-z-]* ){0,3}[a-z][a-z-]*) (?:of|is|are|was)\b", re.I
)
_SUBJECT_IS = re.compile(r"\s*the [^.\n]{1,200}? (?:is|are) ", re.I)
_NO_ATTRIBUTES = frozenset({"price", "cost", "name", "product", "item", "record", "catalog"})
_COURTESY = frozenset([
    "yes", "no", "ok", "sorry", "thanks", "thank", "welcome", "sure", "help", "glad", "happy",
    "hello", "hi", "let", "know", "questions", "question", "ask", "product", "item", "record",
    "records", "catalog", "catalogue", "shop", "store", "information", "details",
])  # fmt: skip
_SHOWN = 200
# Neither "Rs. 500" nor an initial ends a sentence.
_SENTENCE_END = re.compile(r"\n+|(?<!\b[Rr]s)(?<![\s(][A-Z])[.!?][\"')\u201d]?\s+(?=\S)")


@dataclass(frozen=True)
class Review:
    """A sentence as it may be said (empty: not at all), and what was wrong with it."""

    text: str
    corrections: tuple[Correction, ...] = ()


class Guard:
    """Compares sentences with records; `facts` are of the whole catalog, for its names and values.

    Not for a catalog's own texts, which are right by definition.
    """

    def __init__(self, facts: CatalogFacts) -> None:
        self.facts = facts

    @cached_property
    def _attributes(self) -> PhraseIndex[str]:
        """Phrases that name an attribute -> the attribute in normal form."""
        named: dict[str, str] = {}
        for attribute in self.facts.vocabulary:
            for phrase in (normalise(attribute_wording(attribute).noun), attribute):
                if phrase:
                    named.setdefault(phrase, attribute)
        return PhraseIndex(named)

    def over(self, question: str, records: Sequence[Record]) -> "Reviewer":
        """The reviewer of one answer, to a question, from records."""
        return Reviewer(self, question, records)


def open_guard(index: CatalogIndex) -> Guard:
    """The guard over all products of an index, with what a first sentence would wait for."""
    products = index.columns(index.record_columns).sort("product_id")
    guard = Guard(CatalogFacts.from_products(products))
    record = products.row(0, named=True)
    guard.over("", [record]).review(f"The fabric of {record['name']} is cotton. It costs Rs. 1.")
    return guard


class Reviewer:
    """Reviews the sentences of one answer."""

    def __init__(self, guard: Guard, question: str, records: Sequence[Record]) -> None:
        self._guard, self._facts = guard, guard.facts
        self._question = question
        self._records = {record["product_id"]: record for record in records}
        self._subject = next(iter(self._records), None)
        self.words = RecordWords(question, records)

    def review(self, sentence: str) -> Review:
        """What may be said of a sentence."""
        if not sentence.strip():
            return Review(sentence)
        if (kind := self._forbidden(sentence)) is not None:
            return _withheld(*kind)
        review = self._compared(sentence)
        # What takes the place of a wrong value is a record's, and may be planted.
        kind = self._forbidden(review.text) if review.corrections else None
        return review if kind is None else _withheld(*kind)

    def _forbidden(self, text: str) -> tuple[str, str] | None:
        found = forbidden(text, self.words.names)
        return None if found is None else (found[0], found[1][0])

    def _compared(self, sentence: str) -> Review:
        """A sentence after it was compared with the records."""
        reading = self._read(sentence, self._subject)
        if reading.empty:
            return Review(sentence)
        subject = self._record_meant(reading.named)
        if reading.abstained:
            # Not to know is always allowed, and what is said beside it is not.
            return self._beside_not_knowing(sentence, subject, reading.named)
        if (wrong := self._wrong_product(reading.named)) is not None:
            return _withheld("product", wrong)
        if subject is None:
            return _withheld("product", sentence.strip())
        mended = self._prices(sentence, subject) or self._values(sentence, subject, reading.named)
        if mended is None and (unheard := self._unheard_of(sentence)) is not None:
            return _withheld(unheard, sentence.strip())
        if mended is None and self._is_about_nothing(sentence, subject, reading.named):
            return _withheld("unsupported", sentence.strip())
        return mended or Review(sentence)

    def _is_about_nothing(self, sentence: str, record: Record, named: NamedText) -> bool:
        """Whether a sentence says nothing of a product, a price, an attribute or its value."""
        facts = self._facts.products.get(record["product_id"])
        if named.products or _MONEY.search(sentence) or facts is None or _said(facts, named):
            return False
        words = words_of(sentence)
        if self._guard._attributes.find(named.text.words) or not FRAME.isdisjoint(words):
            return False
        known = stop_words() | _COURTESY | set(words_of(self._question))
        return not known.issuperset(words)

    def _beside_not_knowing(
        self, sentence: str, subject: Record | None, named: NamedText
    ) -> Review:
        if subject is None:
            money = _MONEY.search(sentence)
            return _withheld("price", money[0]) if money else Review(sentence)
        mended = self._prices(sentence, subject) or self._values(sentence, subject, named)
        return mended or Review(sentence)

    def _read(
        self, sentence: str, product_id: str | None, attribute: str | None = None
    ) -> AnswerReading:
        record = self._facts.products.get(product_id or "")
        gold = ", ".join(record.attributes.get(attribute or "", ())) if record else None
        question = Question(
            question=self._question,
            intent="attribute",
            product_id=product_id,
            product_name=record.name if record else None,
            asked_attribute=attribute,
            gold_value=gold or None,
        )
        return read_answer(sentence, question, self._facts)

    def _wrong_product(self, named: NamedText) -> str | None:
        """A name in the sentence that no record has."""
        if named.unknown:
            return named.unknown[0]
        records = self._records.keys()
        others = (one.name for one in named.products if not one.product_ids & records)
        # A shorter name that is part of a record's is how that record is called.
        full = [f" {normalise(str(record['name']))} " for record in self._records.values()]
        return next((n for n in others if not any(f" {n} " in name for name in full)), None)

    def _record_meant(self, named: NamedText) -> Record | None:
        """The record that a sentence is about: the one it names, else the first."""
        for product in named.products:
            for product_id, record in self._records.items():
                if product_id in product.product_ids:
                    return record
        return self._records.get(self._subject or "")

    def _prices(self, sentence: str, record: Record) -> Review | None:
        """The sentence corrected where it states a price that is not the record's."""
        paid = current_price(record)
        known = {
            round(float(one[field]), 2)
            for one in self._records.values()
            for field in ("discounted_price", "retail_price")
            if one.get(field)
        }
        for match in _MONEY.finditer(sentence):
            figure = next(filter(None, match.groups()))
            if round(float(figure.replace(",", "")), 2) in known:
                continue
            wrong = Correction(
                product_id=record["product_id"],
                attribute="price",
                stated=figure,
                recorded=_money(paid) if paid else None,
                action="corrected" if paid else "withheld",
            )
            if not paid:
                return Review("", (wrong,))
            start, end = match.span(1) if match[1] else match.span(2)
            return Review(sentence[:start] + _money(paid) + sentence[end:], (wrong,))
        return None

    def _values(self, sentence: str, record: Record, named: NamedText) -> Review | None:
        """Another sentence where it contradicts the record."""
        facts = self._facts.products.get(record["product_id"])
        if facts is None:
            return None
        words = [
            "" if place in named.masked else word for place, word in enumerate(named.text.words)
        ]
        wrong = [
            found
            for attribute in dict.fromkeys(
                self._guard._attributes.meanings[span.phrase]
                for span in self._guard._attributes.find(words)
            )
            if (found := self._wrong_value(sentence, facts, attribute)) is not None
        ]
        if not wrong:
            return None
        return Review(_mended(sentence, wrong, record), tuple(wrong))

    def _unheard_of(self, sentence: str) -> str | None:
        """What a sentence tells that no product of the catalog has, such as a warranty."""
        for match in _SUBJECT.finditer(sentence):
            words = normalise(match[1]).split()
            known = self._guard._attributes.find(words) or _NO_ATTRIBUTES.intersection(words)
            if not known and not self.words.shown.issuperset(match[1].casefold().split()):
                return match[1].casefold()
        return None

    def _wrong_value(self, sentence: str, facts: ProductFacts, attribute: str) -> Correction | None:
        """What the sentence says of an attribute and the record contradicts or does not have."""
        recorded = facts.attributes.get(attribute, ())
        reading = self._read(sentence, facts.product_id, attribute)
        if reading.abstained:
            return None
        gold = frozenset[str]().union(*(value_atoms(attribute, value) for value in recorded))
        if attribute in self._spoken_of(sentence):
            return self._wrong_subject(sentence, facts, attribute, reading, gold)
        stated = [
            value.phrase
            for value in reading.values
            if not value.atoms & gold
            and not facts.states(attribute, value.phrase, value.atoms)
            and not _holds(facts, value.phrase)
        ]
        claimed = reading.claims and not reading.values and not _said(facts, reading.named)
        if not stated and not claimed:
            return None
        return _correction(facts, attribute, stated, sentence)

    def _spoken_of(self, sentence: str) -> frozenset[str]:
        """The attributes that a sentence is about: "The lining of … is", "its fabric is"."""
        index = self._guard._attributes
        return frozenset(
            index.meanings[span.phrase]
            for match in _SUBJECT.finditer(sentence)
            for span in index.find(normalise(match[1]).split())
        )

    def _wrong_subject(
        self,
        sentence: str,
        facts: ProductFacts,
        attribute: str,
        reading: AnswerReading,
        gold: frozenset[str],
    ) -> Correction | None:
        """What is wrong with a sentence about an attribute: right is its own value, no other's."""
        stated = [value.phrase for value in reading.values if not value.atoms & gold]
        if gold and (len(stated) < len(reading.values) or _said(facts, reading.named, attribute)):
            return None
        if not (reading.claims or reading.values) or any(_beside(facts, one) for one in stated):
            return None
        return _correction(facts, attribute, stated, sentence)


def _correction(
    facts: ProductFacts, attribute: str, stated: Sequence[str], sentence: str
) -> Correction:
    told = ", ".join(facts.attributes.get(attribute, ())) or None
    return Correction(
        product_id=facts.product_id,
        attribute=attribute,
        stated=", ".join(stated) or sentence.strip()[:_SHOWN],
        recorded=told,
        action="corrected" if told else "withheld",
    )


def _beside(facts: ProductFacts, phrase: str) -> bool:
    """Whether words stand in the name or the notes, which belong to no attribute."""
    return any(f" {phrase} " in f" {normalise(text)} " for text in (facts.name, *facts.notes))


def _holds(facts: ProductFacts, phrase: str) -> bool:
    """Whether words stand in a value of a record, such as "cotton" in "Cotton Lining"."""
    values = (value for values in facts.attributes.values() for value in values)
    return any(f" {phrase} " in f" {normalise(value)} " for value in values)


def _said(facts: ProductFacts, named: NamedText, attribute: str | None = None) -> bool:
    """Whether words beside the names state a value of the record, whole or as records show it.

    Any value, or one of an attribute.
    """
    words = enumerate(named.text.words)
    text = " ".join("\n" if place in named.masked else word for place, word in words)
    of = facts.attributes if attribute is None else {attribute: facts.attributes[attribute]}
    values = [one for values in of.values() for one in values]
    shown = (
        normalise(plain_text(one).removesuffix("..."))
        for one in (*values, *(() if attribute else facts.notes))
    )
    return any(value and f" {value} " in f" {text} " for value in shown)


def sentences(text: str) -> Iterator[str]:
    """The complete sentences and lines at the start of a text, with the blanks behind them.

    What is left behind the last one is not given: more may follow it.
    """
    start = 0
    for match in _SENTENCE_END.finditer(text):
        yield text[start : match.end()]
        start = match.end()


def _withheld(attribute: str, stated: str) -> Review:
    correction = Correction(
        product_id=None,
        attribute=attribute,
        stated=stated[:_SHOWN],
        recorded=None,
        action="withheld",
    )
    return Review("", (correction,))


def _mended(sentence: str, wrong: Sequence[Correction], record: Record) -> str:
    """The recorded values in place of the stated ones; what has no recorded value is left out."""
    said = []
    ending = sentence[len(sentence.rstrip()) :]
    for correction in (one for one in wrong if one.recorded is not None):
        value = plain_text(correction.recorded or "")
        found = re.search(rf"\b{re.escape(correction.stated)}\b", sentence, re.IGNORECASE)
        if found and len(correction.stated) < len(sentence.strip()):
            return sentence[: found.start()] + value + sentence[found.end() :]
        subject = _SUBJECT_IS.match(sentence)
        if subject and len(wrong) == 1:
            return f"{subject[0]}{value}.{ending}"
        called = called_product(record)
        phrasing = attribute_answers(correction.attribute)[0]
        said.append(attribute_answer(phrasing, correction.attribute, called, value))
    return " ".join(said) + ending if said else ""


def called_product(record: Record) -> str:
    """How a product is called so that nobody can mistake it: its name and its item code."""
    name = plain_text(str(record["name"]), MAX_NAME_CHARACTERS)
    return f"{name} (item {plain_text(item_code(record['product_id']))})"


def _money(price: float) -> str:
    return f"{price:.2f}".removesuffix(".00")

"""Claims of an answer that the records of its evidence do not support."""

import re
from collections.abc import Collection, Iterator

from retail_assistant.corpus.reading.answers import AnswerReading
from retail_assistant.corpus.reading.catalog_facts import Span, longest
from retail_assistant.corpus.reading.text import Text, is_negated, normalise
from retail_assistant.corpus.screens.catalog_text import CatalogText
from retail_assistant.corpus.screens.language import is_english

# Values that are also words of everyday speech: alone they claim nothing ("a regular wash").
_EVERYDAY = frozenset({
    "short", "round", "straight", "solid", "regular", "comfort", "fashion", "net", "curve",
    "free", "set", "shift", "open", "single", "double", "square",
    "loose", "soft", "light", "wear", "other",
})  # fmt: skip
_BREAK = frozenset(":;,.!?()\n")
_HIDDEN = "\u25a1"
_HAVING = frozenset({"has", "have", "having", "with", "features", "feature", "featuring"})
_HAVING_REACH = 3
# Attributes that every garment has in some way, so that to speak of them claims nothing.
_OPEN_ATTRIBUTES = frozenset({
    "type", "style", "pattern", "color", "fit", "length", "size", "design", "care", "look",
    "brand", "fabric", "material", "weight", "shape", "series", "occasion", "wash",
})  # fmt: skip
_LIST_MARK = re.compile(r"^\s*\d{1,2}[.)]\s", re.MULTILINE)
_NUMBER = re.compile(r"\d+(?:[./]\d+)+|[^\W_]*\d[^\W_]*")
_CAPITALISED = re.compile(r"\b[A-Z][^\W\d_]{2,}\b")
_POSSESSIVE = re.compile(r"['\u2019]s\b")


def unsupported_value(
    reading: AnswerReading, asked: str | None, evidence: Collection[str], catalog: CatalogText
) -> str | None:
    """A value that the catalog knows and no record of the evidence has, in normal form.

    `asked` is the asked attribute. A value counts where the answer asserts it: not in names, not
    denied, not in a clause that declines. A record supports it with any of its attributes, its name
    or its notes; with its description only where the asked attribute is another.
    """
    records = [catalog.facts.products[product_id] for product_id in evidence]
    if asked:
        for value in reading.values:
            if not any(record.states(asked, value.phrase, value.atoms) for record in records):
                return value.phrase
    for span, attributes in _stated_spans(reading, asked, evidence, catalog):
        scope = _scope(reading, span, evidence, catalog)
        if not any(_supports(span.phrase, attributes, one, catalog) for one in scope):
            return span.phrase
    return None


def unsupported_number(
    answer: str, reading: AnswerReading, evidence: Collection[str], catalog: CatalogText
) -> str | None:
    """A number, price, share or code that stands in no record of the evidence.

    `answer` comes without names and item codes. Numbers in words ("these two") are speech; where
    they count something, they are part of a value.
    """
    text, masked = reading.named.text, reading.named.masked
    written = set(_NUMBER.findall(_LIST_MARK.sub(" ", answer).replace(",", "").casefold()))
    if not written:
        return None
    known = [catalog.record_text(product_id) for product_id in evidence]
    for position, word in enumerate(text.words):
        is_number = position not in masked and word.rstrip("%") in written
        if is_number and not any(f" {word} " in record for record in known):
            return word
    return None


def unsupported_feature(
    reading: AnswerReading, evidence: Collection[str], catalog: CatalogText
) -> str | None:
    """An attribute that the answer says the product has, and its record knows nothing of."""
    text, masked = reading.named.text, reading.named.masked
    known = [catalog.record_text(product_id) for product_id in evidence]
    features = {name for name in _attributes(evidence, catalog) if " " not in name}
    for position, word in enumerate(text.words):
        if word not in features - _OPEN_ATTRIBUTES or position in masked:
            continue
        before = text.words[max(0, position - _HAVING_REACH) : position]
        if not _HAVING & set(before) or text.clauses[position] in reading.declining:
            continue
        if not is_negated(text, position) and not any(f" {word} " in one for one in known):
            return word
    return None


def strange_name(text: str, known: Collection[str], catalog: CatalogText) -> str | None:
    """A capitalised word that neither English nor the catalog has, and that is not `known`."""
    for match in _CAPITALISED.finditer(_POSSESSIVE.sub("", text)):
        word = normalise(match[0])
        if word not in known and word not in catalog.words and not is_english(match[0]):
            return match[0]
    return None


def _attributes(evidence: Collection[str], catalog: CatalogText) -> frozenset[str]:
    return frozenset[str]().union(*map(catalog.kind_attributes, evidence))


def _stated_spans(
    reading: AnswerReading, asked: str | None, evidence: Collection[str], catalog: CatalogText
) -> Iterator[tuple[Span, list[str]]]:
    """Where the answer asserts a value of an attribute of the products' kind, and of which ones."""
    text, masked = reading.named.text, reading.named.masked
    words = [_HIDDEN if i in masked else word for i, word in enumerate(text.words)]
    found: dict[Span, list[str]] = {}
    attributes = _attributes(evidence, catalog) | ({normalise(asked)} if asked else set())
    for attribute in sorted(attributes):
        index = catalog.facts.values_of(attribute)
        for span in index.matches(words):
            strong = index.meanings[span.phrase].strong and not _is_broken(span, text)
            if strong and _is_telling(span.phrase, attribute, catalog):
                found.setdefault(span, []).append(attribute)
    own = normalise(asked or "")
    for span in longest(found):
        declined = text.clauses[span.start] in reading.declining
        if own not in found[span] and not declined and not is_negated(text, span.start):
            yield span, found[span]


def _is_broken(span: Span, text: Text) -> bool:
    """Whether punctuation parts the words: "in short: sleeve" states no short sleeve."""
    return any(_BREAK & set(text.gaps[i]) for i in range(span.start + 1, span.end))


def _is_telling(phrase: str, attribute: str, catalog: CatalogText) -> bool:
    """Whether the phrase claims something wherever it stands."""
    if " " in phrase:
        return True
    if attribute == "brand":
        return not is_english(phrase)
    return phrase not in _EVERYDAY and phrase not in catalog.facts.type_words


def _scope(
    reading: AnswerReading, span: Span, evidence: Collection[str], catalog: CatalogText
) -> Collection[str]:
    """The products that a statement is about: those its clause names, else all of the evidence."""
    clauses = reading.named.text.clauses
    clause = clauses[span.start]
    names = {one.phrase for one in reading.named.spans if clauses[one.start] == clause}
    named = [product_id for product_id in evidence if catalog.name(product_id) in names]
    return named or evidence


def _supports(
    phrase: str, attributes: Collection[str], product_id: str, catalog: CatalogText
) -> bool:
    if f" {phrase} " in catalog.record_text(product_id):
        return True
    record = catalog.facts.products[product_id]
    return any(
        record.states(name, phrase, catalog.facts.values_of(name).meanings[phrase].atoms)
        for name in attributes
    )

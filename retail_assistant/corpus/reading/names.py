"""Which products a text names: by name, by item code, or as one that the catalog does not have."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from retail_assistant.corpus.reading.catalog_facts import CatalogFacts, PhraseIndex, Span, longest
from retail_assistant.corpus.reading.text import Text, normalise, read_text
from retail_assistant.corpus.rendering import item_code

MAX_CHARACTERS = 20_000
SUGGESTING_INTENTS = frozenset({"alternative", "complement"})


@dataclass(frozen=True)
class Question:
    """What an answer is read against. `product_name` may be a product that does not exist."""

    question: str
    intent: str
    product_id: str | None = None
    product_name: str | None = None
    reference: str | None = None
    asked_attribute: str | None = None
    gold_value: str | None = None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The question of one DIALOGUES row."""
        return cls(**{name: row[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class StatedProduct:
    """A product of the catalog that an answer names.

    `product_ids` are all products it can mean, `coded`: an item code says which, `listed`: it
    stands in a list item.
    """

    name: str
    product_ids: frozenset[str]
    coded: bool
    listed: bool


@dataclass(frozen=True)
class NamedText:
    """A text with the products that it names.

    `masked` are the positions of the words of names and item codes, `spans` where names stand (the
    asked one's, too, which may not exist), `unknown` names and codes that no product has, `asked`:
    the asked product is among the named ones.
    """

    text: Text
    spans: tuple[Span, ...]
    masked: frozenset[int]
    products: tuple[StatedProduct, ...]
    unknown: tuple[str, ...]
    asked: bool

    def says(self, phrase: str) -> bool:
        """Whether a phrase in normal form stands in the text; the empty one never does."""
        return bool(phrase) and f" {phrase} " in f" {' '.join(self.text.words)} "


def read_names(text: str, question: Question, facts: CatalogFacts) -> NamedText:
    """The products that a question or an answer names, by name or item code."""
    coded, codes = _mark_item_codes(text[:MAX_CHARACTERS], facts)
    words = read_text(coded)
    spans = _name_spans(words, question, facts)
    known, unknown, asked_code = _known_products(words, spans, codes, question, facts)
    unknown += _unknown_names(coded, question, facts)
    return NamedText(
        text=words,
        spans=tuple(spans),
        masked=_masked(words, spans),
        products=tuple(known),
        unknown=tuple(dict.fromkeys(unknown)),
        asked=asked_code or _names_asked(known, spans, question),
    )


_CODE = re.compile(
    r"\(?\s*\bitem(?:\s*(?:code|id|no\b\.?|number))?\s*[:#]?\s*([A-Za-z0-9][A-Za-z0-9_-]{3,63})\s*\)?"
    r"(?:['\u2019]s\b)?",
    re.IGNORECASE,
)
_CODE_MARK = "itemcodemark"


def _mark_item_codes(answer: str, facts: CatalogFacts) -> tuple[str, list[str]]:
    """The answer with each item code as one marker word, and the codes in order."""
    codes: list[str] = []

    def mark(match: re.Match[str]) -> str:
        code = match[1].casefold()
        written_as_code = match[0].startswith("(") and ")" in match[0]
        looks_like_code = len(code) >= 6 and any(character.isdigit() for character in code)
        if code not in facts.item_codes and not written_as_code and not looks_like_code:
            return match[0]
        codes.append(code)
        return f" {_CODE_MARK}{len(codes) - 1} "

    return _CODE.sub(mark, answer), codes


def _name_spans(text: Text, question: Question, facts: CatalogFacts) -> list[Span]:
    """Catalog names and the name that was asked about (which may not exist), in text order."""
    asked = normalise(question.product_name or "")
    own: PhraseIndex[None] = PhraseIndex({asked: None} if asked else {})
    return longest([*facts.name_index.matches(text.words), *own.matches(text.words)])


def _masked(text: Text, spans: Sequence[Span]) -> frozenset[int]:
    inside = {position for span in spans for position in range(span.start, span.end)}
    marks = {i for i, word in enumerate(text.words) if word.startswith(_CODE_MARK)}
    return frozenset(inside | marks)


def _known_products(
    text: Text,
    spans: Sequence[Span],
    codes: Sequence[str],
    question: Question,
    facts: CatalogFacts,
) -> tuple[list[StatedProduct], list[str], bool]:
    """Stated products of the catalog, codes that no product has, and whether one is asked's."""
    listed = _listed_lines(text)
    code_after = {
        i: codes[int(word.removeprefix(_CODE_MARK))]
        for i, word in enumerate(text.words)
        if word.startswith(_CODE_MARK)
    }
    known: list[StatedProduct] = []
    unknown: list[str] = []
    for span in spans:
        ids = facts.names.get(span.phrase, frozenset())
        code = code_after.pop(span.end, None)
        if code is not None:
            coded = facts.item_codes.get(code, frozenset())
            ids = (ids & coded) or coded
            unknown += [] if ids else [f"{span.phrase} (item {code})"]
        if ids:
            is_listed = text.lines[span.start] in listed
            known.append(StatedProduct(span.phrase, ids, code is not None, is_listed))
    for position, code in sorted(code_after.items()):
        ids = facts.item_codes.get(code, frozenset())
        unknown += [] if ids else [f"item {code}"]
        if ids:
            known.append(StatedProduct(f"item {code}", ids, True, text.lines[position] in listed))
    own_code = item_code(question.product_id or "").casefold()
    return known, unknown, own_code in codes or (question.product_id or "").casefold() in codes


_BULLET_GAP = re.compile(r"^\n\s*[-*\u2022\u2013]\s*")


def _listed_lines(text: Text) -> frozenset[int]:
    """Numbers of the lines that are list items: a bullet, or "1." before the second word."""
    listed = set()
    for i, (gap, line) in enumerate(zip(text.gaps, text.lines, strict=True)):
        if not gap.startswith("\n"):
            continue
        following = text.gaps[i + 1] if i + 1 < len(text.gaps) else ""
        numbered = text.words[i].isdigit() and following[:1] in {".", ")"}
        if _BULLET_GAP.match(gap) or numbered:
            listed.add(line)
    return frozenset(listed)


def _names_asked(known: Sequence[StatedProduct], spans: Sequence[Span], question: Question) -> bool:
    asked = normalise(question.product_name or "")
    if question.product_id is None:
        return any(span.phrase == asked for span in spans)
    return any(
        question.product_id in product.product_ids
        # A shorter name that another product bears can be an abbreviation of the asked one.
        or (not product.coded and f" {product.name} " in f" {asked} ")
        for product in known
    )


_END = rf"(?=\s*(?:{_CODE_MARK}|\||;|$)|[.!?](?:\s|$)|\s[-\u2013\u2014]\s|:)"
_LABELLED = re.compile(rf"\bproduct\s+name\s*[:=]\s*(\S[^\n]{{0,200}}?)\s*{_END}", re.I | re.M)
_LISTED = re.compile(
    rf"^\s*(?:[-*\u2022\u2013]|\d{{1,2}}[.)])\s+(\S[^\n]{{0,200}}?)\s*"
    rf"(?:{_END}|,|\s(?:is|are|has|because|which|for (?:a|its|the))\b)",
    re.M,
)
_SUBJECT_END = rf"(?:\s+{_CODE_MARK}\d+)?\s+(?:is|are|was|has|comes|costs)\b"
_SUBJECT = re.compile(
    rf"\b(?:of|for|about|called|named)\s+(?:the\s+|our\s+)?[\"\u201c']?"
    rf"([A-Z0-9][^\n.,;:!?]{{2,120}}?)[\"\u201d']?{_SUBJECT_END}"
)
_FIRST_SUBJECT = re.compile(
    rf"(?:^|[.!?]\s+)(?:The\s+)?([A-Z][^\n.,;:!?]{{2,120}}?){_SUBJECT_END}", re.M
)
_NOT_NAMES = frozenset(
    {"the", "a", "an", "n", "product", "item", "this", "that", "it", "they", "details", "name"}
    | {"unknown", "none"}
)


def _unknown_names(coded: str, question: Question, facts: CatalogFacts) -> list[str]:
    """Names in label, list or subject position that no product of the catalog has."""
    suggesting = question.intent in SUGGESTING_INTENTS
    labelled = list(_LABELLED.finditer(coded))
    listed = [
        match
        for match in _LISTED.finditer(coded)
        if _looks_like_name(match[1]) and not _names_a_product(_line(coded, match), facts)
    ]
    subjects = [match for match in _SUBJECT.finditer(coded) if _looks_like_name(match[1])]
    subjects += [
        match
        for match in _FIRST_SUBJECT.finditer(coded)
        # "The fabric of X is": X is found as the subject above.
        if _looks_like_name(match[1]) and " of " not in match[1]
    ]
    names = [m for m in labelled if _is_unknown(m[1], question, facts)]
    names += [m for m in listed if _is_unknown(m[1], question, facts, in_prose=not suggesting)]
    names += [m for m in subjects if _is_unknown(m[1], question, facts, in_prose=True)]
    return [
        " ".join(match[1].split())
        for match in names
        # A code that follows says which product is meant, whatever it is called.
        if not coded[match.end(1) :].lstrip().startswith(_CODE_MARK)
    ]


def _line(text: str, match: re.Match[str]) -> str:
    return text[match.start(1) :].split("\n", 1)[0]


def _names_a_product(line: str, facts: CatalogFacts) -> bool:
    """Whether a list item names a product of the catalog, or gives a code that says which."""
    return _CODE_MARK in line or bool(facts.name_index.find(normalise(line).split()))


def _looks_like_name(candidate: str) -> bool:
    words = [word for word in re.findall(r"[^\W\d_][\w'\u2019-]*", candidate) if len(word) > 3]
    capitals = sum(word[0].isupper() for word in words)
    return 2 <= len(candidate.split()) <= 15 and capitals >= 0.7 * len(words) > 0


def _is_unknown(
    candidate: str, question: Question, facts: CatalogFacts, *, in_prose: bool = False
) -> bool:
    """Whether a text in a name's place names a product that the catalog does not have.

    In prose it must hold a word for a kind of product and one that no description is made of.
    """
    from rapidfuzz import fuzz

    name, asked = normalise(candidate), normalise(question.product_name or "")
    words = set(name.split())
    if words <= _NOT_NAMES or name == asked or name in facts.names or name in facts.category_names:
        return False
    if name in facts.vocabulary or name in facts.value_phrases:
        return False
    if question.product_id and (words <= set(asked.split()) or fuzz.ratio(name, asked) >= 90):
        return False
    named = facts.name_index.find(name.split())
    if sum(span.end - span.start for span in named) >= 0.6 * len(name.split()):
        return False
    return not in_prose or bool(words & facts.type_words and words - facts.everyday_words)

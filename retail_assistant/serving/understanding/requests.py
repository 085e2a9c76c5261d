"""One message of a shopper, read: what it asks for, of which things, under which conditions."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from retail_assistant.corpus.reading.catalog_facts import Span
from retail_assistant.corpus.reading.text import Text, is_negated, read_text
from retail_assistant.corpus.rendering import plain_text
from retail_assistant.serving.understanding.acts import Act, acts_in, words_before_thing
from retail_assistant.serving.understanding.price_wishes import PriceRange, read_prices
from retail_assistant.serving.understanding.shop_vocabulary import ShopVocabulary
from retail_assistant.serving.understanding.trade_words import AUDIENCE, KIND
from retail_assistant.serving.understanding.utterances import is_small_word

MOST_CHARACTERS = 1_000
MOST_WORDS = 150
_FEWEST_LETTERS = 5

_ORDINALS = {
    word: number
    for number, words in enumerate(
        ("first 1st", "second 2nd", "third 3rd", "fourth 4th", "fifth 5th", "sixth 6th"), start=0
    )
    for word in words.split()
}
_FIRST_SEVERAL = re.compile(r"\b(first|last|top) ([2-6])\b")
_NUMBERED = re.compile(r"\b(?:number|no|nr|option|product|item|choice) ([1-9])\b(?! rs)")
_LAST = re.compile(r"\b(?:the|and) last(?: (?:one|1))?\b")
_SINGULAR = re.compile(
    r"\b(?:it|its|this|that)\b(?! (?:(?:is|will be) all\b|way|case|much|kind|price"
    r"|budget|is (?:too|over|above|beyond|out of|more than (?:i|my))\b))"
    r"|\b(?:the|that|this) (?:product|item|piece|garment)\b"
)
# "Make it red" is of the search: there is no product to make red.
_MADE = re.compile(r"\bmake (?:it|that|this)\b")
_PLURAL = re.compile(r"\b(?:they|them|those|these|both|their|the 2|all 3|of the [2-6])\b")
_THE_ONE = re.compile(r"\b(?:the|that|this) (?:[^ ]+ ){1,4}(?:one|1)\b")
_THING = re.compile(
    r"\b(?:something|anything|clothes|clothing|garments?|apparel|outfits?|stuff|gifts?"
    r"|products?|items?|wear)\b"
)
_UNKNOWN_CODE = re.compile(r"\bitem (?:code )?[\s:#(]{0,3}([a-z0-9_-]{6,64})\b", re.IGNORECASE)
_FOREIGN_MONEY = re.compile(
    r"[$\u20ac\u00a3]\s?\d|\b(?:dollars?|usd|euros?|pounds?)\b", re.IGNORECASE
)
_SIZE_SAID = tuple(
    re.compile(pattern)
    for pattern in (
        r"\bsize (?:is )?([a-z0-9]{1,6})\b",
        r"\b([a-z0-9]{1,6}) size\b",
        r"\bin (xs|s|m|l|xl|xxl|small|medium|large)\b",
        r"\b(xs|xl|xxl|xxxl|2xl|3xl)\b",
    )
)
_SIZE_WORDS = {"small": "s", "medium": "m", "large": "l"}
_LOOKS_LIKE_SIZE = re.compile(r"x{0,3}[sl]|m|\dxl|\d{2}")
_DENYING = frozenset({"hate", "dislike", "avoid", "except", "excluding"})
_DENIAL_REACH = 3
_BEFORE_PURPOSE = frozenset(
    {
        "for",
        "with",
        "to",
        "in",
        "on",
        "at",
        "by",
        "from",
        "about",
        "as",
        "like",
        "without",
        "against",
    }
)
_ARTICLES = frozenset(
    {"a", "an", "the", "any", "some", "new", "good", "nice", "cheap", "my", "your"}
)


@dataclass(frozen=True)
class Wish:
    """One condition: any of some phrases of the shop's vocabulary, all of one dimension."""

    dimension: str
    phrases: tuple[str, ...]
    excluded: bool = False


@dataclass(frozen=True)
class Request:
    """What one message asks for.

    `positions` count from 0 among the products shown last (-1: the last one), `singular` and
    `plural` say that the message points at one or several of them ("it", "those"). `unknown` are
    words that mean nothing to this shop; `thing` is the unknown one that stands where a product
    would ("laptops" of "do you sell red laptops?"). `corrected`: a typo was put right.
    """

    text: str
    said: str
    acts: frozenset[Act]
    wishes: tuple[Wish, ...] = ()
    prices: PriceRange | None = None
    foreign_money: bool = False
    positions: tuple[int, ...] = ()
    singular: bool = False
    plural: bool = False
    points_at_one: bool = False
    asked: tuple[str, ...] = ()
    dropped: frozenset[str] = frozenset()
    size: str | None = None
    generic: bool = False
    corrected: bool = False
    unknown: tuple[str, ...] = ()
    thing: str | None = None
    code: str | None = field(default=None)

    @property
    def words(self) -> list[str]:
        """The words of the message in normal form."""
        return self.said.split()

    @property
    def kinds(self) -> tuple[Wish, ...]:
        """The wished kinds of products."""
        return tuple(wish for wish in self.wishes if wish.dimension == KIND)

    @property
    def is_search(self) -> bool:
        """Whether the message says which products to look for."""
        return bool(self.wishes or self.prices or self.dropped or self.size)


def read_request(message: str, vocabulary: ShopVocabulary) -> Request:
    """Read one message; never raises because of its text."""
    text = plain_text(message, MOST_CHARACTERS)
    typed = _cut(read_text(text))
    read = _corrected(typed, vocabulary)
    said = " ".join(read.words)
    acts = acts_in(said)
    prices, priced = read_prices(read)
    size, sized = _size(read, vocabulary)
    taken = priced | sized
    spans = [s for s in vocabulary.phrases.find(read.words) if not _touches(s, taken)]
    said_by_values = taken | {i for s in spans for i in range(s.start, s.end)}
    asked_spans = [s for s in vocabulary.asked.find(read.words) if not _touches(s, said_by_values)]
    wishes = _wishes(read, spans, vocabulary)
    asked = tuple(dict.fromkeys(vocabulary.asked.meanings[span.phrase] for span in asked_spans))
    dropped = _dropped(said, acts, asked)
    covered = taken | {i for s in (*spans, *asked_spans) for i in range(s.start, s.end)}
    unknown = [i for i in range(len(read.words)) if i not in covered and _is_unknown(read.words[i])]
    code = _UNKNOWN_CODE.search(text)
    return Request(
        text=text,
        said=said,
        acts=acts,
        wishes=wishes,
        prices=prices,
        foreign_money=bool(_FOREIGN_MONEY.search(text)),
        positions=_positions(said),
        singular=bool(_SINGULAR.search(_MADE.sub("", said) if prices or wishes else said)),
        plural=bool(_PLURAL.search(said)),
        points_at_one=bool(_THE_ONE.search(said)),
        asked=tuple(name for name in asked if name not in dropped),
        dropped=dropped,
        size=size,
        generic=bool(_THING.search(said)),
        corrected=read.words != typed.words,
        unknown=tuple(read.words[i] for i in unknown),
        thing=None if _THING.search(said) else _thing(read.words, covered, acts),
        code=code[1].lower() if code and any(map(str.isdigit, code[1])) else None,
    )


def _cut(text: Text) -> Text:
    most = MOST_WORDS
    return Text(text.words[:most], text.gaps[:most], text.clauses[:most], text.lines[:most])


def _corrected(text: Text, vocabulary: ShopVocabulary) -> Text:
    """The text with one typo a word put right, where a word of the shop is meant."""
    words = tuple(
        vocabulary.corrected(word) if _is_unknown(word) and len(word) >= _FEWEST_LETTERS else word
        for word in text.words
    )
    return Text(words, text.gaps, text.clauses, text.lines)


def _touches(span: Span, taken: set[int]) -> bool:
    return not taken.isdisjoint(range(span.start, span.end))


def _is_unknown(word: str) -> bool:
    return not is_small_word(word) and len(word) > 1 and not word[0].isdigit()


def _wishes(text: Text, spans: Sequence[Span], vocabulary: ShopVocabulary) -> tuple[Wish, ...]:
    """Phrases of one dimension are alternatives to each other; what is denied is left out."""
    found: dict[tuple[str, bool], list[str]] = {}
    for span in spans:
        sense = vocabulary.senses[span.phrase]
        denied = _is_denied(text, span.start) and sense.dimension not in (KIND, AUDIENCE)
        found.setdefault((sense.dimension, denied), []).append(span.phrase)
    return tuple(
        Wish(dimension, tuple(dict.fromkeys(phrases)), denied)
        for (dimension, denied), phrases in found.items()
    )


def _is_denied(text: Text, start: int) -> bool:
    """Whether the phrase at `start` is what the shopper does not want."""
    before = text.words[max(0, start - _DENIAL_REACH) : start]
    return is_negated(text, start) or not _DENYING.isdisjoint(before)


def _dropped(said: str, acts: frozenset[Act], asked: Sequence[str]) -> frozenset[str]:
    """Dimensions that are said not to matter any more: "any color", "price does not matter"."""
    if "any" not in acts:
        return frozenset()
    indifferent = re.search(r"\bnot (?:\w+ )?(?:matters?|important|care)\b|\bregardless of\b", said)
    direct = {
        name
        for name in asked
        if indifferent
        or re.search(rf"\b(?:any|every|whichever|whatever|all) {re.escape(name)}\b", said)
    }
    price = indifferent or re.search(r"\b(?:any|whatever|no) (?:price|budget)\b", said)
    if price and re.search(r"\b(?:price|budget|limit|cost)\b", said):
        direct.add("price")
    if re.search(r"\b(?:any|whichever) brand\b", said):
        direct.add("brand")
    return frozenset(direct)


def _size(text: Text, vocabulary: ShopVocabulary) -> tuple[str | None, set[int]]:
    """The size that a message names, and where it stands."""
    said = " ".join(text.words)
    for pattern in _SIZE_SAID:
        for match in pattern.finditer(said):
            size = _SIZE_WORDS.get(match[1], match[1])
            if size in vocabulary.sizes or _LOOKS_LIKE_SIZE.fullmatch(size):
                start = said[: match.start()].count(" ")
                return size, set(range(start, start + match[0].count(" ") + 1))
    return None, set()


def _positions(said: str) -> tuple[int, ...]:
    several = _FIRST_SEVERAL.search(said)
    if several is not None:
        count = int(several[2])
        return tuple(range(count)) if several[1] != "last" else tuple(range(-count, 0))
    numbered = [int(found) - 1 for found in _NUMBERED.findall(said)]
    words = [_ORDINALS[word] for word in said.split() if word in _ORDINALS]
    last = [-1] if _LAST.search(said) else []
    return tuple(dict.fromkeys((*numbered, *words, *last)))


def _thing(words: Sequence[str], covered: set[int], acts: frozenset[Act]) -> str | None:
    """The unknown words that stand where a product would."""
    start = words_before_thing(" ".join(words))
    for i in range(start, len(words)):
        word = words[i]
        if i in covered or word in _ARTICLES:
            continue
        if word in _BEFORE_PURPOSE:
            return None
        if _is_unknown(word):
            end = i + 1
            while end < len(words) and end not in covered and _is_unknown(words[end]):
                end += 1
            return " ".join(words[i : min(end, i + 3)])
    return None


__all__ = ["MOST_CHARACTERS", "Act", "Request", "Wish", "read_request"]

"""One normal form for names, values and answers, and the wordings in which an answer abstains.

Everything that is compared goes through `normalise`, so that two spellings are equal
everywhere or nowhere.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

# Zero-width characters, soft hyphens and trade marks carry no meaning in a name or a value.
_INVISIBLE = dict.fromkeys(
    map(
        ord,
        "\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\ufeff\u00ad\u2122\u00ae\u00a9",
    )
)
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u02bc\u00b4\u0060\u2032", "'"))

_FOLDS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        ("\u2044", "/"),
        (r"\banything but\b", "not"),
        (r"\bcan'?t\b|\bcannot\b", "can not"),
        (r"\bwon'?t\b", "will not"),
        (r"(?<=[a-z])n't\b", " not"),
        (r"\b(do|does|did|is|are|was|has|have|could|would|should)nt\b", r"\1 not"),
        (r"\b(it|that|there|here|what|he|she)'s\b", r"\1 is"),
        (r"\bi'm\b", "i am"),
        (r"(?<=[a-z])'(?:re|ve|ll|d)\b", ""),
        (r"(?<=\w)'s\b", ""),
        (r"(?<=s)'(?!\w)", ""),
        ("&", " and "),
        (r"(?<=\d),(?=\d{3}\b)", ""),
        (r"(?<=\d)\.0+\b", ""),
        (r"(?<=\d)\s*(?:%|per\s?cent\b)", "%"),
        (r"(?<=\d)\s*(?:cms?|centimet(?:re|er)s?)\b", " cm"),
        (r"(?<=\d)\s*(?:mms?|millimet(?:re|er)s?)\b", " mm"),
        (r"(?<=\d)\s*(?:inch(?:es)?|ins)\b", " inch"),
        (r"(?<=\d)\s*(?:kgs?|kilograms?|kilos?)\b", " kg"),
        (r"(?<=\d)\s*(?:gms?|grams?|g)\b", " g"),
        (r"(?<=\d)\s*(?:mls?|millilit(?:re|er)s?)\b", " ml"),
        (r"(?:\u20b9|\brs\b\.?|\binr\b)\s*(?=\d)", "rs "),
        (r"\btshirt", "t shirt"),
    )
)

# Words that shoppers, catalogs and models use for one another. Plurals are listed, not guessed:
# "shorts" must not become the length "Short".
_SPELLINGS = {
    "men": "mens man gents male",
    "women": "womens woman ladies lady female",
    "boy": "boys",
    "girl": "girls",
    "kid": "kids",
    "infant": "infants",
    "baby": "babies",
    "color": "colour colours colors",
    "colored": "coloured",
    "gray": "grey",
    "catalog": "catalogue catalogs catalogues",
    "sleeve": "sleeves sleeved",
    "neck": "necks",
    "pocket": "pockets",
    "button": "buttons",
    "zip": "zips",
    "zipper": "zippers",
    "stripe": "stripes",
    "strap": "straps",
    "print": "prints",
    "pack": "packs",
    "piece": "pieces",
    "2": "two",
    "3": "three",
    "4": "four",
    "5": "five",
    "6": "six",
}
_SAME_WORD = {
    spelling: word for word, spellings in _SPELLINGS.items() for spelling in spellings.split()
}

_WORD = re.compile(r"\d+(?:[./]\d+)+%?|\d+%|[^\W_]+")
_CLAUSE_END = re.compile(r"[.!?](?=\s|$)|[;\n]")
_CLAUSE_WORDS = frozenset({"but", "however", "although", "though"})


@dataclass(frozen=True)
class Text:
    """A text as normalised words.

    `gaps[i]` is what stood before word i (folded punctuation, a line break at the start of a line),
    `clauses[i]` and `lines[i]` number the clause and the line that word i stands in.
    """

    words: tuple[str, ...]
    gaps: tuple[str, ...]
    clauses: tuple[int, ...]
    lines: tuple[int, ...]

    def phrase(self, start: int, end: int) -> str:
        """Words start to end (exclusive) in normal form."""
        return " ".join(self.words[start:end])


def _fold(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text.translate(_INVISIBLE)).casefold()
    folded = folded.translate(_APOSTROPHES)
    for pattern, replacement in _FOLDS:
        folded = pattern.sub(replacement, folded)
    return folded


@lru_cache(maxsize=65_536)
def normalise(text: str) -> str:
    """The normal form in which names, attribute names and values are compared.

    Unicode NFKC, case, apostrophes, possessives, audience words (Men, Men's, mens), '&' and
    'and', punctuation, whitespace and units are levelled: "100 % Cotton" and "100% cotton" agree.
    """
    return " ".join(_SAME_WORD.get(word, word) for word in _WORD.findall(_fold(text)))


def read_text(text: str) -> Text:
    """`text` as normalised words with the clause and line of each."""
    words: list[str] = []
    gaps: list[str] = []
    clauses: list[int] = []
    lines: list[int] = []
    clause = 0
    for number, line in enumerate(text.splitlines()):
        folded, end = _fold(line), 0
        for match in _WORD.finditer(folded):
            gap = folded[end : match.start()]
            gap = gap if end else f"\n{gap}"
            end = match.end()
            word = _SAME_WORD.get(match[0], match[0])
            clause += bool(_CLAUSE_END.search(gap)) or word in _CLAUSE_WORDS
            words.append(word)
            gaps.append(gap)
            clauses.append(clause)
            lines.append(number)
    return Text(tuple(words), tuple(gaps), tuple(clauses), tuple(lines))


_SHOP = r"(?:catalog|shop|store|assortment|records?|range|inventory|collection|database|listings?)"
_FACT = (
    r"(?:information|info|details?|data|records?|entry|mention|match|matches|answer|"
    r"products?|items?|listings?|results?)"
)
_ABSTENTIONS = re.compile(
    "|".join(
        (
            # "the catalog does not say", "it is not listed", "I do not know"
            r"\b(?:do|does|did|is|are|was|were|has|have|been) not (?:\w+ ){0,2}?(?:say|state|list|"
            r"mention|specify|indicate|know|tell|recogni[sz]e|exist|appear|record|stated|listed|"
            r"mentioned|specified|indicated|known|recorded|provided|given|available)\b",
            r"\bnot (?:specified|stated|listed|mentioned|known|available|recorded|sure|certain)\b",
            r"\b(?:is|are|be|remains) (?:unknown|unspecified|unavailable|unlisted)\b",
            # "could not find", "unable to say", "cannot help"
            r"\b(?:could|can|did|do|able to|was|were|am) not (?:\w+ ){0,2}?"
            r"(?:find|found|locate|see)\b",
            r"\b(?:could|can|am|are|is) not (?:able to )?(?:say|tell|answer|help|confirm|determine|"
            r"identify|assist|provide|verify|give|recommend|suggest)\b",
            r"\bunable to (?:\w+ )?(?:find|locate|say|tell|answer|help|confirm|determine|identify|"
            r"provide|verify|give|assist)\b",
            # "we do not carry", "I have no information", "no product called"
            r"\b(?:we|i|shop|store) (?:\w+ )?do not (?:\w+ )?(?:carry|stock|sell|offer|have)\b",
            rf"\bnot (?:have|carry|stock|sell|offer|contain|give|provide|include|show|hold) "
            rf"(?:\w+ ){{0,3}}?{_FACT}\b",
            rf"\bnot (?:\S+ ){{0,14}}?(?:in|on|from|of) (?:our|the|this|my) (?:\w+ )?{_SHOP}\b",
            rf"\bthere (?:is|are) no (?:\S+ ){{0,14}}?(?:in|on) (?:our|the|this) "
            rf"(?:\w+ )?{_SHOP}\b",
            rf"\b(?:our|the|this) (?:catalog does not|{_SHOP} (?:has|have|gives?|holds?|contains?|"
            r"lists?|carr(?:y|ies)|sells?|stocks?|offers?) (?:no|nothing))\b",
            # "our records are silent on", "leaves out the lining", "no lining is given"
            rf"\b{_SHOP} (?:is|are|stays?) silent\b|\b(?:leaves?|left) out the\b",
            r"\bno (?:\S+ ){1,6}?(?:is|are) (?:given|stated|listed|mentioned|recorded|known|"
            r"specified|provided)\b",
            r"\bnot (?:something|anything|a product|an item|one) (?:that )?we (?:\w+ )?(?:sell|"
            r"carry|stock|offer|have)\b",
            rf"\bno (?:such |matching |other |further |specific )?{_FACT}\b",
            rf"\b(?:lacks?|without|missing) (?:any |the )?{_FACT}\b",
        )
    )
)
_NEGATIONS = frozenset({"not", "no", "non", "never", "without", "neither", "nor", "instead"})
_NEGATION_REACH = 4


def abstaining_clauses(text: Text, masked: frozenset[int]) -> frozenset[int]:
    """Numbers of the clauses that say "I do not know" in some wording.

    Words at `masked` positions (product names, which may read like a refusal) are hidden first.
    """
    clauses: dict[int, list[str]] = {}
    for position, (word, clause) in enumerate(zip(text.words, text.clauses, strict=True)):
        clauses.setdefault(clause, []).append("\u25a1" if position in masked else word)
    return frozenset(n for n, words in clauses.items() if _ABSTENTIONS.search(" ".join(words)))


def is_negated(text: Text, start: int) -> bool:
    """Whether the phrase at `start` is denied: "not cotton", "is not made of cotton"."""
    for position in range(start - 1, max(-1, start - 1 - _NEGATION_REACH), -1):
        same_clause = text.clauses[position] == text.clauses[start]
        if not same_clause or any(mark in text.gaps[position + 1] for mark in ",:()"):
            return False
        if text.words[position] in _NEGATIONS:
            return True
    return False

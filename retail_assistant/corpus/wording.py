"""Comparing catalog wording: is this value already said in that text?

Values and names are written by many sellers: "Women's", "Womens" and "Women", "Printed" and
"Print", "V-Neck" and "V Neck" say the same. Two wordings are compared as words in their base form.
"""

import re
import unicodedata
from functools import lru_cache

_SHORT = 120  # characters of what is worth remembering
# "3/4" and "1.5" are one word: the 3 of "3/4 Sleeve" says nothing about a "Pack of 3".
_WORD = re.compile(r"\d+(?:[/.\u2044]\d+)+|[^\W_]+")
_POSSESSIVE = re.compile(r"['\u2018\u2019\u02bc`]s?\b")
# Words that carry nothing of a value: "Pack of 3" in "... (Pack 3)", "100% Cotton" in "Cotton Top".
_FILLERS = frozenset({"a", "an", "the", "of", "and", "in", "with", "for", "100", "pure", "type"})


@lru_cache(maxsize=65_536)
def _base_form(word: str) -> str:
    import simplemma

    lemma = simplemma.lemmatize(word, lang="en")
    # The lemma list lacks a few plurals that shops use all the time ("boys", "womens").
    if lemma == word and len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        lemma = simplemma.lemmatize(word[:-1], lang="en")
    return str(lemma).casefold()


def comparable_words(text: str) -> tuple[str, ...]:
    """The words of a text in their base form: no case, possessive, plural or punctuation."""
    # Catalogs say the same short things over and over.
    return _words_of_short(text) if len(text) <= _SHORT else _words(text)


def _words(text: str) -> tuple[str, ...]:
    folded = unicodedata.normalize("NFKC", text).casefold()
    return tuple(_base_form(word) for word in _WORD.findall(_POSSESSIVE.sub("", folded)))


_words_of_short = lru_cache(maxsize=1 << 15)(_words)


def comparable_text(text: str) -> str:
    """The comparable words of a text, joined by a space: equal for equal wordings."""
    return " ".join(comparable_words(text))


def telling_words(value: str, attribute: str = "") -> frozenset[str]:
    """The words of a value that its attribute's name does not say ("Round" of "Round Neck").

    Falls back to all words of the value where nothing else is left.
    """
    words = frozenset(comparable_words(value))
    return words - _FILLERS - frozenset(comparable_words(attribute)) or words


def value_stands_in(value: str, text: str, attribute: str = "") -> bool:
    """Can the value be read off the text?

    True when every telling word of the value stands in the text, in any order, or when the value
    stands there written as one word. An empty value never does.
    """
    return value_among_words(value, frozenset(comparable_words(text)), attribute)


def value_among_words(value: str, words: frozenset[str], attribute: str = "") -> bool:
    """As `value_stands_in`, for a text whose comparable words are at hand."""
    telling = telling_words(value, attribute)
    if not telling:
        return False
    return telling <= words or "".join(comparable_words(value)) in words

"""Is a text in the corpus language?

Judged by simplemma's word lists (offline, about 50 languages): most of a text's words must be words
of the language. A catalog's own words (brands, "lehenga") are left out, for no language has them.
"""

import re
from collections.abc import Iterator
from functools import lru_cache

from retail_assistant.corpus.reading.names import NamedText
from retail_assistant.corpus.screens.catalog_text import CatalogText

# Of fewer words nothing can be said: "Georgette, ja."
_FEWEST_WORDS = 3
_LETTERS = re.compile(r"[^\W\d_]+")


@lru_cache(maxsize=65_536)
def is_word(word: str, language: str) -> bool:
    """Does the language have the word, in any form? Raises ValueError for an unknown language."""
    from simplemma import is_known

    return is_known(word.lower(), lang=language) or is_known(word, lang=language)


def other_language(
    named: NamedText, catalog: CatalogText, language: str, least_share: float
) -> list[str]:
    """The words that `language` does not know, where it knows fewer than `least_share` of them."""
    words = list(_judged(named, catalog))
    unknown = [word for word in words if not is_word(word, language)]
    known = len(words) - len(unknown)
    return unknown if len(words) >= _FEWEST_WORDS and known < least_share * len(words) else []


def _judged(named: NamedText, catalog: CatalogText) -> Iterator[str]:
    for position, word in enumerate(named.text.words):
        if position not in named.masked and _LETTERS.fullmatch(word) and word not in catalog.words:
            yield word

"""Is a text in English, the language of the corpus?

Judged by simplemma's word list (offline): it must have most of a text's words. A catalog's own
words (brands, "lehenga") are left out, for no language has them.
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
def is_english(word: str) -> bool:
    """Does English have the word, in any form?"""
    from simplemma import is_known

    return is_known(word.lower(), lang="en") or is_known(word, lang="en")


def other_language(named: NamedText, catalog: CatalogText, least_share: float) -> list[str]:
    """The words that English does not have, where it has fewer than `least_share` of them."""
    words = list(_judged(named, catalog))
    unknown = [word for word in words if not is_english(word)]
    known = len(words) - len(unknown)
    return unknown if len(words) >= _FEWEST_WORDS and known < least_share * len(words) else []


def _judged(named: NamedText, catalog: CatalogText) -> Iterator[str]:
    for position, word in enumerate(named.text.words):
        if position not in named.masked and _LETTERS.fullmatch(word) and word not in catalog.words:
            yield word

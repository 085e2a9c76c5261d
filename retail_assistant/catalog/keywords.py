"""Description keywords: lower case, lemmatised, without stop words and punctuation.

A text is cut at its spaces first. What stands between two of them, "Dresses," with its comma, is
read once for each distinct such word of a block, not once for each row. Most distinct words are
article numbers and sizes, which have no other form; the others are looked up once and remembered.
"""

from functools import cache, lru_cache

import numpy as np
import polars as pl

from retail_assistant.catalog.ragged import (
    Ragged,
    as_lists,
    cut_at_spaces,
    encoded,
    flattened,
    offsets_of,
    picked,
    with_replaced,
)
from retail_assistant.catalog.text import not_ascii

# Letters and digits, joined inside by a hyphen, dot or apostrophe: "t-shirt", "0.5", "women's".
_WORD = r"[\p{L}\p{N}][\p{L}\p{M}\p{N}]*(?:['.-][\p{L}\p{N}][\p{L}\p{M}\p{N}]*)*"
_BEHIND = " ,.:;)"
_SINGLE = rf"^[0-9a-z]+(?:['.-][0-9a-z]+)*[{_BEHIND}]*$"
# A token that ends in a digit, or in a digit and a unit, is its own lemma. Not so ordinals and
# decades: "12th" is "twelfth", "1960s" "nineteen-sixties".
_CODE = "^[0-9a-z.]*[0-9](?:[a-rt-z]|[cgkm][a-z])?$"
_APOSTROPHES = dict.fromkeys("\u2018\u2019\u02bc", "'")
_REMEMBERED = 1 << 17


def keywords_of(texts: pl.Series) -> pl.Series:
    """Return the keywords of each of ``texts`` (str) as list[str]: text order, each once, no null.

    Lemmas are simplemma's for English, stop words are spaCy's.
    """
    pieces, rows = cut_at_spaces(texts.fill_null(""))
    codes, words = encoded(pieces)
    lemmas, distinct = _lemmas_of(words)
    places, ends = picked(lemmas, codes)
    found = Ragged(lemmas.values.gather(pl.Series(places)), ends[rows])
    once = flattened(as_lists(found).list.unique(maintain_order=True))
    return as_lists(Ragged(distinct.gather(once.values).alias(texts.name), once.offsets))


@lru_cache(_REMEMBERED)
def lemma(token: str) -> str | None:
    """Return the lemma of a lower-case ``token``; null for a stop word or a single letter."""
    import simplemma

    base = token.removesuffix("'s").removesuffix("'")
    if not base or base in stop_words():
        return None
    found = simplemma.lemmatize(base, lang="en").lower()
    is_letter = len(found) == 1 and found.isalpha()
    return None if is_letter or found in stop_words() else found


@cache
def stop_words() -> frozenset[str]:
    """Return spaCy's 326 English stop words.

    The word list is run as the plain file it is: importing it as ``spacy.lang.en.stop_words``
    imports spaCy whole and torch with it (over two seconds).
    """
    import runpy
    from importlib.util import find_spec
    from pathlib import Path

    spec = find_spec("spacy")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            "spacy is needed for its English stop words; install the lock file"
        )
    names = runpy.run_path(str(Path(spec.origin).parent / "lang" / "en" / "stop_words.py"))
    return frozenset(names["STOP_WORDS"])


def _lemmas_of(words: pl.Series) -> tuple[Ragged, pl.Series]:
    """Return the lemmas of each of ``words`` as numbers (u32) of distinct lemmas, and these."""
    tokens, rows = flattened(_tokens(words))
    others = (~tokens.str.contains(_CODE)).arg_true()
    found = pl.Series(map(lemma, tokens.gather(others)), dtype=pl.String)
    lemmas = with_replaced(tokens, others.to_numpy(), found)
    is_stated = lemmas.is_not_null().to_numpy()
    numbers, distinct = encoded(lemmas.drop_nulls())
    return Ragged(pl.Series(numbers), offsets_of(is_stated)[rows]), distinct


def _tokens(words: pl.Series) -> pl.Series:
    """Return the tokens of each of ``words`` (str) in lower case, as list[str]."""
    others = not_ascii(words).arg_true()
    normal = words.gather(others).str.normalize("NFKC").str.replace_many(_APOSTROPHES)
    lower = with_replaced(words, others.to_numpy(), normal).str.to_lowercase()
    # Most words are one token and the punctuation behind it.
    tokens = as_lists(Ragged(lower.str.strip_chars_end(_BEHIND), np.arange(len(lower) + 1)))
    others = (~lower.str.contains(_SINGLE)).arg_true()
    return with_replaced(tokens, others.to_numpy(), lower.gather(others).str.extract_all(_WORD))

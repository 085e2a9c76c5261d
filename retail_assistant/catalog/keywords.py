"""Description keywords: lower case, lemmatised, without stop words and punctuation.

A text is cut at its spaces first. What stands between two of them, "Dresses," with its comma, is
read once for each distinct such word, not once for each row: a catalog of a million rows has some
ten thousand of them.
"""

from functools import cache
from itertools import chain

import numpy as np
import polars as pl

from retail_assistant.catalog.ragged import (
    Ragged,
    as_lists,
    encoded,
    flattened,
    offsets_of,
    picked,
)

# Letters and digits, joined inside by a hyphen, dot or apostrophe: "t-shirt", "0.5", "women's".
_WORD = r"[\p{L}\p{N}][\p{L}\p{M}\p{N}]*(?:['.-][\p{L}\p{N}][\p{L}\p{M}\p{N}]*)*"
_REMEMBERED = 200_000

# Words between spaces and their lemmas. Chunks of one catalog share most words; many threads may
# look up and add at once, which is safe for a dict.
_lemmas: dict[str, tuple[str, ...]] = {}


def keywords(text: pl.Expr) -> pl.Expr:
    """Return the keywords of ``text`` (str) as list[str]: text order, each once, never null.

    Lemmas are simplemma's for English, stop words are spaCy's.
    """
    return text.map_batches(keywords_of, return_dtype=pl.List(pl.String), is_elementwise=True)


def keywords_of(texts: pl.Series) -> pl.Series:
    """``keywords`` of a column."""
    pieces, rows = flattened(texts.fill_null("").str.split(" "))
    codes, words = encoded(pieces)
    lemmas = _lemmas_of(words)
    numbers, distinct = encoded(lemmas.values)
    places, ends = picked(lemmas, codes)
    found = Ragged(pl.Series(numbers[places], dtype=pl.UInt32), ends[rows])
    once = flattened(as_lists(found).list.unique(maintain_order=True))
    return as_lists(Ragged(distinct.gather(once.values).alias(texts.name), once.offsets))


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


def _lemmas_of(words: pl.Series) -> Ragged:
    """Return the lemmas of each of ``words`` (distinct, between spaces), in order."""
    listed = words.to_list()
    known = {word: lemmas for word in listed if (lemmas := _lemmas.get(word)) is not None}
    fresh = [word for word in listed if word not in known]
    if fresh:
        read = dict(zip(fresh, _read(fresh), strict=True))
        known |= read
        if len(_lemmas) + len(read) > _REMEMBERED:
            _lemmas.clear()
        _lemmas.update(read)
    found = [known[word] for word in listed]
    lengths = np.fromiter(map(len, found), dtype=np.int64, count=len(found))
    return Ragged(pl.Series(list(chain.from_iterable(found)), dtype=pl.String), offsets_of(lengths))


def _read(words: list[str]) -> list[tuple[str, ...]]:
    tokens = (
        pl.Series(words, dtype=pl.String)
        .str.normalize("NFKC")
        .str.replace_all("[\u2018\u2019\u02bc]", "'")
        .str.to_lowercase()
        .str.extract_all(_WORD)
    )
    return [tuple(filter(None, map(lemma, row))) for row in tokens.to_list()]

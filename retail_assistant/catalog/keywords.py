"""Description keywords: lower case, lemmatised, without stop words and punctuation.

Lemmas are looked up once for each distinct token of the whole frame, not once for each row: a
catalog of a million rows has some ten thousand distinct tokens.
"""

from functools import cache

import polars as pl

# Letters and digits, joined inside by a hyphen, dot or apostrophe: "t-shirt", "0.5", "women's".
_WORD = r"[\p{L}\p{N}][\p{L}\p{M}\p{N}]*(?:['.-][\p{L}\p{N}][\p{L}\p{M}\p{N}]*)*"


def keywords(text: pl.Expr) -> pl.Expr:
    """Return the keywords of ``text`` (str) as list[str]: text order, each once, never null.

    Lemmas are simplemma's for English, stop words are spaCy's.
    """
    tokens = (
        text.fill_null("")
        .str.normalize("NFKC")
        .str.replace_all("[\u2018\u2019\u02bc]", "'")
        .str.to_lowercase()
        .str.extract_all(_WORD)
    )
    return tokens.map_batches(
        _lemmatized, return_dtype=pl.List(pl.String), is_elementwise=True
    ).list.unique(maintain_order=True)


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


def _lemmatized(tokens: pl.Series) -> pl.Series:
    vocabulary = tokens.explode().drop_nulls().unique().sort()
    lemmas = pl.Series([lemma(token) for token in vocabulary], dtype=pl.String)
    return tokens.to_frame("tokens").select(
        pl.col("tokens").list.eval(_replaced(pl.element(), vocabulary, lemmas)).list.drop_nulls()
    )["tokens"]


def _replaced(token: pl.Expr, vocabulary: pl.Series, lemmas: pl.Series) -> pl.Expr:
    if vocabulary.is_empty():
        return token
    return token.replace_strict(vocabulary, lemmas, default=None, return_dtype=pl.String)

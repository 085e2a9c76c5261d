"""Shoppers' texts without personal data: what may be written to disk of what they say.

The screens of the corpus (`corpus.screens.personal_data`), stricter: a shopper's text is masked
where in doubt, for nothing is lost by it. Any number of seven digits and more is somebody's, and so
is what follows "my name is". Not found are postal addresses and names without a capital letter.
"""

import re
from collections.abc import Callable, Collection
from typing import get_args

import polars as pl

from retail_assistant.corpus.reading.text import normalise
from retail_assistant.corpus.rendering import plain_text
from retail_assistant.corpus.screens.personal_data import (
    mask_personal_data,
    personal_data_in,
    persons_in,
)
from retail_assistant.corpus.screens.policy import PersonalDataKind

KINDS = frozenset(get_args(PersonalDataKind))
MASKS = re.compile(rf"\((?:{'|'.join(sorted(KINDS))}|NUMBER)\)")

# Item codes of answers (`rendering.item_code`) may be all digits.
_ITEM_CODE = re.compile(r"(\(item [^()\s]{1,8}\))")
_NUMBER = re.compile(r"\w*\d{7,}\w*")
_FIGURES = re.compile(r"[^\s(]*[\d@][^\s)]*")
_NAME = r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*"
_INTRODUCED = re.compile(
    rf"\b(my name is|my name's|i am called|name:)\s+{_NAME}(?:\s{_NAME})?", re.I
)


def masked(text: str, limit: int, known: Collection[str] = ()) -> str:
    """The text on one line, at most `limit` characters, its personal data masked ("(PERSON)").

    `known` words (normal form) are in no person's name: those of the catalog.
    """
    # Masked before it is cut: what is cut in two is not found.
    whole = _by_parts(plain_text(text, 4 * limit), lambda part: _masked(part, known))
    if patterns_left(whole):
        # What stood beside it hid it: two numbers in a row may be read as another one.
        whole = _by_parts(whole, lambda part: _FIGURES.sub("(NUMBER)", part))
    return whole[:limit]


def personal_data_left(text: str, known: Collection[str] = ()) -> list[str]:
    """The kinds of personal data that a text still has; of masked ones only a new name may be."""
    parts = _unmasked(text)
    return patterns_left(text) + (["PERSON"] if persons_in(parts, known) else [])


def patterns_left(text: str) -> list[str]:
    """As `personal_data_left`, of what has a pattern: `masked` leaves none of these."""
    parts = _unmasked(text)
    found = personal_data_in(parts, KINDS)
    found += ["NAME"] if _INTRODUCED.search(parts) else []
    return found + (["NUMBER"] if _NUMBER.search(parts) else [])


def _unmasked(text: str) -> str:
    whole = plain_text(text, 4 * len(text) + 1)
    return MASKS.sub(" , ", _ITEM_CODE.sub(" , ", whole))


def catalog_words(products: pl.LazyFrame) -> frozenset[str]:
    """Every word of the products' names, brands, levels and values, in normal form."""
    levels = ("name", "brand", "department", "category", "subcategory")
    values = pl.col("attributes").explode().struct.field("value")
    texts = [*(pl.col(level) for level in levels), values]
    words = (
        pl.concat([products.select(text=text) for text in texts])
        .select(pl.col("text").str.extract_all(r"[\p{L}\p{M}]{2,}").explode().unique())
        .collect()
        .to_series()
    )
    return frozenset(normalise(word) for word in words.drop_nulls())


def _by_parts(text: str, change: Callable[[str], str]) -> str:
    """The text with all but its item codes changed."""
    parts = _ITEM_CODE.split(text)
    parts[::2] = [change(part) for part in parts[::2]]
    return "".join(parts)


def _masked(text: str, known: Collection[str]) -> str:
    screened = mask_personal_data(text, KINDS, known)
    named = _INTRODUCED.sub(r"\1 (PERSON)", screened)
    return _NUMBER.sub("(NUMBER)", named)

"""Untrusted catalog text as plain text."""

import html
import re
from collections.abc import Callable

import polars as pl

from retail_assistant.catalog.ragged import encoded, with_replaced

_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_ENTITY_LIKE = r"&#?[0-9A-Za-z]+;"
_MARKUP_START = "<[/!A-Za-z]"
# One pass each, so that an opening without an end costs one scan of the text and no more.
_MARKUP = (
    r"(?is)<script\b.*?</script\s*>",
    r"(?is)<style\b.*?</style\s*>",
    r"(?s)<!--.*?-->",
    r"<[/!]?[A-Za-z][^>]*>",
)
_MOJIBAKE = (
    r"[\u00c2\u00c3][\u0080-\u00bf]"
    r"|\u00e2[\u0080\u20ac][\u0080-\u00bf\u2018-\u203a\u02dc\u0152\u0153\u2122]"
)
# Printable ASCII, single spaces, no entity and no markup: nothing to do, and most texts are so.
_UNUSUAL = f"[^ -~]|{_ENTITY_LIKE}|{_MARKUP_START}|  |^ | $|^$"
_CONTROL = r"[\p{Cc}\u2028\u2029]"
# A single space is left alone: most texts are mostly words.
_WIDE_SPACE = r"[\p{Cc}\s--\x20][\p{Cc}\s]*|\x20[\p{Cc}\s]+"
# Latin letters with their accents and common punctuation are NFC as they are.
_MAY_COMPOSE = r"[^\x00-\u02ff\u2010-\u2027\u2030-\u205e\u20b9\u2122]"
_INVISIBLE = r"[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]"
_ESCAPES = {"n": " ", "r": " ", "t": " ", '"': '"', "\\": "\\", "/": "/"}
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)

Change = Callable[[pl.Series], pl.Series]


def plain(texts: pl.Series) -> pl.Series:
    """Return each of ``texts`` (str) as one line of plain text: null where nothing is left.

    HTML entities are resolved and tags dropped, UTF-8 that was read as Windows-1252 is read again
    as UTF-8, control and invisible characters go, white space collapses, Unicode is NFC (not NFKC,
    which would turn "Polo™" into "PoloTM").
    """
    return _where(texts.str.contains(_UNUSUAL), texts, _cleaned)


def without_escapes(texts: pl.Series) -> pl.Series:
    r"""Return ``texts`` (str) with the escapes of Ruby and JSON read: ``\"``, ``\u00e9``."""
    return _where(texts.str.contains("\\", literal=True), texts, _each(_read_escapes))


def without_controls(text: pl.Expr) -> pl.Expr:
    """Return ``text`` (str) with a space in place of each control character and line separator."""
    return text.str.replace_all(_CONTROL, " ")


def has_entities(texts: pl.Series) -> pl.Series:
    """Return where ``texts`` hold what reads as an HTML entity (bool, null: false)."""
    if not texts.str.contains("&", literal=True).any():
        return pl.repeat(value=False, n=len(texts), eager=True)
    return texts.str.contains(_ENTITY_LIKE).fill_null(value=False)


def _where(chosen: pl.Series, texts: pl.Series, change: Change) -> pl.Series:
    """Apply ``change`` to those of ``texts`` that ``chosen`` (bool, null: no) marks."""
    rows = chosen.arg_true()
    if rows.is_empty():
        return texts
    return with_replaced(texts, rows.to_numpy(), change(texts.gather(rows)))


def _each(function: Callable[[str], str]) -> Change:
    """``function`` for each distinct text."""

    def change(texts: pl.Series) -> pl.Series:
        codes, distinct = encoded(texts)
        changed = pl.Series([function(text) for text in distinct], dtype=pl.String)
        return changed.gather(pl.Series(codes))

    return change


def not_ascii(texts: pl.Series) -> pl.Series:
    """Return where ``texts`` (str) hold more than ASCII (bool); a fifteenth of a pattern's time."""
    return texts.str.len_bytes() != texts.str.len_chars()


def _cleaned(texts: pl.Series) -> pl.Series:
    texts = _where(not_ascii(texts), texts, _where_matching(_MOJIBAKE, _each(_repaired)))
    texts = _where_matching(_ENTITY_LIKE, _each(_without_entities))(texts)
    texts = _where_matching(_MARKUP_START, _without_tags)(texts)
    texts = _where(not_ascii(texts), texts, lambda found: found.str.replace_all(_INVISIBLE, ""))
    texts = _where_matching(_WIDE_SPACE, lambda found: found.str.replace_all(_WIDE_SPACE, " "))(
        texts
    )
    compose = _where_matching(_MAY_COMPOSE, lambda found: found.str.normalize("NFC"))
    texts = _where(not_ascii(texts), texts, compose)
    bare = texts.str.strip_chars()
    return bare.set(bare == "", None)


def _where_matching(pattern: str, change: Change) -> Change:
    return lambda texts: _where(texts.str.contains(pattern), texts, change)


def _without_tags(texts: pl.Series) -> pl.Series:
    text = pl.col("text")
    for pattern in _MARKUP:
        text = text.str.replace_all(pattern, " ")
    return texts.to_frame("text").select(text).to_series()


def _without_entities(text: str) -> str:
    # Scraped text is often escaped twice ("&amp;#39;"), seldom more.
    for _ in range(3):
        resolved = _ENTITY.sub(lambda match: html.unescape(match.group()), text)
        if resolved == text:
            break
        text = resolved
    return text


def _repaired(text: str) -> str:
    try:
        return text.encode("cp1252").decode("utf-8")
    except UnicodeError:
        return text


def _read_escapes(text: str) -> str:
    return _ESCAPE.sub(_read_escape, text)


def _read_escape(match: re.Match[str]) -> str:
    code, character = match.groups()
    if code is not None:
        point = int(code, 16)
        # Half of a surrogate pair is no character on its own.
        return "\ufffd" if 0xD800 <= point <= 0xDFFF else chr(point)
    return _ESCAPES.get(character, f"\\{character}")

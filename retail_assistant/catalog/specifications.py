"""Untrusted catalog text as plain text, and Ruby-style specification text as attributes.

The specification syntax of the public data is a Ruby hash that was printed:

    {"product_specification"=>[{"key"=>"Fabric", "value"=>"Cotton"}, {"value"=>"1 Top"}]}

It comes with entries that lack a key, with ``=>nil``, without the brackets, cut off in the middle,
and with quotes inside values. So it is not parsed as a nested structure: the markers ``"key"=>``
and ``"value"=>`` are found, and what stands between them is the text of a key or a value. That
needs no look-around, keeps to linear-time regular expressions, and never fails.
"""

import html
import re
from collections.abc import Callable

import polars as pl

from retail_assistant.catalog.schema import ATTRIBUTE

# Separators for the two passes below; `_without_controls` takes them out of the input first.
_ENTRY, _NAME, _VALUE = "\x1e", "\x1d", "\x1c"

_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_ENTITY_START = r"&(?:#[0-9xX]|[A-Za-z])"
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
# Printable ASCII, single spaces and no markup: nothing to do, and most texts are like that.
_UNUSUAL = r"[^ -~]|[&<]|  |^ | $|^$"
_INVISIBLE = r"[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]"
_ESCAPES = {"n": " ", "r": " ", "t": " ", '"': '"', "\\": "\\", "/": "/"}
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)


def plain_text(text: pl.Expr) -> pl.Expr:
    """Return ``text`` (str) as one line of plain text: null where nothing is left.

    HTML entities are resolved and tags dropped, UTF-8 that was read as Windows-1252 is read again
    as UTF-8, control and invisible characters go, white space collapses, Unicode is NFC (not NFKC,
    which would turn "Polo™" into "PoloTM").
    """
    return _on_distinct(text, _cleaned, only=_UNUSUAL)


def unescaped(text: pl.Expr) -> pl.Expr:
    r"""Return ``text`` (str) with the escapes of Ruby and JSON strings read: ``\"``, ``\u00e9``."""
    return _mapped(text, r"\\", _read_escapes)


def parsed_specifications(text: pl.Expr) -> pl.Expr:
    """Return ``text`` (str, Ruby hash syntax) as list[struct{name: str?, value: str}].

    In source order; never null (no specification is an empty list). A value that came without a
    key stands under a null name. An entry without a value (``=>nil``, ``""``, or cut off before
    its value) states nothing and is left out.
    """
    marked = (
        _without_controls(text.fill_null(""))
        .str.replace_all(r'"key"\s*=>\s*', f"{_ENTRY}{_NAME}")
        .str.replace_all(r'"value"\s*=>\s*', f"{_ENTRY}{_VALUE}")
        # A value right behind a key belongs to it; any other value is an entry of its own.
        .str.replace_all(f"{_NAME}([^{_ENTRY}]*){_ENTRY}{_VALUE}", f"{_NAME}${{1}}{_VALUE}")
    )
    entries = marked.str.split(_ENTRY).list.filter(pl.element().str.contains(_VALUE, literal=True))
    attributes = entries.list.eval(_attribute(pl.element()))
    return attributes.list.filter(pl.element().struct.field("value").is_not_null()).cast(
        pl.List(ATTRIBUTE)
    )


def _attribute(entry: pl.Expr) -> pl.Expr:
    name = entry.str.extract(f"^{_NAME}([^{_VALUE}]*){_VALUE}")
    value = entry.str.extract(f"{_VALUE}(.*)$")
    return pl.struct(
        _on_distinct(name, _quoted).alias("name"), _on_distinct(value, _quoted).alias("value")
    )


def _quoted(body: pl.Expr) -> pl.Expr:
    """Return the text of a quoted string that is followed by nothing but punctuation of the hash.

    The greedy first pattern keeps quotes inside the text. The second takes a tail that was cut
    behind a whole entry, the third a string that was cut, the last one without quotes.
    """
    text = pl.coalesce(
        body.str.extract(r'(?s)^"(.*)"[\s{}\[\],]*$'),
        body.str.extract(r'(?s)^"(.*?)"\s*\}'),
        body.str.extract(r'(?s)^"(.*)$'),
        body.str.extract(r"^([^{}\[\],]*)").replace({"nil": None, "null": None}),
    )
    return plain_text(unescaped(text))


def _without_controls(text: pl.Expr) -> pl.Expr:
    return text.str.replace_all(r"[\p{Cc}\u2028\u2029]", " ")


def _cleaned(text: pl.Expr) -> pl.Expr:
    readable = _mapped(text, _MOJIBAKE, _repaired)
    resolved = _mapped(readable, _ENTITY_START, _without_entities)
    visible = _without_controls(_without_tags(resolved)).str.replace_all(_INVISIBLE, "")
    collapsed = visible.str.replace_all(r"\s+", " ").str.strip_chars()
    normal = collapsed.str.normalize("NFC")
    return pl.when(normal.str.len_bytes() > 0).then(normal)


def _mapped(text: pl.Expr, pattern: str, function: Callable[[str], str]) -> pl.Expr:
    """Apply ``function`` to the texts that match ``pattern``, once for each distinct text."""

    def each(texts: pl.Expr) -> pl.Expr:
        return texts.map_elements(function, return_dtype=pl.String)

    return _on_distinct(text, each, only=pattern)


def _on_distinct(
    text: pl.Expr, clean: Callable[[pl.Expr], pl.Expr], *, only: str | None = None
) -> pl.Expr:
    """Apply ``clean`` once for each distinct text; where ``only`` is given, to texts matching it.

    A catalog says the same few thousand values over and over.
    """

    def on_series(texts: pl.Series) -> pl.Series:
        chosen = texts if only is None else texts.filter(texts.str.contains(only))
        distinct = chosen.drop_nulls().unique()
        if distinct.is_empty():
            return texts
        cleaned = distinct.to_frame("text").select(clean(pl.col("text")).alias("text"))["text"]
        return texts.replace(distinct, cleaned)

    return text.map_batches(on_series, return_dtype=pl.String, is_elementwise=True)


def _without_tags(text: pl.Expr) -> pl.Expr:
    for pattern in _MARKUP:
        text = text.str.replace_all(pattern, " ")
    return text


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

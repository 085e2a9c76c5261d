"""Ruby-style specification text as attributes.

The specification syntax of the public data is a Ruby hash that was printed:

    {"product_specification"=>[{"key"=>"Fabric", "value"=>"Cotton"}, {"value"=>"1 Top"}]}

It comes with entries that lack a key, with ``=>nil``, without the brackets, cut off in the middle,
and with quotes inside values. So it is not parsed as a nested structure: the markers ``"key"=>``
and ``"value"=>`` are found, and what stands between them is the text of a key or a value. That
needs no look-around, keeps to linear-time regular expressions, and never fails.

Most texts are written exactly as above. Those are cut between their entries, and each distinct
entry is read once; any other text is read whole, by the same rules.
"""

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
from retail_assistant.catalog.text import plain, without_controls, without_escapes

# Separators for the passes below; `without_controls` takes them out of the input first.
_ENTRY, _NAME, _VALUE = "\x1e", "\x1d", "\x1c"

_BEGIN, _BETWEEN, _END = '{"product_specification"=>[{', "}, {", "}]}"


def attributes_of(texts: pl.Series) -> pl.Series:
    """Return each of ``texts`` (str, Ruby hash syntax) as list[struct{name: str?, value: str}].

    In source order; never null (no specification is an empty list). A value that came without a
    key stands under a null name. An entry without a value (``=>nil``, ``""``, or cut off before
    its value) states nothing and is left out.
    """
    texts = texts.fill_null("")
    codes, entries, rows = _entries(texts)
    is_regular, attributes = _read_regular(entries)
    others = _rows_with_any(~is_regular[codes], rows)
    if others.any():
        numbers, distinct = encoded(texts.filter(pl.Series(others)))
        codes, rows = _with_others(codes, rows, others, numbers + np.uint32(len(entries)))
        attributes = _chained(attributes, _read(distinct))
    places, ends = picked(attributes, codes)
    values = attributes.values.gather(pl.Series(places))
    return as_lists(Ragged(values.alias(texts.name), ends[rows]))


def stated(names: pl.Series, values: pl.Series) -> Ragged:
    """Return one attribute (struct) for each of ``values``, none where it is null."""
    attributes = pl.DataFrame({"name": names, "value": values})
    is_stated = values.is_not_null()
    return Ragged(attributes.filter(is_stated).to_struct(), offsets_of(is_stated.to_numpy()))


def _entries(texts: pl.Series) -> tuple[np.ndarray, pl.Series, np.ndarray]:
    """Return the entries of ``texts`` as codes, the distinct entries, and each text's offsets.

    A text that has not the usual beginning and end comes as a single entry without content.
    """
    text = pl.col("text")
    is_enclosed = text.str.starts_with(_BEGIN) & text.str.ends_with(_END)
    inner = text.str.strip_prefix(_BEGIN).str.strip_suffix(_END)
    lists = texts.to_frame("text").select(
        pl.when(is_enclosed).then(inner).otherwise(pl.lit("")).str.split(_BETWEEN)
    )
    entries, rows = flattened(lists.to_series())
    return *encoded(entries), rows


def _rows_with_any(marks: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Which rows (offsets ``rows``, each with an entry at least) have one of ``marks``."""
    return np.logical_or.reduceat(marks, rows[:-1]) if len(rows) > 1 else marks


def _with_others(
    codes: np.ndarray, rows: np.ndarray, others: np.ndarray, numbers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return codes and offsets in which each row of ``others`` has one code, from ``numbers``."""
    lengths = np.where(others, 1, np.diff(rows))
    is_other = np.repeat(others, lengths)
    mixed = np.empty(len(is_other), dtype=np.uint32)
    mixed[is_other] = numbers
    mixed[~is_other] = codes[~np.repeat(others, np.diff(rows))]
    return mixed, offsets_of(lengths)


def _chained(first: Ragged, second: Ragged) -> Ragged:
    values = pl.concat([first.values, second.values])
    return Ragged(values, np.concatenate([first.offsets, second.offsets[1:] + first.offsets[-1]]))


def _read_regular(entries: pl.Series) -> tuple[np.ndarray, Ragged]:
    """Return which of ``entries`` are regular (bool), and their attributes; of others, anything.

    Regular ones are ``"key"=>"Fabric", "value"=>"Cotton"`` and ``"value"=>"Cotton"``, without a
    quote inside: no marker can hide in a key or value.
    """
    parts = [pl.col(f"field_{number}") for number in range(9)]
    keyed = _are(parts, ["", "key", "=>", None, ", ", "value", "=>", None, ""])
    bare = _are(parts[:5], ["", "value", "=>", None, ""]) & parts[5].is_null()
    read = (
        entries.str.splitn('"', len(parts))
        .struct.unnest()
        .select(
            (keyed | bare).fill_null(value=False).alias("is_regular"),
            pl.when(keyed).then(parts[3]).alias("name"),
            pl.when(keyed).then(parts[7]).otherwise(parts[3]).alias("value"),
        )
    )
    return read["is_regular"].to_numpy(), stated(
        _unescaped(read["name"]), _unescaped(read["value"])
    )


def _are(parts: list[pl.Expr], texts: list[str | None]) -> pl.Expr:
    return pl.all_horizontal(
        part == text for part, text in zip(parts, texts, strict=True) if text is not None
    )


def _read(texts: pl.Series) -> Ragged:
    """Return the attributes of each of ``texts``: any number of entries, however cut."""
    marked = (
        without_controls(pl.col("text"))
        .str.replace_all(r'"key"\s*=>\s*', f"{_ENTRY}{_NAME}")
        .str.replace_all(r'"value"\s*=>\s*', f"{_ENTRY}{_VALUE}")
        # A value right behind a key belongs to it; any other value is an entry of its own.
        .str.replace_all(f"{_NAME}([^{_ENTRY}]*){_ENTRY}{_VALUE}", f"{_NAME}${{1}}{_VALUE}")
    )
    lists = texts.to_frame("text").select(marked.str.split(_ENTRY)).to_series()
    entries, offsets = flattened(lists)
    codes, distinct = encoded(entries)
    # What stands in front of the first marker, and a key without a value, has no value here.
    entry = pl.col("entry")
    bodies = distinct.to_frame("entry").select(
        entry.str.extract(f"^{_NAME}([^{_VALUE}]*){_VALUE}").alias("name"),
        entry.str.extract(f"{_VALUE}(.*)$").alias("value"),
    )
    unquoted = bodies.select(
        _unquoted(pl.col("name")).alias("name"), _unquoted(pl.col("value")).alias("value")
    )
    attributes = stated(_unescaped(unquoted["name"]), _unescaped(unquoted["value"]))
    places, ends = picked(attributes, codes)
    return Ragged(attributes.values.gather(pl.Series(places)), ends[offsets])


def _unescaped(texts: pl.Series) -> pl.Series:
    return plain(without_escapes(texts))


def _unquoted(body: pl.Expr) -> pl.Expr:
    """Return the text of a quoted string that is followed by nothing but punctuation of the hash.

    The greedy first pattern keeps quotes inside the text. The second takes a tail that was cut
    behind a whole entry, the third a string that was cut, the last one without quotes.
    """
    bare = body.str.extract(r"^([^{}\[\],]*)")
    return pl.coalesce(
        body.str.extract(r'(?s)^"(.*)"[\s{}\[\],]*$'),
        body.str.extract(r'(?s)^"(.*?)"\s*\}'),
        body.str.extract(r'(?s)^"(.*)$'),
        pl.when(~bare.is_in(["nil", "null"])).then(bare),
    )

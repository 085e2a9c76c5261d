"""List columns as Arrow keeps them, flat values and offsets, and texts as codes of distinct texts.

Catalogs say the same few thousand things over and over. So the work is done once for each distinct
text, and rows are put together from the results by number: gathering costs some nanoseconds a
value, where a list expression of polars visits every list.

Everything here is vectorised and leaves the interpreter lock to others.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

if TYPE_CHECKING:
    import pyarrow as pa

_SPACE = ord(" ")


class Ragged(NamedTuple):
    """Lists of different lengths: row i holds ``values[offsets[i]:offsets[i + 1]]``.

    ``offsets`` (i64) has one number more than there are rows, and begins with 0.
    """

    values: pl.Series
    offsets: np.ndarray


def flattened(lists: pl.Series) -> Ragged:
    """Return the values of ``lists`` (list[T]) one behind the other; a null list has none."""
    lengths = lists.list.len().fill_null(0).to_numpy()
    values = lists.explode(empty_as_null=False, keep_nulls=False)
    return Ragged(values, offsets_of(lengths))


def as_lists(ragged: Ragged) -> pl.Series:
    """Return ``ragged`` as a list column; values are not copied."""
    import pyarrow as pa

    values = ragged.values.rechunk().to_arrow(compat_level=pl.CompatLevel.newest())
    lists = pa.LargeListArray.from_arrays(pa.array(ragged.offsets, pa.int64()), values)
    return pl.Series(ragged.values.name, lists, dtype=pl.List(ragged.values.dtype))


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Return the offsets (i64, one more than ``lengths``) of lists that are so long."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def encoded(texts: "pl.Series | pa.LargeStringArray") -> tuple[np.ndarray, pl.Series]:
    """Return ``texts`` (str, no null) as codes (u32) into their distinct texts, and these.

    The distinct texts stand in the order of their first appearance.
    """
    # Arrow's dictionaries take half the time of a Categorical, whose tables serve many threads.
    array = texts.rechunk().to_arrow() if isinstance(texts, pl.Series) else texts
    found = array.dictionary_encode()
    name = texts.name if isinstance(texts, pl.Series) else ""
    return found.indices.to_numpy().view(np.uint32), pl.Series(name, found.dictionary)


def cut_at_spaces(texts: pl.Series) -> "tuple[pa.LargeStringArray, np.ndarray]":
    """Return the words of ``texts`` (str, no null), each with the space behind it, and offsets.

    Words are slices of one buffer: nothing is copied. An empty text is one empty word.
    """
    import pyarrow as pa

    array = texts.rechunk().to_arrow()
    _, offsets, data = array.buffers()
    rows = np.frombuffer(offsets, dtype=np.int64)[array.offset :][: len(array) + 1]
    octets = np.frombuffer(data or b"", dtype=np.uint8)[: rows[-1]]
    spaces = np.flatnonzero(octets == _SPACE) + 1
    before = np.searchsorted(spaces, rows, side="right")
    ends = np.insert(spaces, before, rows)
    words = pa.LargeStringArray.from_buffers(len(ends) - 1, pa.py_buffer(ends), data)
    return words, before + np.arange(len(rows))


def picked(lists: Ragged, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where in ``lists.values`` the values of the lists ``codes`` stand, and their offsets.

    One code may stand for many values or for none; ``offsets`` has ``len(codes) + 1`` numbers.
    """
    starts, lengths = lists.offsets[:-1][codes], np.diff(lists.offsets)[codes]
    offsets = offsets_of(lengths)
    places = np.repeat(starts - offsets[:-1], lengths)
    places += np.arange(len(places))
    return places, offsets


def with_replaced(column: pl.Series, rows: np.ndarray, replacements: pl.Series) -> pl.Series:
    """Return ``column`` with ``replacements`` in the rows numbered ``rows``, in order."""
    source = np.arange(len(column), dtype=np.uint32)
    source[rows] = np.arange(len(column), len(column) + len(rows), dtype=np.uint32)
    return pl.concat([column, replacements.alias(column.name)]).gather(pl.Series(source))

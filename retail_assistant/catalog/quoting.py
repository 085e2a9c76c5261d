"""Where the records of a piece of CSV end, found in a few passes over its bytes.

The bytes of one kind (quotes, line ends, delimiters) are kept as a set of bits, 64 a number, as
simdjson does (Langdale and Lemire, "Parsing gigabytes of JSON per second", VLDB Journal 2019): what
lies inside quotes is then a prefix XOR, and the neighbours of all quotes are looked at in one step.
"""

import numpy as np

_QUOTE, _NEWLINE, _RETURN = b'"'[0], b"\n"[0], b"\r"[0]
_WORD = 64
_PIECE = 1 << 17
"""Bytes looked at together: few enough to stay in a core's cache."""
_ONE, _LAST = np.uint64(1), np.uint64(63)


def record_ends(data: bytes, delimiter: str, fields: int, limit: int) -> np.ndarray | None:
    """Return where the records of ``data`` end (exclusive), None where they must be read strictly.

    That is so when a quote stands inside a field, a record is longer than ``limit``, a record over
    several lines has not ``fields`` fields (it may have swallowed its neighbours), or none ends.
    """
    bits = _Bits(data)
    quotes, newlines = bits.of(_QUOTE), bits.of(_NEWLINE)
    inside = _inside(quotes)
    ends = _places(newlines & ~inside) + 1
    if not len(ends):
        return None
    separators = bits.of(ord(delimiter))
    whole = _up_to(int(ends[-1]), len(quotes))
    between = separators | newlines
    if (_unopened(quotes & inside, quotes & ~inside, between) & whole).any():
        return None
    unclosed = _unclosed(quotes & inside, quotes & ~inside, between) & whole
    if unclosed.any() and (unclosed & ~_next(bits.of(_RETURN))).any():
        return None
    if int(np.diff(ends, prepend=0).max()) > limit:
        return None
    is_folded = _counts(newlines & inside, ends) > 0
    is_whole = _counts(separators & ~inside, ends) == fields - 1
    return ends if (is_whole | ~is_folded).all() else None


class _Bits:
    """Sets of places in ``data``, a bit for each byte (u64, lowest bit first)."""

    def __init__(self, data: bytes) -> None:
        self._octets = np.frombuffer(data, dtype=np.uint8)

    def of(self, octet: int) -> np.ndarray:
        """Return where ``octet`` stands."""
        bits = np.zeros(-(-len(self._octets) // _WORD) * (_WORD // 8), dtype=np.uint8)
        for start in range(0, len(self._octets), _PIECE):
            packed = np.packbits(self._octets[start : start + _PIECE] == octet, bitorder="little")
            bits[start // 8 :][: len(packed)] = packed
        return bits.view("<u8")


def _inside(quotes: np.ndarray) -> np.ndarray:
    """Return what is behind an odd number of ``quotes``, an opening quote itself among it."""
    inside = quotes.copy()
    for distance in (1, 2, 4, 8, 16, 32):
        inside ^= inside << np.uint64(distance)
    is_odd = np.bitwise_xor.accumulate(inside >> _LAST)
    inside[1:] ^= -is_odd[:-1]
    return inside


def _unopened(opening: np.ndarray, closing: np.ndarray, between: np.ndarray) -> np.ndarray:
    """Return which of ``opening`` quotes begin no field and are no second half of a double one."""
    may_open = _previous(between | closing)
    may_open[0] |= _ONE
    return opening & ~may_open


def _unclosed(opening: np.ndarray, closing: np.ndarray, between: np.ndarray) -> np.ndarray:
    """Return which of ``closing`` quotes end no field and are no first half of a double one."""
    return closing & ~_next(between | opening)


def _previous(bits: np.ndarray) -> np.ndarray:
    """Return the places behind those of ``bits``."""
    moved = bits << _ONE
    moved[1:] |= bits[:-1] >> _LAST
    return moved


def _next(bits: np.ndarray) -> np.ndarray:
    """Return the places in front of those of ``bits``."""
    moved = bits >> _ONE
    moved[:-1] |= bits[1:] << _LAST
    return moved


def _up_to(end: int, size: int) -> np.ndarray:
    """Return all places below ``end`` as ``size`` numbers."""
    whole = np.zeros(size, dtype=np.uint64)
    whole[: end // _WORD] = ~np.uint64(0)
    if end % _WORD:
        whole[end // _WORD] = (_ONE << np.uint64(end % _WORD)) - _ONE
    return whole


def _counts(bits: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return how many of ``bits`` lie in each record: in front of its end, behind the one before.

    ``ends`` are above zero and ascending.
    """
    last = ends - 1
    word, place = last // _WORD, (last % _WORD).astype(np.uint64)
    counts = np.bitwise_count(bits)
    up_to = np.cumsum(counts, dtype=np.int64)[word] - counts[word]
    up_to += np.bitwise_count(bits[word] << (_LAST - place))
    return np.diff(up_to, prepend=0)


def _places(bits: np.ndarray) -> np.ndarray:
    """Return the numbers of the set ``bits`` (i64, ascending)."""
    words = np.flatnonzero(bits)
    places = np.flatnonzero(np.unpackbits(bits[words].view(np.uint8), bitorder="little"))
    return words[places // _WORD] * _WORD + places % _WORD

"""Whole records of a CSV stream, a block at a time, with a number for each: broken ones too.

Polars, pyarrow and DuckDB read CSV faster than anything here, and block after block polars still
does. What none of them does is go on behind a broken record with the right row number and bounded
memory: one unterminated quote makes the rest of the file a single field. So blocks are cut at
record ends first (RFC 4180: a line end outside quotes), which costs a few passes of numpy over the
bytes. A block in which a quote stands where none can, or a record has more fields than the header,
is read again slowly and strictly by the standard library's `csv`, record by record.
"""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
import polars as pl

from retail_assistant.catalog.quoting import record_ends

CsvEncoding = Literal["utf8", "utf8-lossy"]

BLOCK_BYTES = 1 << 24
MAX_BROKEN = 10_000
ROW = "record number"
_KEPT_CHARACTERS = 10_000


class Broken(NamedTuple):
    """A record that cannot be read: its 1-based number, why, and how it begins."""

    source_row: int
    reason: str
    detail: str
    raw: str


class TooBrokenError(ValueError):
    """So many records are broken that the dialect must be another."""


@dataclass(frozen=True)
class Block:
    """Consecutive records of a stream.

    ``rows`` holds the wanted columns as text plus ``ROW`` (u32, the record's 1-based number);
    ``raw`` gives a record's own text back.
    """

    rows: pl.DataFrame
    raw: Callable[[int], str]
    broken: list[Broken] = field(default_factory=list)
    lossy: bool = False


class RecordReader:
    """Reads the records of a CSV stream behind its header."""

    def __init__(
        self,
        stream: BinaryIO,
        *,
        delimiter: str = ",",
        max_record_bytes: int = 1 << 20,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        """``stream``: UTF-8 bytes, at the beginning of the file. Set ``wanted`` to read less."""
        self._stream = stream
        self._delimiter = delimiter
        self._limit = max_record_bytes
        self._block_bytes = max(block_bytes, 2 * max_record_bytes)
        self._row = 0
        self._broken = 0
        self._rest, self._ended = b"", False
        self.header = self._read_header()
        self.wanted = list(self.header)

    def __iter__(self) -> Iterator[Block]:
        """Blocks until the stream ends. Raises TooBrokenError when most records are broken."""
        while not self._ended or self._rest:
            self._fill()
            block = self._next_block()
            if block is None:
                continue
            self._broken += len(block.broken)
            if block.broken and self._broken > MAX_BROKEN and self._broken > self._row / 2:
                last = block.broken[-1]
                raise TooBrokenError(
                    f"{self._broken} of the first {self._row} records are broken;"
                    f" row {last.source_row}: {last.detail}"
                )
            yield block

    def _fill(self) -> None:
        parts, size = [self._rest], len(self._rest)
        while size < self._block_bytes and not self._ended:
            part = self._stream.read(self._block_bytes - size)
            self._ended = not part
            parts.append(part)
            size += len(part)
        self._rest = b"".join(parts)
        if self._ended and self._rest and not self._rest.endswith(b"\n"):
            self._rest += b"\n"

    def _read_header(self) -> list[str]:
        self._fill()
        self._rest = self._rest.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n")
        text = self._rest[: self._limit].decode("utf-8", "replace")
        lines = text.split("\n")
        reader = csv.reader((f"{line}\n" for line in lines), delimiter=self._delimiter)
        names = next(reader, [])
        for _ in range(reader.line_num):
            self._rest = self._rest.partition(b"\n")[2]
        return _distinct([name.strip() for name in names])

    def _next_block(self) -> Block | None:
        if not self._rest:
            return None
        ends = record_ends(self._rest, self._delimiter, len(self.header), self._limit)
        if ends is not None:
            data, self._rest = self._rest[: ends[-1]], self._rest[ends[-1] :]
            block = self._fast(data, ends)
            return block if block is not None else self._slow(data, last=True)
        return self._slow(self._rest, last=self._ended)

    def _fast(self, data: bytes, ends: np.ndarray) -> Block | None:
        """A block without broken records, or None where polars sees something else in it."""
        rows, lossy = self._parsed(data, "utf8"), False
        if rows is None:
            rows, lossy = self._parsed(data, "utf8-lossy"), True
        if rows is None or rows.height != len(ends):
            return None
        starts = np.concatenate(([0], ends[:-1]))
        if (ends - starts).min() <= len("\r\n"):
            filled = np.array([bool(data[a:b].strip()) for a, b in zip(starts, ends, strict=True)])
            rows, starts, ends = rows.filter(filled), starts[filled], ends[filled]
        first = self._row + 1
        self._row += rows.height

        def raw(row: int) -> str:
            return _kept(data[starts[row - first] : ends[row - first]])

        numbers = pl.int_range(first, first + rows.height, dtype=pl.UInt32, eager=True)
        return Block(rows.with_columns(numbers.alias(ROW)), raw, lossy=lossy)

    def _parsed(self, data: bytes, encoding: CsvEncoding) -> pl.DataFrame | None:
        schema = dict.fromkeys(self.header, pl.String)
        try:
            scan = pl.scan_csv(
                data,
                has_header=False,
                schema=schema,
                separator=self._delimiter,
                encoding=encoding,
            )
            return scan.select(self.wanted).collect()
        except pl.exceptions.PolarsError:
            return None

    def _slow(self, data: bytes, *, last: bool) -> Block:
        """The records of ``data``, read strictly; what is behind the last whole one stays."""
        found = _StrictRecords(data, self._delimiter, len(self.header), self._limit, self._row)
        whole = found.read(last=last)
        if data is self._rest:
            self._rest = self._rest[whole:]
        if found.skips_to_line_end:
            self._skip_line()
        self._row = found.row
        columns = list(zip(*found.fields, strict=True)) or [()] * len(self.header)
        schema = dict.fromkeys(self.header, pl.String)
        named = dict(zip(self.header, columns, strict=True))
        rows = pl.DataFrame(named, schema=schema).select(
            *self.wanted, pl.Series(ROW, found.numbers, dtype=pl.UInt32)
        )
        return Block(rows, found.texts.__getitem__, found.broken, lossy=not _is_utf8(data))

    def _skip_line(self) -> None:
        """Drop the rest of a line that is longer than a record may be, unread."""
        while b"\n" not in self._rest and not self._ended:
            self._rest = b""
            self._fill()
        self._rest = self._rest.partition(b"\n")[2]


class _StrictRecords:
    """Records of a piece of a file by the standard library's reader, one line set at a time.

    A record that cannot be read is taken to end with its first line: behind an unterminated quote
    the next line is most likely the next record.
    """

    def __init__(self, data: bytes, delimiter: str, fields: int, limit: int, row: int) -> None:
        # Not `splitlines`: a lone carriage return ends no line here.
        lines = [line + b"\n" for line in data.split(b"\n")]
        lines[-1] = lines[-1][:-1]
        self._sizes = [len(line) for line in lines]
        self._lines = [line.decode("utf-8", "replace") for line in lines]
        self._delimiter, self._width, self._limit = delimiter, fields, limit
        self.row = row
        self.fields: list[list[str | None]] = []
        self.numbers: list[int] = []
        self.texts: dict[int, str] = {}
        self.broken: list[Broken] = []
        self.skips_to_line_end = False

    def read(self, *, last: bool) -> int:
        """Read what is whole (``last``: everything); returns the bytes that were used."""
        position = 0
        while position < len(self._lines):
            if not self._lines[position].strip("\r\n"):
                position += 1  # an empty line is no record
                continue
            taken, problem = self._record(position)
            if problem == "unfinished" and not last:
                break
            self.row += 1
            text = "".join(self._lines[position : position + max(taken, 1)])
            self.texts[self.row] = _kept(text)
            if problem:
                reason, detail = _PROBLEMS[problem]
                detail = detail.format(width=self._width, limit=self._limit)
                self.broken.append(Broken(self.row, reason, detail, _kept(text)))
            position += max(taken, 1)
        return sum(self._sizes[:position])

    def _record(self, position: int) -> tuple[int, str | None]:
        """How many lines the record at ``position`` takes, and what is wrong with it."""
        first = self._lines[position]
        whole_line = first.endswith("\n")
        if self._sizes[position] > self._limit:
            self.skips_to_line_end = not whole_line
            return 1, "long"
        feed = _Feed(self._lines, self._sizes, position, self._limit)
        reader = csv.reader(feed, delimiter=self._delimiter, strict=True)
        try:
            found = next(reader)
        except csv.Error:
            if feed.exhausted or not whole_line:
                return 1, "unfinished"
            return 1, "quote"
        if not whole_line:
            return 1, "unfinished"
        if len(found) > self._width:
            return 1, "wide"
        if reader.line_num > 1 and len(found) != self._width:
            return 1, "quote"
        missing: list[str | None] = [None] * (self._width - len(found))
        self.fields.append([*(value or None for value in found), *missing])
        self.numbers.append(self.row + 1)
        return reader.line_num, None


_PROBLEMS = {
    "quote": (
        "broken_quoting",
        "a quote stands inside a field, or is not closed within {limit} bytes",
    ),
    "unfinished": ("broken_quoting", "a quote is opened and not closed"),
    "wide": ("too_many_fields", "more fields than the {width} of the header"),
    "long": ("record_too_long", "longer than {limit} bytes (csv.max_record_bytes)"),
}


class _Feed:
    """Lines for `csv.reader`, no more bytes of them than a record may have."""

    def __init__(self, lines: list[str], sizes: list[int], position: int, limit: int) -> None:
        self._lines, self._sizes = lines, sizes
        self._position, self._left = position, limit
        self.exhausted = False

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        if self._position >= len(self._lines):
            self.exhausted = True
            raise StopIteration
        self._left -= self._sizes[self._position]
        if self._left < 0:
            raise StopIteration
        line = self._lines[self._position]
        self._position += 1
        return line


def _distinct(names: list[str]) -> list[str]:
    """Column names, none empty and none twice: "price", "price (2)", "column 3"."""
    found: list[str] = []
    for number, name in enumerate(names, start=1):
        plain = name or f"column {number}"
        times = sum(other == plain or other.startswith(f"{plain} (") for other in found)
        found.append(f"{plain} ({times + 1})" if times else plain)
    return found


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _kept(text: str | bytes) -> str:
    """The beginning of a record, for the table of rejected rows."""
    start = text[:_KEPT_CHARACTERS]
    shown = start.decode("utf-8", "replace") if isinstance(start, bytes) else start
    return shown.rstrip("\r\n")

import csv
import io
import itertools
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retail_assistant.catalog.records import ROW, RecordReader, TooBrokenError

LIMIT = 1 << 10
TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('",\n\r"x'), max_size=12)


def read(data: bytes, **options: int | str) -> RecordReader:
    return RecordReader(io.BytesIO(data), **options)


def rows_and_broken(
    reader: RecordReader,
) -> tuple[dict[int, tuple[str | None, ...]], dict[int, str]]:
    rows, broken = {}, {}
    for block in reader:
        for *fields, number in block.rows.iter_rows():
            rows[number] = tuple(fields)
        broken |= {record.source_row: record.reason for record in block.broken}
    return rows, broken


@settings(deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT, TEXT), max_size=30), st.sampled_from(["\n", "\r\n"]))
def test_what_the_csv_module_writes_is_read_back(
    rows: list[tuple[str, str, str]], line_end: str
) -> None:
    text = io.StringIO()
    # A bare carriage return at the end of a line could be either's, so such fields are quoted.
    quoting = csv.QUOTE_ALL if "\r" in "".join(chain(*rows)) else csv.QUOTE_MINIMAL
    writer = csv.writer(text, lineterminator=line_end, quoting=quoting)
    writer.writerows([("a", "b", "c"), *rows])
    found, broken = rows_and_broken(read(text.getvalue().encode(), max_record_bytes=LIMIT))
    assert broken == {}
    expected = [tuple(value or None for value in row) for row in rows]
    # Whether an empty quoted field is an empty text or none makes no difference to a catalog.
    assert [tuple(value or None for value in row) for row in found.values()] == expected
    assert list(found) == list(range(1, len(rows) + 1))


@settings(deadline=None)
@given(st.binary(max_size=400) | st.text('",\nab\r', max_size=400).map(str.encode))
def test_any_bytes_become_rows_and_broken_records_numbered_without_a_gap(data: bytes) -> None:
    rows, broken = rows_and_broken(read(b"a,b,c\n" + data, max_record_bytes=LIMIT))
    assert sorted([*rows, *broken]) == list(range(1, len(rows) + len(broken) + 1))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from(['1,"two\nlines",3', "4,5,6", '7,"8,9', "x,y", ""]), max_size=400))
def test_the_size_of_the_blocks_makes_no_difference(lines: list[str]) -> None:
    data = ("a,b,c\n" + "\n".join(lines)).encode()
    small = rows_and_broken(read(data, max_record_bytes=64, block_bytes=256))
    large = rows_and_broken(read(data, max_record_bytes=64, block_bytes=1 << 20))
    assert small == large


@pytest.mark.parametrize(
    ("body", "rows", "broken"),
    [
        ('1,"2,3\n4,5,6\n7,"8",9\n', {2: "456", 3: "789"}, {1: "broken_quoting"}),
        ('1,2,3\n4,"5,6\n7,8,9', {1: "123", 3: "789"}, {2: "broken_quoting"}),
        ('1,"2"x,3\n4,5,6\n', {2: "456"}, {1: "broken_quoting"}),
        ("1,2,3,4\n4,5,6\n", {2: "456"}, {1: "too_many_fields"}),
        ("1,2,3\n" + "x" * 5000 + ",2,3\n4,5,6\n", {1: "123", 3: "456"}, {2: "record_too_long"}),
        ('1,"' + "x" * 5000 + '",3\n4,5,6', {2: "456"}, {1: "record_too_long"}),
    ],
)
def test_a_broken_record_does_not_take_its_neighbours_along(
    body: str, rows: dict[int, str], broken: dict[int, str]
) -> None:
    found = rows_and_broken(read(f"a,b,c\n{body}".encode(), max_record_bytes=LIMIT))
    assert ({row: "".join(filter(None, fields)) for row, fields in found[0].items()}) == rows
    assert found[1] == broken


def test_short_lines_are_filled_and_quotes_inside_bare_fields_are_text() -> None:
    rows, broken = rows_and_broken(read(b'a,b,c\n1\n2,24" screen,x\n\n3,,\n'))
    assert rows == {1: ("1", None, None), 2: ("2", '24" screen', "x"), 3: ("3", None, None)}
    assert broken == {}


def test_a_record_gives_its_own_text_back_and_invalid_bytes_are_marked() -> None:
    reader = read('a,b\n1,"x ""y"""\n2,é\n'.encode("latin-1"))
    block = next(iter(reader))
    assert [block.raw(1), block.raw(2)] == ['1,"x ""y"""', "2,\ufffd"]
    assert block.lossy
    assert block.rows["b"].to_list() == ['x "y"', "\ufffd"]
    assert block.rows[ROW].to_list() == [1, 2]


def test_column_names_are_made_distinct() -> None:
    assert read(b"\xef\xbb\xbf a ,a,,a\n").header == ["a", "a (2)", "column 3", "a (3)"]


@pytest.mark.fault(
    "A text is made to take its reader's time or memory: endless fields, repetitions",
    "Linear time, bounded memory; what cannot be read is rejected with a reason",
)
def test_an_endless_field_is_dropped_without_being_kept() -> None:
    import tracemalloc

    pieces = chain([b'a,b\n1,2\n3,"'], itertools.repeat(b"x" * (1 << 20), 1000))
    ends = chain(pieces, [b'"\n5,6\n'])
    stream = io.BufferedIOBase()
    stream.read = lambda size=-1: next(ends, b"")
    tracemalloc.start()
    rows, broken = rows_and_broken(RecordReader(stream, max_record_bytes=1 << 16))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (rows, broken) == ({1: ("1", "2"), 3: ("5", "6")}, {2: "record_too_long"})
    assert peak < 200 << 20


def test_a_file_of_broken_records_is_refused() -> None:
    with pytest.raises(TooBrokenError, match="row"):
        rows_and_broken(read(b"a,b\n" + b"1,2,3\n" * 20_000))

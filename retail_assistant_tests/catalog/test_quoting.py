import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retail_assistant.catalog.quoting import record_ends

FIELD = st.text(st.sampled_from('"ab,\n '), max_size=70)
RECORDS = st.lists(st.lists(FIELD, min_size=3, max_size=3), min_size=1, max_size=12)
PIECES = st.lists(st.sampled_from(['"', '""', ",", "\n", "\r\n", "a", "b" * 63]), max_size=40)


def ends(text: str, limit: int = 1 << 20) -> list[int] | None:
    found = record_ends(text.encode(), ",", 3, limit)
    return None if found is None else found.tolist()


def quoted(field: str) -> str:
    return '"' + field.replace('"', '""') + '"'


def ends_by_rule(text: str) -> list[int] | None:
    """The rule for a regular piece, character by character; records of any number of fields."""
    found, inside, wrong, place = [], False, False, 0
    while place < len(text):
        if inside and text[place : place + 2] == '""':
            place += 1
        elif text[place] == '"':
            neighbours = "\n\r," if inside else "\n,"
            beside = place + 1 if inside else place - 1
            neighbour = text[beside : beside + 1] if beside >= 0 else ""
            wrong = wrong or bool(neighbour and neighbour not in neighbours)
            inside = not inside
        elif text[place] == "\n" and not inside:
            if wrong:
                return None
            found.append(place + 1)
        place += 1
    return found or None


@given(RECORDS, st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", '"begun, ']))
def test_quoted_fields_may_hold_anything(
    records: list[list[str]], line_end: str, tail: str
) -> None:
    lines = [",".join(map(quoted, fields)) + line_end for fields in records]
    expected = [len("".join(lines[: number + 1])) for number in range(len(lines))]
    assert ends("".join(lines) + tail) == expected


@settings(max_examples=300)
@given(PIECES)
def test_bits_say_what_the_rule_says(pieces: list[str]) -> None:
    text = "".join(pieces)
    whole = text[: text.rfind("\n") + 1]
    expected = ends_by_rule(whole)
    found = ends(whole)
    if found is None:
        # Also where a record over several lines has not three fields.
        lines = [whole[a:b] for a, b in zip([0, *(expected or [])], expected or [], strict=False)]
        is_odd = any(line.count("\n") > 1 for line in lines)
        assert expected is None or is_odd
    else:
        assert found == expected


@pytest.mark.parametrize(
    "text",
    ['a"b,c,d\n', 'a,b"",c\n', '"a"b,c,d\n', 'a,"b\nc,d\ne,"f\n', "a,b,c", ""],
)
def test_what_is_not_regular_is_left_to_the_strict_reader(text: str) -> None:
    assert ends(text) is None


def test_a_record_longer_than_the_limit_is_left_to_the_strict_reader() -> None:
    text = "a,b,c\n" + "d" * 100 + ",e,f\n"
    assert ends(text, limit=200) == [6, 111]
    assert ends(text, limit=100) is None


@pytest.mark.parametrize("length", [61, 62, 63, 64, 65, (1 << 17) - 2, 1 << 17])
def test_places_are_right_at_the_edges_of_numbers_and_pieces(length: int) -> None:
    text = "a" * length + ',"b\n""c""",d\n"e",f,g\n'
    assert ends(text) == [len(text) - len('"e",f,g\n'), len(text)]

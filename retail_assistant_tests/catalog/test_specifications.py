from pathlib import Path
from time import process_time

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retail_assistant.catalog.specifications import attributes_of
from retail_assistant.catalog.text import plain

TEXT = st.text(st.characters(codec="utf-8"), max_size=60)
SYNTAX = st.lists(
    st.one_of(
        st.sampled_from(
            ['"key"=>', '"value"=>', '"', "{", "}, {", "]", "nil", "\\", "&", "<b", ">"]
        ),
        TEXT,
    ),
    max_size=20,
).map("".join)
WORDS = st.text("abcXYZ019 '.,:;%-/", min_size=1, max_size=30).map(
    lambda text: " ".join(text.split())
)
BODY = st.sampled_from(["", "Red", "key", "value", "nil", "}, {", "=>", ", ", "\\n", "\x1e"]) | TEXT
ENTRY = st.tuples(st.none() | BODY, BODY).map(
    lambda entry: (
        f'"value"=>"{entry[1]}"'
        if entry[0] is None
        else f'"key"=>"{entry[0]}", "value"=>"{entry[1]}"'
    )
)
REGULAR = st.lists(ENTRY, max_size=5).map(
    lambda entries: '{"product_specification"=>[{' + "}, {".join(entries) + "}]}"
)


def column_of(*texts: str | None) -> list[list[tuple[str | None, str]]]:
    column = attributes_of(pl.Series("text", texts, dtype=pl.String)).to_list()
    return [[(entry["name"], entry["value"]) for entry in row] for row in column]


def parsed(text: str | None) -> list[tuple[str | None, str]]:
    (found,) = column_of(text)
    return found


@pytest.mark.parametrize(
    ("text", "attributes"),
    [
        ('{"product_specification"=>[{"key"=>"A", "value"=>"B"}, {"value"=>"C"}]}', "A=B|C"),
        ('{"product_specification"=>{"key"=>"A", "value"=>"B"}}', "A=B"),
        (
            '{"product_specification"=>{"key"=>"A", "value"=>"B"}, {"key"=>"C", "value"=>"D"}',
            "A=B|C=D",
        ),
        ('[{"key"=>nil, "value"=>"B"}, {"key"=>"C", "value"=>nil}, {"value"=>""}]', "B"),
        ('{"product_specification"=>nil}', ""),
        ('[{"key"=>"A", "value"=>"B"}, {"key"=>"C", "val', "A=B"),
        ('[{"key"=>"A", "value"=>"B"}, {"k', "A=B"),
        ('[{"key"=>"A", "value"=>"cut of', "A=cut of"),
        ('[{"key"=>"Heel", "value"=>"3" heel"}, {"value"=>"x}"}]', 'Heel=3" heel|x}'),
        (
            r'[{"key"=>"Dia", "value"=>"3\", high 4\""}, {"key"=>"A", "value"=>"B"}]',
            'Dia=3", high 4"|A=B',
        ),
        (r'[{"key"=>"A", "value"=>"caf\u00e9 \\ bar"}]', "A=café \\ bar"),
        ('[{"key" => "A" , "value" => "B" }]', "A=B"),
        ('[{"key"=>"A &amp; B", "value"=>"Women&amp;#39;s <b>top</b>"}]', "A & B=Women's top"),
        ('"value"=>Cotton}', "Cotton"),
        ("no specification at all", ""),
        ("", ""),
    ],
)
def test_reads_what_the_public_data_holds(text: str, attributes: str) -> None:
    found = "|".join(value if name is None else f"{name}={value}" for name, value in parsed(text))
    assert found == attributes


def test_a_missing_specification_is_an_empty_list() -> None:
    assert parsed(None) == []


@given(st.lists(st.tuples(st.none() | WORDS, WORDS).filter(lambda e: e[0] != "" and e[1] != "")))
def test_every_well_formed_entry_comes_back(entries: list[tuple[str | None, str]]) -> None:
    written = ", ".join(
        f'{{"value"=>"{value}"}}' if name is None else f'{{"key"=>"{name}", "value"=>"{value}"}}'
        for name, value in entries
    )
    assert parsed(f'{{"product_specification"=>[{written}]}}') == entries


@given(SYNTAX)
def test_no_text_is_refused(text: str) -> None:
    for name, value in parsed(text):
        assert plain(pl.Series([name, value], dtype=pl.String)).to_list() == [name, value]


@given(REGULAR)
def test_reading_entry_by_entry_gives_what_reading_the_whole_text_gives(text: str) -> None:
    # A space at the end makes the text one that is read whole.
    assert parsed(text) == parsed(f"{text} ")


@given(st.lists(REGULAR | SYNTAX | st.none(), max_size=8))
def test_a_column_is_read_like_its_texts_one_by_one(texts: list[str | None]) -> None:
    assert column_of(*texts) == [parsed(text) for text in texts]


@pytest.mark.parametrize(
    "unit",
    ["<script>", "&amp;", '"key"=>', '"value"=>"', "}, {", '{"product_specification"=>[{', "\\"],
)
@pytest.mark.fault(
    "A text is made to take its reader's time or memory: endless fields, repetitions",
    "Linear time, bounded memory; what cannot be read is rejected with a reason",
)
def test_hostile_repetition_takes_linear_time(unit: str) -> None:
    start = process_time()
    parsed(unit * 50_000)
    parsed(f'{{"product_specification"=>[{{{unit * 50_000}}}]}}')
    assert process_time() - start < 5


def test_no_real_entry_is_lost(real_catalog: Path) -> None:
    """The 999 rows hold 11,991 values, of which 715 have no key (two stand outside brackets)."""
    column = "product_specifications"
    texts = pl.read_csv(real_catalog, columns=[column], infer_schema=False)[column]
    found = attributes_of(texts)
    written = texts.str.count_matches('"value"=>"').fill_null(0)
    assert found.list.len().to_list() == written.to_list()
    entries = found.explode().drop_nulls().struct.unnest()
    assert (entries.height, entries["name"].null_count()) == (11_991, 715)

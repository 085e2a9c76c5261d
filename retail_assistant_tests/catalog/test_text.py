import threading
from time import process_time

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retail_assistant.catalog.text import plain, without_escapes

TEXT = st.text(st.characters(codec="utf-8"), max_size=60)
MARKED = st.lists(
    st.sampled_from(["&amp;", "&#39;", "&", "<b>", "<", ">", "Â", "Ã©", "\u200b", "  ", "\n"])
    | TEXT,
    max_size=12,
).map("".join)


def cleaned(text: str | None) -> str | None:
    return plain(pl.Series([text], dtype=pl.String)).item()


def unescaped(text: str | None) -> str | None:
    return without_escapes(pl.Series([text], dtype=pl.String)).item()


@given(TEXT)
def test_plain_text_is_one_clean_line(text: str) -> None:
    found = cleaned(text)
    assert found is None or (found == found.strip() and found != "" and "\n" not in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Women&#39;s &quot;top&quot; &amp;amp; more", 'Women\'s "top" & more'),
        ("<p>One</p><br/>two<script>alert(1)</script><!-- x -->", "One two"),
        ("&lt;img src=x onerror=alert(1)&gt; shirt", "shirt"),
        ("Tees & Co, R&D, size < 3 and > 1", "Tees & Co, R&D, size < 3 and > 1"),
        ("Womenâ€™s CafÃ©", "Women\u2019s Café"),
        ("Crème brûlée Â", "Crème brûlée Â"),
        ("a\u200b\ufeffb\u00a0 \tc\x00d", "ab c d"),
        ("Cafe\u0301 Polo™", "Café Polo™"),
        (" \u200b\n", None),
        ("", None),
        (None, None),
    ],
)
def test_plain_text(text: str | None, expected: str | None) -> None:
    assert cleaned(text) == expected


@given(st.lists(MARKED | st.none(), max_size=8))
def test_a_column_is_cleaned_like_its_texts_one_by_one(texts: list[str | None]) -> None:
    column = plain(pl.Series("text", texts, dtype=pl.String))
    assert column.to_list() == [cleaned(text) for text in texts]
    assert column.name == "text"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"3\" wide \\ caf\u00e9 a\/b \q", '3" wide \\ café a/b \\q'),
        (r"\ud800", "\ufffd"),
        ("plain", "plain"),
        (None, None),
    ],
)
def test_escapes(text: str | None, expected: str | None) -> None:
    assert unescaped(text) == expected


@pytest.mark.parametrize("unit", ["<script>", "<!--", "<a", "&amp;", "\\", "Â\x80", "<style>-->"])
@pytest.mark.fault(
    "A text is made to take its reader's time or memory: endless fields, repetitions",
    "Linear time, bounded memory; what cannot be read is rejected with a reason",
)
def test_hostile_repetition_takes_linear_time(unit: str) -> None:
    start = process_time()
    cleaned(unit * 50_000)
    unescaped(unit * 50_000)
    assert process_time() - start < 5


def test_columns_may_be_cleaned_in_several_threads_at_once() -> None:
    columns = [
        pl.Series([f"<b>{name} &amp; {number}</b>" for number in range(2_000)])
        for name in ("one", "two", "three", "four")
    ]
    found: dict[int, list[str]] = {}

    def clean(index: int) -> None:
        found[index] = plain(columns[index]).to_list()

    threads = [threading.Thread(target=clean, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, name in enumerate(("one", "two", "three", "four")):
        assert found[index] == [f"{name} & {number}" for number in range(2_000)]

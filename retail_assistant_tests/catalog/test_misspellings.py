"""Names with typos: found among few names, as by looking at all of them."""

from collections.abc import Sequence

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz import fuzz, process
from rapidfuzz.distance import OSA

from retail_assistant.catalog.embedding import normalised
from retail_assistant.catalog.misspellings import Misspellings
from retail_assistant.catalog.synthesize import synthesize
from retail_assistant.settings import EMBEDDED_CATALOG

NAMES = [
    "marla summer mini dress",
    "bolt slim fit men shirt",
    "bolt slim fit men skirt",
    "kurta",
    "anvi kurta",
    "oriel t shirt",
    "sweatshirt",
    "a a a kurti",
    "quill 100 cotton top",
    "vero fresh blue t shirt t",
]
WORDS = sorted({word for name in NAMES for word in name.split()})


def by_all_names(names: Sequence[str], key: str, most: int | None) -> tuple[str, int] | None:
    """The same answer, from every name that is close to the text as a whole."""
    vocabulary = {word for name in names for word in name.split()}
    words = key.split()

    def of_run(name: list[str], run: list[str]) -> int | None:
        total = 0
        for meant, typed in zip(name, run, strict=True):
            if meant == typed:
                continue
            if typed in vocabulary or not (meant + typed).isalpha() or len(meant) < 4:
                return None
            typos = OSA.distance(meant, typed)
            if typos > (1 if len(meant) < 8 else 2):
                return None
            total += typos
        return total if total <= max(2, len(name) // 2) else None

    def typos(name: list[str]) -> int | None:
        if len("".join(name)) < 8:
            return None
        joined = {
            "".join(words[start : start + size])
            for size in (len(name) - 1, len(name) + 1)
            for start in range(len(words) - size + 1)
        }
        if "".join(name) in joined:
            return 1
        runs = (words[start : start + len(name)] for start in range(len(words) - len(name) + 1))
        return min((n for run in runs if (n := of_run(name, run)) is not None), default=None)

    close = process.extract(key, names, scorer=fuzz.partial_ratio, score_cutoff=85, limit=most)
    found = [(name, n) for name, _, _ in close if (n := typos(name.split())) is not None]
    return min(found, key=lambda pair: (pair[1], -len(pair[0]), pair[0]), default=None)


def names_of(rows: pl.DataFrame) -> list[str]:
    name = normalised(pl.col("product_name")).alias("name")
    return rows.select(name).drop_nulls().filter(pl.col("name") != "")["name"].unique().to_list()


def misspelt(name: str, place: int) -> list[str]:
    """The name with two letters swapped, one dropped, one doubled; with a space less, and more."""
    words = name.split()
    number = place % len(words)
    word = words[number]
    at = place % max(1, len(word) - 1)
    typed = [
        word[:at] + word[at + 1 : at + 2] + word[at : at + 1] + word[at + 2 :],
        word[:at] + word[at + 1 :],
        word[:at] + word[at : at + 1] + word[at:],
        f"{word[:at]} {word[at:]}",
    ]
    names = [" ".join([*words[:number], one, *words[number + 1 :]]) for one in typed]
    return [*names, name.replace(" ", "", 1)]


@pytest.mark.parametrize("catalog", ["embedded", "synthetic"])
def test_few_names_give_what_all_names_give(catalog: str) -> None:
    rows = (
        pl.read_csv(EMBEDDED_CATALOG, infer_schema=False)
        if catalog == "embedded"
        else pl.concat(synthesize(2000, seed=3))
    )
    names = names_of(rows)
    book = Misspellings(names)
    found = 0
    for place, name in enumerate(sorted(names)[:: len(names) // 30]):
        for text in misspelt(name, place):
            for key in (text, f"what is the fabric of {text} please"):
                closest = book.closest(key)
                assert closest == by_all_names(names, key, 32), key
                found += closest is not None
    assert found > 100


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(WORDS).flatmap(
            lambda word: st.sampled_from([word, word[:-1], word + "s", word[1:], f"{word[:2]} x"])
        )
        | st.sampled_from(["", "the", "zzz", "9"]),
        max_size=8,
    ).map(" ".join)
)
def test_no_text_makes_a_difference(key: str) -> None:
    assert Misspellings(NAMES).closest(key) == by_all_names(NAMES, key, None)


def test_no_names_are_close_to_nothing() -> None:
    assert Misspellings([]).closest("a top") is None
    assert Misspellings(NAMES).closest("") is None

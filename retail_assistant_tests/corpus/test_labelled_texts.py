"""Files of labelled texts: every row is used or rejected with a reason, and a bad file is told."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from retail_assistant.corpus.labelled_text_files import LabelledTextError, read_text_rows
from retail_assistant.corpus.labelled_texts import (
    LABELLED,
    REJECTED,
    LabelledTexts,
    LabellingPolicy,
    read_labelled_texts,
)
from retail_assistant.corpus.made_up_reviews import WRONG_LABELS, labelled_file, made_up_reviews
from retail_assistant.settings import SHIPPED_TEXTS

POLICY = LabellingPolicy()
# A text that CSV, JSON and UTF-8 can carry.
CARRIED = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30)
ROWS = st.lists(
    st.tuples(CARRIED, st.sampled_from(["positive", "Negative ", "", " "])), max_size=20
)
BOTH = [("good it is", "positive"), ("bad it is", "negative")]


def written(
    folder: Path,
    name: str,
    rows: Sequence[Sequence[Any]],
    columns: Sequence[str] = ("text", "label"),
) -> Path:
    """A file with rows, in the format of its name."""
    path = folder / name
    if path.suffix == ".parquet":
        pl.DataFrame(rows, schema=list(columns), orient="row").write_parquet(path)
    elif path.suffix == ".jsonl":
        lines = (json.dumps(dict(zip(columns, row, strict=True))) for row in rows)
        path.write_text("\n".join(lines), encoding="utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerows([columns, *rows])
    return path


def reasons(found: LabelledTexts) -> dict[int, str]:
    return dict(found.rejected.select("source_row", "reason").iter_rows())


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
@hypothesis_settings(max_examples=40)
@given(rows=ROWS)
def test_every_row_is_used_or_rejected(suffix: str, rows: list[tuple[str, str]]) -> None:
    with TemporaryDirectory() as folder:
        path = written(Path(folder), f"texts.{suffix}", [*BOTH, *rows])
        found = read_labelled_texts(path, POLICY)
        again = read_labelled_texts(path, POLICY)
    numbers = [*found.texts["source_row"], *found.rejected["source_row"]]
    assert sorted(numbers) == list(range(1, len(rows) + len(BOTH) + 1))
    assert found.texts["text_id"].is_unique().all()
    assert set(found.texts["label"]) <= {"positive", "negative"}
    assert found.texts.schema == pl.Schema(LABELLED)
    assert found.rejected.schema == pl.Schema(REJECTED)
    assert found.texts.equals(again.texts)
    by_row = dict(enumerate([*BOTH, *rows], start=1))
    for row in found.texts.to_dicts():
        assert row["label"] == by_row[row["source_row"]][1].strip().lower()


@given(content=st.binary(max_size=200), suffix=st.sampled_from(["csv", "tsv", "jsonl", "parquet"]))
def test_any_bytes_are_read_or_told(content: bytes, suffix: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"any.{suffix}"
        path.write_bytes(content)
        try:
            columns, rows = read_text_rows(path)
        except LabelledTextError as error:
            assert str(path) in str(error)
        else:
            assert rows
            assert all(set(row.fields) <= set(columns) for row in rows)


def test_what_cannot_be_used_has_a_reason(tmp_path: Path) -> None:
    rows = [
        *BOTH,
        ("", "positive"),
        ("x" * 3000, "positive"),
        ("no label", ""),
        ("Good  IT is", "positive"),
        ("two minds", "positive"),
        ("Two Minds", "negative"),
        (" \u200b ", "positive"),
    ]
    found = read_labelled_texts(written(tmp_path, "texts.csv", rows), POLICY)
    assert reasons(found) == {
        3: "empty_text",
        4: "too_long",
        5: "missing_label",
        6: "duplicate",
        7: "conflicting_labels",
        8: "conflicting_labels",
        9: "empty_text",
    }
    assert found.texts.height == 2
    assert found.labels == ("negative", "positive")


def test_a_row_with_too_many_fields_is_rejected_and_the_rest_read(tmp_path: Path) -> None:
    path = tmp_path / "texts.csv"
    path.write_text("text,label\ngood it is,positive\nwell, nice,positive\nbad it is,negative\n")
    found = read_labelled_texts(path, POLICY)
    assert reasons(found) == {2: "unreadable"}
    assert found.texts.height == 2


def test_labels_may_be_numbers_with_words_of_the_profile(tmp_path: Path) -> None:
    rows = [("fine", 1.0), ("awful", 0.0), ("neither", 3.0)]
    path = written(tmp_path, "texts.parquet", rows)
    policy = LabellingPolicy(labels={"1": "good", "0": "bad"}, positive="good")
    found = read_labelled_texts(path, policy)
    assert sorted(found.texts.select("text", "label", "is_positive").iter_rows()) == [
        ("awful", "bad", False),
        ("fine", "good", True),
    ]
    assert reasons(found) == {3: "unknown_label"}


@pytest.mark.parametrize(
    ("labels", "positive"),
    [(("0", "1"), "1"), (("ham", "spam"), "spam"), (("yes", "no"), "yes")],
)
def test_which_label_is_positive(tmp_path: Path, labels: tuple[str, str], positive: str) -> None:
    rows = [(f"text {label}", label) for label in labels]
    found = read_labelled_texts(written(tmp_path, "texts.csv", rows), POLICY)
    assert found.labels[1] == positive


def test_two_columns_of_any_names_are_told_apart_by_their_values(tmp_path: Path) -> None:
    rows = [("positive", "it is good"), ("negative", "it is bad"), ("negative", "it is worse")]
    path = written(tmp_path, "texts.tsv", rows, ("stars", "what they wrote"))
    found = read_labelled_texts(path, POLICY)
    assert sorted(found.texts["text"]) == ["it is bad", "it is good", "it is worse"]


def test_reviewers_labels_stand_beside_the_original(tmp_path: Path) -> None:
    rows = [("good", "pos", "neg", "POS"), ("bad", "neg", "", "what?")]
    path = written(tmp_path, "texts.csv", rows, ("text", "label", "reviewer_a", "Reviewer B"))
    found = read_labelled_texts(path, POLICY)
    by_text = {row["text"]: row["reviewers"] for row in found.texts.to_dicts()}
    assert by_text["good"] == [
        {"reviewer": "reviewer_a", "label": "neg"},
        {"reviewer": "Reviewer B", "label": "pos"},
    ]
    assert [one["label"] for one in by_text["bad"]] == [None, None]
    assert found.unknown_reviews == {"Reviewer B": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\na,x\nb,y\nc,z\n", r"3 different labels: x \(1\), y \(1\), z \(1\); allowed"),
        ("text,label\na,x\nb,x\n", r"1 different labels: x \(2\); allowed: two"),
        ("text,label\n", "no rows"),
        ("", "allowed: a first line|no rows"),
        ("text,text\na,b\n", "different names"),
        ("one,two,three\na,b,c\n", "which of the columns one, two, three"),
        ("one,two\na,b\n", "which of the columns one, two"),
        ('text,label\n"a,x\n', "unexpected end of data"),
        ("text,label\na\xff,x\n", "not UTF-8 at byte 12"),
    ],
)
def test_a_file_that_cannot_be_used_is_told(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "texts.csv"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(LabelledTextError, match=message) as told:
        read_labelled_texts(path, POLICY)
    assert str(path) in str(told.value)


def test_a_profile_that_names_what_is_not_there_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, "texts.csv", BOTH)
    with pytest.raises(LabelledTextError, match="no column opinion; allowed: text, label"):
        read_labelled_texts(path, LabellingPolicy(text="opinion"))
    with pytest.raises(LabelledTextError, match="positive='great'; allowed: negative or positive"):
        read_labelled_texts(path, LabellingPolicy(positive="great"))
    other = tmp_path / "texts.xlsx"
    other.write_text("x")
    with pytest.raises(LabelledTextError, match=r"allowed: a file ending in \.csv"):
        read_labelled_texts(other, POLICY)


def test_the_shipped_texts_are_those_that_the_generator_makes() -> None:
    assert SHIPPED_TEXTS.read_text(encoding="utf-8") == labelled_file().write_csv()
    reviews = made_up_reviews()
    wrong = sum(one.label != one.sentiment for one in reviews)
    assert 0.7 * WRONG_LABELS < wrong / len(reviews) < 1.3 * WRONG_LABELS
    found = read_labelled_texts(SHIPPED_TEXTS, POLICY)
    assert found.texts.height == len(reviews) == 480
    assert found.rejected.is_empty()
    positive = found.texts["is_positive"].sum()
    assert 0.45 < positive / found.texts.height < 0.55

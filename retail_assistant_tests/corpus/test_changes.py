"""What a corpus version changed: every dialogue of both is kept, moved, changed, added or gone."""

from collections.abc import Sequence

import polars as pl
import pytest

from retail_assistant.corpus.changes import COLUMNS, CorpusChanges, corpus_changes

Row = tuple[str, str | None, str, str, str]


def corpus(rows: Sequence[Row]) -> pl.DataFrame:
    """Of (id, product, subset, question, answer)."""
    return pl.DataFrame(
        [(one, product, "Zed Top", "attribute", *rest) for one, product, *rest in rows],
        schema=dict.fromkeys(COLUMNS, pl.String),
        orient="row",
    )


BEFORE: list[Row] = [
    ("1", "p", "train", "Which fabric?", "Rayon."),
    ("2", "p", "unseen", "Which neck?", "Boat neck."),
    ("3", None, "train", "Which color?", "The catalog has no such top."),
    ("4", "p", "train", "Which fit?", "Slim."),
]


def ids(frame: pl.DataFrame) -> set[str]:
    return set(frame["dialogue_id"])


def accounted(changes: CorpusChanges) -> int:
    return changes.kept + sum(f.height for f in (changes.moved, changes.changed, changes.added))


def test_a_corpus_changes_nothing_beside_itself() -> None:
    changes = corpus_changes(corpus(BEFORE), corpus(BEFORE[::-1]))
    assert changes.counts == {"kept": 4, "moved": 0, "changed": 0, "added": 0, "removed": 0}


def test_each_kind_of_change_is_told_apart() -> None:
    after = corpus(
        [
            BEFORE[0],
            ("2", "p", "train", "Which neck?", "Boat neck."),
            ("5", None, "train", "Which color?", "There is none."),
            ("6", "q", "train", "Which fit?", "Slim."),
        ]
    )
    changes = corpus_changes(corpus(BEFORE), after)
    assert changes.kept == 1
    assert changes.moved.select("dialogue_id", "subset_before", "subset").rows() == [
        ("2", "unseen", "train")
    ]
    assert changes.changed.select("dialogue_id", "answer_before", "answer").rows() == [
        ("5", "The catalog has no such top.", "There is none.")
    ]
    # The same question about another product is another question.
    assert (ids(changes.added), ids(changes.removed)) == ({"6"}, {"4"})
    assert accounted(changes) == after.height


def test_a_question_that_stands_twice_is_not_paired() -> None:
    twice: list[Row] = [
        ("7", "p", "train", "Which fit?", "Loose."),
        ("8", "p", "unseen", "Which fit?", "Wide."),
    ]
    changes = corpus_changes(corpus(BEFORE), corpus([*BEFORE[:3], *twice]))
    assert (ids(changes.added), ids(changes.removed)) == ({"7", "8"}, {"4"})
    assert changes.changed.is_empty()


@pytest.mark.parametrize("empty", ["before", "after"])
def test_an_empty_corpus_is_compared_too(empty: str) -> None:
    none, some = corpus([]), corpus(BEFORE)
    changes = corpus_changes(none, some) if empty == "before" else corpus_changes(some, none)
    kind = "added" if empty == "before" else "removed"
    assert changes.counts == {**dict.fromkeys(changes.counts, 0), kind: 4}


def test_a_corpus_of_another_contract_is_refused() -> None:
    with pytest.raises(ValueError, match="without answer, subset"):
        corpus_changes(corpus(BEFORE).drop("answer", "subset"), corpus(BEFORE))

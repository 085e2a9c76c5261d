"""What a corpus version changed, dialogue by dialogue, beside another one."""

from dataclasses import dataclass

import polars as pl

COLUMNS = (
    "dialogue_id",
    "product_id",
    "product_name",
    "intent",
    "subset",
    "question",
    "answer",
)
_QUESTION = ("product_id", "question")


@dataclass(frozen=True)
class CorpusChanges:
    """Every dialogue of both versions stands in one of these.

    All frames have COLUMNS; `moved` also `subset_before`; `changed` also `answer_before`.
    """

    kept: int
    moved: pl.DataFrame
    changed: pl.DataFrame
    added: pl.DataFrame
    removed: pl.DataFrame

    @property
    def counts(self) -> dict[str, int]:
        """How many of each; a moved or changed dialogue stands in both versions and counts once."""
        frames = ("moved", "changed", "added", "removed")
        return {"kept": self.kept, **{name: getattr(self, name).height for name in frames}}


def corpus_changes(before: pl.DataFrame, after: pl.DataFrame) -> CorpusChanges:
    """Compare two dialogues frames.

    Kept: the same question and answer in the same subset. Moved: in another subset. Changed: the
    same question about the same product has another answer.

    Raises:
        ValueError: one of the frames lacks a column (it is of an older contract).
    """
    for frame in (before, after):
        missing = set(COLUMNS) - set(frame.columns)
        if missing:
            raise ValueError(f"dialogues without {', '.join(sorted(missing))}")
    old, new = before.select(COLUMNS), after.select(COLUMNS)
    same = ["dialogue_id", "subset"]
    left, gone = new.join(old, on=same, how="anti"), old.join(new, on=same, how="anti")
    kept = new.height - left.height
    moved = left.join(
        gone.select("dialogue_id", subset_before="subset"), on="dialogue_id", how="inner"
    )
    left, gone = (one.join(moved, on="dialogue_id", how="anti") for one in (left, gone))
    # Twice in one version, the same question cannot be paired: its rows count as added, removed.
    once_new, once_old = (one.filter(pl.struct(_QUESTION).is_unique()) for one in (left, gone))
    changed = once_new.join(
        once_old.select(*_QUESTION, answer_before="answer"),
        on=_QUESTION,
        how="inner",
        nulls_equal=True,
    )
    added, removed = (
        one.join(changed, on=_QUESTION, how="anti", nulls_equal=True) for one in (left, gone)
    )
    return CorpusChanges(kept, moved, changed, added, removed)

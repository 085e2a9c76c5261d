"""Which of a catalog's names a text comes to with a few typos."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

_FEWEST_LETTERS = 8
"""A shorter name is too near to too much."""

_CLOSE = 85
"""How alike (rapidfuzz partial ratio, 0 to 100) a text and a name in it are at least."""

_MOST_COMPARED = 32
_FEWEST_LETTERS_OF_WORD, _LETTERS_OF_LONG_WORD = 4, 8

_Places = npt.NDArray[np.int64]
_NOWHERE: _Places = np.empty(0, dtype=np.int64)


class Misspellings:
    """The words of all names, so that a text is compared with the few that it may mean."""

    def __init__(self, names: Sequence[str]) -> None:
        """`names`: distinct, in normal form."""
        self._names = list(names)
        words = [name.split() for name in self._names]
        self._lengths = np.array([len(ws) for ws in words], dtype=np.int64)
        self._longest = max(map(len, words), default=0)
        self._names_with = _places(words)
        self._joined = _places(["".join(ws)] for ws in words)
        # Only these are ever misspelt, by one letter or, where they are long, by two.
        self._correctable = [
            word
            for word in self._names_with
            if len(word) >= _FEWEST_LETTERS_OF_WORD and word.isalpha()
        ]
        self._most_typos = np.array([_most_typos(word) for word in self._correctable])

    def closest(self, key: str) -> tuple[str, int] | None:
        """The name that a normalised text comes closest to, and by how many typos, if it is few."""
        from rapidfuzz import fuzz, process

        words = key.split()
        close = process.extract(
            key,
            [self._names[number] for number in self._possible(words)],
            scorer=fuzz.partial_ratio,
            score_cutoff=_CLOSE,
            limit=_MOST_COMPARED,
        )
        counted = ((name, self._typos(name.split(), words)) for name, _, _ in close)
        return min(
            ((name, typos) for name, typos in counted if typos is not None),
            key=lambda pair: (pair[1], -len(pair[0]), pair[0]),
            default=None,
        )

    def _possible(self, words: Sequence[str]) -> list[int]:
        """Numbers of the names that a text may mean: those whose words it has, misspelt or not.

        And those that stand in it with spaces elsewhere. `_typos` is None for every other name.
        """
        meant = {word for word in words if word in self._names_with}
        meant.update(self._meant_by(sorted({w for w in words if w not in meant and w.isalpha()})))
        places = [_NOWHERE, *(self._names_with[word] for word in sorted(meant))]
        stand = np.bincount(np.concatenate(places), minlength=len(self._names))
        whole = np.flatnonzero(stand == self._lengths).tolist()
        runs = {"".join(run) for run in _runs(words, range(1, self._longest + 2))}
        split = [n for run in runs if run in self._joined for n in self._joined[run].tolist()]
        return sorted({*whole, *split})

    def _meant_by(self, typed: Sequence[str]) -> list[str]:
        """The names' words that one of some other words may be a misspelling of."""
        from rapidfuzz import process
        from rapidfuzz.distance import OSA

        if not typed or not self._correctable:
            return []
        most = int(self._most_typos.max())
        typos = process.cdist(typed, self._correctable, scorer=OSA.distance, score_cutoff=most)
        near = np.flatnonzero((typos <= self._most_typos).any(axis=0))
        return [self._correctable[number] for number in near]

    def _typos(self, name: list[str], words: list[str]) -> int | None:
        """Fewest typos that make some run of `words` the name; None where it takes more."""
        joined = "".join(name)
        if len(joined) < _FEWEST_LETTERS:
            return None
        sizes = (len(name) - 1, len(name) + 1)
        if any(joined == "".join(run) for run in _runs(words, sizes)):
            return 1
        counts = (self._run_typos(name, run) for run in _runs(words, [len(name)]))
        return min((count for count in counts if count is not None), default=None)

    def _run_typos(self, name: Sequence[str], run: Sequence[str]) -> int | None:
        from rapidfuzz.distance import OSA

        total = 0
        for meant, typed in zip(name, run, strict=True):
            if meant == typed:
                continue
            # Words the catalog knows are meant as typed: a skirt is no misspelt shirt.
            if typed in self._names_with or not (meant + typed).isalpha():
                return None
            typos = OSA.distance(meant, typed)
            if len(meant) < _FEWEST_LETTERS_OF_WORD or typos > _most_typos(meant):
                return None
            total += typos
        return total if total <= max(2, len(name) // 2) else None


def _most_typos(word: str) -> int:
    return 1 if len(word) < _LETTERS_OF_LONG_WORD else 2


def _runs(words: Sequence[str], sizes: Iterable[int]) -> Iterator[Sequence[str]]:
    """The runs of some words that are so many words long."""
    for size in sizes:
        for start in range(len(words) - size + 1):
            yield words[start : start + size]


def _places(words: Iterable[Sequence[str]]) -> dict[str, _Places]:
    """Word -> numbers of the entries that hold it, as often as they do."""
    held = pl.DataFrame({"word": pl.Series(list(words), dtype=pl.List(pl.String))})
    grouped = held.with_row_index("entry").explode("word").group_by("word").agg("entry")
    return {
        word: np.array(entries, dtype=np.int64)
        for word, entries in grouped.iter_rows()
        if word is not None
    }

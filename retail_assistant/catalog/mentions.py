"""Which products a shopper's text names: by item code or id, by name, by name with typos."""

from __future__ import annotations

import re

import polars as pl

CODE_LENGTH = 8
"""An item code is the first eight characters of a product_id."""

Named = list[tuple[list[str], float]]
"""Groups of product ids that one mention fits, with the mention's score, 0 to 1."""

_CODE = re.compile(r"(?:\b(item)(?: code)?[\s:#]+)?(?<![\w-])([a-z0-9_-]{1,64})(?![\w-])")


class NameBook:
    """Which products a text names: by item code or id, by name, by name with typos."""

    def __init__(self, names: pl.DataFrame) -> None:
        """`names`: product_id and name_key (normalised name), a row a product."""
        names = names.sort("product_id")
        self.ids: list[str] = names["product_id"].to_list()
        codes = pl.col("product_id").str.to_lowercase()
        coded = pl.concat(
            names.select("product_id", code=code)
            for code in (codes, codes.str.slice(0, CODE_LENGTH))
        ).unique()
        self._by_code = _ids_by(coded, "code")
        self._by_name = _ids_by(names.filter(pl.col("name_key") != ""), "name_key")
        words = [name.split() for name in self._by_name]
        self._longest = max(map(len, words), default=0)
        uses = pl.Series([w for ws in words for w in set(ws)], dtype=pl.String).value_counts()
        self._vocabulary = dict(uses.iter_rows())

    def coded(self, query: str) -> Named:
        """Products whose code follows the word "item", or whose code or id stands in the text."""
        groups = []
        for label, token in _CODE.findall(query.lower()):
            # A bare word is a code only if it looks like one: ids may be plain words.
            bare = len(token) >= CODE_LENGTH and any(map(str.isdigit, token))
            if (label or bare) and token in self._by_code:
                groups.append((self._by_code[token], 1.0))
        return groups

    def named(self, key: str) -> Named:
        """Products whose whole name stands in the normalised text, in order of mention.

        Longer names win where they overlap. A name of one word counts only where no other name
        holds that word: "kurta" in a question is no product's name.
        """
        words = key.split()
        found: dict[int, list[str]] = {}
        free = [True] * len(words)
        for size in range(min(self._longest, len(words)), 0, -1):
            for start in range(len(words) - size + 1):
                name = " ".join(words[start : start + size])
                ids = self._by_name.get(name)
                if ids is None or (size == 1 and self._vocabulary[name] > 1):
                    continue
                if all(free[start : start + size]):
                    free[start : start + size] = [False] * size
                    found[start] = ids
        return [(found[start], 1.0) for start in sorted(found)]

    def misspelt(self, key: str) -> Named:
        """Products of the name that the normalised text comes closest to, if only typos differ."""
        from rapidfuzz import fuzz, process

        close = process.extract(
            key, self._by_name.keys(), scorer=fuzz.partial_ratio, score_cutoff=85, limit=32
        )
        words = key.split()
        distances = [(self._typos(name.split(), words), name) for name, _, _ in close]
        typos, name = min(
            ((found, name) for found, name in distances if found is not None),
            key=lambda pair: (pair[0], -len(pair[1]), pair[1]),
            default=(0, ""),
        )
        return [(self._by_name[name], 1.0 - typos / len(name))] if name else []

    def _typos(self, name: list[str], words: list[str]) -> int | None:
        """Fewest typos that make some run of `words` the name; None where it takes more."""
        if len("".join(name)) < CODE_LENGTH:
            return None
        joined = {
            "".join(words[start : start + size])
            for size in (len(name) - 1, len(name) + 1)
            for start in range(len(words) - size + 1)
        }
        if "".join(name) in joined:
            return 1
        runs = (words[start : start + len(name)] for start in range(len(words) - len(name) + 1))
        counts = (self._run_typos(name, run) for run in runs)
        return min((count for count in counts if count is not None), default=None)

    def _run_typos(self, name: list[str], run: list[str]) -> int | None:
        from rapidfuzz.distance import OSA

        total = 0
        for meant, typed in zip(name, run, strict=True):
            if meant == typed:
                continue
            # Words the catalog knows are meant as typed: a skirt is no misspelt shirt.
            if typed in self._vocabulary or not (meant + typed).isalpha() or len(meant) < 4:
                return None
            typos = OSA.distance(meant, typed)
            if typos > (1 if len(meant) < 8 else 2):
                return None
            total += typos
        return total if total <= max(2, len(name) // 2) else None


def _ids_by(frame: pl.DataFrame, column: str) -> dict[str, list[str]]:
    grouped = frame.group_by(column, maintain_order=True).agg(pl.col("product_id").sort())
    return dict(grouped.iter_rows())

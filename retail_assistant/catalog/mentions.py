"""Which products a shopper's text names: by item code or id, by name, by name with typos."""

from __future__ import annotations

import re

import polars as pl

from retail_assistant.catalog.misspellings import Misspellings

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
        self._misspellings = Misspellings(list(self._by_name))

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
        closest = self._misspellings.closest(key)
        if closest is None:
            return []
        name, typos = closest
        return [(self._by_name[name], 1.0 - typos / len(name))]


def _ids_by(frame: pl.DataFrame, column: str) -> dict[str, list[str]]:
    grouped = frame.group_by(column, maintain_order=True).agg(pl.col("product_id").sort())
    return dict(grouped.iter_rows())

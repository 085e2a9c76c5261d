"""What the words of a shopper mean in this shop: kinds, audiences, brands, values, attributes.

All of it is read off the index, so a word means what the shop's own records make of it; a few
words of the trade (garments, colours, whom something is for) are known even where the shop has
nothing of that kind, so that it can say so.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import polars as pl

from retail_assistant.catalog.embedding import normalised
from retail_assistant.catalog.garments import NOUNS
from retail_assistant.corpus.facts import is_askable_attribute, is_askable_value
from retail_assistant.corpus.phrasing import attribute_wording
from retail_assistant.corpus.reading.catalog_facts import PhraseIndex, value_atoms, value_forms
from retail_assistant.corpus.reading.text import normalise
from retail_assistant.corpus.rendering import plain_text
from retail_assistant.serving.understanding.shelves import NO_ROWS, Rows, Shelves
from retail_assistant.serving.understanding.trade_words import (
    ASKED_AS,
    AUDIENCE,
    BRAND,
    COLOR,
    COLORS,
    KIND,
    MEANT_BY,
    SAME_ATTRIBUTE,
    SAME_NOUN,
    SIZE,
    UNSEARCHED,
    WHO,
    WIDER_NOUN,
)
from retail_assistant.serving.understanding.utterances import is_small_word

_MOST_WORDS = 4
_LONGEST_WORD = 24
_MOST_KINDS = 8


@dataclass(frozen=True, eq=False)
class Sense:
    """What a phrase means: some products, all that share one thing of a dimension."""

    dimension: str
    label: str
    rows: Rows


class _Values(NamedTuple):
    """Which row has which value in a dimension: entry i says row rows[i] has values[codes[i]]."""

    rows: Rows
    codes: Rows
    values: list[str]


class ShopVocabulary:
    """The phrases (in normal form) by which this shop's products can be asked for."""

    def __init__(self, shelves: Shelves) -> None:
        self._shelves = shelves
        self._entries = _attribute_entries(shelves.frame)
        values = self._values()
        brands = self._brands()
        self.senses: dict[str, Sense] = {**brands, **values, **self._audiences(), **self._kinds()}
        self.phrases = PhraseIndex(self.senses)
        self.asked = PhraseIndex(self._attribute_phrases())

    def corrected(self, word: str) -> str:
        """The shop's word that an unknown one becomes by one correction; else the word itself."""
        import simplemma
        from rapidfuzz import process
        from rapidfuzz.distance import OSA

        if word in self._known_words or len(word) > _LONGEST_WORD:
            return word
        if simplemma.is_known(word, lang="en"):
            return word  # "write" is not "white"
        close = process.extract(
            word, self._correctable, scorer=OSA.distance, score_cutoff=1, limit=2
        )
        return str(close[0][0]) if len(close) == 1 and close[0][0][0] == word[0] else word

    @cached_property
    def _known_words(self) -> frozenset[str]:
        """Words that are meant as typed: of the shop's phrases, attributes and names."""
        phrases = (*self.senses, *self.asked.meanings)
        words = {word for phrase in phrases for word in phrase.split()}
        return frozenset(words | self._shelves.rows_by_name_word.keys())

    @cached_property
    def _correctable(self) -> list[str]:
        return sorted(
            phrase
            for phrase, sense in self.senses.items()
            if " " not in phrase
            and phrase.isalpha()
            and len(phrase) > 4
            and len(sense.rows)
            and sense.dimension != BRAND
        )

    def label_of_kind(self, row: int) -> str | None:
        """The phrase of the kind of one product: "kurta"; None where no noun tells it."""
        nouns = self._nouns_of_row.get(row)
        return nouns[0] if nouns else None

    def counted_values(self, dimension: str, rows: Rows) -> list[tuple[str, int]]:
        """The values that some products have in a dimension, the most frequent first."""
        known = self._values_by_dimension.get(dimension)
        if known is None:
            return []
        among = self._shelves.mask(rows)[known.rows]
        counts = np.bincount(known.codes[among], minlength=len(known.values))
        counted = zip(known.values, counts.tolist(), strict=True)
        return sorted(
            ((plain_text(value), count) for value, count in counted if count),
            key=lambda pair: (-pair[1], pair[0]),
        )

    @cached_property
    def frequent_kinds(self) -> list[tuple[str, Rows]]:
        """The kinds that the shop has most of, how they are said and their rows; no shelf twice."""
        kinds = {
            sense.label: sense.rows
            for sense in self.senses.values()
            if sense.dimension == KIND and len(sense.rows) and sense.label[1:].islower()
        }
        chosen: list[tuple[str, Rows]] = []
        for label, rows in sorted(kinds.items(), key=lambda pair: (-len(pair[1]), pair[0])):
            # "Pants" and "trousers" are the same shelf.
            if all(len(np.intersect1d(rows, other)) < len(rows) / 2 for _, other in chosen):
                chosen.append((label, rows))
            if len(chosen) == _MOST_KINDS:
                break
        return chosen

    @cached_property
    def _values_by_dimension(self) -> dict[str, _Values]:
        brands = self._shelves.frame.select(
            row=pl.int_range(pl.len(), dtype=pl.Int64), dimension=pl.lit(BRAND), value="brand"
        ).drop_nulls()
        entries = self._entries.filter(pl.col("dimension") != BRAND)
        every = pl.concat([entries.select(brands.columns), brands]).unique()
        found = {}
        for (dimension,), some in every.partition_by("dimension", as_dict=True).items():
            values = some["value"].unique().sort()
            codes = some["value"].replace_strict(values, range(len(values)), return_dtype=pl.Int64)
            found[dimension] = _Values(some["row"].to_numpy(), codes.to_numpy(), values.to_list())
        return found

    @cached_property
    def _rows_with(self) -> dict[str, Rows]:
        grouped = self._entries.group_by("dimension").agg(pl.col("row").unique().sort())
        return {name: np.array(rows, dtype=np.int64) for name, rows in grouped.iter_rows()}

    def _values(self) -> dict[str, Sense]:
        """Phrases of values; of two attributes with one phrase the more frequent one's."""
        senses: dict[str, Sense] = {}
        grouped = self._entries.group_by("dimension", "value").agg("row")
        by_dimension: defaultdict[str, dict[str, list[int]]] = defaultdict(dict)
        for dimension, value, rows in grouped.iter_rows():
            if dimension not in UNSEARCHED and dimension != SIZE and is_askable_value(value):
                by_dimension[dimension][value] = rows
        by_dimension.setdefault(COLOR, {})
        for dimension in sorted(by_dimension):
            values = by_dimension[dimension]
            written = {
                normalise(part): part for value in sorted(values) for part in value.split(",")
            }
            for phrase, rows in self._phrases_of(dimension, values).items():
                known = senses.get(phrase)
                if known is None or len(known.rows) < len(rows):
                    label = plain_text(written.get(phrase, phrase)).lower()
                    senses[phrase] = Sense(dimension, label, rows)
        return senses

    def _phrases_of(self, dimension: str, values: Mapping[str, list[int]]) -> dict[str, Rows]:
        rows_of_atom: defaultdict[str, set[int]] = defaultdict(set)
        for value, rows in values.items():
            for atom in value_atoms(dimension, value):
                rows_of_atom[atom].update(rows)
        atoms_of = {
            phrase: set(meaning.atoms)
            for phrase, meaning in value_forms(dimension, values).items()
            if meaning.strong and phrase.count(" ") < _MOST_WORDS and not is_small_word(phrase)
        }
        if dimension == COLOR:
            _add_colors(atoms_of)
        unsaid = self._shelves.mask(self._rows_with.get(dimension, NO_ROWS))
        phrases = {}
        for phrase, atoms in atoms_of.items():
            stated = set[int]().union(*(rows_of_atom[atom] for atom in sorted(atoms)))
            named = self._shelves.rows_named(phrase.split())
            stated.update(named[~unsaid[named]].tolist())
            phrases[phrase] = np.array(sorted(stated), dtype=np.int64)
        return phrases

    @cached_property
    def sizes(self) -> dict[str, Sense]:
        """Size in lower case ("m", "32") -> who has it; empty where the shop says no sizes."""
        rows: defaultdict[str, set[int]] = defaultdict(set)
        found = self._entries.filter(pl.col("dimension") == SIZE)
        for row, value in found.select("row", "value").iter_rows():
            for part in value.split(","):
                rows[normalise(part)].add(row)
        return {
            size: Sense(SIZE, f"size {size.upper()}", np.array(sorted(some), dtype=np.int64))
            for size, some in rows.items()
            if size and size.count(" ") < 2
        }

    def _brands(self) -> dict[str, Sense]:
        rows = self._shelves.frame.select(
            "brand", row=pl.int_range(pl.len(), dtype=pl.Int64)
        ).drop_nulls()
        senses: dict[str, Sense] = {}
        for brand, some in rows.group_by("brand", maintain_order=True).agg("row").iter_rows():
            phrase = normalise(brand)
            if len(phrase) < 3 or is_small_word(phrase) or phrase.isdigit():
                continue
            known = senses.get(phrase)
            both = [*(known.rows.tolist() if known else []), *some]
            senses[phrase] = Sense(BRAND, plain_text(brand), np.array(sorted(both), dtype=np.int64))
        return senses

    def _audiences(self) -> dict[str, Sense]:
        said = self._shelves.frame["audience"].str.split(" ")
        senses: dict[str, Sense] = {}
        for who, words in WHO.items():
            meant = said.list.set_intersection(list(MEANT_BY.get(who, (who,)))).list.len() > 0
            rows = meant.arg_true().to_numpy().astype(np.int64)
            label = {"kid": "for kids", "baby": "for babies"}.get(
                who, f"for {who}" if who in ("men", "women") else f"for {who}s"
            )
            senses |= {normalise(word): Sense(AUDIENCE, label, rows) for word in words.split()}
        return senses

    def _kinds(self) -> dict[str, Sense]:
        rows_of: defaultdict[str, set[int]] = defaultdict(set)
        for row, nouns in self._nouns_of_row.items():
            for noun in nouns:
                rows_of[SAME_NOUN.get(noun, noun)].add(row)
        for listed in NOUNS.values():
            for noun in listed.split(", "):
                known = normalise(SAME_NOUN.get(noun, noun))
                rows_of.setdefault(known, set())
                rows_of.setdefault(normalise(noun), rows_of[known])
        for noun, wider in WIDER_NOUN.items():
            rows_of[noun] = rows_of[noun].union(*(rows_of.get(one, set()) for one in wider))
        senses: dict[str, Sense] = {}
        for noun, some in rows_of.items():
            sense = Sense(KIND, plural(noun), np.array(sorted(some), dtype=np.int64))
            for form in _forms(noun):
                if form not in senses or len(senses[form].rows) < len(sense.rows):
                    senses[form] = sense
        levels = self._levels()
        return {**levels, **senses}

    def _levels(self) -> dict[str, Sense]:
        """Subcategories as the shop calls them ("Ethnic Wear")."""
        rows = self._shelves.frame.select(
            "subcategory", row=pl.int_range(pl.len(), dtype=pl.Int64)
        ).drop_nulls()
        return {
            normalise(level): Sense(KIND, plain_text(level), np.array(some, dtype=np.int64))
            for level, some in rows.group_by("subcategory").agg("row").iter_rows()
            if normalise(level) and not is_small_word(normalise(level))
        }

    @cached_property
    def _nouns_of_row(self) -> dict[int, list[str]]:
        """What each product is: the noun that its type ends with, its type, its name's noun."""
        frame = self._shelves.frame
        name = normalised(pl.col("name").str.replace(r"(?i)\swith\s.*$", ""))
        types = self._entries.filter(pl.col("dimension") == "type").select(
            "row", word=normalised(pl.col("value"))
        )
        named = frame.select(row=pl.int_range(pl.len(), dtype=pl.Int64), word=name)
        nouns: defaultdict[int, list[str]] = defaultdict(list)
        for source in (types, named):
            last = pl.col("word").str.extract_all(_NOUN_PATTERN).list.last()
            for row, noun in source.select("row", last).drop_nulls().iter_rows():
                nouns[row].append(_NOUN_OF[noun])
        for row, word in types.iter_rows():
            if word and word.count(" ") < 3 and not word[:1].isdigit():
                nouns[row].append(_singular(normalise(word)))
        return {row: list(dict.fromkeys(words)) for row, words in nouns.items()}

    def _attribute_phrases(self) -> dict[str, str]:
        """How attributes are called -> their dimension."""
        phrases = dict(ASKED_AS)
        names = self._entries.select("name", "dimension").unique().sort("name")
        for name, dimension in names.iter_rows():
            if dimension not in UNSEARCHED and is_askable_attribute(name):
                for called in (name, attribute_wording(name).noun):
                    phrases.setdefault(normalise(called), dimension)
        return {phrase: name for phrase, name in phrases.items() if phrase}


def plural(noun: str) -> str:
    """A garment's noun for several: "kurta" is "kurtas", "t shirt" is "T-shirts"."""
    shown = noun.replace("t shirt", "T-shirt")
    if noun.endswith(("ss", "x", "ch", "sh")):
        return f"{shown}es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{shown[:-1]}ies"
    return shown if noun.endswith("s") else f"{shown}s"


def _forms(noun: str) -> set[str]:
    singular = noun[:-1] if noun.endswith("s") and not noun.endswith("ss") else noun
    return {normalise(form) for form in (noun, singular, plural(noun))}


def _singular(noun: str) -> str:
    return _NOUN_OF.get(noun, noun)


_NOUN_OF = {
    form: noun
    for nouns in NOUNS.values()
    for noun in nouns.split(", ")
    for form in (noun, f"{noun}s", f"{noun}es")
}
_NOUN_PATTERN = rf"\b(?:{'|'.join(sorted(_NOUN_OF, key=len, reverse=True))})\b"


def dimension_of(attribute: str) -> str:
    """The dimension of an attribute: its name in normal form, siblings under one ("material")."""
    name = normalise(attribute)
    return SAME_ATTRIBUTE.get(name, name)


def _attribute_entries(frame: pl.DataFrame) -> pl.DataFrame:
    """Each attribute entry: row (i64), dimension, name, value; entries without a name left out."""
    entries = (
        frame.select(row=pl.int_range(pl.len(), dtype=pl.Int64), entry="attributes")
        .explode("entry")
        .unnest("entry")
        .drop_nulls()
    )
    names = entries["name"].unique().to_list()
    dimensions = {name: dimension_of(name) for name in names}
    dimension = pl.col("name").replace_strict(dimensions, return_dtype=pl.String, default=None)
    return entries.with_columns(dimension=dimension)


def _add_colors(atoms_of: dict[str, set[str]]) -> None:
    """Sky blue is a blue, too; a color that the shop has nothing in is a color all the same."""
    for phrase, atoms in list(atoms_of.items()):
        *rest, last = phrase.split()
        if rest and last in COLORS:
            atoms_of.setdefault(last, set()).update(atoms)
    for color in COLORS:
        atoms_of.setdefault(color, set())

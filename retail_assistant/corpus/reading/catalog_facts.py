"""What answers are read against: the catalog's names, item codes, values and records."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, Self, TypeVar

import polars as pl

from retail_assistant.catalog.garments import audience, kind
from retail_assistant.corpus.reading.text import normalise
from retail_assistant.corpus.rendering import item_code

Meaning = TypeVar("Meaning")

_PART = re.compile(r"[,;+]|\s&\s|\band\b", re.IGNORECASE)
_SLASH = re.compile(r"(?<!\d)\s*/\s*(?!\d)")
_LISTED = re.compile(r"^\s*[-*\u2022]\s*(\S.*?)\s*(?:\(item [\w-]+\)\s*)?(?::\s|$)", re.MULTILINE)
_ENTRY = re.compile(r"^([^:\n]{1,60}):[ \t]*(\S.*)$", re.MULTILINE)
_SMALL_WORDS = frozenset({"of", "in", "for", "the", "and", "to", "a", "an", "on", "with"})
_AUDIENCE = frozenset({"men", "women", "boy", "girl", "kid", "unisex", "infant", "baby"})
# Values that are also everyday words: they count only where an answer puts a value.
_EVERYDAY = frozenset({"yes", "no", "na", "none", "other", "others", "all", "free", "new"})


@dataclass(frozen=True)
class Span:
    """Words start to end (exclusive) of a text and what they mean in an index."""

    start: int
    end: int
    phrase: str


class PhraseIndex(Generic[Meaning]):
    """Finds known phrases (in normal form) among the words of a text, longest first."""

    def __init__(self, meanings: Mapping[str, Meaning]) -> None:
        self.meanings = meanings
        lengths: dict[str, set[int]] = {}
        for phrase in meanings:
            first, *others = phrase.split(" ")
            lengths.setdefault(first, set()).add(1 + len(others))
        self._lengths = lengths

    def matches(self, words: Sequence[str]) -> Iterator[Span]:
        """Every place where a known phrase stands, overlapping ones too."""
        for start, word in enumerate(words):
            for length in self._lengths.get(word, ()):
                if start + length > len(words):
                    continue
                phrase = " ".join(words[start : start + length])
                if phrase in self.meanings:
                    yield Span(start, start + length, phrase)

    def find(self, words: Sequence[str]) -> list[Span]:
        """Matches that do not overlap, in text order; of two that overlap the longer one stands."""
        return longest(self.matches(words))


def longest(matches: Iterable[Span]) -> list[Span]:
    """The longest of overlapping matches, in text order."""
    taken: set[int] = set()
    kept: list[Span] = []
    for span in sorted(set(matches), key=lambda span: (span.start - span.end, span.start)):
        if not taken.intersection(range(span.start, span.end)):
            taken.update(range(span.start, span.end))
            kept.append(span)
    return sorted(kept, key=lambda span: span.start)


@dataclass(frozen=True)
class ValueMeaning:
    """The values (atoms) a phrase can stand for; `strong` phrases count wherever they stand."""

    atoms: frozenset[str]
    strong: bool


def value_atoms(attribute: str, value: str) -> frozenset[str]:
    """Comparable parts of a value: "Casual, Party" has two; a Neck's "Round Neck" is "round"."""
    return frozenset(_atom(attribute, part) for part in _PART.split(value) if normalise(part))


def value_forms(attribute: str, values: Iterable[str]) -> dict[str, ValueMeaning]:
    """Phrases in normal form -> what they state, for the values that an attribute can take.

    "Midi/Knee Length" may be stated as "midi" or "knee length", a Neck of "Round Neck" as "round".
    Phrases that are everyday words or had to be shortened are not strong.
    """
    strong: dict[str, set[str]] = {}
    weak: dict[str, set[str]] = {}
    for part in sorted({part for value in values for part in _PART.split(value)}):
        _add_forms(attribute, part, strong, weak)
    meanings = {phrase: ValueMeaning(frozenset(atoms), False) for phrase, atoms in weak.items()}
    for phrase, atoms in strong.items():
        meanings[phrase] = ValueMeaning(frozenset(atoms | weak.get(phrase, set())), True)
    return meanings


def _add_forms(
    attribute: str, part: str, strong: dict[str, set[str]], weak: dict[str, set[str]]
) -> None:
    phrase = normalise(part)
    if not phrase:
        return
    alternatives = [text for text in _SLASH.split(part) if normalise(text)]
    atoms = {_atom(attribute, part)}
    if len(alternatives) > 1:
        for text in alternatives:
            _add_phrase(attribute, normalise(text), atoms | {_atom(attribute, text)}, strong, weak)
        atoms = atoms | {_atom(attribute, text) for text in alternatives}
    _add_phrase(attribute, phrase, atoms, strong, weak)


def _add_phrase(
    attribute: str,
    phrase: str,
    atoms: set[str],
    strong: dict[str, set[str]],
    weak: dict[str, set[str]],
) -> None:
    words = phrase.split(" ")
    if phrase in _SMALL_WORDS:  # the half of an "N/A"
        return
    everyday = len(words) == 1 and (len(phrase) < 3 or phrase in _EVERYDAY or phrase.isdigit())
    (weak if everyday else strong).setdefault(phrase, set()).update(atoms)
    if len(words) == 2 and len(phrase) > 5:
        strong.setdefault("".join(words), set()).update(atoms)
    own_words = _telling_attribute_words(attribute)
    rest = [word for word in words if word not in own_words]
    if rest and rest != words:
        weak.setdefault(" ".join(rest), set()).update(atoms)
    elif own_words:
        strong.setdefault(f"{phrase} {own_words[-1]}", set()).update(atoms)


def _telling_attribute_words(attribute: str) -> list[str]:
    return [word for word in normalise(attribute).split(" ") if word and word not in _SMALL_WORDS]


def _atom(attribute: str, part: str) -> str:
    words = normalise(part).split(" ")
    own_words = _telling_attribute_words(attribute)
    joined = "".join([word for word in words if word not in own_words] or words)
    plural = len(joined) > 3 and joined.endswith("s") and not joined.endswith("ss")
    return joined[:-1] if plural else joined


@dataclass(frozen=True)
class ProductFacts:
    """One product's record as it is compared with: attribute name in normal form -> raw values.

    `kind` and `audience` are those of `catalog.garments`, "" where nothing tells them.
    """

    product_id: str
    name: str
    department: str | None = None
    category: str | None = None
    subcategory: str | None = None
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    kind: str = ""
    audience: str = ""

    def atoms(self, attribute: str) -> frozenset[str]:
        """The comparable parts of the values that the record gives for an attribute."""
        values = self.attributes.get(normalise(attribute), ())
        return frozenset[str]().union(*(value_atoms(attribute, value) for value in values))

    def states(self, attribute: str, phrase: str, atoms: frozenset[str]) -> bool:
        """Whether a stated value stands anywhere in this record, its notes or its name."""
        values = [value for values in self.attributes.values() for value in values]
        texts = [self.name, *self.notes]
        return any(atoms & value_atoms(attribute, value) for value in values) or any(
            f" {phrase} " in f" {normalise(text)} " for text in texts
        )


@dataclass(frozen=True)
class CatalogFacts:
    """Names, item codes, values and records of a catalog, in the forms that answers are read with.

    `categorised` says whether categories are known: without them suggestions cannot be judged.
    """

    names: Mapping[str, frozenset[str]]
    vocabulary: Mapping[str, frozenset[str]]
    products: Mapping[str, ProductFacts]
    categorised: bool
    _tables: dict[str, PhraseIndex[ValueMeaning]] = field(default_factory=dict, repr=False)

    @classmethod
    def from_products(cls, products: pl.DataFrame) -> Self:
        """Facts of a PRODUCTS frame: every product, every attribute, every category."""
        columns = ["product_id", "name", "brand", "department", "category", "subcategory"]
        columns += ["attributes", "retail_price", "discounted_price"]
        present = [column for column in columns if column in products.columns]
        known = _with_garments(products).sort("product_id").select(*present, "kind", "audience")
        facts = [_product_facts(row) for row in known.iter_rows(named=True)]
        return cls._from_facts(facts, categorised=True)

    @classmethod
    def from_dialogues(cls, dialogues: pl.DataFrame) -> Self:
        """The facts that DIALOGUES themselves state, for scoring without a catalog.

        Products are those the questions are about and those the gold answers suggest;
        values are the gold values. Any other product counts as unknown, and suggestions are
        not judged.
        """
        rows = dialogues.filter(pl.col("product_id").is_not_null()).sort("dialogue_id")
        records: dict[str, dict[str, list[str]]] = {}
        names: dict[str, str] = {}
        for row in rows.iter_rows(named=True):
            names[row["product_id"]] = row["product_name"] or ""
            record = records.setdefault(row["product_id"], {})
            for attribute, value in _gold_entries(row):
                record.setdefault(normalise(attribute), []).append(value)
        facts = {
            product_id: ProductFacts(
                product_id=product_id,
                name=name,
                subcategory=next(iter(records[product_id].pop("category", ())), None),
                attributes={k: tuple(v) for k, v in records[product_id].items()},
            )
            for product_id, name in names.items()
        }
        facts = {**_listed_products(dialogues), **facts}
        return cls._from_facts([facts[key] for key in sorted(facts)], categorised=False)

    @classmethod
    def _from_facts(cls, facts: Sequence[ProductFacts], *, categorised: bool) -> Self:
        names: dict[str, set[str]] = {}
        vocabulary: dict[str, set[str]] = {}
        for product in facts:
            if name := normalise(product.name):
                names.setdefault(name, set()).add(product.product_id)
            for attribute, values in product.attributes.items():
                vocabulary.setdefault(attribute, set()).update(values)
        return cls(
            names={name: frozenset(ids) for name, ids in names.items()},
            vocabulary={name: frozenset(values) for name, values in vocabulary.items()},
            products={product.product_id: product for product in facts},
            categorised=categorised,
        )

    @cached_property
    def name_index(self) -> PhraseIndex[frozenset[str]]:
        """Names of two words or more; shorter ones ("Top") are everyday words in an answer."""
        return PhraseIndex({name: ids for name, ids in self.names.items() if " " in name})

    @cached_property
    def item_codes(self) -> Mapping[str, frozenset[str]]:
        """Item code (the first 8 characters of an id, or the id; lower case) -> product ids."""
        codes: dict[str, set[str]] = {}
        for product_id in self.products:
            for code in (item_code(product_id), product_id):
                codes.setdefault(code.casefold(), set()).add(product_id)
        return {code: frozenset(ids) for code, ids in codes.items()}

    @cached_property
    def type_words(self) -> frozenset[str]:
        """Words that say what a product is ("top", "jeans"): the last word of names, categories."""
        texts = {*self.names, *self.category_names}
        lasts = (next(iter(_noun(text)), "") for text in texts)
        return frozenset(word for word in lasts if word)

    @cached_property
    def category_names(self) -> frozenset[str]:
        """Departments, categories and subcategories in normal form."""
        levels = (
            level
            for product in self.products.values()
            for level in (product.department, product.category, product.subcategory)
        )
        return frozenset(normalise(level) for level in levels if level)

    @cached_property
    def everyday_words(self) -> frozenset[str]:
        """Words of which a description is made: short values, kinds of product, audiences."""
        values = {
            normalise(value)
            for attribute, values in self.vocabulary.items()
            if attribute != "brand"
            for value in values
        }
        short = {word for value in values if value.count(" ") < 3 for word in value.split(" ")}
        categories = {word for name in self.category_names for word in name.split(" ")}
        return frozenset(short | categories | self.type_words | _AUDIENCE | _SMALL_WORDS)

    @cached_property
    def value_phrases(self) -> frozenset[str]:
        """Every value of every attribute in normal form."""
        return frozenset(map(normalise, frozenset[str]().union(*self.vocabulary.values())))

    def values_of(self, attribute: str) -> PhraseIndex[ValueMeaning]:
        """Phrases that state a value of the attribute, for every value in the catalog."""
        key = normalise(attribute)
        if key not in self._tables:
            self._tables[key] = PhraseIndex(value_forms(key, self.vocabulary.get(key, ())))
        return self._tables[key]


def _noun(name: str) -> list[str]:
    words = [word for word in name.split(" ") if not word[:1].isdigit()]
    words = words[: words.index("pack")] if "pack" in words else words
    return [word for word in words[::-1][:1] if word not in _AUDIENCE and len(word) > 2]


def _product_facts(row: Mapping[str, Any]) -> ProductFacts:
    attributes: dict[str, list[str]] = {}
    notes: list[str] = []
    for entry in row.get("attributes") or []:
        if entry["name"] and normalise(entry["name"]):
            attributes.setdefault(normalise(entry["name"]), []).append(entry["value"] or "")
        elif entry["value"]:
            notes.append(entry["value"])
    if row.get("brand"):
        attributes.setdefault("brand", []).append(row["brand"])
    return ProductFacts(
        product_id=row["product_id"],
        name=row["name"],
        department=row.get("department"),
        category=row.get("category"),
        subcategory=row.get("subcategory"),
        attributes={name: tuple(values) for name, values in attributes.items()},
        notes=(*notes, *_prices(row)),
        kind=row["kind"],
        audience=row["audience"],
    )


def _with_garments(products: pl.DataFrame) -> pl.DataFrame:
    """Products with what they are and whom they are for; levels that a frame lacks say nothing."""
    empty = {
        "subcategory": pl.lit(None, pl.String),
        "category": pl.lit(None, pl.String),
        "categories": pl.lit([], pl.List(pl.String)),
        "attributes": pl.lit([], pl.List(pl.Struct({"name": pl.String, "value": pl.String}))),
    }
    absent = [value.alias(name) for name, value in empty.items() if name not in products.columns]
    whole = products.with_columns(absent)
    return products.with_columns(whole.select(kind(), audience()))


def _prices(row: Mapping[str, Any]) -> tuple[str, ...]:
    prices = (row.get("discounted_price"), row.get("retail_price"))
    return tuple(f"{price:g}" for price in prices if price is not None)


def _gold_entries(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Attributes and values that a dialogue's gold answer states."""
    entries: list[tuple[str, str]] = []
    if row["intent"] == "overview":
        entries += [e for e in _ENTRY.findall(row["answer"]) if normalise(e[0]) != "product name"]
    if row["asked_attribute"] and row["gold_value"]:
        entries.append((row["asked_attribute"], row["gold_value"]))
    return entries


def _listed_products(dialogues: pl.DataFrame) -> dict[str, ProductFacts]:
    """Products that gold answers suggest as "- <name> (item <code>): <why>", ids from evidence."""
    listed: dict[str, ProductFacts] = {}
    rows = dialogues.sort("dialogue_id").select("product_id", "answer", "evidence")
    for row in rows.iter_rows(named=True):
        evidence = (row["evidence"] or {}).get("product_ids") or []
        ids = [product_id for product_id in evidence if product_id != row["product_id"]]
        names = _LISTED.findall(row["answer"] or "")
        names = names if len(names) == len(ids) else [""] * len(ids)
        for product_id, name in zip(ids, names, strict=True):
            listed[product_id] = ProductFacts(product_id=product_id, name=name)
    return listed

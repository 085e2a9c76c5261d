"""Which attributes of a product make a fair question, and which it is fair to ask in vain."""

import re
from collections import defaultdict
from typing import NamedTuple

from retail_assistant.corpus.lookup import CatalogLookup, Product, attribute_key
from retail_assistant.corpus.phrasing import attribute_wording
from retail_assistant.corpus.rendering import rendered_attributes
from retail_assistant.corpus.wording import comparable_words, value_among_words, value_stands_in

MAX_ASKED_VALUE_CHARACTERS = 60
MAX_ASKED_VALUE_WORDS = 8
# A value that most products share is no knowledge: a constant answer would win the question.
MAX_VALUE_SHARE = 0.5
_MINIMUM_VALUES_FOR_SHARE = 20
# An attribute that hardly any product of the kind has would be odd to ask for.
_MINIMUM_USES_OF_MISSING = 3
_MINIMUM_SHARE_OF_MISSING = 0.02

_UNASKED_NAME = re.compile(
    r"\b(sizes?|code|sku|model|ean|upc|asin|id|number|details?|notes?|features?|sales package"
    r"|in the box|disclaimer|warranty|description|sizing)\b"
)
_ASKED_THOUGH_NUMBER = frozenset({"number of contents in sales package"})
_UNINFORMATIVE = frozenset(
    {"yes", "no", "na", "n/a", "n.a.", "none", "nil", "null", "other", "others", "-", "free"}
)
_CODE = re.compile(r"(?=\S*\d)(?=\S*[A-Za-z_])[A-Z0-9_./#-]{5,}")
_CUT_OFF = re.compile(r"\.\.\.|\u2026|view more", re.IGNORECASE)
_LETTERS = re.compile(r"[^\W\d_]{2,}")
# Names under which sellers state the same thing: no attribute is missing beside its sibling.
_SIBLINGS = (
    frozenset({"neck", "neckline", "collar"}),
    frozenset({"color", "colour", "shade"}),
    frozenset({"fabric", "material", "weave type", "knit type"}),
    frozenset({"pattern", "design", "print"}),
    frozenset({"closure", "fly", "fastening"}),
    frozenset({"occasion", "suitable for", "function"}),
    frozenset({"wash", "fabric care", "care", "wash care"}),
)


class Fact(NamedTuple):
    """One attribute of a product with its value, both as the product's record shows them."""

    attribute: str
    value: str


def askable_facts(product: Product, reference: str) -> list[Fact]:
    """The product's facts that can be asked, in the record's order.

    Left out are facts that the prompt's record does not show whole, that stand in the product's
    name, that are ambiguous (the attribute has several values) and that say little (yes, NA,
    codes, sizes, prose).
    """
    values: defaultdict[str, set[str]] = defaultdict(set)
    for entry in product["attributes"] or ():
        if entry["name"]:
            values[attribute_key(entry["name"])].add(" ".join(comparable_words(entry["value"])))
    whole = {(entry["name"], entry["value"]) for entry in product["attributes"] or ()}
    return [
        Fact(name, value)
        for name, value in rendered_attributes(product)
        if (name, value) in whole
        and len(values[attribute_key(name)]) == 1
        and is_askable_attribute(name)
        and is_askable_value(value)
        and not value_stands_in(value, _asking_text(product, reference, name), name)
    ]


def _asking_text(product: Product, reference: str, attribute: str) -> str:
    """What every question for the attribute says, whatever its phrasing."""
    return f"{product['name']} {reference} {attribute} {attribute_wording(attribute).noun}"


def is_telling(fact: Fact, lookup: CatalogLookup) -> bool:
    """Does knowing the fact take the record? Not if most products share its value."""
    if lookup.value_count(fact.attribute) < _MINIMUM_VALUES_FOR_SHARE:
        return True
    return lookup.value_share(fact.attribute, fact.value) <= MAX_VALUE_SHARE


def overview_facts(product: Product, limit: int) -> list[Fact]:
    """The first facts of the record that are worth a line of an overview."""
    facts = [Fact(name, value) for name, value in rendered_attributes(product)]
    whole = {Fact(entry["name"], entry["value"]) for entry in product["attributes"] or ()}
    return [
        fact
        for fact in facts
        if fact in whole and is_askable_attribute(fact.attribute) and is_askable_value(fact.value)
    ][:limit]


def is_askable_attribute(name: str) -> bool:
    """Is the attribute about the product's looks and use, not a code, a size list or prose?"""
    key = attribute_key(name)
    return key in _ASKED_THOUGH_NUMBER or not _UNASKED_NAME.search(key)


def is_askable_value(value: str) -> bool:
    """Is the value short, whole and telling?"""
    return (
        len(value) <= MAX_ASKED_VALUE_CHARACTERS
        and len(value.split()) <= MAX_ASKED_VALUE_WORDS
        and value.casefold() not in _UNINFORMATIVE
        and _LETTERS.search(value) is not None
        and _CODE.fullmatch(value) is None
        and _CUT_OFF.search(value) is None
    )


def missing_attributes(product: Product, lookup: CatalogLookup) -> list[str]:
    """Attributes that other products of the subcategory have and this record says nothing about.

    Not enough that the attribute is absent: no value that any product has for it may stand in this
    record's text (a "Sleeveless Top" without an attribute "Sleeve" does say it). Sorted.
    """
    counts = lookup.attribute_counts(product["subcategory"])
    products = max(counts.values(), default=0)
    least = max(_MINIMUM_USES_OF_MISSING, _MINIMUM_SHARE_OF_MISSING * products)
    text = frozenset(comparable_words(_record_text(product)))
    return sorted(
        name
        for name, uses in counts.items()
        if uses >= least and is_askable_attribute(name) and _is_missing(name, product, text, lookup)
    )


def _is_missing(name: str, product: Product, text: frozenset[str], lookup: CatalogLookup) -> bool:
    key = attribute_key(name)
    present = {
        attribute_key(entry["name"]) for entry in product["attributes"] or () if entry["name"]
    }
    siblings = {key}.union(*(group for group in _SIBLINGS if key in group))
    if siblings & present or value_among_words(name, text) or _is_yes_or_no(name, lookup):
        return False
    return not any(value_among_words(value, text, name) for value in lookup.vocabulary(name))


def _is_yes_or_no(name: str, lookup: CatalogLookup) -> bool:
    """Asks for a yes: "What is the belt included of ...?" is no question anyone asks."""
    return not any(is_askable_value(value) for value in lookup.vocabulary(name))


def _record_text(product: Product) -> str:
    entries = product["attributes"] or ()
    parts = [product["name"], product["description"] or ""]
    parts.extend(f"{entry['name'] or ''} {entry['value']}" for entry in entries)
    return " ".join(parts)

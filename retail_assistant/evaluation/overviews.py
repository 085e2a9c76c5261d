"""Which attributes an overview states, compared with the product's record."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from retail_assistant.corpus.reading.answers import MAX_CHARACTERS, Question
from retail_assistant.corpus.reading.catalog_facts import CatalogFacts, ProductFacts, value_atoms
from retail_assistant.corpus.reading.text import is_negated, normalise, read_text

_LABEL = r"[^\W\d_][\w '\u2019&/()-]{0,60}?"
_LABELLED = re.compile(
    rf"(?:^|[\n.;,|])[ \t]*(?:[-*\u2022][ \t]*)?({_LABEL})[ \t]*[:=][ \t]*([^\n]*?)"
    rf"(?=[ \t]*(?:$|[;|]|(?<!\b[Rr]s)\.(?:\s|$)|,[ \t]*{_LABEL}[ \t]*[:=]))",
    re.MULTILINE,
)
_NAMING = frozenset({"product name", "name", "product", "item", "item code", "product id", "notes"})
_NAMING_WORDS = 4
_CATEGORY = frozenset(
    {"category", "categories", "subcategory", "department", "product category", "product type"}
)
_PRICE = frozenset({"price", "retail price", "discounted price", "selling price", "mrp"})
_TRUNCATED = ("...", "\u2026")
_TELLING_PREFIX = 10


@dataclass
class OverviewCounts:
    """Attributes of an overview: stated = right + contradicted + unsupported.

    `expected` are the attributes that the gold answer states, `expected_right` those of them that
    the answer states rightly; `right` also counts attributes of the record beyond the gold answer.
    """

    right: int = 0
    contradicted: int = 0
    unsupported: int = 0
    expected: int = 0
    expected_right: int = 0
    right_names: set[str] = field(default_factory=set, repr=False)

    @property
    def stated(self) -> int:
        """Attributes that the answer states, rightly or not."""
        return self.right + self.contradicted + self.unsupported

    @property
    def omitted(self) -> int:
        """Expected attributes that the answer does not state rightly."""
        return self.expected - self.expected_right


def read_overview(
    answer: str, question: Question, expected: Sequence[str], facts: CatalogFacts
) -> OverviewCounts:
    """Compare the attributes that an overview states with the record of the asked product.

    Read are "Label: value" entries, and in the prose beside them the values of the record's own
    attributes. A label that the record lacks is unsupported, another value is contradicted.
    """
    record = facts.products.get(question.product_id or "")
    counts = OverviewCounts()
    if record is None:
        return counts
    labelled = _labelled(answer[:MAX_CHARACTERS])
    for label, value in labelled.items():
        _count_labelled(counts, record, label, value, facts)
    prose = _LABELLED.sub("\n", answer[:MAX_CHARACTERS])
    _count_prose(counts, record, prose, set(labelled), facts)
    stated_in_record = [name for name in map(normalise, expected) if name in record.attributes]
    counts.expected = len(set(stated_in_record or record.attributes))
    counts.expected_right = len(counts.right_names & set(stated_in_record or record.attributes))
    return counts


def _labelled(answer: str) -> dict[str, str]:
    """Label in normal form -> value; the first of a repeated label counts."""
    entries: dict[str, str] = {}
    for match in _LABELLED.finditer(answer):
        label, value = normalise(match[1]), match[2].strip()
        if label and normalise(value) and label not in _NAMING:
            entries.setdefault(label, value)
    return entries


def _count_labelled(
    counts: OverviewCounts, record: ProductFacts, label: str, value: str, facts: CatalogFacts
) -> None:
    if label in _CATEGORY or label in _PRICE:
        right = _is_category(record, value) if label in _CATEGORY else _is_price(record, value)
        counts.right += right
        counts.contradicted += not right
    elif label in record.attributes:
        right = _is_value(label, record.attributes[label], value)
        counts.right += right
        counts.contradicted += not right
        counts.right_names |= {label} if right else set()
    elif label in facts.vocabulary or len(label.split()) <= _NAMING_WORDS:
        # A suggestion or an opening line that ends in a colon is no attribute of this product.
        counts.unsupported += normalise(value) not in facts.names


def _is_value(attribute: str, known: Sequence[str], value: str) -> bool:
    stated = value_atoms(attribute, value)
    own = frozenset[str]().union(*(value_atoms(attribute, one) for one in known))
    if stated and stated <= own:
        return True
    text = normalise(value)
    cut = value.endswith(_TRUNCATED) and len(text) >= _TELLING_PREFIX
    return any(normalise(one) == text or (cut and normalise(one).startswith(text)) for one in known)


def _is_category(record: ProductFacts, value: str) -> bool:
    levels = {
        normalise(level)
        for level in (
            *(record.department, record.category, record.subcategory),
            # "Western Wear" and "Top" are both what the product is.
            *record.attributes.get("type", ()),
        )
        if level
    }
    stated = {normalise(part) for part in re.split(r"\s*(?:>+|/)\s*", value)}
    # A level may itself hold a slash, so the whole value is tried as well.
    return stated <= levels or normalise(value) in levels


def _is_price(record: ProductFacts, value: str) -> bool:
    return any(word in record.notes for word in normalise(value).split())


def _count_prose(
    counts: OverviewCounts,
    record: ProductFacts,
    prose: str,
    labelled: set[str],
    facts: CatalogFacts,
) -> None:
    text = read_text(prose)
    named = {
        position
        for span in facts.name_index.find(text.words)
        for position in range(span.start, span.end)
    }
    words = ["\u25a1" if i in named else word for i, word in enumerate(text.words)]
    attributes: Mapping[str, tuple[str, ...]] = record.attributes
    for attribute in sorted(set(attributes) - labelled):
        table = facts.values_of(attribute)
        stated = [
            (span.phrase, table.meanings[span.phrase].atoms)
            for span in table.find(words)
            if table.meanings[span.phrase].strong and not is_negated(text, span.start)
        ]
        if any(atoms & record.atoms(attribute) for _, atoms in stated):
            counts.right += 1
            counts.right_names.add(attribute)
        elif any(not record.states(attribute, phrase, atoms) for phrase, atoms in stated):
            counts.contradicted += 1

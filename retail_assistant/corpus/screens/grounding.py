"""Does the catalog support what a dialogue says?

The generator is not trusted: what the texts say is read off the texts, and compared with the
records of the evidence.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from retail_assistant.corpus.lookup import Product, attribute_key
from retail_assistant.corpus.reading.catalog_facts import value_atoms
from retail_assistant.corpus.reading.text import is_negated, normalise
from retail_assistant.corpus.screens.catalog_text import CatalogText
from retail_assistant.corpus.screens.claims import (
    strange_name,
    unsupported_feature,
    unsupported_number,
    unsupported_value,
)
from retail_assistant.corpus.screens.spoken import Spoken
from retail_assistant.corpus.wording import comparable_text, comparable_words, telling_words

Row = Mapping[str, Any]

_DETAIL_LINE = re.compile(r"^\s*(?:[-*\u2022]\s+)?(?P<name>[^:\n]{1,60}): (?P<value>.+)$", re.M)
_DETAILS_BLOCK = re.compile(r"^\s*product name:", re.IGNORECASE)
_LINES_ABOUT_PRODUCT = frozenset({"product name", "category", "brand", "price"})
_DENIALS = frozenset({"no", "not", "without"})
"""What a value such as "No Pockets" says beside its attribute."""


def ungrounded_because(
    spoken: Spoken,
    catalog: CatalogText,
    documents: Mapping[str, str] | None = None,
    allowed: Collection[str] = (),
) -> str | None:
    """Why the catalog or the evidence does not support a dialogue; None if it does.

    Products: those of the evidence exist, the question names the one it is about, and neither text
    names another one. Values: the record states the gold value and so does the answer, which says
    nothing that the catalog knows as a value, a number or a feature and the records of the evidence
    do not have. What is declined is not in the catalog, and only that is declined.

    `documents` are texts of the store's documents by name: dialogues about the store state no other
    numbers. Where a text is not at hand, only the evidence is looked at. `allowed` are words in
    normal form that may be said though neither the catalog nor English has them.
    """
    row = spoken.row
    if row["intent"] == "knowledge":
        return _unsupported_by_documents(row, documents)
    for product_id in (*row["evidence"]["product_ids"], row["product_id"]):
        if product_id is not None and product_id not in catalog.lookup.products:
            return f"product {product_id} is not in the catalog"
    if row["intent"] == "unanswerable":
        wrong = _answerable(row, catalog) or _answered(spoken)
    elif row["product_id"] is None or row["product_id"] not in row["evidence"]["product_ids"]:
        wrong = "the product asked about is not in the evidence"
    elif row["intent"] == "attribute":
        wrong = _unsupported_gold(spoken, catalog)
    elif row["intent"] == "overview":
        wrong = _unsupported_line(spoken, catalog) or _declined(spoken)
    else:
        wrong = _suggests_nothing(spoken) or _declined(spoken)
    wrong = wrong or _foreign_product(spoken, catalog)
    return wrong or _unsupported_claim(spoken, catalog, allowed)


def _foreign_product(spoken: Spoken, catalog: CatalogText) -> str | None:
    """A product that the evidence does not have, or a question that names none."""
    reference = spoken.row["reference"] or ""
    if not spoken.question.asked and not spoken.question.says(normalise(reference)):
        return f"the question does not name {reference or 'the product'}"
    own = {catalog.name(i) for i in spoken.evidence} | {normalise(spoken.row["product_name"] or "")}
    for place, named in (("question", spoken.question), ("answer", spoken.answer.named)):
        for product in named.products:
            bearers = catalog.facts.names.get(product.name, product.product_ids)
            if product.product_ids & spoken.evidence and bearers & spoken.evidence:
                continue
            # A part of the product's own name, or common words that happen to be a name as well.
            part = any(f" {product.name} " in f" {name} " for name in own)
            common = set(product.name.split()) <= catalog.facts.everyday_words
            if product.coded or not (part or common):
                return f"the {place} names {product.name!r}, which is not in the evidence"
    if spoken.answer.named.unknown:
        name = spoken.answer.named.unknown[0]
        return f"the answer names {name!r}, which is not in the catalog"
    return None


def _unsupported_claim(
    spoken: Spoken, catalog: CatalogText, allowed: Collection[str]
) -> str | None:
    asked, answer, evidence = spoken.row["asked_attribute"], spoken.answer, spoken.evidence
    value = unsupported_value(answer, asked, evidence, catalog)
    if value:
        return f"the answer states {value!r}, which no record of the evidence has"
    number = unsupported_number(spoken.without_names("answer", catalog), answer, evidence, catalog)
    if number:
        return f"the answer states the number {number}, which no record of the evidence has"
    feature = unsupported_feature(answer, evidence, catalog)
    if feature:
        return f"the answer speaks of {feature!r}, of which no record of the evidence says anything"
    known = {*allowed, *spoken.question.text.words, *normalise(_names(spoken.row)).split()}
    name = strange_name(spoken.row["answer"], known, catalog)
    return f"the answer names {name!r}, which is not in the evidence" if name else None


def _names(row: Row) -> str:
    return f"{row['product_name'] or ''} {row['reference'] or ''}"


def _unsupported_gold(spoken: Spoken, catalog: CatalogText) -> str | None:
    row = spoken.row
    attribute, gold = row["asked_attribute"], row["gold_value"]
    if not attribute or not gold:
        return "an attribute question needs an asked attribute and a gold value"
    if attribute not in row["evidence"]["attributes"]:
        return f"the asked attribute {attribute!r} is not in the evidence"
    if not _states(catalog.lookup.products[row["product_id"]], attribute, gold):
        return f"the record does not state {attribute}: {gold}"
    if not _says_gold(spoken, attribute, gold):
        return f"the answer does not state the gold value {gold!r}"
    return None


def _says_gold(spoken: Spoken, attribute: str, gold: str) -> bool:
    """Whether the answer asserts the value: as the catalog spells it, or in all its telling words.

    "Wash it by hand, in cold water" states "Hand Wash in Cold Water".
    """
    reading = spoken.answer
    if reading.abstained:
        return False
    stated = frozenset[str]().union(*(value.atoms for value in reading.values))
    if value_atoms(attribute, gold) and value_atoms(attribute, gold) <= stated:
        return True
    text, masked = reading.named.text, reading.named.masked
    asserted = [
        "1" if word == "one" else word
        for i, word in enumerate(text.words)
        if i not in masked and text.clauses[i] not in reading.declining
        if not is_negated(text, i)
    ]
    telling = telling_words(gold, attribute)
    if telling <= _DENIALS:
        noun = set(comparable_words(attribute))
        return bool(_DENIALS & set(text.words)) and noun <= set(
            comparable_words(" ".join(text.words))
        )
    return telling <= set(comparable_words(" ".join(asserted)))


def _unsupported_line(spoken: Spoken, catalog: CatalogText) -> str | None:
    """A line "Attribute: value" of an overview that the record does not have."""
    row = spoken.row
    product = catalog.lookup.products[row["product_id"]]
    is_block = _DETAILS_BLOCK.match(row["answer"]) is not None
    for line in _DETAIL_LINE.finditer(row["answer"]):
        name, value = line["name"].strip(), line["value"]
        if name.casefold() in _LINES_ABOUT_PRODUCT:
            continue
        known = is_block or normalise(name) in catalog.facts.vocabulary
        if known and (
            name not in row["evidence"]["attributes"] or not _states(product, name, value)
        ):
            return f"the record does not state {name}: {value}"
    return None


def _suggests_nothing(spoken: Spoken) -> str | None:
    others = spoken.evidence - {spoken.row["product_id"]}
    if any(product.product_ids & others for product in spoken.answer.products):
        return None
    return "the answer suggests no other product of the evidence"


def _declined(spoken: Spoken) -> str | None:
    return "the answer declines to answer" if spoken.answer.abstained else None


def _answered(spoken: Spoken) -> str | None:
    return None if spoken.answer.abstained else "the answer does not decline"


def _answerable(row: Row, catalog: CatalogText) -> str | None:
    if row["product_id"] is None:
        name = row["product_name"]
        return f"the catalog does have {name}" if name and catalog.lookup.has_name(name) else None
    attribute = row["asked_attribute"]
    values = _values(catalog.lookup.products[row["product_id"]])
    if attribute and attribute_key(attribute) in values:
        return f"the record does state {attribute}"
    return None


def _unsupported_by_documents(row: Row, documents: Mapping[str, str] | None) -> str | None:
    names: Collection[str] = row["evidence"]["documents"]
    if not names:
        return "a question about the store needs a document in its evidence"
    if documents is None or not documents.keys() >= set(names):
        return None
    text = f" {normalise(' '.join(documents[name] for name in names))} "
    for word in normalise(row["answer"]).split():
        if word[0].isdigit() and f" {word} " not in text:
            return f"the answer states the number {word}, which no document of the evidence has"
    return None


def _states(product: Product, attribute: str, value: str) -> bool:
    return comparable_text(value) in _values(product).get(attribute_key(attribute), ())


def _values(product: Product) -> dict[str, set[str]]:
    values: dict[str, set[str]] = {}
    for entry in product["attributes"] or ():
        if entry["name"]:
            known = values.setdefault(attribute_key(entry["name"]), set())
            known.add(comparable_text(entry["value"]))
    return values

"""Does the catalog support what a dialogue's answer says?"""

import re
from collections.abc import Mapping
from typing import Any

from retail_assistant.corpus.lookup import CatalogLookup, Product, attribute_key
from retail_assistant.corpus.rendering import ITEM_CODE_CHARACTERS, item_code
from retail_assistant.corpus.wording import comparable_text

Row = Mapping[str, Any]

_ITEM_CODE = re.compile(rf"\(item ([^()\s]{{1,{ITEM_CODE_CHARACTERS}}})\)")
_DETAIL_LINE = re.compile(r"^(?P<name>[^:\n]+): (?P<value>.+)$", re.MULTILINE)
_LINES_ABOUT_PRODUCT = frozenset({"product name", "category"})


def ungrounded_because(row: Row, lookup: CatalogLookup) -> str | None:
    """Why the catalog or the evidence does not support the dialogue's answer; None if it does.

    `row` is a row of the dialogues frame. Checked are the evidence's products, the item codes in
    the answer, the gold value against the record, every line of an overview, that a suggestion
    suggests another product, and that what is declined is indeed not in the catalog.
    """
    evidence = row["evidence"]["product_ids"]
    known = lookup.products.keys()
    for product_id in (*evidence, row["product_id"]):
        if product_id is not None and product_id not in known:
            return f"product {product_id} is not in the catalog"
    codes = {item_code(product_id) for product_id in evidence}
    for code in _ITEM_CODE.findall(row["answer"]):
        if code not in codes:
            return f"the answer states item {code}, which is not in the evidence"
    if row["intent"] == "unanswerable":
        return _answerable(row, lookup)
    if row["product_id"] is None or row["product_id"] not in evidence:
        return "the product asked about is not in the evidence"
    product = lookup.products[row["product_id"]]
    if row["intent"] == "attribute":
        return _unsupported_value(row, product)
    if row["intent"] == "overview":
        return _unsupported_line(row, product)
    return None if len(set(evidence)) > 1 else "the answer suggests no other product"


def _unsupported_value(row: Row, product: Product) -> str | None:
    attribute, gold = row["asked_attribute"], row["gold_value"]
    if not attribute or not gold:
        return "an attribute question needs an asked attribute and a gold value"
    if attribute not in row["evidence"]["attributes"]:
        return f"the asked attribute {attribute!r} is not in the evidence"
    if not _states(product, attribute, gold):
        return f"the record does not state {attribute}: {gold}"
    if comparable_text(gold) not in comparable_text(row["answer"]):
        return f"the answer does not state the gold value {gold!r}"
    return None


def _unsupported_line(row: Row, product: Product) -> str | None:
    for line in _DETAIL_LINE.finditer(row["answer"]):
        name, value = line["name"], line["value"]
        if name.casefold() in _LINES_ABOUT_PRODUCT:
            continue
        if name not in row["evidence"]["attributes"] or not _states(product, name, value):
            return f"the record does not state {name}: {value}"
    return None


def _answerable(row: Row, lookup: CatalogLookup) -> str | None:
    if row["product_id"] is None:
        name = row["product_name"]
        return f"the catalog does have {name}" if name and lookup.has_name(name) else None
    attribute = row["asked_attribute"]
    if attribute and attribute_key(attribute) in _values(lookup.products[row["product_id"]]):
        return f"the record does state {attribute}"
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

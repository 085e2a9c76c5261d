"""Answers made in code from the catalog's records: plain text, short, nothing that is not there."""

from collections.abc import Mapping, Sequence
from typing import Any

from retail_assistant.corpus.facts import is_askable_attribute
from retail_assistant.corpus.phrasing import (
    attribute_answer,
    attribute_answers,
    attribute_wording,
    unknown_attribute_answer,
)
from retail_assistant.corpus.rendering import plain_text, rendered_attributes
from retail_assistant.serving.prices import CURRENCY, current_price, list_price, price_text
from retail_assistant.serving.understanding.shop_vocabulary import dimension_of
from retail_assistant.serving.understanding.stock import Stock
from retail_assistant.serving.understanding.trade_words import BRAND, COLOR, FABRIC

Record = Mapping[str, Any]

GREETING = "Hello! I know our catalog. What are you looking for?"
THANKS = "You are welcome. Is there anything else you are looking for?"
GOODBYE = "Goodbye, and thank you for looking around."
CAPABILITY = (
    "I am the shop's assistant. I can answer questions about our products, find some by kind,"
    " color, audience or price, compare them, and suggest alternatives or what goes with them."
)
SERVICE = (
    "The catalog does not say anything about delivery, payment, returns, stock or orders."
    " Please ask the shop's staff about that; I can help you with the products."
)
NOT_SHOPPING = "I can only help with the products of our shop. What are you looking for?"
INSTRUCTIONS = (
    "I can only help with the products of our shop, and I keep to its catalog."
    " What are you looking for?"
)
OTHER_LANGUAGE = "Sorry, I can only answer in English. Please ask me in English about our products."
UNCLEAR = (
    "I did not understand that. You can ask for a kind of product, a color or a price,"
    " or about one product by its name."
)
WHICH_ONE = "Which product do you mean? Please name one, or look for some first."
START_OVER = "All right, a fresh start. What are you looking for?"
AGREED = "All right. What would you like to see?"
SIZES_UNSAID = "The catalog does not say which sizes these come in, so I did not go by the size."
_NOT_STATED = "not stated"
_LONGEST_ECHO = 40


def bullet(row: Record, stock: Stock) -> str:
    """One product of a list: what it is called, its price, color and fabric."""
    price = current_price(row)
    facts = [] if price is None else [price_text(price)]
    for dimension in (COLOR, FABRIC):
        facts += [
            value for name, value in rendered_attributes(row) if dimension_of(name) == dimension
        ][:1]
    reference = stock.reference(row["product_id"])
    return f"- {reference}: {', '.join(facts)}" if facts else f"- {reference}"


def listed(opening: str, rows: Sequence[Record], stock: Stock, notes: Sequence[str] = ()) -> str:
    """An opening line, a line a product, then what else has to be said."""
    return "\n".join((opening, *(bullet(row, stock) for row in rows), *notes))


def search_opening(label: str, total: int, offset: int, shown: int, order: str) -> str:
    """What was found, and which part of it stands below."""
    first = {"cheapest": ", the cheapest first", "dearest": ", the most expensive first"}.get(
        order, ""
    )
    if total == 1:
        return f"I found one product for “{label}”:"
    if offset:
        return f"{offset + 1} to {offset + shown} of {total} {label}{first}:"
    if total > shown:
        return f"I found {total} {label}{first}. Here are {shown} of them:"
    return f"I found {total} {label}{first}:"


def unknown_words_note(words: Sequence[str]) -> list[str]:
    """Says which words of a search meant nothing to the catalog."""
    said = [echo(word) for word in dict.fromkeys(words)][:3]
    quoted = ", ".join(f"“{word}”" for word in said if word)
    return (
        [f"(The catalog says nothing about {quoted}, so I did not go by that.)"] if quoted else []
    )


def echo(text: str) -> str:
    """Words of a shopper, fit to be said back: short and of letters only; "" if they are not."""
    shown = plain_text(text, _LONGEST_ECHO)
    return shown if shown.replace(" ", "").isalpha() else ""


def not_carried(thing: str, offered: Sequence[str]) -> str:
    """The shop has nothing of that kind; what it has instead."""
    shown = echo(thing)
    opening = f"We do not carry “{shown}”." if shown else "We do not carry that."
    return f"{opening} We have {_and(offered)}." if offered else opening


def none_of(label: str, offered: Sequence[str]) -> str:
    """The shop has nothing of a known kind; what it has instead."""
    opening = f"The catalog lists no {label}."
    return f"{opening} We have {_and(offered)}." if offered else opening


def overview_of_shop(products: int, offered: Sequence[str]) -> str:
    """What the shop has."""
    return f"We have {products} products, among them {_and(offered)}. What are you looking for?"


def price_answer(row: Record, stock: Stock) -> str:
    """What a product costs, and cost before."""
    reference = stock.reference(row["product_id"])
    price, before = current_price(row), list_price(row)
    if price is None:
        return f"The catalog does not say what {reference} costs."
    was = f" (before: {price_text(before)})" if before is not None else ""
    return f"{reference} costs {price_text(price)}{was}."


def brand_answer(row: Record, stock: Stock) -> str:
    """Which brand a product is of."""
    reference, brand = stock.reference(row["product_id"]), plain_text(row.get("brand") or "")
    if not brand:
        return f"The catalog does not say what the brand of {reference} is."
    return f"The brand of {reference} is {brand}."


def attributes_answer(row: Record, dimensions: Sequence[str], stock: Stock) -> str:
    """Several attributes of one product, a line each."""
    lines = [f"{stock.reference(row['product_id'])}:"]
    values = values_by_dimension(row)
    for dimension in dimensions:
        if dimension in values:
            lines.append(f"{values[dimension][0]}: {values[dimension][1]}")
        else:
            lines.append(f"{attribute_wording(dimension).noun.capitalize()}: {_NOT_STATED}")
    return "\n".join(lines)


def attributes_of_each(rows: Sequence[Record], dimensions: Sequence[str], stock: Stock) -> str:
    """Some attributes of several products, a sentence for each."""
    lines = []
    for dimension in dimensions:
        for row in rows:
            reference = stock.reference(row["product_id"])
            known = values_by_dimension(row).get(dimension)
            if known is None:
                lines.append(unknown_attribute_answer(dimension, reference))
            else:
                phrasing = attribute_answers(known[0])[0]
                lines.append(attribute_answer(phrasing, known[0], reference, known[1]))
    return "\n".join(lines)


def values_by_dimension(row: Record) -> dict[str, tuple[str, str]]:
    """Dimension -> how the record calls the attribute, and its value."""
    values: dict[str, tuple[str, str]] = {}
    for name, value in rendered_attributes(row):
        values.setdefault(dimension_of(name), (name, value))
    if brand := plain_text(row.get("brand") or ""):
        values.setdefault(BRAND, ("Brand", brand))
    return values


def comparison(
    rows: Sequence[Record], stock: Stock, opening: str | None = None, *, only_prices: bool = False
) -> str:
    """Products side by side: prices, what they share, and where they differ."""
    lines = [opening] if opening else []
    for number, row in enumerate(rows, start=1):
        price = current_price(row)
        said = "price not stated" if price is None else price_text(price)
        lines.append(f"{number}. {stock.reference(row['product_id'])}: {said}")
    tables = [] if only_prices else [values_by_dimension(row) for row in rows]
    shared: list[str] = []
    for dimension in dict.fromkeys(name for table in tables for name in table):
        name = next(table[dimension][0] for table in tables if dimension in table)
        if not is_askable_attribute(name):
            continue
        values = [table.get(dimension, ("", _NOT_STATED))[1] for table in tables]
        if len({value.casefold() for value in values}) == 1:
            shared.append(f"{name} {values[0]}")
        else:
            lines.append(f"{name}: {' / '.join(values)}")
    if shared:
        lines.append(f"The same: {', '.join(shared)}.")
    return "\n".join(lines)


def price_winner(rows: Sequence[Record], stock: Stock, *, dearest: bool) -> str:
    """Which of some products costs least, or most."""
    priced = [(price, row) for row in rows if (price := current_price(row)) is not None]
    if not priced:
        return "The catalog does not say what these cost."
    best = (max if dearest else min)(price for price, _ in priced)
    names = [stock.reference(row["product_id"]) for price, row in priced if price == best]
    comparative = len(rows) == 2
    word = (
        ("more expensive" if comparative else "most expensive")
        if dearest
        else ("cheaper" if comparative else "cheapest")
    )
    if len(names) > 1:
        return f"{_and(names)} cost the same: {price_text(best)}."
    article = "" if comparative else "the "
    return f"{names[0]} is {article}{word}: {price_text(best)}."


def rupees_note() -> str:
    """Says which money prices are in."""
    return f"(Our prices are in rupees, {CURRENCY}; I did not go by another currency.)"


def _and(words: Sequence[str]) -> str:
    *rest, last = words
    return f"{', '.join(rest)} and {last}" if rest else last

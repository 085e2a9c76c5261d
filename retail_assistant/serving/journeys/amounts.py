"""The amounts of money that an answer states, as a shopper would read them."""

import re
from collections.abc import Iterable
from itertools import combinations

from retail_assistant.corpus.reading.names import NamedText
from retail_assistant.corpus.reading.text import is_negated

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_MONEY = frozenset({"rs", "rupee", "rupees", "inr", "usd", "eur", "dollar", "dollars"})
_PRICED = frozenset(
    {"price", "prices", "priced", "cost", "costs", "costing", "cheaper", "dearer", "pay", "total"}
)
_MARKS = ("\u20b9", "$", "\u20ac")
_UNITS = frozenset({"cm", "mm", "inch", "kg", "g", "ml", "pack", "piece", "year", "years", "size"})
_COUNTED = frozenset({"products", "items", "others", "more", "of", "results"})
_SAME = 0.011


def stated_amounts(named: NamedText) -> list[float]:
    """Amounts that a text asserts, outside names and item codes.

    A number is an amount beside a currency, in a clause that speaks of price or cost, or in a list
    item that names a product (behind a dash, colon or comma). What is denied is not asserted.
    """
    text = named.text
    priced = {text.clauses[i] for i, word in enumerate(text.words) if word in _PRICED}
    listed = {text.lines[span.start] for span in named.spans}
    amounts = []
    for i, word in enumerate(text.words):
        if i in named.masked or not _NUMBER.fullmatch(word):
            continue
        gap = text.gaps[i]
        before = text.words[i - 1] if i else ""
        after = text.words[i + 1] if i + 1 < len(text.words) else ""
        money = before in _MONEY or after in _MONEY or any(mark in gap for mark in _MARKS)
        counted = after in _UNITS or after in _COUNTED or before in _UNITS
        in_list = text.lines[i] in listed and any(mark in gap for mark in ":,-\u2013\u2014(")
        spoken = (text.clauses[i] in priced or in_list) and not counted
        if (money or spoken) and not is_negated(text, i):
            amounts.append(float(word))
    return amounts


def stray_amounts(named: NamedText, prices: Iterable[float], asked: Iterable[float]) -> list[float]:
    """Stated amounts that are no price of `prices`, no difference or sum of two, nor `asked`."""
    known = sorted(set(prices))
    pairs = list(combinations(known, 2))
    derived = [abs(a - b) for a, b in pairs] + [a + b for a, b in pairs]
    allowed = [*known, *derived, *asked]
    return [
        amount
        for amount in stated_amounts(named)
        if not any(abs(amount - one) < _SAME or amount == round(one) for one in allowed)
    ]

"""The prices that a message allows: "under 800", "between 500 and 1k", "around Rs. 1,200"."""

import re
from typing import NamedTuple

from retail_assistant.corpus.reading.text import Text
from retail_assistant.serving.prices import price_text

MOST = 10_000_000.0
_AROUND = 0.2
_PAISA = 0.01

_BELOW = re.compile(r"\b(?:under|below|less than|cheaper than|lower than|beneath)$")
_AT_MOST = re.compile(
    r"\b(?:up to|upto|at most|max|maximum|within"
    r"|(?:budget|limit)(?: (?:is|of|to|at|now))?|down to|only have|make (?:it|that|this)"
    r"|(?:what|how) about|i have|for|spend|afford|pay)$"
)
_ABOVE = re.compile(r"\b(?:over|above|more than|greater than|upwards of)$")
_NOT_ABOVE = re.compile(r"\b(?:no|not) (?:more than|above|over|higher than)$")
_NOT_BELOW = re.compile(r"\b(?:no|not) (?:less than|under|below|lower than)$")
_AT_LEAST = re.compile(
    r"\b(?:at least|min|minimum|from"
    r"|starting at|starting from)$"
)
_ABOUT = re.compile(
    r"\b(?:around|(?<!what )(?<!how )about|approx|approximately|roughly|near|circa)$"
)
_AMOUNT = re.compile(r"(\d{1,9}(?:\.\d{1,2})?)(k?)")
_SCALES = {"k": 1_000.0, "thousand": 1_000.0, "hundred": 100.0}
_CURRENCY = frozenset({"rs", "rupee", "rupees", "inr", "bucks"})
_FEWEST_DIGITS = 2


class PriceRange(NamedTuple):
    """Prices from `low` to `high`, in rupees, both allowed, and how to say that."""

    low: float | None
    high: float | None
    label: str

    @classmethod
    def under(cls, amount: float) -> "PriceRange":
        """Everything that costs less than an amount."""
        return cls(None, amount - _PAISA, f"under {price_text(amount)}")

    @classmethod
    def over(cls, amount: float) -> "PriceRange":
        """Everything that costs more than an amount."""
        return cls(amount + _PAISA, None, f"over {price_text(amount)}")


class _Amount(NamedTuple):
    start: int
    end: int
    value: float
    in_rupees: bool


def read_prices(text: Text) -> tuple[PriceRange | None, set[int]]:
    """The range of prices that a message allows, and the positions of the words that say it."""
    amounts = _amounts(text)
    low: float | None = None
    high: float | None = None
    label = ""
    taken: set[int] = set()
    skip = -1
    for number, amount in enumerate(amounts):
        if number == skip:
            continue
        before = " ".join(text.words[max(0, amount.start - 4) : amount.start])
        following = amounts[number + 1] if number + 1 < len(amounts) else None
        if following is not None and _is_range(text, before, amount, following):
            low, high = sorted((amount.value, following.value))
            label = f"between {price_text(low)} and {price_text(high)}"
            taken |= set(range(amount.start, following.end))
            skip = number + 1
            continue
        one = _one_sided(before, amount)
        if one is not None:
            low = one.low if one.low is not None else low
            high = one.high if one.high is not None else high
            label = f"{label} and {one.label}" if label else one.label
            taken |= set(range(amount.start, amount.end))
    if low is not None and high is not None and low > high:
        low, high = None, high
        label = f"up to {price_text(high)}"
    return (PriceRange(low, high, label) if taken else None), taken


def _amounts(text: Text) -> list[_Amount]:
    found = []
    for i, word in enumerate(text.words):
        match = _AMOUNT.fullmatch(word)
        if match is None:
            continue
        after = text.words[i + 1] if i + 1 < len(text.words) else ""
        scale = _SCALES.get(match[2] or after, 1.0)
        scaled_by_next = not match[2] and after in _SCALES
        start = i - 1 if i and text.words[i - 1] == "rs" else i
        end = i + 1 + scaled_by_next
        money = start < i or (end < len(text.words) and text.words[end] in _CURRENCY)
        end += end < len(text.words) and text.words[end] in _CURRENCY
        value = min(float(match[1]) * scale, MOST)
        found.append(_Amount(start, end, value, money or scale > 1.0))
    return found


def _is_range(text: Text, before: str, one: _Amount, other: _Amount) -> bool:
    between = text.words[one.end : other.start]
    if before.endswith(("between", "from")) or _is_money(one) or _is_money(other):
        linked = len(between) == 1 and between[0] in ("and", "to")
        dashed = not between and "-" in text.gaps[other.start].replace("\u2013", "-")
        return linked or dashed
    return False


def _is_money(amount: _Amount) -> bool:
    return amount.in_rupees or len(f"{amount.value:.0f}") > _FEWEST_DIGITS


def _one_sided(before: str, amount: _Amount) -> PriceRange | None:
    value = amount.value
    if _NOT_ABOVE.search(before):
        return PriceRange(None, value, f"up to {price_text(value)}")
    if _NOT_BELOW.search(before):
        return PriceRange(value, None, f"from {price_text(value)}")
    if _BELOW.search(before):
        return PriceRange.under(value)
    if _ABOVE.search(before):
        return PriceRange.over(value)
    if _AT_LEAST.search(before) and _is_money(amount):
        return PriceRange(value, None, f"from {price_text(value)}")
    if _ABOUT.search(before) and _is_money(amount):
        low, high = value * (1 - _AROUND), value * (1 + _AROUND)
        return PriceRange(low, high, f"around {price_text(value)}")
    if _is_money(amount) and (_AT_MOST.search(before) or amount.in_rupees):
        return PriceRange(None, value, f"up to {price_text(value)}")
    return None

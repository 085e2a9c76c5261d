"""What a shopper may ask next: two to four short messages, each of which has an answer here."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from retail_assistant.corpus.facts import is_askable_attribute, is_askable_value
from retail_assistant.corpus.phrasing import asks_for_audience, attribute_wording
from retail_assistant.corpus.reading.text import normalise
from retail_assistant.corpus.rendering import rendered_attributes
from retail_assistant.corpus.wording import value_stands_in
from retail_assistant.serving.prices import price_text
from retail_assistant.serving.understanding.plan import Search
from retail_assistant.serving.understanding.searches import PAGE, found_rows
from retail_assistant.serving.understanding.shelves import Rows
from retail_assistant.serving.understanding.shop_vocabulary import dimension_of
from retail_assistant.serving.understanding.stock import Stock
from retail_assistant.serving.understanding.trade_words import COLOR, KIND

MOST = 4
MORE = "Show me more"
COMPARE = "Compare the first two"
FIRST = "Tell me about the first one"
SELL = "What do you sell?"
SIMILAR = "Do you have something similar?"
GOES_WITH = "What goes with it?"
COST = "What does it cost?"
_ROUND = (100, 200, 300, 500, 800, 1000, 1500, 2000, 3000, 5000, 10_000, 20_000, 50_000)


def to_start(stock: Stock) -> list[str]:
    """What anybody may ask first: kinds that the shop has many of, and a budget that fits."""
    found = []
    for label, rows in stock.vocabulary.frequent_kinds[:2]:
        prices = stock.shelves.prices[rows]
        prices = prices[~np.isnan(prices)]
        budget = _round_budget(float(np.median(prices))) if len(prices) else None
        limit = f" under {price_text(budget)}" if budget is not None else ""
        found.append(f"Show me {label}{limit}")
    return [*found, SELL] if found else [SELL, "What can you do?"]


def _round_budget(price: float) -> float | None:
    return next((float(amount) for amount in _ROUND if amount > price), None)


def after_search(search: Search, rows: Rows, stock: Stock) -> list[str]:
    """More of it, a narrower search, a comparison, a closer look."""
    shown = rows[search.offset : search.offset + PAGE]
    found = []
    if len(rows) > search.offset + len(shown):
        found.append(MORE)
    found += [COMPARE] if len(shown) > 1 else []
    found += _narrower(search, rows, stock)
    found += _cheaper(rows, shown, stock)
    found += [FIRST] if len(shown) > 1 else ["Tell me about it", SIMILAR]
    return found[:MOST]


def _narrower(search: Search, rows: Rows, stock: Stock) -> list[str]:
    if len(rows) <= PAGE or any(wish.dimension == COLOR for wish in search.wishes):
        return []
    for value, count in stock.vocabulary.counted_values(COLOR, rows):
        sense = stock.vocabulary.senses.get(normalise(value))
        if sense is not None and sense.dimension == COLOR and 1 < count < len(rows):
            return [f"Only in {value.lower()}"]
    return []


def _cheaper(rows: Rows, shown: Rows, stock: Stock) -> list[str]:
    prices, seen = stock.shelves.prices[rows], stock.shelves.prices[shown]
    if np.isnan(seen).all():
        return []
    return ["Show me cheaper ones"] if (prices < np.nanmin(seen) - 0.01).any() else []


def after_product(
    row: Mapping[str, Any], asked: Sequence[str], stock: Stock, *, price_told: bool = False
) -> list[str]:
    """Another attribute that the record has, its price, alternatives, what goes with it."""
    found = [
        _attribute_question(name)
        for name, value in rendered_attributes(row)
        if dimension_of(name) not in asked
        and normalise(name) != "type"
        and is_askable_attribute(name)
        and is_askable_value(value)
        and not value_stands_in(value, row["name"], name)
    ][:1]
    found += [] if price_told else [COST]
    has_alternatives, has_complements = stock.may_suggest(row["product_id"])
    found += [SIMILAR] if has_alternatives else []
    found += [GOES_WITH] if has_complements else []
    return found[:MOST] if len(found) > 1 else [*found, SELL]


def _attribute_question(name: str) -> str:
    if asks_for_audience(name):
        return "Who is it for?"
    noun, verb = attribute_wording(name)
    return f"What {verb} its {noun}?"


def after_several(count: int, *, more: bool = False, compared: bool = False) -> list[str]:
    """After a list of products that is no search."""
    found = [MORE] if more else []
    if count > 1:
        found += ["Which is the cheapest of these?" if compared else COMPARE, FIRST]
        found += ["Do you have something like the first one?"] if compared else []
    elif count:
        found += ["Tell me about the first one", "What does the first one cost?"]
    return (found if len(found) > 1 else [*found, SELL])[:MOST]


def after_nothing(search: Search, stock: Stock) -> list[str]:
    """After a search that found nothing: the same kind without conditions, and a fresh start."""
    kinds = tuple(wish for wish in search.wishes if wish.dimension == KIND and not wish.excluded)
    if kinds and len(found_rows(Search(wishes=kinds), stock)):
        label = stock.vocabulary.senses[kinds[0].phrases[0]].label
        return [f"Show me all {label}", SELL]
    return to_start(stock)

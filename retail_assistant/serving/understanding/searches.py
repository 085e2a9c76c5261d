"""Searches: conditions that change from turn to turn, and the products that meet them."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from retail_assistant.serving.understanding.plan import Order, Search, State
from retail_assistant.serving.understanding.price_wishes import PriceRange
from retail_assistant.serving.understanding.requests import Request, Wish
from retail_assistant.serving.understanding.shelves import Mask, Rows
from retail_assistant.serving.understanding.stock import Stock
from retail_assistant.serving.understanding.trade_words import AUDIENCE, BRAND, COLOR, KIND

PAGE = 4
"""Products shown at a time."""

_BEFORE_NOUN = (COLOR, "fabric", "pattern", "occasion", "sleeve", "neck", "length", "fit")
_RELAXED_LAST = (COLOR, BRAND, AUDIENCE)


class Relaxed(NamedTuple):
    """A search without one of its conditions: what it was, and what passes then."""

    condition: str
    search: Search
    rows: Rows


def found_rows(search: Search, stock: Stock) -> Rows:
    """All products that meet a search, in its order."""
    return _ordered(np.flatnonzero(_mask(search, stock)), search.order, stock)


def page_of(search: Search, rows: Rows) -> Rows:
    """The rows that a search shows now."""
    return rows[search.offset : search.offset + PAGE]


def refined(state: State, request: Request, stock: Stock) -> Search:
    """The search that a message makes of the one before it.

    A kind of product (or "something …") starts a new search, which keeps whom it is for and the
    budget where the shopper changes their mind ("… instead"). Anything else changes what it names.
    """
    base = state.search
    if base is None or (state.subject in ("product", "suggestions") and not request.kinds):
        base = base if base is not None else _like_focus(state, stock)
    narrower = request.kinds and not any(wish.dimension == KIND for wish in base.wishes)
    if not narrower and (request.kinds or (request.generic and "change" not in request.acts)):
        base = _kept(base) if "change" in request.acts else Search()
    changed = {wish.dimension for wish in request.wishes} | request.dropped
    kept = tuple(wish for wish in base.wishes if wish.dimension not in changed)
    prices = None if "price" in request.dropped else (request.prices or base.prices)
    return Search(
        wishes=(*kept, *request.wishes),
        prices=prices,
        size=None if "size" in request.dropped else (request.size or base.size),
        order=_order(request) or base.order,
    )


def _kept(search: Search) -> Search:
    wishes = tuple(wish for wish in search.wishes if wish.dimension == AUDIENCE)
    return Search(wishes=wishes, prices=search.prices)


def _order(request: Request) -> Order | None:
    if "dearest" in request.acts:
        return "dearest"
    return "cheapest" if "cheapest" in request.acts else None


def _like_focus(state: State, stock: Stock) -> Search:
    """Products of the same kind as the one that was spoken of, for the same people."""
    return Search() if state.focus is None else search_like(state.focus, stock)


def search_like(product_id: str, stock: Stock) -> Search:
    """The search for everything of a product's kind and audience."""
    rows = stock.shelves.rows([product_id])
    kind = stock.vocabulary.label_of_kind(int(rows[0])) if len(rows) else None
    wishes = [Wish(KIND, (kind,))] if kind in stock.vocabulary.senses else []
    audiences = stock.shelves.audiences(product_id)
    wishes += [Wish(AUDIENCE, tuple(audiences))] if audiences else []
    return Search(wishes=tuple(wishes))


def cheaper_than(search: Search, price: float, *, dearer: bool = False) -> Search:
    """The same search for less than a price (or for more)."""
    prices = PriceRange.over(price) if dearer else PriceRange.under(price)
    return replace(search, prices=prices, offset=0)


def relaxations(search: Search, stock: Stock) -> Iterator[Relaxed]:
    """The search without one condition, where that finds something; the least missed first."""
    if search.prices is not None:
        without = replace(search, prices=None)
        if len(rows := found_rows(without, stock)):
            nearest_first = stock.shelves.by_price(rows, dearest_first=search.prices.high is None)
            yield Relaxed(f"“{search.prices.label}”", without, nearest_first)
    if search.size is not None:
        without = replace(search, size=None)
        if len(rows := found_rows(without, stock)):
            yield Relaxed(f"“in size {search.size.upper()}”", without, rows)
    # Never the kind: who wants a kurta is not served with a red saree.
    wishes = [wish for wish in search.wishes if wish.dimension != KIND]
    for wish in sorted(wishes, key=lambda one: _missed(one.dimension)):
        rest = tuple(other for other in search.wishes if other is not wish)
        without = replace(search, wishes=rest)
        if len(rows := found_rows(without, stock)):
            yield Relaxed(f"“{wish_label(wish, stock)}”", without, rows)


def whole_kind(search: Search, stock: Stock) -> Relaxed | None:
    """Only the kind and the audience of a search, else only the kind: where one is too little."""
    for kept in ((KIND, AUDIENCE), (KIND,)):
        wishes = tuple(wish for wish in search.wishes if wish.dimension in kept)
        without = Search(wishes=wishes)
        if wishes and without != search and len(rows := found_rows(without, stock)):
            return Relaxed("the other conditions", without, rows)
    return None


def _missed(dimension: str) -> int:
    return _RELAXED_LAST.index(dimension) + 1 if dimension in _RELAXED_LAST else 0


def sizes_are_stated(search: Search, stock: Stock) -> bool:
    """Whether any product that meets a search, but for the size, states a size at all."""
    meant = _mask(replace(search, size=None), stock)
    return any(meant[sense.rows].any() for sense in stock.vocabulary.sizes.values())


def wish_label(wish: Wish, stock: Stock) -> str:
    """How a condition is said: "red or blue", "for women", "not cotton"."""
    labels = [stock.vocabulary.senses[phrase].label for phrase in wish.phrases]
    joined = " or ".join(dict.fromkeys(labels))
    if wish.dimension == AUDIENCE:
        joined = joined.replace(" or for ", " or ")
    joined = f"by {joined}" if wish.dimension == BRAND else joined
    return f"not {joined}" if wish.excluded else joined


def search_label(search: Search, stock: Stock) -> str:
    """How a search is said: "red cotton kurtas for women under ₹800"."""
    said: dict[str, list[str]] = {
        dimension: [] for dimension in ("before", KIND, AUDIENCE, BRAND, "after")
    }
    places = {**dict.fromkeys(_BEFORE_NOUN, "before"), KIND: KIND, AUDIENCE: AUDIENCE, BRAND: BRAND}
    order = {dimension: number for number, dimension in enumerate(_BEFORE_NOUN)}
    for wish in sorted(search.wishes, key=lambda one: order.get(one.dimension, len(order))):
        place = "after" if wish.excluded else places.get(wish.dimension, "after")
        said[place].append(wish_label(wish, stock))
    before, kinds = said["before"], said[KIND] or ["products"]
    plain = [label for label in said["after"] if label.startswith("not ")]
    worded = [f"with {label}" for label in said["after"] if not label.startswith("not ")]
    parts = [*before, *kinds, *worded, *said[AUDIENCE], *said[BRAND], *plain]
    if search.size is not None:
        parts.append(f"in size {search.size.upper()}")
    if search.prices is not None:
        parts.append(search.prices.label)
    return " ".join(parts)


def _mask(search: Search, stock: Stock) -> Mask:
    shelves, vocabulary = stock.shelves, stock.vocabulary
    mask = np.ones(len(shelves), dtype=np.bool_)
    for wish in search.wishes:
        met = np.zeros(len(shelves), dtype=np.bool_)
        for phrase in wish.phrases:
            met[vocabulary.senses[phrase].rows] = True
        mask &= ~met if wish.excluded else met
    if search.size is not None:
        sense = vocabulary.sizes.get(search.size)
        mask &= shelves.mask(sense.rows) if sense is not None else False
    if search.prices is not None:
        low, high, _ = search.prices
        # A product without a price is in no range.
        mask &= ~np.isnan(shelves.prices)
        mask &= shelves.prices >= low if low is not None else True
        mask &= shelves.prices <= high if high is not None else True
    return mask


def _ordered(rows: Rows, order: Order, stock: Stock) -> Rows:
    if order == "any":
        return stock.shelves.fresh_names_first(rows)
    return stock.shelves.by_price(rows, dearest_first=order == "dearest")

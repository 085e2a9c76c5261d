"""Turns about many products: searches, pages of them, comparisons, what the shop does not have."""

from collections.abc import Sequence
from dataclasses import replace

from retail_assistant.corpus.retrieval import retrieve
from retail_assistant.serving.prices import price_text
from retail_assistant.serving.understanding import answers, suggestions_to_click
from retail_assistant.serving.understanding.plan import Plan, Search, State, Turn
from retail_assistant.serving.understanding.requests import Request
from retail_assistant.serving.understanding.searches import (
    PAGE,
    cheaper_than,
    found_rows,
    page_of,
    refined,
    relaxations,
    search_label,
    search_like,
    sizes_are_stated,
    whole_kind,
)
from retail_assistant.serving.understanding.stock import Stock

_OFFERED = 6
_NEAREST = 3
_VALUES = 8


def search_turn(state: State, request: Request, stock: Stock) -> Turn:
    """A new or changed search, from its first page."""
    search = refined(state, request, stock)
    notes = answers.unknown_words_note(request.unknown)
    if search.size is not None and not sizes_are_stated(search, stock):
        search = replace(search, size=None)
        notes.append(answers.SIZES_UNSAID)
    if request.foreign_money:
        search = replace(search, prices=None)
        notes.append(answers.rupees_note())
    return shown_search(state, search, request, stock, notes)


def shown_search(
    state: State, search: Search, request: Request, stock: Stock, notes: Sequence[str] = ()
) -> Turn:
    """The page of a search, or what stands in its way."""
    rows = found_rows(search, stock)
    if not len(rows):
        return _nothing(state, search, request, stock, notes)
    page = page_of(search, rows)
    ids = stock.shelves.ids_of(page)
    products = stock.products(ids)
    label = search_label(search, stock)
    opening = answers.search_opening(label, len(rows), search.offset, len(page), search.order)
    text = answers.listed(opening, products, stock, notes)
    suggestions = suggestions_to_click.after_search(search, rows, stock)
    focus = ids[0] if len(ids) == 1 else None
    after = State(search, tuple(ids), focus, None, "search")
    return Turn(Plan("search", request.text, [], True, products, suggestions, text), after)


def _nothing(
    state: State, search: Search, request: Request, stock: Stock, notes: Sequence[str]
) -> Turn:
    """Nothing meets all conditions: which of them leaves nothing, and the nearest without it."""
    label = search_label(search, stock)
    best = next(relaxations(search, stock), None) or whole_kind(search, stock)
    if best is None:
        offered = [kind for kind, _ in stock.vocabulary.frequent_kinds[:_OFFERED]]
        text = answers.listed(answers.none_of(label, offered), [], stock, notes)
        suggestions = suggestions_to_click.after_nothing(search, stock)
        plan = Plan(
            "search", request.text, suggestions=suggestions, text=text, declined="not_carried"
        )
        return Turn(plan, replace(state, search=None, subject="nothing"))
    ids = stock.shelves.ids_of(best.rows[:_NEAREST])
    products = stock.products(ids)
    count = len(best.rows)
    opening = (
        f"The catalog lists no {label}. Without {best.condition} there"
        f" {'is one' if count == 1 else f'are {count}'} ({search_label(best.search, stock)})."
        f" The nearest:"
    )
    text = answers.listed(opening, products, stock, notes)
    suggestions = suggestions_to_click.after_search(best.search, best.rows, stock)
    after = State(best.search, tuple(ids), None, None, "search")
    plan = Plan("search", request.text, [], True, products, suggestions, text, "not_carried")
    return Turn(plan, after)


def more_turn(state: State, request: Request, stock: Stock) -> Turn | None:
    """The next page of the active search; None where there is none."""
    if state.search is None:
        return None
    rows = found_rows(state.search, stock)
    following = replace(state.search, offset=state.search.offset + PAGE)
    if following.offset < len(rows):
        return shown_search(state, following, request, stock)
    label = search_label(state.search, stock)
    count = f"{len(rows)} {label}" if len(rows) > 1 else f"one product for “{label}”"
    text = f"That is all: we have {count}."
    suggestions = suggestions_to_click.after_nothing(state.search, stock)
    return Turn(Plan("search", request.text, suggestions=suggestions, text=text), state)


def cheaper_turn(
    state: State, request: Request, stock: Stock, base: str | None, *, named: bool = False
) -> Turn | None:
    """Products that cost less (or more) than those shown, or than one product.

    `named`: the message names the product, so that its conditions are but words of the name.
    """
    dearer = "dearer" in request.acts
    ids = [base] if base is not None else list(state.shown)
    prices = [price for one in ids if (price := stock.shelves.price(one)) is not None]
    if not prices:
        return None
    bound = max(prices) if dearer else min(prices)
    search = search_like(base, stock) if base is not None else state.search
    if search is None or (request.is_search and not named):
        search = refined(replace(state, search=search), request, stock)
    if request.prices is not None:
        bounded = replace(search, prices=request.prices, offset=0)
        return shown_search(state, bounded, request, stock)
    bounded = cheaper_than(search, bound, dearer=dearer)
    if len(found_rows(bounded, stock)):
        return shown_search(state, bounded, request, stock)
    word = "more expensive" if dearer else "cheaper"
    label = search_label(replace(search, prices=None), stock)
    text = f"We have no {label} that are {word} than {price_text(bound)}."
    suggestions = suggestions_to_click.after_several(len(state.shown))
    plan = Plan("search", request.text, suggestions=suggestions, text=text, declined="not_carried")
    return Turn(plan, state)


def comparison_turn(state: State, request: Request, ids: Sequence[str], stock: Stock) -> Turn:
    """Two or more products side by side, or which of them is the one."""
    products = stock.products(dict.fromkeys(ids))
    acts = request.acts
    opening = None
    focus = None
    if {"cheaper", "cheapest"} & acts or {"dearer", "dearest"} & acts:
        dearest = bool({"dearer", "dearest"} & acts)
        opening = answers.price_winner(products, stock, dearest=dearest)
        rows = stock.shelves.by_price(stock.shelves.rows(ids), dearest_first=dearest)
        focus = stock.shelves.ids[int(rows[0])] if len(rows) else None
    elif "which" in acts and "compare" in acts:
        opening = "Which is better is for you to say. This is how they differ:"
    if "price" in acts and opening is None and "compare" not in acts:
        opening = "These are their prices:"
    only_prices = opening is not None and "compare" not in acts
    if request.asked and not only_prices and "compare" not in acts:
        text = answers.attributes_of_each(products, request.asked, stock)
    else:
        text = answers.comparison(products, stock, opening, only_prices=only_prices)
    suggestions = suggestions_to_click.after_several(len(products), compared=True)
    shown = tuple(row["product_id"] for row in products)
    after = State(state.search, shown, focus, None, "comparison")
    return Turn(Plan("comparison", request.text, [], True, products, suggestions, text), after)


def which_turn(state: State, request: Request, stock: Stock) -> Turn:
    """Which of the products shown meet a condition: "which of these is cotton?"."""
    shown = stock.shelves.rows(state.shown)
    search = Search(wishes=request.wishes, prices=request.prices, size=request.size)
    met = found_rows(search, stock)
    ids = stock.shelves.ids_of(row for row in shown if row in met)
    label = search_label(search, stock)
    if not ids:
        text = f"None of these is said to be among the {label}."
        suggestions = suggestions_to_click.after_several(len(shown))
        plan = Plan(
            "comparison", request.text, suggestions=suggestions, text=text, declined="unknown"
        )
        return Turn(plan, state)
    products = stock.products(ids)
    text = answers.listed(f"Of these, {label}:", products, stock)
    suggestions = suggestions_to_click.after_several(len(products))
    after = State(state.search, tuple(ids), ids[0] if len(ids) == 1 else None, None, "comparison")
    return Turn(Plan("comparison", request.text, [], True, products, suggestions, text), after)


def values_turn(state: State, request: Request, stock: Stock) -> Turn | None:
    """Which values products come in: "what colors do the kurtas come in?"."""
    search = refined(state, request, stock) if request.is_search else (state.search or Search())
    rows = found_rows(search, stock)
    wished = {wish.dimension for wish in request.wishes}
    asked = next((name for name in request.asked if name not in wished), request.asked[0])
    counted = stock.vocabulary.counted_values(asked, rows)
    if not len(rows) or not counted:
        return None
    said = ", ".join(f"{value} ({count})" for value, count in counted[:_VALUES])
    more = f" and {len(counted) - _VALUES} more" if len(counted) > _VALUES else ""
    text = f"{_capital(asked)} of our {search_label(search, stock)}: {said}{more}."
    suggestions = suggestions_to_click.after_search(search, rows, stock)
    products = stock.products(stock.shelves.ids_of(page_of(search, rows)))
    shown = tuple(row["product_id"] for row in products)
    after = State(search, shown, None, None, "search")
    return Turn(Plan("search", request.text, [], True, products, suggestions, text), after)


def unknown_product_turn(state: State, request: Request, stock: Stock) -> Turn:
    """A product that the shop does not have under that name; the nearest are offered."""
    found = retrieve([request.text], stock)[0]
    opening = "We have no product of that name. The nearest in the catalog:"
    text = answers.listed(opening, found.records, stock)
    suggestions = suggestions_to_click.after_several(len(found.records))
    shown = tuple(row["product_id"] for row in found.records)
    plan = Plan(
        "question",
        request.text,
        found.records,
        False,
        list(found.records),
        suggestions,
        text,
        "not_carried",
    )
    return Turn(plan, State(state.search, shown, None, None, "suggestions"))


def nearest_turn(state: State, request: Request, stock: Stock) -> Turn:
    """Products whose records come closest to what was described in free words."""
    products = stock.search(request.text[:300], k=PAGE)
    text = answers.listed("This is what comes closest in the catalog:", products, stock)
    suggestions = suggestions_to_click.after_several(len(products))
    shown = tuple(row["product_id"] for row in products)
    after = State(None, shown, None, None, "suggestions")
    return Turn(Plan("search", request.text, [], True, products, suggestions, text), after)


def not_carried_turn(state: State, request: Request, stock: Stock) -> Turn:
    """A kind of thing that the shop does not have."""
    offered = [label for label, _ in stock.vocabulary.frequent_kinds[:_OFFERED]]
    text = answers.not_carried(request.thing or "", offered)
    suggestions = suggestions_to_click.to_start(stock)
    plan = Plan("search", request.text, suggestions=suggestions, text=text, declined="not_carried")
    return Turn(plan, replace(state, subject="nothing"))


def shop_turn(state: State, request: Request, stock: Stock) -> Turn:
    """What the shop has, with one product of each of its most frequent kinds."""
    kinds = stock.vocabulary.frequent_kinds[:_OFFERED]
    text = answers.overview_of_shop(len(stock.shelves), [label for label, _ in kinds])
    ids = list(dict.fromkeys(stock.shelves.ids[int(rows[0])] for _, rows in kinds[:PAGE]))
    products = stock.products(ids)
    suggestions = suggestions_to_click.to_start(stock)
    after = State(None, tuple(ids), None, None, "suggestions")
    return Turn(Plan("search", request.text, [], True, products, suggestions, text), after)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]

"""What a message points at among the products shown last: "it", "the second one", "those"."""

from retail_assistant.serving.understanding.plan import Search, State
from retail_assistant.serving.understanding.requests import Request
from retail_assistant.serving.understanding.searches import found_rows
from retail_assistant.serving.understanding.stock import Stock
from retail_assistant.serving.understanding.trade_words import KIND

_MOST_COMPARED = 4


def pointed_at(state: State, request: Request, stock: Stock) -> str | None:
    """The one product that a message points at; None where it points at none."""
    if len(request.positions) == 1 and (place := _at(state, request.positions[0])) is not None:
        return place
    if request.points_at_one and request.is_search:
        return _described(state, request, stock)
    current = state.focus if state.focus is not None else (state.shown or (None,))[0]
    if current is None:
        return None
    said_it = not {"it", "its"}.isdisjoint(request.words)
    if request.kinds and not said_it and not _is_of_kind(current, request, stock):
        return None
    acts = request.acts
    if request.singular:
        return current
    if {"alternatives", "complements"} & acts and not request.kinds:
        return current
    # "and the fabric?", "how much?": about what was spoken of, not about whatever the shop has.
    asks = bool(request.asked) or ("price" in acts and not request.prices)
    one = state.subject == "product" or len(state.shown) == 1
    plain = not request.plural and not request.kinds and not request.generic
    if asks and one and plain and not request.unknown and not request.dropped:
        return None if {"cheaper", "cheapest", "dearest", "dearer"} & acts else current
    if "overview" in acts and one and not request.is_search and not request.unknown:
        return current
    return None


def pointed_at_several(state: State, request: Request) -> list[str] | None:
    """The products that a message compares or chooses from; None where it does neither."""
    acts = request.acts
    if len(state.shown) < 2 and len(request.positions) < 2:
        one_of_one = state.shown and request.plural and "which" in acts and request.wishes
        return list(state.shown) if one_of_one else None
    if len(request.positions) > 1:
        found = [one for place in request.positions if (one := _at(state, place)) is not None]
        return list(dict.fromkeys(found)) if len(set(found)) > 1 else None
    if request.kinds or (request.generic and not request.plural):
        return None
    choosing = "which" in acts and bool({"cheaper", "dearer"} & acts or request.wishes)
    extreme = bool({"cheapest", "dearest"} & acts) and (
        request.plural or ("which" in acts and state.subject != "search")
    )
    prices = "price" in acts and request.plural and not request.asked and not request.prices
    # "they" of a search are all that it finds: "what colors do they come in?".
    of_these = request.plural and state.subject in ("comparison", "suggestions")
    of_both = state.subject == "comparison" and not request.singular and "shopping" not in acts
    attributes = bool(request.asked) and (of_these or of_both)
    if "compare" in acts or choosing or extreme or prices or attributes:
        return list(state.shown[:_MOST_COMPARED])
    return None


def narrows(request: Request, product_id: str, stock: Stock) -> bool:
    """Whether a message says more of what it looks for than what kind a product is."""
    others = [wish for wish in request.wishes if wish.dimension != KIND]
    other_kind = request.kinds and not _is_of_kind(product_id, request, stock)
    return bool(others or other_kind or request.prices or request.dropped or request.size)


def _at(state: State, position: int) -> str | None:
    shown = state.shown
    return shown[position] if -len(shown) <= position < len(shown) else None


def _described(state: State, request: Request, stock: Stock) -> str | None:
    """The one of the shown products that a description fits: "the red one"."""
    search = Search(wishes=request.wishes, prices=request.prices, size=request.size)
    met = set(found_rows(search, stock).tolist())
    rows = [row for row in stock.shelves.rows(state.shown).tolist() if row in met]
    return stock.shelves.ids[rows[0]] if len(rows) == 1 else None


def _is_of_kind(product_id: str, request: Request, stock: Stock) -> bool:
    rows = stock.shelves.rows([product_id])
    senses = (stock.vocabulary.senses[one] for wish in request.kinds for one in wish.phrases)
    return bool(len(rows)) and any(rows[0] in sense.rows for sense in senses)

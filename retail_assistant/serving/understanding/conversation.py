"""A conversation understood: what its last message wants, and how it is to be answered.

Nothing is kept between requests. What a conversation has come to (the active search, the products
shown last, the one spoken of) is found by reading its earlier messages again: reading depends on
nothing but the messages and the index. A small memory spares reading the same beginning twice.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from threading import Lock

from retail_assistant.catalog.index import CatalogIndex
from retail_assistant.serving.understanding import (
    product_turns,
    search_turns,
    suggestions_to_click,
    talk,
)
from retail_assistant.serving.understanding.plan import Ask, Plan, State, Turn
from retail_assistant.serving.understanding.references import (
    narrows,
    pointed_at,
    pointed_at_several,
)
from retail_assistant.serving.understanding.requests import MOST_CHARACTERS, Request, read_request
from retail_assistant.serving.understanding.searches import search_like
from retail_assistant.serving.understanding.stock import Stock

__all__ = ["Plan", "Shop"]

READ_TURNS = 12
"""Between 12 and 23 of the shopper's last messages are read."""
_REMEMBERED = 4096
_OF_NO_PRODUCT = "something pleasant for a journey by night"
_FIRST_QUESTIONS = (
    "Tell me about {}.",
    "What is similar to {}?",
    "What goes with {}?",
    _OF_NO_PRODUCT,
)


class Shop:
    """One version of the catalog index, as conversations are understood by it. Never changes."""

    def __init__(self, index: CatalogIndex, version: str) -> None:
        self.version = version
        self.index = index
        self._stock = Stock(index)
        self._states: OrderedDict[bytes, State] = OrderedDict()
        self._lock = Lock()

    def plan(self, messages: Sequence[Mapping[str, str]]) -> Plan:
        """How the last message is to be answered; never raises because of what messages say.

        Args:
            messages: a conversation with roles "user" and "assistant", the last one the user's.
                Only the user's are read.

        Raises:
            ValueError: no message is the user's.
        """
        asked = [one["content"] for one in messages if one["role"] == "user"]
        if not asked:
            raise ValueError("a conversation needs a message of the user")
        # Windows begin at multiples of READ_TURNS, so that beginnings come again and are known.
        first = max(0, (len(asked) - READ_TURNS) // READ_TURNS * READ_TURNS)
        window = [text[: 4 * MOST_CHARACTERS] for text in asked[first:]]
        turn = self._turn(self._state(window[:-1]), window[-1])
        self._remember(_key(window), turn.state)
        return turn.plan

    def warm_up(self) -> None:
        """Read what first turns would wait for: the index, words, MiniLM, the language reader."""
        reference = self._stock.reference(self._stock.shelves.ids[0])
        questions = [question.format(reference) for question in _FIRST_QUESTIONS]
        for text in (*questions, *self.opening_suggestions()):
            self.plan([{"role": "user", "content": text}])
        self.index.search(_OF_NO_PRODUCT)
        talk.warm_up()

    def opening_suggestions(self) -> list[str]:
        """What a shopper may ask first."""
        return suggestions_to_click.to_start(self._stock)

    def _state(self, texts: Sequence[str]) -> State:
        """What a conversation has come to after some messages."""
        known, state = 0, State()
        keys = [_key(texts[:count]) for count in range(len(texts) + 1)]
        with self._lock:
            for count in range(len(texts), 0, -1):
                if (found := self._states.get(keys[count])) is not None:
                    known, state = count, found
                    break
        for count in range(known, len(texts)):
            state = self._turn(state, texts[count]).state
            self._remember(keys[count + 1], state)
        return state

    def _remember(self, key: bytes, state: State) -> None:
        with self._lock:
            self._states[key] = state
            self._states.move_to_end(key)
            while len(self._states) > _REMEMBERED:
                self._states.popitem(last=False)

    def _turn(self, state: State, message: str) -> Turn:
        request = read_request(message, self._stock.vocabulary)
        mentioned = self._stock.index.mentioned(request.text) if request.words else []
        return understood(state, request, mentioned, self._stock)


def _key(texts: Sequence[str]) -> bytes:
    digest = blake2b(digest_size=16)
    for text in texts:
        encoded = text.encode("utf-8", "replace")
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest.digest()


def understood(
    state: State, request: Request, mentioned: Sequence[Sequence[str]], stock: Stock
) -> Turn:
    """One message, after what the conversation has come to.

    What is named comes first, then what the message points at, then what it searches for; only
    where it says nothing of the catalog does it matter what else it may be.
    """
    if "instructions" in request.acts:
        return talk.declined_turn(state, request, "instructions", stock)
    return (
        _of_named(state, request, mentioned, stock)
        or talk.said_in_passing(state, request, stock)
        or _of_shown(state, request, stock)
        or _of_search(state, request, stock)
        or talk.other_turn(state, request, stock)
    )


def _of_named(
    state: State, request: Request, mentioned: Sequence[Sequence[str]], stock: Stock
) -> Turn | None:
    """A message that names products."""
    groups = [list(ids) for ids in mentioned]
    if not groups and _may_be_misspelt(request, stock):
        near = stock.index.nearly_mentioned(request.text)
        if near:
            ask = product_turns.ask_of_named(request, near[0], state, stock)
            return product_turns.product_turn(state, ask, near[0], stock)
    if not groups:
        return None
    suggesting = {"alternatives", "complements"} & request.acts
    compared = [ids[0] for ids in groups]
    if len(groups) == 1 and "compare" in request.acts:
        others = pointed_at(state, request, stock)
        compared += [others] if others is not None else groups[0][1:]
    if len(set(compared)) > 1 and not suggesting:
        return search_turns.comparison_turn(state, request, compared, stock)
    if {"cheaper", "dearer"} & request.acts:
        turn = search_turns.cheaper_turn(state, request, stock, groups[0][0], named=True)
        if turn is not None:
            return turn
    return product_turns.named_turn(state, request, stock)


def _may_be_misspelt(request: Request, stock: Stock) -> bool:
    """Whether a look for names with typos is worth its time: there is one, and not too much."""
    known = stock.shelves.rows_by_name_word
    return (
        4 <= len(request.words) <= 30
        and (request.corrected or bool(request.unknown))
        and sum(word in known for word in request.words) >= 2
    )


def _of_shown(state: State, request: Request, stock: Stock) -> Turn | None:
    """A message about the products that were shown or spoken of."""
    acts = request.acts
    if "reset" in acts:
        return talk.fresh_start_turn(request, stock)
    if _sets_limit(state, request):
        return search_turns.search_turn(state, request, stock)
    several = pointed_at_several(state, request)
    if several is not None:
        if "which" in acts and request.is_search and "compare" not in acts:
            return search_turns.which_turn(state, request, stock)
        if "compare" in acts or request.asked or not request.is_search:
            return search_turns.comparison_turn(state, request, several, stock)
    one = pointed_at(state, request, stock)
    if one is not None and {"cheaper", "dearer"} & acts:
        return search_turns.cheaper_turn(state, request, stock, one)
    if one is not None and "alternatives" in acts and narrows(request, one, stock):
        like = replace(state, search=search_like(one, stock), subject="search")
        return search_turns.search_turn(like, request, stock)
    if one is not None and not ({"service"} & acts and not request.asked):
        ask = product_turns.ask_of(request, state)
        return product_turns.product_turn(state, ask, one, stock)
    if "more" in acts and not request.is_search:
        return (
            product_turns.more_suggestions_turn(state, request, stock)
            or search_turns.more_turn(state, request, stock)
            or _alternatives_of_focus(state, stock)
        )
    if {"cheaper", "dearer"} & acts and state.shown:
        base = state.focus if state.subject == "product" or state.search is None else None
        return search_turns.cheaper_turn(state, request, stock, base)
    return None


def _sets_limit(state: State, request: Request) -> bool:
    """Whether a message says what may be spent, after products were shown: "600 at most"."""
    limits = request.prices is not None and {"budget", "cheaper", "dearer"} & request.acts
    goes_on = state.search is not None or bool(state.shown)
    return bool(limits) and goes_on and not (request.kinds or request.thing or request.asked)


def _alternatives_of_focus(state: State, stock: Stock) -> Turn | None:
    if state.focus is None:
        return None
    ask = Ask("alternatives")
    return product_turns.product_turn(state, ask, state.focus, stock)


def _of_search(state: State, request: Request, stock: Stock) -> Turn | None:
    """A message that says which products it is about by what they are."""
    acts = request.acts
    if request.code is not None:
        return search_turns.unknown_product_turn(state, request, stock)
    about_one = bool(request.asked or {"overview", "price"} & acts)
    if about_one and request.unknown and request.wishes and "shopping" not in acts:
        # "Tell me about black holes" has a color in it, and is no question about a product.
        if talk.is_of_products(request):
            return search_turns.unknown_product_turn(state, request, stock)
        return talk.declined_turn(state, request, "not_shopping", stock)
    if request.thing and not request.kinds and request.is_search:
        return search_turns.not_carried_turn(state, request, stock)
    # "with fabric nylon" asks for nylon, not for which fabrics there are.
    wished = {wish.dimension for wish in request.wishes}
    if set(request.asked) - wished and not request.unknown and not request.singular:
        turn = search_turns.values_turn(state, request, stock)
        if turn is not None:
            return turn
    ordering = bool({"cheapest", "dearest"} & acts) and not request.unknown
    if request.is_search or ordering:
        return search_turns.search_turn(state, request, stock)
    return None

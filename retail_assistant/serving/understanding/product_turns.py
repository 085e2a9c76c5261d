"""Turns about one product: its attributes, alternatives to it, what goes with it."""

import re
from dataclasses import replace
from typing import Any

from retail_assistant.corpus.phrasing import (
    ALTERNATIVE_QUESTIONS,
    ATTRIBUTE_QUESTIONS,
    AUDIENCE_QUESTIONS,
    COMPLEMENT_QUESTIONS,
    OVERVIEW_QUESTIONS,
    attribute_question,
    product_question,
)
from retail_assistant.corpus.reading.text import normalise
from retail_assistant.corpus.retrieval import SUGGESTIONS, Retrieved, retrieve
from retail_assistant.serving.turns import Intent
from retail_assistant.serving.understanding import answers, suggestions_to_click
from retail_assistant.serving.understanding.acts import only_joins
from retail_assistant.serving.understanding.plan import Ask, Plan, State, Turn
from retail_assistant.serving.understanding.requests import Request
from retail_assistant.serving.understanding.stock import MOST_SUGGESTED, Stock
from retail_assistant.serving.understanding.trade_words import AUDIENCE, BRAND, KIND

_SUGGESTING = {
    "alternatives": (
        ALTERNATIVE_QUESTIONS,
        "Similar to {}:",
        "Nothing in the catalog is an alternative to {}.",
    ),
    "complements": (
        COMPLEMENT_QUESTIONS,
        "Goes with {}:",
        "The catalog has nothing that goes with {}.",
    ),
}
_FEWEST_LETTERS = 5
_LONG = 8
_INTENT: dict[str, Intent] = {
    "overview": "overview",
    "alternatives": "alternatives",
    "complements": "complements",
}
_POINTING = re.compile(
    r"\b(?:(?:this|that|the)\s+(?:first|second|third|fourth|fifth|sixth|last|1st|2nd|3rd)?\s*"
    r"(?:one|product|item|piece|garment)|(?:the\s+)?(?:first|second|third|fourth|last)(?:\s+one)?"
    r"|its|it|this|that)\b",
    re.IGNORECASE,
)


def ask_of(request: Request, state: State) -> Ask:
    """What a message asks about a product; "and the second?" asks what was asked before."""
    acts = request.acts
    dimensions = request.asked or tuple(
        wish.dimension for wish in request.wishes if wish.dimension not in (KIND, AUDIENCE, BRAND)
    )
    if request.size is not None:
        dimensions = (*dimensions, "size")
    if "complements" in acts:
        return Ask("complements")
    if "alternatives" in acts:
        return Ask("alternatives")
    if dimensions:
        return Ask("attribute", tuple(dict.fromkeys(dimensions)), request.text)
    # "Is it under 800?" is told by what it costs.
    if "price" in acts or request.prices is not None:
        return Ask("price")
    bare = not request.unknown and len(request.words) <= 6
    if bare and request.positions and state.ask is not None and not {"overview", "shopping"} & acts:
        return state.ask
    if "overview" in acts or (bare and (request.positions or request.points_at_one)):
        return Ask("overview")
    return Ask("other", message=request.text)


def ask_of_named(request: Request, product_id: str, state: State, stock: Stock) -> Ask:
    """What a message asks about the product it names; values in the name ask for nothing.

    "And of …?" asks what was asked before, of another product.
    """
    acts = request.acts
    if _asks_again(request, product_id, state, stock) and state.ask is not None:
        return replace(state.ask, message=request.text)
    for kind in ("alternatives", "complements"):
        if kind in acts:
            return Ask(kind)  # type: ignore[arg-type]
    if request.asked:
        return Ask("attribute", request.asked[:1], request.text)
    if "price" in acts or request.prices is not None:
        return Ask("price")
    asks = "?" in request.text or {"shopping", "service"} & acts
    return Ask("overview") if "overview" in acts or not asks else Ask("other", message=request.text)


def _asks_again(request: Request, product_id: str, state: State, stock: Stock) -> bool:
    """Whether a message but names a product, where one was asked about before."""
    if state.ask is None or state.ask.kind == "other":
        return False
    name = normalise(stock.reference(product_id)).split()
    rest = [word for word in request.words if not _is_of_name(word, name)]
    return only_joins(rest) and (bool(rest) or "?" in request.text)


def _is_of_name(word: str, name: list[str]) -> bool:
    """Whether a word is one of a name's, with a typo or two in a long one."""
    from rapidfuzz.distance import OSA

    if word in name or len(word) < _FEWEST_LETTERS:
        return word in name
    return any(OSA.distance(word, one) <= 1 + (len(word) >= _LONG) for one in name)


def product_turn(state: State, ask: Ask, product_id: str, stock: Stock) -> Turn:
    """A turn about a product that the conversation points at."""
    row = stock.products([product_id])[0]
    told = _told_by_record(ask, row, stock)
    kept = state.shown if product_id in state.shown else (product_id,)
    after = State(state.search, kept, product_id, ask, "product")
    if told is not None:
        suggestions = suggestions_to_click.after_product(
            row, ask.dimensions, stock, price_told=ask.kind == "price"
        )
        plan = Plan("question", ask.message or told, [], True, [row], suggestions, told)
        return Turn(plan, after)
    question = _standalone(ask, row, stock)
    found = retrieve([question], stock)[0]
    if not found.named or found.records[0]["product_id"] != product_id:
        # A name that reads like another product's code: the record is known all the same.
        found = Retrieved([row], named=True)
    return _asked(question, ask, found, after, stock)


def named_turn(state: State, request: Request, stock: Stock) -> Turn:
    """A turn whose message names its product itself: asked as it stands, if that says what."""
    found = retrieve([request.text], stock)[0]
    focus = found.records[0]["product_id"]
    ask = ask_of_named(request, focus, state, stock)
    # What is named anew has nothing to do with what was looked for before.
    search = state.search if focus in state.shown else None
    told = _told_by_record(ask, found.records[0], stock) is not None
    if told or _asks_again(request, focus, state, stock):
        return product_turn(replace(state, search=search), ask, focus, stock)
    after = State(search, (focus,), focus, ask, "product")
    question = request.text
    just_a_name = ask.kind == "overview" and "overview" not in request.acts
    if just_a_name or ask.kind in _SUGGESTING:
        question = _standalone(ask, found.records[0], stock)
        found = retrieve([question], stock)[0]
    return _asked(question, ask, found, after, stock)


def _asked(question: str, ask: Ask, found: Retrieved, after: State, stock: Stock) -> Turn:
    """The turn of a question that the model answers from its records."""
    records = found.records
    suggested = [row for row in records if row.get("match") in ("alternative", "complement")]
    if ask.kind in _SUGGESTING or suggested:
        return _suggesting(question, ask, found, after, stock)
    suggestions = suggestions_to_click.after_product(records[0], ask.dimensions, stock)
    intent = _INTENT.get(ask.kind, "question")
    return Turn(Plan(intent, question, records, found.named, list(records), suggestions), after)


def _suggesting(question: str, ask: Ask, found: Retrieved, after: State, stock: Stock) -> Turn:
    first, *suggested = found.records
    matches = {row.get("match") for row in suggested}
    kind = "complements" if "complement" in matches else ask.kind
    kind = "alternatives" if "alternative" in matches or kind not in _SUGGESTING else kind
    product_id = first["product_id"]
    if not matches & {"alternative", "complement"}:
        text = _SUGGESTING[kind][2].format(stock.reference(product_id))
        suggestions = suggestions_to_click.after_product(first, (), stock)
        plan = Plan(
            _INTENT[kind], question, found.records[:1], True, [], suggestions, text, "unknown"
        )
        return Turn(plan, after)
    more = len(_suggestions(kind, product_id, stock)) > len(suggested)
    suggestions = suggestions_to_click.after_several(len(suggested), more=more)
    shown = tuple(row["product_id"] for row in suggested)
    # In code: the index's suggestions are right, and a model can only repeat them.
    text = answers.listed(
        _SUGGESTING[kind][1].format(stock.reference(product_id)), suggested, stock
    )
    plan = Plan(_INTENT[kind], question, [], True, suggested, suggestions, text)
    state = State(
        after.search,
        shown,
        product_id,
        Ask(kind),
        "suggestions",
        SUGGESTIONS,  # type: ignore[arg-type]
    )
    return Turn(plan, state)


def _suggestions(kind: str, product_id: str, stock: Stock) -> list[dict[str, Any]]:
    """All alternatives or complements that are shown of a product, page by page."""
    of_kind = stock.alternatives if kind == "alternatives" else stock.complements
    return of_kind(product_id, MOST_SUGGESTED)


def more_suggestions_turn(state: State, request: Request, stock: Stock) -> Turn | None:
    """The next alternatives or complements of a product; None where none were shown."""
    if state.subject != "suggestions" or state.focus is None or state.ask is None:
        return None
    kind = state.ask.kind
    everything = _suggestions(kind, state.focus, stock)
    rows = everything[state.suggested : state.suggested + SUGGESTIONS]
    ids = [row["product_id"] for row in rows]
    reference = stock.reference(state.focus)
    suggested = state.suggested + len(ids)
    if not rows:
        suggestions = suggestions_to_click.to_start(stock)
        text = f"That is all that the catalog has there for {reference}."
        return Turn(Plan(_INTENT[kind], request.text, suggestions=suggestions, text=text), state)
    text = answers.listed(_SUGGESTING[kind][1].format(reference), rows, stock)
    more = len(everything) > suggested
    suggestions = suggestions_to_click.after_several(len(rows), more=more)
    after = State(state.search, tuple(ids), state.focus, state.ask, "suggestions", suggested)
    return Turn(Plan(_INTENT[kind], request.text, [], True, rows, suggestions, text), after)


def _told_by_record(ask: Ask, row: dict[str, Any], stock: Stock) -> str | None:
    """What code answers better than a model: prices, brands, several attributes at once."""
    if ask.kind == "price":
        return answers.price_answer(row, stock)
    if ask.dimensions == (BRAND,):
        return answers.brand_answer(row, stock)
    if len(ask.dimensions) > 1:
        return answers.attributes_answer(row, ask.dimensions, stock)
    return None


def _standalone(ask: Ask, row: dict[str, Any], stock: Stock) -> str:
    """The question with the product's name in it, in a phrasing that the model was trained on."""
    reference = stock.reference(row["product_id"])
    if ask.kind == "attribute":
        dimension = ask.dimensions[0]
        if dimension == AUDIENCE:
            return attribute_question(AUDIENCE_QUESTIONS[0], "ideal for", reference)
        known = answers.values_by_dimension(row).get(dimension)
        attribute = known[0] if known is not None else dimension
        return attribute_question(ATTRIBUTE_QUESTIONS[0], attribute, reference)
    if ask.kind in _SUGGESTING:
        return product_question(_SUGGESTING[ask.kind][0][0], reference)
    if ask.kind == "overview":
        return product_question(OVERVIEW_QUESTIONS[0], reference)
    return _resolved(ask.message, reference)


def _resolved(message: str, reference: str) -> str:
    """A message with the product's name where it points at it; else with the name before it."""
    match = _POINTING.search(message)
    if match is None:
        return f"For {reference}: {message}"
    name = f"{reference}'s" if match[0].lower() == "its" else reference
    resolved = message[: match.start()] + name + message[match.end() :]
    return resolved[:1].upper() + resolved[1:] if match.start() else resolved

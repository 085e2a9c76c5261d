"""Turns that are about no product: greetings, the shop itself, other things, other languages."""

from typing import Literal

from retail_assistant.serving.turns import Declined, Intent
from retail_assistant.serving.understanding import answers, search_turns, suggestions_to_click
from retail_assistant.serving.understanding.plan import Plan, State, Turn
from retail_assistant.serving.understanding.requests import Request
from retail_assistant.serving.understanding.stock import Stock
from retail_assistant.serving.understanding.trade_words import AUDIENCE, BRAND, KIND
from retail_assistant.serving.understanding.utterances import (
    foreign_language,
    is_small_word,
    read_utterance,
)

_UNLIKE_ANYTHING = 0.3
_SURELY_UNLIKE_SHOPPING = 0.55
_SHORT = 8

Passing = Literal["greeting", "thanks", "goodbye", "capability", "yes_or_no"]

_SMALL_TALK: dict[str, str] = {
    "thanks": answers.THANKS,
    "goodbye": answers.GOODBYE,
    "greeting": answers.GREETING,
    "yes_or_no": answers.AGREED,
    "capability": answers.CAPABILITY,
}
_DECLINED: dict[str, tuple[Intent, str, Declined]] = {
    "instructions": ("not_shopping", answers.INSTRUCTIONS, "not_shopping"),
    "not_shopping": ("not_shopping", answers.NOT_SHOPPING, "not_shopping"),
    "other_language": ("other_language", answers.OTHER_LANGUAGE, "other_language"),
    "service": ("question", answers.SERVICE, "unknown"),
    "unclear": ("not_shopping", answers.UNCLEAR, "unclear"),
    "which_one": ("question", answers.WHICH_ONE, "unclear"),
}


def warm_up() -> None:
    """Load what reads messages that say nothing of the catalog."""
    read_utterance("hello there")
    foreign_language("dies ist ein Satz")


def declined_turn(state: State, request: Request, why: str, stock: Stock) -> Turn:
    """A turn that has no answer here, told in a friendly way; the conversation stays as it was."""
    intent, text, declined = _DECLINED[why]
    suggestions = suggestions_to_click.to_start(stock)
    plan = Plan(intent, request.text, suggestions=suggestions, text=text, declined=declined)
    return Turn(plan, state)


def small_talk_turn(state: State, request: Request, kind: str, stock: Stock) -> Turn:
    """A greeting and the like."""
    suggestions = suggestions_to_click.to_start(stock)
    plan = Plan("small_talk", request.text, suggestions=suggestions, text=_SMALL_TALK[kind])
    return Turn(plan, state)


def fresh_start_turn(request: Request, stock: Stock) -> Turn:
    """The shopper starts over; unless the same message says what with."""
    if request.is_search:
        return search_turns.search_turn(State(), request, stock)
    suggestions = suggestions_to_click.to_start(stock)
    plan = Plan("small_talk", request.text, suggestions=suggestions, text=answers.START_OVER)
    return Turn(plan, State())


def said_in_passing(state: State, request: Request, stock: Stock) -> Turn | None:
    """Thanks, goodbyes and greetings that say nothing else."""
    if request.is_search or request.unknown or request.asked or len(request.words) > _SHORT:
        return None
    if {"shopping", "more", "compare", "alternatives", "complements", "overview"} & request.acts:
        return None
    for kind in ("thanks", "goodbye", "greeting", "yes_or_no"):
        if kind in request.acts:
            return small_talk_turn(state, request, kind, stock)
    return None


def other_turn(state: State, request: Request, stock: Stock) -> Turn:
    """A message that says nothing of the catalog: what is it, then?"""
    acts = request.acts
    if "browsing" in acts:
        return search_turns.shop_turn(state, request, stock)
    if "service" in acts and not request.thing:
        return declined_turn(state, request, "service", stock)
    if _points_at_nothing(request):
        return declined_turn(state, request, "which_one", stock)
    if not any(character.isalpha() for character in request.text):
        return declined_turn(state, request, "unclear", stock)
    if _is_foreign(request):
        return declined_turn(state, request, "other_language", stock)
    return _like_examples(state, request, stock)


def is_of_products(request: Request) -> bool:
    """Whether a message with words of the catalog in it is about products at all."""
    if any(wish.dimension in (KIND, AUDIENCE, BRAND) for wish in request.wishes):
        return True
    return read_utterance(request.text).kind != "not_shopping"


def _points_at_nothing(request: Request) -> bool:
    """Whether a message is about "it" or "the second one" where nothing was spoken of."""
    acts = request.acts
    asks = bool(request.asked or {"price", "compare", "alternatives", "complements"} & acts)
    pointing = request.singular or request.plural or bool(request.positions)
    return not request.unknown and (asks or (pointing and len(request.words) < _SHORT))


def _is_foreign(request: Request) -> bool:
    """Sure to be another language: hardly a small English word in it, and it reads like one."""
    small = sum(is_small_word(word) for word in request.words)
    return small * 3 <= len(request.words) and foreign_language(request.text) is not None


def _like_examples(state: State, request: Request, stock: Stock) -> Turn:
    kind, similarity = read_utterance(request.text)
    if similarity < _UNLIKE_ANYTHING:
        wants_thing = "shopping" in request.acts and request.thing
        if wants_thing:
            return search_turns.not_carried_turn(state, request, stock)
        return declined_turn(state, request, "unclear", stock)
    if kind in _DECLINED:
        return declined_turn(state, request, kind, stock)
    if kind in _SMALL_TALK:
        return small_talk_turn(state, request, kind, stock)
    if kind == "browsing":
        return search_turns.shop_turn(state, request, stock)
    if kind == "goods" and request.thing:
        return search_turns.not_carried_turn(state, request, stock)
    if "overview" in request.acts and request.unknown:
        return search_turns.unknown_product_turn(state, request, stock)
    return search_turns.nearest_turn(state, request, stock)

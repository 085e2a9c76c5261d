"""What is done about a turn, and what a conversation has come to so far."""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from retail_assistant.serving.turns import Declined, Intent
from retail_assistant.serving.understanding.price_wishes import PriceRange
from retail_assistant.serving.understanding.requests import Wish

Order = Literal["any", "cheapest", "dearest"]
Subject = Literal["nothing", "search", "product", "suggestions", "comparison"]


@dataclass(frozen=True)
class Plan:
    """How a turn is answered.

    question: standalone, what the model is asked. records: PRODUCTS rows for the prompt, for
    `render_prompt(question, records, named=named)`. products: PRODUCTS rows to show as cards, in
    order. suggestions: short things to ask next. text: the whole answer, made in code from the
    catalog; None where the model writes it.
    """

    intent: Intent
    question: str
    records: list[dict[str, Any]] = field(default_factory=list)
    named: bool = True
    products: list[dict[str, Any]] = field(default_factory=list)
    suggestions: list[str] = field(default_factory=list)
    text: str | None = None
    declined: Declined | None = None


@dataclass(frozen=True)
class Search:
    """The conditions that products are looked for by."""

    wishes: tuple[Wish, ...] = ()
    prices: PriceRange | None = None
    size: str | None = None
    order: Order = "any"
    offset: int = 0


@dataclass(frozen=True)
class Ask:
    """What was asked about a product, so that "and the second?" can ask it again."""

    kind: Literal["attribute", "overview", "price", "alternatives", "complements", "other"]
    dimensions: tuple[str, ...] = ()
    message: str = ""


@dataclass(frozen=True)
class State:
    """What a conversation has come to: rebuilt from the shopper's messages, never stored.

    search: the active search. shown: ids of the products shown last, in order. focus: the product
    spoken of last. subject: what the last turn was about. suggested: how many alternatives or
    complements of the focus were shown.
    """

    search: Search | None = None
    shown: tuple[str, ...] = ()
    focus: str | None = None
    ask: Ask | None = None
    subject: Subject = "nothing"
    suggested: int = 0


class Turn(NamedTuple):
    """One turn understood: its plan, and what the conversation has come to after it."""

    plan: Plan
    state: State

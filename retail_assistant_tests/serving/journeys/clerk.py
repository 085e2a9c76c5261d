"""An honest answering, and dishonest ones: a clerk who was told what each turn is about.

The clerk understands nothing: it looks up, by the shopper's words, which turn of which journey this
is, and writes from the records what an honest shop would say. So it shows that a journey can be
passed, and each of its faults shows which checks see it.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from retail_assistant.corpus.phrasing import (
    attribute_answer,
    attribute_answers,
    overview_answer,
    unknown_attribute_answer,
)
from retail_assistant.corpus.rendering import PROMPT_VERSION, Message, item_code
from retail_assistant.corpus.rendering import rendered_attributes as attributes_of
from retail_assistant.evaluation.outcomes import is_alternative, is_complement
from retail_assistant.serving.journeys.casting import Cast, Skipped, cast
from retail_assistant.serving.journeys.checks import NothingShown, Scene
from retail_assistant.serving.journeys.runner import Spoken, shopper_text
from retail_assistant.serving.journeys.scenario import Suite
from retail_assistant.serving.journeys.stock import Stock
from retail_assistant.serving.turns import ProductCard, TurnResult, Versions

MOST_CARDS = 3
VERSIONS = Versions(index="test", prompt=PROMPT_VERSION)
NOTHING = TurnResult(
    answer_id="1", intent="question", written_by="catalog", declined="unknown", versions=VERSIONS
)


@dataclass
class Said:
    """What an answering is about to say."""

    text: str
    result: TurnResult


Fault = Callable[[Scene, Said], Said]
"""What a dishonest answering makes of an honest answer."""


def honest(_scene: Scene, said: Said) -> Said:
    return said


@dataclass
class Clerk:
    """Answers the turns of a suite on a stock; `fault` spoils what it says."""

    suite: Suite
    stock: Stock
    seed: int
    fault: Fault = honest
    _casts: dict[str, Cast | Skipped] = field(default_factory=dict)
    _told: dict[tuple[str, ...], tuple[Spoken, ...]] = field(default_factory=dict)

    async def turn(
        self, messages: Sequence[Message], max_tokens: int
    ) -> AsyncIterator[str | TurnResult]:
        asked = tuple(one["content"] for one in messages if one["role"] == "user")
        scene = self._scene(asked)
        try:
            said = answer(scene)
        except NothingShown:  # a fault of the turn before
            said = Said("The catalog does not say.", NOTHING)
        said = self.fault(scene, said)
        spoken = Spoken(asked[-1], said.text, said.result, 0.0, 0.0)
        self._told[asked] = (*scene.earlier, spoken)
        middle = len(said.text) // 2
        for piece in (said.text[:middle], said.text[middle:]):
            yield piece
        yield said.result

    def _scene(self, asked: tuple[str, ...]) -> Scene:
        for _, journey in self.suite.journeys:
            if journey.id not in self._casts:
                self._casts[journey.id] = cast(journey, self.stock, self.seed)
            drawn = self._casts[journey.id]
            if isinstance(drawn, Skipped):
                continue
            texts = tuple(shopper_text(turn, drawn) for turn in journey.turns)
            if texts[: len(asked)] == asked:
                turn = journey.turns[len(asked) - 1]
                nothing = Spoken(asked[-1], "", None, 0.0, 0.0)
                return Scene(self.stock, drawn, turn, nothing, self._told.get(asked[:-1], ()))
        raise LookupError(asked)


def answer(scene: Scene) -> Said:
    """What an honest shop would say."""
    expect, stock = scene.expect, scene.stock
    lines: list[str] = []
    if expect.says_no:
        lines.append("Sorry, we do not carry that.")
    if expect.does_not_know:
        lines.append("The catalog does not say that.")
    if expect.states is not None:
        lines.append(value_line(scene, scene.product(expect.states)))
    lines += [value_line(scene, scene.product(role)) for role in expect.compares]
    if expect.overview is not None:
        record = stock.records[scene.product(expect.overview)]
        lines.append(overview_answer(record["name"], record["subcategory"], attributes_of(record)))
    priced = {scene.product(role) for role in expect.states_price}
    lines += [price_line(stock, product_id) for product_id in sorted(priced)]
    shown = cards(scene)
    lines += [f"- {card.name} (item {card.item}): {priced_at(card.price)}" for card in shown]
    roles = [*expect.cites, *expect.names, *filter(None, [expect.states, expect.overview])]
    cited = {scene.product(role) for role in roles} | priced
    result = TurnResult(
        answer_id="1",
        intent=(expect.intent or ["question"])[0],
        written_by="catalog",
        declined=declined(scene),
        citations=sorted(cited),
        products=shown,
        versions=VERSIONS,
    )
    return Said("\n".join(lines) or "How can I help you?", result)


def declined(scene: Scene):  # type: ignore[no-untyped-def]
    if scene.expect.declined:
        return scene.expect.declined[0]
    if scene.expect.does_not_know:
        return "unknown"
    return "not_carried" if scene.expect.says_no else None


def value_line(scene: Scene, product_id: str) -> str:
    stock, name = scene.stock, scene.stock.records[product_id]["name"]
    attribute = next(one for one in scene.cast.attributes.values() if one)
    values = stock.values(product_id, attribute)
    if not values:
        return unknown_attribute_answer(attribute, name)
    return attribute_answer(attribute_answers(attribute)[0], attribute, name, ", ".join(values))


def price_line(stock: Stock, product_id: str) -> str:
    price = stock.price(product_id)
    if price is None:
        return "The catalog does not say what it costs."
    return f"{stock.records[product_id]['name']} costs {price:g}."


def priced_at(price: float | None) -> str:
    return "price not given" if price is None else f"{price:g}"


def cards(scene: Scene) -> list[ProductCard]:
    rule, stock = scene.expect.cards, scene.stock
    if rule is None or rule.at_most == 0:
        return []
    ids = list(stock.records)
    if rule.fit is not None:
        ids = stock.fitting(scene.wish(rule.fit))
    facts = stock.facts.products
    for asked, fits in (
        (rule.alternatives_to, is_alternative),
        (rule.complements_to, is_complement),
    ):
        if asked is not None:
            own = facts[scene.product(asked)]
            ids = [one for one in ids if one != own.product_id and fits(own, facts[one])]
    if rule.cheaper_than is not None:
        limit = stock.price(scene.product(rule.cheaper_than)) or 0.0
        ids = [one for one in ids if (stock.price(one) or limit) < limit]
    seen = scene.shown_before() if rule.new else frozenset()
    ids = sorted((one for one in ids if one not in seen), key=lambda one: stock.price(one) or 0.0)
    return [card_of(stock, one) for one in ids[:MOST_CARDS]]


def card_of(stock: Stock, product_id: str) -> ProductCard:
    record = stock.records[product_id]
    return ProductCard(
        product_id=product_id,
        item=item_code(product_id),
        name=record["name"],
        brand=record["brand"],
        price=stock.price(product_id),
        list_price=record["retail_price"],
    )

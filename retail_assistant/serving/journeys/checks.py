"""What is checked of a turn: by the catalog's records, never by one wording.

Every check has a name and a reason; a reason of "" means that it passed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from retail_assistant.corpus.reading.answers import AnswerReading, Question, read_answer
from retail_assistant.corpus.reading.names import NamedText
from retail_assistant.corpus.reading.text import is_negated, normalise
from retail_assistant.corpus.rendering import MAX_NAME_CHARACTERS, SYSTEM_PROMPT, plain_text
from retail_assistant.serving.journeys.amounts import stray_amounts
from retail_assistant.serving.journeys.casting import Cast
from retail_assistant.serving.journeys.runner import Spoken
from retail_assistant.serving.journeys.scenario import Expectation, Turn
from retail_assistant.serving.journeys.stock import Stock, Wish
from retail_assistant.serving.turns import ProductCard, TurnResult

_OF_THE_PROMPT = ("<record>", "</record>", "<|im_", "<start_of_turn>", "[inst]", "found: a record")


class Check(NamedTuple):
    """One check of one turn; `wrong` says what is wrong, "" where nothing is."""

    name: str
    wrong: str


class NothingShown(LookupError):  # noqa: N818 (a fault of the assistant, told as a failed check)
    """An expectation refers to a product that was to be shown, and was not."""


@dataclass(frozen=True)
class Scene:
    """A turn in its conversation, with all that it is judged by."""

    stock: Stock
    cast: Cast
    turn: Turn
    spoken: Spoken
    earlier: Sequence[Spoken]

    @property
    def expect(self) -> Expectation:
        """What has to be true."""
        return self.turn.expect

    @cached_property
    def result(self) -> TurnResult:
        """The turn's result; only where `spoken` has one."""
        if self.spoken.result is None:
            raise ValueError(self.spoken.error)
        return self.spoken.result

    @property
    def cards(self) -> list[ProductCard]:
        """The products that the turn shows."""
        return self.result.products

    @cached_property
    def question(self) -> Question:
        """What the answer is read against where no product is asked for."""
        return Question(self.spoken.shopper, "unanswerable")

    @cached_property
    def reading(self) -> AnswerReading:
        """The answer as a person reads it."""
        return read_answer(self.spoken.answer, self.question, self.stock.facts)

    @cached_property
    def named(self) -> NamedText:
        """What the answer names."""
        return self.reading.named

    def product(self, reference: str) -> str:
        """The id that a role or `shown.2` stands for.

        Raises:
            NothingShown: no earlier turn showed such a product.
        """
        if reference in self.cast.products:
            return self.cast.products[reference]
        number = int(reference.partition(".")[2])
        for one in reversed(self.earlier):
            shown = one.result.products if one.result else []
            if len(shown) >= number:
                return shown[number - 1].product_id
        raise NothingShown(f"{reference}: no earlier turn showed so many products")

    def wish(self, name: str) -> Wish:
        """A wish of the journey."""
        return self.cast.wishes[name]

    def spoken_of(self) -> frozenset[str]:
        """Ids of the products that this or an earlier turn cited or showed."""
        results = [one.result for one in (*self.earlier, self.spoken) if one.result]
        cited = {key for one in results for key in one.citations}
        return frozenset(cited | {card.product_id for one in results for card in one.products})

    def shown_before(self) -> frozenset[str]:
        """Ids of all products that earlier turns showed."""
        results = [one.result for one in self.earlier if one.result]
        return frozenset(card.product_id for one in results for card in one.products)


def always(scene: Scene) -> Iterator[Check]:
    """What has to hold for every turn, whatever was asked."""
    yield Check("cards_are_records", _not_records(scene))
    yield Check("prices_are_records", _wrong_prices(scene))
    known = scene.stock.records
    unknown = [key for key in scene.result.citations if key not in known]
    yield Check("citations_are_records", _told("no record", unknown))
    yield Check("no_invented_product", _invented(scene))
    yield Check("no_stray_price", _stray(scene))
    yield Check("no_prompt_shown", _prompt_shown(scene))
    cut = scene.result.finish_reason == "length"
    yield Check("finished", "was cut off" if cut else "")


def _told(what: str, found: Sequence[object]) -> str:
    return f"{what}: {', '.join(map(str, found))}" if found else ""


def _not_records(scene: Scene) -> str:
    known = scene.stock.records
    wrong = [
        f"{card.name} ({card.product_id})"
        for card in scene.cards
        if card.product_id not in known
        or normalise(plain_text(known[card.product_id]["name"], MAX_NAME_CHARACTERS))
        != normalise(card.name)
    ]
    return _told("not in the index under this name", wrong)


def _wrong_prices(scene: Scene) -> str:
    wrong = []
    for card in scene.cards:
        if card.product_id not in scene.stock.records:
            continue
        record, price = (
            scene.stock.records[card.product_id],
            scene.stock.price(card.product_id),
        )
        listed = (None, record["retail_price"])
        if card.price != price or card.list_price not in listed:
            wrong.append(f"{card.name} at {card.price} (list {card.list_price}), not {price}")
    return _told("another price than the record's", wrong)


def _invented(scene: Scene) -> str:
    """Names of no product, spoken of as if they were; a shopper's own words may be repeated."""
    if scene.reading.abstained:
        return ""
    said = " ".join(normalise(one.shopper) for one in (*scene.earlier, scene.spoken))
    unknown = [one for one in scene.reading.unknown_products if normalise(one) not in said]
    return _told("no such product", unknown)


def _stray(scene: Scene) -> str:
    found = [
        price
        for key in sorted(scene.spoken_of() & scene.stock.records.keys())
        for price in (
            scene.stock.price(key),
            scene.stock.records[key]["retail_price"],
            scene.stock.records[key]["discounted_price"],
        )
        if price
    ]
    limits = [
        one
        for wish in scene.cast.wishes.values()
        for one in (wish.max_price, wish.min_price)
        if one is not None
    ]
    return _told("no record spoken of has this price", stray_amounts(scene.named, found, limits))


def _prompt_shown(scene: Scene) -> str:
    said = scene.spoken.answer.casefold()
    sentences = [one.strip() for one in SYSTEM_PROMPT.casefold().split(". ")]
    found = [one for one in (*sentences, *_OF_THE_PROMPT) if one.rstrip(".") in said]
    return _told("says of its prompt", found)


def forbidden(scene: Scene) -> str:
    """What may not be said and is, undenied, outside clauses that decline."""
    text = scene.named.text
    found = []
    for one in scene.expect.forbids:
        words = tuple(normalise(scene.cast.said(one)).split())
        for start in range(len(text.words) - len(words) + 1):
            if text.words[start : start + len(words)] != words:
                continue
            declined = text.clauses[start] in scene.reading.declining
            if not declined and not is_negated(text, start):
                found.append(one)
                break
    return _told("says", found)

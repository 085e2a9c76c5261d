"""What is checked of the products that a turn shows."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from retail_assistant.evaluation.outcomes import is_alternative, is_complement
from retail_assistant.serving.journeys.checks import Check, Scene
from retail_assistant.serving.journeys.scenario import CardsRule


def of_cards(scene: Scene, rule: CardsRule) -> Iterator[Check]:
    """The checks that a rule asks for.

    Raises:
        NothingShown: the rule refers to a product that was not shown.
    """
    ids = [card.product_id for card in scene.cards]
    count = len(ids)
    few, many = count < rule.at_least, rule.at_most is not None and count > rule.at_most
    yield Check("cards_count", f"{count} shown" if few or many else "")
    known = [key for key in ids if key in scene.stock.records]
    if rule.fit is not None:
        yield Check("cards_fit", _unfit(scene, known, rule.fit))
    if rule.cheapest and rule.fit is not None:
        yield Check("cheapest", _not_cheapest(scene, known, rule.fit))
    if rule.sorted_by_price:
        prices = [scene.stock.price(key) or 0.0 for key in known]
        unsorted = any(a > b for a, b in pairwise(prices))
        yield Check("sorted_by_price", f"in the order {prices}" if unsorted else "")
    if rule.new:
        again = [_name(scene, key) for key in known if key in scene.shown_before()]
        twice = [_name(scene, key) for key in dict.fromkeys(ids) if ids.count(key) > 1]
        yield Check("not_repeated", ", ".join([*again, *twice]))
    for role in rule.include:
        absent = scene.product(role) not in ids
        yield Check("cards_include", _name(scene, scene.product(role)) if absent else "")
    for role in rule.exclude:
        there = scene.product(role) in ids
        yield Check("cards_exclude", _name(scene, scene.product(role)) if there else "")
    if rule.cheaper_than is not None:
        yield Check("cheaper", _not_cheaper(scene, known, scene.product(rule.cheaper_than)))
    if rule.alternatives_to is not None:
        yield from _suggested(scene, known, scene.product(rule.alternatives_to), instead=True)
    if rule.complements_to is not None:
        yield from _suggested(scene, known, scene.product(rule.complements_to), instead=False)


def _name(scene: Scene, product_id: str) -> str:
    record = scene.stock.records.get(product_id)
    return f"{record['name']} ({product_id[:8]})" if record else product_id


def _unfit(scene: Scene, ids: Sequence[str], wish: str) -> str:
    wrong = {key: scene.stock.has(key, scene.wish(wish)) for key in ids}
    return "; ".join(f"{_name(scene, key)} {', '.join(why)}" for key, why in wrong.items() if why)


def _not_cheapest(scene: Scene, ids: Sequence[str], wish: str) -> str:
    """People differ on whether a T-shirt is a shirt: the cheapest in either sense will do."""
    stock = scene.stock
    least = [
        min((price for key in found if (price := stock.price(key))), default=None)
        for found in (
            stock.fitting(scene.wish(wish)),
            stock.fitting(scene.wish(wish), by_name=True),
        )
    ]
    first = stock.price(ids[0]) if ids else None
    return "" if first in least else f"the first costs {first}; the cheapest costs {least[0]}"


def _not_cheaper(scene: Scene, ids: Sequence[str], than: str) -> str:
    limit = scene.stock.price(than) or 0.0
    wrong = [key for key in ids if (scene.stock.price(key) or limit) >= limit]
    return ", ".join(f"{_name(scene, key)} at {scene.stock.price(key)}" for key in wrong)


def _suggested(scene: Scene, ids: Sequence[str], asked: str, *, instead: bool) -> Iterator[Check]:
    """Suggestions are valid and the text speaks of one; the asked product may stand beside them."""
    facts = scene.stock.facts.products
    fits = is_alternative if instead else is_complement
    others = [key for key in ids if key != asked]
    wrong = [_name(scene, key) for key in others if not fits(facts[asked], facts[key])]
    name = "alternatives_valid" if instead else "complements_valid"
    yield Check(name, ", ".join(wrong) if others else "none was suggested")
    named = {key for one in scene.named.products for key in one.product_ids}
    if others:
        yield Check("suggestion_told", "" if named & set(others) else "the text names none")

"""Which products of a catalog play a journey's roles: drawn by hash among those that fit."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from retail_assistant.corpus.draws import hash_order
from retail_assistant.corpus.inventions import invented_names
from retail_assistant.corpus.phrasing import attribute_wording
from retail_assistant.corpus.reading.text import normalise
from retail_assistant.corpus.rendering import item_code, plain_text, rendered_attributes
from retail_assistant.evaluation.outcomes import is_alternative, is_complement
from retail_assistant.serving.journeys.scenario import (
    InventionRule,
    Journey,
    ProductRule,
    WishRule,
)
from retail_assistant.serving.journeys.stock import Stock, Wish, plural, wish_of

MOST_TRIES = 20_000
_UNASKED = frozenset({"brand", "style code"})
_COLOURS = ("magenta", "lilac", "crimson", "khaki", "bronze", "copper", "fuchsia", "chartreuse")


@dataclass(frozen=True)
class Cast:
    """Who plays: ids and asked attributes of the products, wishes, and what texts say of each."""

    products: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)
    wishes: Mapping[str, Wish] = field(default_factory=dict)
    terms: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def said(self, text: str) -> str:
        """A text with its references filled in."""
        return text.format_map({role: _Terms(terms) for role, terms in self.terms.items()})


class _Terms:
    def __init__(self, terms: Mapping[str, str]) -> None:
        self.__dict__.update(terms)


@dataclass(frozen=True)
class Skipped:
    """A catalog that a journey cannot be played on, and why."""

    reason: str


class _Tries:
    """How many products may still be tried, and the role that the search got to."""

    def __init__(self) -> None:
        self.left = MOST_TRIES
        self.deepest = ("", 0)
        self.orders: dict[str, list[str]] = {}


def cast(journey: Journey, stock: Stock, seed: int) -> Cast | Skipped:
    """Draw the products of a journey: the same for the same journey, catalog and seed."""
    tries = _Tries()
    found = _cast(journey, stock, seed, list(journey.products), Cast(), tries)
    if found is not None:
        return found
    if tries.left <= 0:
        return Skipped(f"none among the first {MOST_TRIES} products tried fits")
    role = tries.deepest[0] or next(iter(journey.products), "")
    return Skipped(f"no product of this catalog fits as {role}, or its wishes")


def _cast(
    journey: Journey, stock: Stock, seed: int, roles: list[str], cast_: Cast, tries: _Tries
) -> Cast | None:
    """The first cast that fits, by depth-first search in hash order."""
    if not roles:
        return _with_terms(journey, stock, seed, cast_)
    role, *rest = roles
    if len(cast_.products) >= tries.deepest[1]:
        tries.deepest = (role, len(cast_.products))
    rule = journey.products[role]
    if role not in tries.orders:
        drawn = hash_order(stock.records, str, "journey", seed, journey.id, role)
        tries.orders[role] = drawn
    for product_id in tries.orders[role]:
        tries.left -= 1
        if tries.left <= 0:
            return None
        attribute = _fits(stock, rule, product_id, cast_)
        if attribute is None:
            continue
        wider = replace(
            cast_,
            products={**cast_.products, role: product_id},
            attributes={**cast_.attributes, role: attribute},
        )
        found = _cast(journey, stock, seed, rest, wider, tries)
        if found is not None:
            return found
    return None


def _fits(stock: Stock, rule: ProductRule, product_id: str, cast_: Cast) -> str | None:
    """The asked attribute ("" where none is asked) of a product that may play; None: it may not."""
    record = stock.records[product_id]
    name = normalise(record["name"])
    taken = {normalise(stock.records[one]["name"]) for one in cast_.products.values()}
    if name in taken or " " not in name or stock.lookup.reference(product_id) is None:
        return None
    if rule.unique_name is not (stock.name_counts[name] == 1):
        return None
    if not all(_has(stock, product_id, one) for one in rule.has):
        return None
    if not _relates(stock, rule, product_id, cast_):
        return None
    if rule.alternatives and _count(stock, product_id, is_alternative) < rule.alternatives:
        return None
    if rule.complements and _count(stock, product_id, is_complement) < rule.complements:
        return None
    return _asked(stock, rule, product_id, cast_)


def _has(stock: Stock, product_id: str, what: str) -> bool:
    record = stock.records[product_id]
    return bool(
        {
            "price": stock.price(product_id),
            "brand": record["brand"],
            "colour": stock.colours(product_id),
            "audience": stock.audience(product_id),
            "subcategory": record["subcategory"],
            "nouns": stock.nouns[product_id],
        }[what]
    )


def _relates(stock: Stock, rule: ProductRule, product_id: str, cast_: Cast) -> bool:
    record = stock.records[product_id]

    def other(role: str) -> str:
        return cast_.products[role]

    if rule.same_nouns_as and stock.nouns[product_id] != stock.nouns[other(rule.same_nouns_as)]:
        return False
    if rule.same_subcategory_as:
        wanted = stock.records[other(rule.same_subcategory_as)]["subcategory"]
        if record["subcategory"] != wanted:
            return False
    if rule.same_audience_as:
        shared = stock.audience(product_id) & stock.audience(other(rule.same_audience_as))
        if not shared:
            return False
    if rule.cheaper_than:
        price, wanted = stock.price(product_id), stock.price(other(rule.cheaper_than))
        if price is None or wanted is None or price >= wanted:
            return False
    if rule.other_colour_than:
        own, wanted = stock.colours(product_id), stock.colours(other(rule.other_colour_than))
        if not own or set(map(normalise, own)) & set(map(normalise, wanted)):
            return False
    return True


def _count(stock: Stock, product_id: str, fits: Any) -> int:
    facts = stock.facts.products
    asked = facts[product_id]
    return sum(fits(asked, one) for key, one in facts.items() if key != product_id)


def _asked(stock: Stock, rule: ProductRule, product_id: str, cast_: Cast) -> str | None:
    """The attribute that is asked of a product, "" where none is; None where it has no such."""
    record = stock.records[product_id]
    name = f" {normalise(record['name'])} "
    if rule.lacks:
        return _lacking(stock, rule, product_id)
    if not rule.attribute:
        return ""
    own = {normalise(key): key for key, _ in rendered_attributes(record)}
    wanted = [normalise(one) for one in rule.attribute if one != "any"]
    if "any" in rule.attribute:
        wanted += [key for key in own if key not in _UNASKED]
    for attribute in (own[key] for key in wanted if key in own):
        values = stock.values(product_id, attribute)
        if len(values) != 1 or not normalise(values[0]):
            continue
        if any(f" {word} " in name for word in normalise(values[0]).split()):
            continue  # the answer would stand in the question
        if rule.other_value_than and not _differs(stock, product_id, attribute, rule, cast_):
            continue
        return attribute
    return None


def _differs(stock: Stock, product_id: str, attribute: str, rule: ProductRule, cast_: Cast) -> bool:
    """Whether another value stands for the attribute that the other role is asked for."""
    role = rule.other_value_than or ""
    if normalise(attribute) != normalise(cast_.attributes[role]):
        return False
    facts = stock.facts.products
    own = facts[product_id].atoms(attribute)
    return not own & facts[cast_.products[role]].atoms(attribute)


def _lacking(stock: Stock, rule: ProductRule, product_id: str) -> str | None:
    record = stock.records[product_id]
    own = stock.facts.products[product_id].attributes
    counts = stock.lookup.attribute_counts(record["subcategory"])
    common = [key for key, _ in sorted(counts.items(), key=lambda one: (-one[1], one[0]))]
    wanted = common if "any" in rule.lacks else rule.lacks
    text = normalise(f"{record['name']} {record['description'] or ''}")
    for attribute in wanted:
        key = normalise(attribute)
        noun = normalise(attribute_wording(attribute).noun)
        if key in own or key in _UNASKED or any(f" {one} " in f" {text} " for one in (key, noun)):
            continue
        return attribute
    return None


def _with_terms(journey: Journey, stock: Stock, seed: int, cast_: Cast) -> Cast | None:
    terms = {role: _product_terms(stock, cast_, role) for role in journey.products}
    wishes: dict[str, Wish] = {}
    for name, rule in journey.wishes.items():
        wish = _wish(stock, rule, cast_)
        if wish is None:
            return None
        wishes[name] = wish
        terms[name] = _wish_terms(stock, wish)
    for name, invention in journey.inventions.items():
        terms[name] = {"name": _invented(stock, invention, cast_, seed)}
    return replace(cast_, wishes=wishes, terms=terms)


def _product_terms(stock: Stock, cast_: Cast, role: str) -> dict[str, str]:
    product_id, attribute = cast_.products[role], cast_.attributes[role]
    record, price = stock.records[product_id], stock.price(product_id)
    wording = attribute_wording(attribute or "details")
    noun = stock.nouns[product_id] or (record["subcategory"] or record["name"]).lower()
    return {
        "name": stock.lookup.reference(product_id) or record["name"],
        "code": item_code(product_id),
        "price": f"{price:g}" if price else "",
        "brand": record["brand"] or "",
        "colour": " ".join(stock.colours(product_id)[:1]).lower(),
        "audience": " and ".join(sorted(stock.audience(product_id))),
        "subcategory": record["subcategory"] or "",
        "noun": _written(noun),
        "nouns": _written(plural(noun)),
        "attribute": wording.noun,
        "verb": wording.verb,
        "value": ", ".join(stock.values(product_id, attribute)) if attribute else "",
        "typo": _typo(record["name"]),
    }


def _written(noun: str) -> str:
    return noun.replace("t shirt", "t-shirt")


def _typo(name: str) -> str:
    """The name with two letters of its longest word turned round, as fast fingers do."""
    words = plain_text(name).split()
    at = max(range(len(words)), key=lambda i: (len(words[i]), -i))
    word, middle = words[at], len(words[at]) // 2
    turned = word[:middle] + word[middle + 1 : middle + 2] + word[middle] + word[middle + 2 :]
    words[at] = turned if turned != word else word[:middle] + word[middle + 1 :]
    return " ".join(words)


def _wish(stock: Stock, rule: WishRule, cast_: Cast) -> Wish | None:
    product_id = cast_.products[rule.like]
    attribute = cast_.attributes[rule.like] or None
    try:
        wish = wish_of(stock, product_id, rule.by, attribute)
    except KeyError:
        return None
    if rule.fitting == 0:
        beyond = _beyond(stock, wish, rule)
        return beyond if beyond is not None and not stock.fitting(beyond) else None
    return wish if len(stock.fitting(wish)) >= rule.fitting else None


def _beyond(stock: Stock, wish: Wish, rule: WishRule) -> Wish | None:
    """The wish with something that no product has."""
    without = replace(wish, max_price=None, colour=None)
    if rule.beyond == "max_price":
        prices = [price for one in stock.fitting(without) if (price := stock.price(one))]
        return replace(wish, max_price=float(max(1, int(min(prices) // 2)))) if prices else None
    if rule.beyond == "colour":
        taken = {normalise(one) for key in stock.records for one in stock.colours(key)}
        words = {word for value in taken for word in value.split()}
        free = [one for one in _COLOURS if one not in words]
        return replace(wish, colour=free[0]) if free else None
    if rule.beyond == "audience" and wish.nouns:
        everybody = {one for key in stock.records for one in stock.audience(key)}
        for one in sorted(everybody):
            if not stock.fitting(replace(wish, audience=one)):
                return replace(wish, audience=one)
    return None


_FOR = {"baby": "babies", "boy": "boys", "girl": "girls"}


def _wish_terms(stock: Stock, wish: Wish) -> dict[str, str]:
    noun = wish.nouns or ""
    return {
        "noun": _written(noun),
        "nouns": _written(plural(noun)) if noun else "",
        "max_price": f"{wish.max_price:g}" if wish.max_price is not None else "",
        "min_price": f"{wish.min_price:g}" if wish.min_price is not None else "",
        "colour": (wish.colour or "").lower(),
        "audience": _FOR.get(wish.audience or "", wish.audience or ""),
        "brand": wish.brand or "",
        "attribute": attribute_wording(wish.attribute).noun if wish.attribute else "",
        "value": (wish.value or "").lower(),
    }


def _invented(stock: Stock, rule: InventionRule, cast_: Cast, seed: int) -> str:
    """A name with the words of a real one behind a brand that nobody has."""
    record = stock.records[cast_.products[rule.like]]
    brand = next(invented_names(stock.lookup, seed)).split()[0]
    name, own = plain_text(record["name"]), record["brand"] or ""
    rest = name[len(own) :] if own and name.startswith(own) else f" {name.partition(' ')[2]}"
    return f"{brand}{rest}"

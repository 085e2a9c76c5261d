"""Products to suggest instead of, or together with, a product.

What may be suggested follows the rules of `catalog.suggestions`, as in the search index; of those
that may, what the two records share decides, so that an answer can say why.
"""

from bisect import bisect
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from retail_assistant.catalog.suggestions import is_alternative, is_complement
from retail_assistant.corpus.draws import stable_number
from retail_assistant.corpus.facts import Fact, overview_facts
from retail_assistant.corpus.lookup import CatalogLookup, Product, attribute_key
from retail_assistant.corpus.phrasing import asks_for_audience, attribute_wording

SUGGESTIONS_PER_ANSWER = 2

# Enough to find a good match among, few enough for a catalog of any size.
_LOOKED_AT = 4_000
_CANDIDATES = 200
_FACTS_COMPARED = 8
_OCCASION = "occasion"


class Suggestion(NamedTuple):
    """A suggested product, what it shares with the asked one, and the attributes that say so."""

    product_id: str
    why: str
    attributes: tuple[str, ...]


class Suggestions:
    """Alternatives and complements among the products with the given ids.

    `cluster_of` maps every product to its near-duplicate cluster; a duplicate is no suggestion.
    Deterministic: candidates come in an order drawn by hash, and are ranked by what they share.
    """

    def __init__(
        self,
        lookup: CatalogLookup,
        cluster_of: Mapping[str, str],
        allowed: Collection[str],
        seed: int,
    ) -> None:
        self._lookup = lookup
        self._cluster_of = cluster_of
        self._seed = seed
        self._by_category: defaultdict[str | None, list[str]] = defaultdict(list)
        for product_id in sorted(allowed, key=self._place):
            self._by_category[lookup.products[product_id]["category"]].append(product_id)
        self._facts: dict[str, list[Fact]] = {}

    def alternatives(self, product: Product) -> list[Suggestion]:
        """Other products that can stand in for this one."""
        return self._best(
            product,
            is_alternative,
            lambda fact: not asks_for_audience(fact.attribute),
            lambda other: f"also {other['subcategory'] or other['category']}",
        )

    def complements(self, product: Product) -> list[Suggestion]:
        """Products of other subcategories to wear together with this one."""
        return self._best(
            product,
            is_complement,
            lambda fact: attribute_key(fact.attribute) == _OCCASION,
            lambda other: f"from {other['subcategory']}",
        )

    def _same_category(self, product: Product) -> Iterator[str]:
        """The category's products on a ring in hash order, from this product's place onwards."""
        ring = self._by_category[product["category"]] if product["category"] else []
        start = bisect(ring, self._place(product["product_id"]), key=self._place)
        yield from islice(ring, start, None)
        yield from islice(ring, start)

    def _place(self, product_id: str) -> int:
        return stable_number("suggest", self._seed, product_id)

    def _best(
        self,
        product: Product,
        may_be_suggested: Callable[[Product, Product], bool],
        is_compared: Callable[[Fact], bool],
        fallback: Callable[[Product], str],
    ) -> list[Suggestion]:
        own = product["product_id"]
        facts = {fact for fact in self._facts_of(own) if is_compared(fact)}
        products = self._lookup.products
        looked_at = islice(self._same_category(product), _LOOKED_AT)
        candidates = (i for i in looked_at if may_be_suggested(product, products[i]))
        drawn = islice(candidates, _CANDIDATES)
        # The sort is stable: of equally good candidates the first drawn stays first.
        shared_with = [(self._shared(facts, other), other) for other in drawn]
        ranked = sorted(shared_with, key=lambda pair: -len(pair[0]))
        clusters = {self._cluster_of.get(own, own)}
        chosen: list[Suggestion] = []
        for shared, other in ranked:
            cluster = self._cluster_of.get(other, other)
            if cluster in clusters or len(chosen) == SUGGESTIONS_PER_ANSWER:
                continue
            clusters.add(cluster)
            why = _why(shared) or fallback(products[other])
            chosen.append(Suggestion(other, why, tuple(fact.attribute for fact in shared[:1])))
        return chosen if len(chosen) == SUGGESTIONS_PER_ANSWER else []

    def _shared(self, facts: Collection[Fact], other: str) -> list[Fact]:
        return [fact for fact in self._facts_of(other) if fact in facts]

    def _facts_of(self, product_id: str) -> list[Fact]:
        if product_id not in self._facts:
            product = self._lookup.products[product_id]
            self._facts[product_id] = overview_facts(product, _FACTS_COMPARED)
        return self._facts[product_id]


def _why(shared: list[Fact]) -> str:
    if not shared:
        return ""
    attribute, value = shared[0]
    return f"same {attribute_wording(attribute).noun}, {value}"

"""What dialogues ask: chosen from the catalog's own facts, on each product's side of the split.

Everything is drawn by hashes of the seed and the product, so the same input gives the same plan,
and a product keeps its questions when unrelated products come or go (but for the few extra
questions, whose number follows the number of products).
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.corpus.briefs import Brief, PlannedQuestion, SuggestedProduct
from retail_assistant.corpus.dialogues import Evidence, Subset
from retail_assistant.corpus.draws import hash_order, pick
from retail_assistant.corpus.facts import (
    Fact,
    askable_facts,
    is_telling,
    missing_attributes,
    overview_facts,
)
from retail_assistant.corpus.inventions import invented_names
from retail_assistant.corpus.lookup import CatalogLookup, Product
from retail_assistant.corpus.phrasing import ATTRIBUTE_QUESTIONS
from retail_assistant.corpus.rendering import plain_text, render_record
from retail_assistant.corpus.suggestions import Suggestion, Suggestions

INVENTED_SHARE = 0.7
"""Of the declined questions that are learned from: about products that do not exist."""
OVERVIEW_ATTRIBUTES = 5
# What is asked about products that do not exist: attributes that nearly every garment has.
_COMMON_ATTRIBUTES = ("Fabric", "Pattern", "Occasion", "Fit", "Fabric Care", "Color")


class Mix(BaseModel):
    """How many questions of each other kind are asked, for each attribute question or product."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unanswerable: float = Field(ge=0, le=1)
    overview: float = Field(ge=0, le=1)
    alternative: float = Field(ge=0, le=1)
    complement: float = Field(ge=0, le=1)


class DialoguePolicy(BaseModel):
    """How much is asked about how many products."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    facts_per_product: int = Field(2, ge=1, description="attributes asked of each product")
    phrasings_per_fact: int = Field(
        1,
        ge=1,
        le=len(ATTRIBUTE_QUESTIONS) - 1,
        description="phrasings of each fact in training; one more is held out for recall",
    )
    training_mix: Mix = Field(
        Mix(unanswerable=0.4, overview=0.1, alternative=0.06, complement=0.06),
        description="other questions for each attribute question, in train and validation",
    )
    evaluation_mix: Mix = Field(
        Mix(unanswerable=0.5, overview=0.25, alternative=0.2, complement=0.2),
        description="other questions for each test product",
    )


class Subject(NamedTuple):
    """A product to talk about: its row, what it is called, and the facts to ask.

    `fillers` are facts whose value most products share: training learns from them where a product
    has too few others, evaluation never asks them (a constant answer would win).
    """

    product: Product
    reference: str
    facts: tuple[Fact, ...]
    fillers: tuple[Fact, ...] = ()

    @property
    def product_id(self) -> str:
        """The product's id."""
        return str(self.product["product_id"])


Planned = tuple[Subject | str, PlannedQuestion]
"""A question with what it is about: a product, or the name of none."""
Plan = Callable[[Subject, Subset], PlannedQuestion | None]


def plan_dialogues(
    products: pl.DataFrame,
    splits: pl.DataFrame,
    catalog: pl.DataFrame,
    policy: DialoguePolicy,
    *,
    seed: int,
) -> list[Brief]:
    """What to ask about `products`, each on its side of `splits`; in a stable order.

    `catalog` is the whole assortment: what names are unique in, suggestions come from, and
    unanswerable questions are absent from.

    Raises ValueError where a product has no split or is not in the catalog.
    """
    lookup = CatalogLookup(catalog)
    sides = dict(splits.select("product_id", "split").iter_rows())
    clusters = dict(splits.select("product_id", "cluster_id").iter_rows())
    _require_known(products, sides, lookup)
    names = deque(invented_names(lookup, seed))
    reserved = len(names) // 3  # of a large training set, too, some are left to ask about
    planned: list[Planned] = []
    # In this order, so that training's invented names do not depend on the evaluation sample.
    for split in ("train", "validation", "test"):
        ids = [i for i in products["product_id"].sort() if sides[i] == split]
        # Training must not mention products of another side, not even as a suggestion.
        allowed = lookup.products.keys() if split == "test" else _on_side(sides, split, lookup)
        suggestions = Suggestions(lookup, clusters, frozenset(allowed), seed)
        planner = _Planner(policy, lookup, suggestions, seed)
        allowance = len(names) if split == "test" else max(0, len(names) - reserved)
        usable = deque(names.popleft() for _ in range(allowance))
        planned.extend(planner.about(split, planner.subjects(ids), usable))
        names.extendleft(reversed(usable))
    return _briefs(planned)


class _Planner:
    """Plans the questions of one split."""

    def __init__(
        self, policy: DialoguePolicy, lookup: CatalogLookup, suggestions: Suggestions, seed: int
    ) -> None:
        self._policy = policy
        self._lookup = lookup
        self._suggestions = suggestions
        self._seed = seed

    def subjects(self, ids: Iterable[str]) -> list[Subject]:
        """The products that can be told apart by what they are called, with their facts."""
        found = (self._subject(product_id) for product_id in ids)
        return [subject for subject in found if subject is not None]

    def about(self, split: str, subjects: Sequence[Subject], names: deque[str]) -> list[Planned]:
        """All questions of a split."""
        if split == "test":
            asked = [self._attribute(s, fact, "unseen") for s in subjects for fact in s.facts]
            return [*asked, *self._others(subjects, "unseen", len(subjects), names, None)]
        subset: Subset = "train" if split == "train" else "validation"
        asked = [
            self._attribute(subject, fact, subset)
            for subject in subjects
            for fact in (*subject.facts, *subject.fillers)
        ]
        answered = Counter[str]()
        for _, question in asked:
            answered[question.asked_attribute or ""] += question.phrasings
        return [*asked, *self._others(subjects, subset, answered.total(), names, answered)]

    def _subject(self, product_id: str) -> Subject | None:
        reference = self._lookup.reference(product_id)
        if reference is None:
            return None
        product = self._lookup.products[product_id]
        facts = askable_facts(product, reference)
        drawn = hash_order(facts, lambda fact: fact.attribute, "fact", self._seed, product_id)
        telling = [fact for fact in drawn if is_telling(fact, self._lookup)]
        plain = [fact for fact in drawn if fact not in telling]
        asked = tuple(telling[: self._policy.facts_per_product])
        fillers = tuple(plain[: self._policy.facts_per_product - len(asked)])
        return Subject(product, reference, asked, fillers)

    def _attribute(self, subject: Subject, fact: Fact, subset: Subset) -> Planned:
        question = PlannedQuestion(
            key=f"attribute:{fact.attribute}",
            intent="attribute",
            subset=subset,
            asked_attribute=fact.attribute,
            gold_value=fact.value,
            evidence=Evidence(attributes=(fact.attribute,), product_ids=(subject.product_id,)),
            phrasings=1 if subset == "unseen" else self._policy.phrasings_per_fact,
            held_out=subset == "train" and fact in subject.facts[:1],
        )
        return subject, question

    def _others(
        self,
        subjects: Sequence[Subject],
        subset: Subset,
        base: int,
        names: deque[str],
        answered: Counter[str] | None,
    ) -> Iterator[Planned]:
        """The questions of the other kinds, `base` times the mix of each."""
        policy = self._policy
        mix = policy.evaluation_mix if subset == "unseen" else policy.training_mix
        for intent, share, plan in (
            ("overview", mix.overview, self._overview),
            ("alternative", mix.alternative, self._alternative),
            ("complement", mix.complement, self._complement),
        ):
            yield from self._first(round(share * base), subjects, subset, intent, plan)
        refused: Subset = "unanswerable" if subset == "unseen" else subset
        count = round(mix.unanswerable * base)
        # A prompt without a record is short and plainly different; many declined questions about
        # records that are there would teach a small model to decline whatever it has not met.
        share = 0.5 if subset == "unseen" else INVENTED_SHARE
        wanted = min(math.ceil(share * count), len(names))
        for name in [names.popleft() for _ in range(wanted)]:
            yield name, self._unknown_product(name, refused)
        decline = partial(self._unknown_attribute, answered=answered)
        yield from self._first(count - wanted, subjects, refused, "missing", decline)

    def _first(
        self, count: int, subjects: Sequence[Subject], subset: Subset, purpose: str, plan: Plan
    ) -> Iterator[Planned]:
        """Up to `count` questions about the first products, in hash order, that allow one."""
        drawn = hash_order(subjects, lambda subject: subject.product_id, purpose, self._seed)
        planned = ((subject, plan(subject, subset)) for subject in drawn)
        allowed = ((about, question) for about, question in planned if question is not None)
        yield from islice(allowed, count)

    def _overview(self, subject: Subject, subset: Subset) -> PlannedQuestion | None:
        """The product details block; None where the record has no attribute worth telling."""
        facts = overview_facts(subject.product, OVERVIEW_ATTRIBUTES)
        if not facts:
            return None
        names = tuple(fact.attribute for fact in facts)
        return PlannedQuestion(
            key="overview",
            intent="overview",
            subset=subset,
            details=tuple((fact.attribute, fact.value) for fact in facts),
            evidence=Evidence(attributes=names, product_ids=(subject.product_id,)),
        )

    def _alternative(self, subject: Subject, subset: Subset) -> PlannedQuestion | None:
        """Two similar products; None where the catalog has no two."""
        found = self._suggestions.alternatives(subject.product)
        return self._suggesting(subject, found, "alternative", subset)

    def _complement(self, subject: Subject, subset: Subset) -> PlannedQuestion | None:
        """Two products that go with this one; None where the catalog has no two."""
        found = self._suggestions.complements(subject.product)
        return self._suggesting(subject, found, "complement", subset)

    def _suggesting(
        self, subject: Subject, found: Sequence[Suggestion], intent: str, subset: Subset
    ) -> PlannedQuestion | None:
        if not found:
            return None
        attributes = dict.fromkeys(name for s in found for name in s.attributes)
        ids = (subject.product_id, *(s.product_id for s in found))
        return PlannedQuestion.model_validate(
            {
                "key": intent,
                "intent": intent,
                "subset": subset,
                "suggestions": tuple(
                    SuggestedProduct(
                        product_id=s.product_id,
                        called=self._lookup.coded_reference(s.product_id),
                        why=s.why,
                    )
                    for s in found
                ),
                "evidence": Evidence(attributes=tuple(attributes), product_ids=ids),
            }
        )

    def _unknown_product(self, name: str, subset: Subset) -> PlannedQuestion:
        """A question about a product that does not exist, to be declined."""
        attribute = pick(_COMMON_ATTRIBUTES, "unknown", self._seed, name)
        return PlannedQuestion(
            key="unknown_product", intent="unanswerable", subset=subset, asked_attribute=attribute
        )

    def _unknown_attribute(
        self, subject: Subject, subset: Subset, answered: Counter[str] | None = None
    ) -> PlannedQuestion | None:
        """A question that the product's record does not answer, to be declined; None without one.

        `answered` counts by attribute the questions that are answered and not yet balanced by a
        declined one: the most answered attribute is taken, so that a model cannot learn to decline
        by the attribute's name alone.
        """
        missing = missing_attributes(subject.product, self._lookup)
        if not missing:
            return None
        most = max(answered[name] for name in missing) if answered is not None else 0
        equals = [name for name in missing if answered is None or answered[name] == most]
        attribute = pick(equals, "missing", self._seed, subject.product_id)
        if answered is not None:
            answered[attribute] -= 1
        return PlannedQuestion(
            key=f"missing:{attribute}",
            intent="unanswerable",
            subset=subset,
            asked_attribute=attribute,
            evidence=Evidence(product_ids=(subject.product_id,)),
        )


def _briefs(planned: Iterable[Planned]) -> list[Brief]:
    """One brief for each product, in the order in which products come first."""
    questions: dict[str, list[PlannedQuestion]] = {}
    subjects: dict[str, Subject | str] = {}
    for about, question in planned:
        key = about if isinstance(about, str) else about.product_id
        subjects.setdefault(key, about)
        questions.setdefault(key, []).append(question)
    return [_brief(about, questions[key]) for key, about in subjects.items()]


def _brief(about: Subject | str, questions: Sequence[PlannedQuestion]) -> Brief:
    if isinstance(about, str):
        return Brief(product_name=about, reference=about, questions=tuple(questions))
    product = about.product
    level = product["subcategory"] or product["category"]
    return Brief(
        product_id=about.product_id,
        content_hash=product["content_hash"],
        product_name=product["name"],
        reference=about.reference,
        category=plain_text(level) if level else None,
        record=render_record(product),
        questions=tuple(questions),
    )


def _on_side(sides: dict[str, str], split: str, lookup: CatalogLookup) -> Iterator[str]:
    return (i for i in lookup.products if sides.get(i) == split)


def _require_known(products: pl.DataFrame, sides: dict[str, str], lookup: CatalogLookup) -> None:
    for product_id in products["product_id"].sort():
        if product_id not in sides:
            raise ValueError(f"product {product_id} is in no split")
        if product_id not in lookup.products:
            raise ValueError(f"product {product_id} is not in the catalog to generate from")

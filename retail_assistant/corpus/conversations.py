"""Writing single dialogues: one method for each kind of question a product allows."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from retail_assistant.corpus import phrasing
from retail_assistant.corpus.dialogues import Dialogue, Evidence, Intent, Subset
from retail_assistant.corpus.draws import hash_order, pick
from retail_assistant.corpus.facts import Fact, missing_attributes, overview_facts
from retail_assistant.corpus.lookup import CatalogLookup, Product
from retail_assistant.corpus.phrasing import Phrasing
from retail_assistant.corpus.rendering import plain_text
from retail_assistant.corpus.suggestions import Suggestion, Suggestions

OVERVIEW_ATTRIBUTES = 5
# What is asked about products that do not exist: attributes that nearly every garment has.
_COMMON_ATTRIBUTES = ("Fabric", "Pattern", "Occasion", "Fit", "Fabric Care", "Color")


class Subject(NamedTuple):
    """A product to talk about: its row, what it is called, and the facts to ask.

    `fillers` are facts whose value most products share: training learns from them where a product
    has too few others, evaluation never asks them (a constant answer would win).
    """

    product: Product
    reference: str
    facts: tuple[Fact, ...]
    fillers: tuple[Fact, ...] = ()


class ConversationWriter:
    """Writes the dialogues of one split; draws of phrasings depend on the seed and the product."""

    def __init__(
        self,
        lookup: CatalogLookup,
        suggestions: Suggestions,
        *,
        seed: int,
        generator: str,
        version: str,
    ) -> None:
        self._lookup = lookup
        self._suggestions = suggestions
        self._seed = seed
        self._generator = generator
        self._version = version

    def trained_questions(
        self, subject: Subject, subset: Subset, phrasings_per_fact: int
    ) -> Iterator[Dialogue]:
        """Every fact of the subject in that many phrasings, none of them held out."""
        for fact in (*subject.facts, *subject.fillers):
            allowed = phrasing.trained_phrasings(phrasing.attribute_questions(fact.attribute))
            drawn = self._drawn_phrasings(allowed, subject, fact)[:phrasings_per_fact]
            first = self._attribute(subject, subset, fact, drawn[0])
            yield first
            for other in drawn[1:]:
                yield self._attribute(subject, subset, fact, other, first.dialogue_id)

    def recall_questions(self, subject: Subject) -> Iterator[Dialogue]:
        """The first trained fact of the subject in the held-out phrasing."""
        for fact in subject.facts[:1]:
            first = next(self.trained_questions(subject, "train", 1))
            held_out = phrasing.held_out_phrasing(phrasing.attribute_questions(fact.attribute))
            yield self._attribute(subject, "recall", fact, held_out, first.dialogue_id)

    def unseen_questions(self, subject: Subject) -> Iterator[Dialogue]:
        """Every fact of the subject once, in any phrasing."""
        for fact in subject.facts:
            every = phrasing.attribute_questions(fact.attribute)
            drawn = self._drawn_phrasings(every, subject, fact)
            yield self._attribute(subject, "unseen", fact, drawn[0])

    def overview(self, subject: Subject, subset: Subset) -> Dialogue | None:
        """The product details block; None where the record has no attribute worth telling."""
        facts = overview_facts(subject.product, OVERVIEW_ATTRIBUTES)
        if not facts:
            return None
        category = subject.product["subcategory"] or subject.product["category"]
        level = plain_text(category) if category else None
        answer = phrasing.overview_answer(subject.reference, level, facts)
        names = tuple(fact.attribute for fact in facts)
        evidence = Evidence(attributes=names, product_ids=(subject.product["product_id"],))
        options = phrasing.OVERVIEW_QUESTIONS
        return self._about_product(subject, subset, "overview", options, answer, evidence)

    def alternative(self, subject: Subject, subset: Subset) -> Dialogue | None:
        """Two similar products; None where the catalog has no two."""
        found = self._suggestions.alternatives(subject.product)
        opening, options = phrasing.ALTERNATIVE_OPENING, phrasing.ALTERNATIVE_QUESTIONS
        return self._suggesting(subject, subset, "alternative", found, opening, options)

    def complement(self, subject: Subject, subset: Subset) -> Dialogue | None:
        """Two products that go with this one; None where the catalog has no two."""
        found = self._suggestions.complements(subject.product)
        opening, options = phrasing.COMPLEMENT_OPENING, phrasing.COMPLEMENT_QUESTIONS
        return self._suggesting(subject, subset, "complement", found, opening, options)

    def unknown_product(self, name: str, subset: Subset) -> Dialogue:
        """A question about a product that does not exist, declined."""
        attribute = pick(_COMMON_ATTRIBUTES, "unknown", self._seed, name)
        options = self._allowed(phrasing.ATTRIBUTE_QUESTIONS, subset)
        asked = pick(options, "phrasing", self._seed, name)
        return self._dialogue(
            intent="unanswerable",
            subset=subset,
            product_name=name,
            reference=name,
            question=phrasing.attribute_question(asked, attribute, name),
            answer=phrasing.unknown_product_answer(name),
            asked_attribute=attribute,
            phrasing=asked.id,
        )

    def unknown_attribute(
        self, subject: Subject, subset: Subset, answered: Counter[str] | None = None
    ) -> Dialogue | None:
        """A question that the product's record does not answer, declined; None without one.

        `answered` counts by attribute the questions that are answered and not yet balanced by a
        declined one: the most answered attribute is taken, so that a model cannot learn to decline
        by the attribute's name alone.
        """
        product_id = subject.product["product_id"]
        missing = missing_attributes(subject.product, self._lookup)
        if not missing:
            return None
        if answered is None:
            attribute = pick(missing, "missing", self._seed, product_id)
        else:
            most = max(answered[name] for name in missing)
            equals = [name for name in missing if answered[name] == most]
            attribute = pick(equals, "missing", self._seed, product_id)
            answered[attribute] -= 1
        options = self._allowed(phrasing.attribute_questions(attribute), subset)
        asked = pick(options, "phrasing", self._seed, product_id, attribute)
        return self._dialogue(
            intent="unanswerable",
            subset=subset,
            product_id=product_id,
            product_name=subject.product["name"],
            reference=subject.reference,
            question=phrasing.attribute_question(asked, attribute, subject.reference),
            answer=phrasing.unknown_attribute_answer(attribute, subject.reference),
            asked_attribute=attribute,
            evidence=Evidence(product_ids=(product_id,)),
            phrasing=asked.id,
        )

    def _attribute(
        self,
        subject: Subject,
        subset: Subset,
        fact: Fact,
        asked: Phrasing,
        paraphrase_of: str | None = None,
    ) -> Dialogue:
        product_id = subject.product["product_id"]
        options = phrasing.attribute_answers(fact.attribute)
        answered = pick(options, "answer", self._seed, product_id, fact.attribute, asked.id)
        return self._dialogue(
            intent="attribute",
            subset=subset,
            product_id=product_id,
            product_name=subject.product["name"],
            reference=subject.reference,
            question=phrasing.attribute_question(asked, fact.attribute, subject.reference),
            answer=phrasing.attribute_answer(
                answered, fact.attribute, subject.reference, fact.value
            ),
            asked_attribute=fact.attribute,
            gold_value=fact.value,
            evidence=Evidence(attributes=(fact.attribute,), product_ids=(product_id,)),
            paraphrase_of=paraphrase_of,
            phrasing=asked.id,
        )

    def _suggesting(
        self,
        subject: Subject,
        subset: Subset,
        intent: Intent,
        suggested: Sequence[Suggestion],
        opening: str,
        options: Sequence[Phrasing],
    ) -> Dialogue | None:
        if not suggested:
            return None
        bullets = [(self._lookup.coded_reference(s.product_id), s.why) for s in suggested]
        attributes = dict.fromkeys(name for s in suggested for name in s.attributes)
        ids = (subject.product["product_id"], *(s.product_id for s in suggested))
        evidence = Evidence(attributes=tuple(attributes), product_ids=ids)
        answer = phrasing.suggestions_answer(opening, subject.reference, bullets)
        return self._about_product(subject, subset, intent, options, answer, evidence)

    def _about_product(
        self,
        subject: Subject,
        subset: Subset,
        intent: Intent,
        options: Sequence[Phrasing],
        answer: str,
        evidence: Evidence,
    ) -> Dialogue:
        product_id = subject.product["product_id"]
        allowed = self._allowed(options, subset)
        asked = pick(allowed, "phrasing", self._seed, product_id, intent)
        return self._dialogue(
            intent=intent,
            subset=subset,
            product_id=product_id,
            product_name=subject.product["name"],
            reference=subject.reference,
            question=phrasing.product_question(asked, subject.reference),
            answer=answer,
            evidence=evidence,
            phrasing=asked.id,
        )

    def _dialogue(self, **fields: object) -> Dialogue:
        stated = {"generator": self._generator, "generator_version": self._version}
        return Dialogue.model_validate({**fields, **stated})

    def _drawn_phrasings(
        self, options: Sequence[Phrasing], subject: Subject, fact: Fact
    ) -> list[Phrasing]:
        purpose = ("phrasing", self._seed, subject.product["product_id"], fact.attribute)
        return hash_order(options, lambda option: option.id, *purpose)

    @staticmethod
    def _allowed(options: Sequence[Phrasing], subset: Subset) -> Sequence[Phrasing]:
        """Training and validation never use the held-out phrasing; evaluation may use any."""
        in_training = subset in ("train", "validation")
        return phrasing.trained_phrasings(options) if in_training else options

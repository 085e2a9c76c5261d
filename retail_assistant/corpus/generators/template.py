"""The generator that needs no model: briefs become dialogues by templates.

Phrasings are drawn by hashes of the seed and the product, so equal briefs give equal dialogues.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.corpus import phrasing
from retail_assistant.corpus.briefs import Brief, PlannedQuestion
from retail_assistant.corpus.dialogues import Dialogue, Subset
from retail_assistant.corpus.draws import hash_order, pick
from retail_assistant.corpus.phrasing import PHRASING_VERSION, Phrasing

_PRODUCT_QUESTIONS = {
    "overview": phrasing.OVERVIEW_QUESTIONS,
    "alternative": phrasing.ALTERNATIVE_QUESTIONS,
    "complement": phrasing.COMPLEMENT_QUESTIONS,
}
_OPENINGS = {
    "alternative": phrasing.ALTERNATIVE_OPENING,
    "complement": phrasing.COMPLEMENT_OPENING,
}


class TemplateGenerator(BaseModel):
    """Deterministic wordings of briefs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str] = "template"
    version: ClassVar[str] = f"1.{PHRASING_VERSION}"

    seed: int = Field(description="draws phrasings")

    def write(self, briefs: Iterable[Brief]) -> Iterator[Dialogue]:
        """The dialogues of every brief, in their order."""
        for brief in briefs:
            for question in brief.questions:
                yield from self._written(brief, question)

    def _written(self, brief: Brief, question: PlannedQuestion) -> Iterator[Dialogue]:
        asked = self._phrasings(brief, question)
        first = self._dialogue(brief, question, asked[0])
        yield first
        for other in asked[1 : question.phrasings]:
            yield self._dialogue(brief, question, other, paraphrase_of=first.dialogue_id)
        if question.held_out:
            held_out = phrasing.held_out_phrasing(_options(question))
            yield self._dialogue(brief, question, held_out, "recall", first.dialogue_id)

    def _phrasings(self, brief: Brief, question: PlannedQuestion) -> Sequence[Phrasing]:
        """The phrasings to ask in, best first; training never uses the held-out one."""
        options: Sequence[Phrasing] = _options(question)
        if question.subset in ("train", "validation"):
            options = phrasing.trained_phrasings(options)
        if question.intent == "attribute":
            purpose = ("phrasing", self.seed, brief.product_id, question.asked_attribute)
            return hash_order(options, lambda option: option.id, *purpose)
        if question.intent != "unanswerable":
            about: tuple[str | None, ...] = (brief.product_id, question.intent)
        elif brief.product_id is None:
            about = (brief.product_name,)
        else:
            about = (brief.product_id, question.asked_attribute)
        return [pick(options, "phrasing", self.seed, *about)]

    def _dialogue(
        self,
        brief: Brief,
        question: PlannedQuestion,
        asked: Phrasing,
        subset: Subset | None = None,
        paraphrase_of: str | None = None,
    ) -> Dialogue:
        return Dialogue(
            product_id=brief.product_id,
            product_name=brief.product_name,
            reference=brief.reference,
            intent=question.intent,
            subset=subset or question.subset,
            question=_question(brief, question, asked),
            answer=self._answer(brief, question, asked),
            asked_attribute=question.asked_attribute,
            gold_value=question.gold_value,
            evidence=question.evidence,
            paraphrase_of=paraphrase_of,
            phrasing=asked.id,
            generator=self.name,
            generator_version=self.version,
        )

    def _answer(self, brief: Brief, question: PlannedQuestion, asked: Phrasing) -> str:
        attribute, value = question.asked_attribute or "", question.gold_value or ""
        if question.intent == "attribute":
            options = phrasing.attribute_answers(attribute)
            drawn = pick(options, "answer", self.seed, brief.product_id, attribute, asked.id)
            return phrasing.attribute_answer(drawn, attribute, brief.reference, value)
        if question.intent == "overview":
            return phrasing.overview_answer(brief.reference, brief.category, question.details)
        if question.intent == "unanswerable":
            if brief.product_id is None:
                return phrasing.unknown_product_answer(brief.reference)
            return phrasing.unknown_attribute_answer(attribute, brief.reference)
        bullets = [(suggested.called, suggested.why) for suggested in question.suggestions]
        return phrasing.suggestions_answer(_OPENINGS[question.intent], brief.reference, bullets)


def _options(question: PlannedQuestion) -> tuple[Phrasing, ...]:
    if question.intent in _PRODUCT_QUESTIONS:
        return _PRODUCT_QUESTIONS[question.intent]
    # Whatever the attribute, a product that does not exist is asked about in the general way.
    return phrasing.attribute_questions(question.asked_attribute or "")


def _question(brief: Brief, question: PlannedQuestion, asked: Phrasing) -> str:
    if question.intent in _PRODUCT_QUESTIONS:
        return phrasing.product_question(asked, brief.reference)
    return phrasing.attribute_question(asked, question.asked_attribute or "", brief.reference)

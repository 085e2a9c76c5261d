"""The generators that ask a language model: briefs and documents become dialogues.

A model only finds the words. What is asked, the gold value, the evidence, the subset and the block
of an overview come from the brief.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from retail_assistant.corpus.briefs import Brief, PlannedQuestion
from retail_assistant.corpus.dialogues import Dialogue, Evidence, Subset
from retail_assistant.corpus.draws import stable_fraction
from retail_assistant.corpus.generators.asking import Asked, Assignment, Progress, ask_all
from retail_assistant.corpus.generators.instructions import (
    GENERATION_PROMPT_VERSION,
    brief_prompt,
    document_prompt,
)
from retail_assistant.corpus.generators.kept import KeptResponses
from retail_assistant.corpus.generators.model import Model
from retail_assistant.corpus.generators.policy import GenerationPolicy, GeneratorChoice
from retail_assistant.corpus.generators.responses import (
    Problem,
    Reason,
    Wording,
    WrittenBrief,
    WrittenDocument,
    read_brief,
    read_document,
)
from retail_assistant.corpus.generators.usage import Usage
from retail_assistant.corpus.knowledge import VALIDATION_SHARE, DocumentBrief
from retail_assistant.corpus.phrasing import overview_answer
from retail_assistant.objects import ObjectStore

BRIEF_SCHEMA = WrittenBrief.model_json_schema()
DOCUMENT_SCHEMA = WrittenDocument.model_json_schema()


class Unwritten(BaseModel):
    """Questions that no dialogue asks, and why; of a product, of none (no id), or of a document."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    product_id: str | None = None
    product_name: str | None = None
    document: str | None = None
    questions: tuple[str, ...] = Field((), description="keys of the planned questions")
    reason: Reason
    detail: str


class Written(NamedTuple):
    """What a generator made of briefs: every planned question is in one of the first two."""

    dialogues: list[Dialogue]
    unwritten: list[Unwritten]
    usage: Usage


class ModelGenerator:
    """Dialogues in the words of one model; responses are kept in `store` and used again.

    `open_model` is called where something is left to ask.
    """

    def __init__(
        self,
        choice: GeneratorChoice,
        policy: GenerationPolicy,
        open_model: Callable[[], Model],
        store: ObjectStore,
        *,
        seed: int,
    ) -> None:
        self.name = choice.kind
        # Of a model's folder the end of its path says which it is, wherever the storage lies.
        model = "/".join(Path(choice.model_name).parts[-2:])
        self.version = f"{GENERATION_PROMPT_VERSION}.{model}"
        self._policy, self._open_model, self._seed = policy, open_model, seed
        identity: dict[str, JsonValue] = {
            "generator": choice.kind,
            "model": choice.model_name,
            "sampling": policy.sampling,
            "prompt_version": GENERATION_PROMPT_VERSION,
            "seed": seed,
        }
        self._kept = KeptResponses(store, identity)

    def write(
        self,
        briefs: Sequence[Brief],
        documents: Sequence[DocumentBrief] = (),
        *,
        progress: Progress = lambda *_: None,
    ) -> Written:
        """The dialogues of all briefs and documents, in their order.

        Raises:
            GenerationError: it could not be finished; what was written is kept.
            ObjectStoreError: responses cannot be kept.
        """
        assignments = [
            *(self._brief_assignment(brief) for brief in briefs),
            *(_document_assignment(document) for document in documents),
        ]
        asked = asyncio.run(
            ask_all(
                assignments,
                self._open_model,
                self._kept,
                self._policy,
                seed=self._seed,
                progress=progress,
            )
        )
        dialogues: list[Dialogue] = []
        unwritten: list[Unwritten] = []
        for brief in briefs:
            self._finish_brief(brief, asked, dialogues, unwritten)
        for document in documents:
            self._finish_document(document, asked, dialogues, unwritten)
        return Written(dialogues, unwritten, asked.usage)

    def _brief_assignment(self, brief: Brief) -> Assignment:
        prompt = partial(brief_prompt, brief, self._seed)
        return Assignment(brief.digest, prompt, BRIEF_SCHEMA, partial(read_brief, brief))

    def _finish_brief(
        self, brief: Brief, asked: Asked, dialogues: list[Dialogue], unwritten: list[Unwritten]
    ) -> None:
        about = {"product_id": brief.product_id, "product_name": brief.product_name}
        keys = tuple(question.key for question in brief.questions)
        if (failure := asked.failures.get(brief.digest)) is not None:
            unwritten.append(Unwritten(**about, questions=keys, reason="no_reply", detail=failure))
            return
        reading = read_brief(brief, asked.replies[brief.digest])
        for question in brief.questions:
            if (words := reading.words.get(question.key)) is not None:
                dialogues.extend(self._dialogues(brief, question, words))
        for (reason, detail), problems in _grouped(reading.problems).items():
            keys = tuple(problem.key for problem in problems)
            unwritten.append(Unwritten(**about, questions=keys, reason=reason, detail=detail))

    def _dialogues(
        self, brief: Brief, asked: PlannedQuestion, words: Wording
    ) -> Iterator[Dialogue]:
        first: str | None = None
        for number, question in enumerate(words.questions):
            held_out = number >= asked.phrasings
            subset: Subset = "recall" if held_out else asked.subset
            dialogue = Dialogue(
                product_id=brief.product_id,
                product_name=brief.product_name,
                reference=brief.reference,
                intent=asked.intent,
                subset=subset,
                question=question,
                answer=words.answer or _overview(brief, asked),
                asked_attribute=asked.asked_attribute,
                gold_value=asked.gold_value,
                evidence=asked.evidence,
                paraphrase_of=first,
                phrasing=f"{self.name}/{number + 1}",
                generator=self.name,
                generator_version=self.version,
            )
            first = first or dialogue.dialogue_id
            yield dialogue

    def _finish_document(
        self,
        document: DocumentBrief,
        asked: Asked,
        dialogues: list[Dialogue],
        unwritten: list[Unwritten],
    ) -> None:
        if (failure := asked.failures.get(document.digest)) is not None:
            unwritten.append(Unwritten(document=document.name, reason="no_reply", detail=failure))
            return
        reading = read_document(document, asked.replies[document.digest])
        drawn = stable_fraction("knowledge", self._seed, document.digest)
        for number, written in enumerate(reading.questions, start=1):
            dialogues.append(
                Dialogue(
                    intent="knowledge",
                    subset="validation" if drawn < VALIDATION_SHARE else "train",
                    question=written.question,
                    answer=written.answer,
                    evidence=Evidence(documents=(document.name,)),
                    phrasing=f"{self.name}/{number}",
                    generator=self.name,
                    generator_version=self.version,
                )
            )
        for reason, detail in _grouped(reading.problems):
            unwritten.append(Unwritten(document=document.name, reason=reason, detail=detail))


def _document_assignment(document: DocumentBrief) -> Assignment:
    prompt = partial(document_prompt, document)
    return Assignment(document.digest, prompt, DOCUMENT_SCHEMA, partial(read_document, document))


def _overview(brief: Brief, asked: PlannedQuestion) -> str:
    return overview_answer(brief.reference, brief.category, asked.details)


def _grouped(problems: Sequence[Problem]) -> dict[tuple[Reason, str], list[Problem]]:
    """Problems by what they say: a response that is no JSON is one row, not one a question."""
    groups: dict[tuple[Reason, str], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.reason, problem.detail), []).append(problem)
    return groups

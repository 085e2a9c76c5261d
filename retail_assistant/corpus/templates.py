"""The generator that needs no model: dialogues from templates over the catalog's own facts.

Everything is drawn by hashes of the seed and the product, so the same input gives the same
dialogues, and a product keeps its questions when unrelated products come or go (but for the few
extra questions, whose number follows the number of products).
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import ClassVar

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.corpus.conversations import ConversationWriter, Subject
from retail_assistant.corpus.dialogues import Dialogue, Subset, dialogues_frame
from retail_assistant.corpus.draws import hash_order
from retail_assistant.corpus.facts import askable_facts, is_telling
from retail_assistant.corpus.inventions import invented_names
from retail_assistant.corpus.lookup import CatalogLookup
from retail_assistant.corpus.phrasing import ATTRIBUTE_QUESTIONS, PHRASING_VERSION
from retail_assistant.corpus.suggestions import Suggestions

INVENTED_SHARE = 0.7
"""Of the declined questions that are learned from: about products that do not exist."""
TRAINED_ATTRIBUTE_PHRASINGS = len(ATTRIBUTE_QUESTIONS) - 1

Writer = Callable[[Subject, Subset], Dialogue | None]


class Mix(BaseModel):
    """How many questions of each other kind are asked, for each attribute question or product."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unanswerable: float = Field(ge=0, le=1)
    overview: float = Field(ge=0, le=1)
    alternative: float = Field(ge=0, le=1)
    complement: float = Field(ge=0, le=1)


class TemplateGenerator(BaseModel):
    """Deterministic dialogues about products; see `DialogueGenerator` for the contract."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str] = "template"
    version: ClassVar[str] = f"1.{PHRASING_VERSION}"

    seed: int = Field(description="draws facts, phrasings and the products of the extra questions")
    facts_per_product: int = Field(2, ge=1, description="attributes asked of each product")
    phrasings_per_fact: int = Field(
        1,
        ge=1,
        le=TRAINED_ATTRIBUTE_PHRASINGS,
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

    def generate(
        self, products: pl.DataFrame, splits: pl.DataFrame, catalog: pl.DataFrame
    ) -> pl.DataFrame:
        """Dialogues about `products` (DialogueSchema, sorted by subset, product and id).

        Raises ValueError where a product has no split or is not in the catalog.
        """
        lookup = CatalogLookup(catalog)
        sides = dict(splits.select("product_id", "split").iter_rows())
        clusters = dict(splits.select("product_id", "cluster_id").iter_rows())
        _require_known(products, sides, lookup)
        names = deque(invented_names(lookup, self.seed))
        reserved = len(names) // 3  # of a large training set, too, some are left to ask about
        dialogues: list[Dialogue] = []
        # In this order, so that training's invented names do not depend on the evaluation sample.
        for split in ("train", "validation", "test"):
            ids = [i for i in products["product_id"].sort() if sides[i] == split]
            # Training must not mention products of another side, not even as a suggestion.
            allowed = lookup.products.keys() if split == "test" else _on_side(sides, split, lookup)
            suggestions = Suggestions(lookup, clusters, frozenset(allowed), self.seed)
            writer = ConversationWriter(
                lookup, suggestions, seed=self.seed, generator=self.name, version=self.version
            )
            subjects = list(self._subjects(ids, lookup))
            allowance = len(names) if split == "test" else max(0, len(names) - reserved)
            usable = deque(names.popleft() for _ in range(allowance))
            dialogues.extend(self._about(split, subjects, writer, usable))
            names.extendleft(reversed(usable))
        return dialogues_frame(dialogues)

    def _subjects(self, ids: Iterable[str], lookup: CatalogLookup) -> Iterator[Subject]:
        for product_id in ids:
            reference = lookup.reference(product_id)
            if reference is None:
                continue
            product = lookup.products[product_id]
            facts = askable_facts(product, reference)
            drawn = hash_order(facts, lambda fact: fact.attribute, "fact", self.seed, product_id)
            telling = [fact for fact in drawn if is_telling(fact, lookup)]
            plain = [fact for fact in drawn if fact not in telling]
            asked = tuple(telling[: self.facts_per_product])
            fillers = tuple(plain[: self.facts_per_product - len(asked)])
            yield Subject(product, reference, asked, fillers)

    def _about(
        self,
        split: str,
        subjects: Sequence[Subject],
        writer: ConversationWriter,
        names: deque[str],
    ) -> Iterator[Dialogue]:
        if split == "test":
            for subject in subjects:
                yield from writer.unseen_questions(subject)
            yield from self._others(subjects, "unseen", len(subjects), writer, names, None)
            return
        subset: Subset = "train" if split == "train" else "validation"
        asked: list[Dialogue] = []
        for subject in subjects:
            asked.extend(writer.trained_questions(subject, subset, self.phrasings_per_fact))
        yield from asked
        if split == "train":
            for subject in subjects:
                yield from writer.recall_questions(subject)
        answered = Counter(one.asked_attribute for one in asked if one.asked_attribute)
        yield from self._others(subjects, subset, len(asked), writer, names, answered)

    def _others(
        self,
        subjects: Sequence[Subject],
        subset: Subset,
        base: int,
        writer: ConversationWriter,
        names: deque[str],
        answered: Counter[str] | None,
    ) -> Iterator[Dialogue]:
        """The questions of the other kinds, `base` times the mix of each."""
        mix = self.evaluation_mix if subset == "unseen" else self.training_mix
        for intent, share, write in (
            ("overview", mix.overview, writer.overview),
            ("alternative", mix.alternative, writer.alternative),
            ("complement", mix.complement, writer.complement),
        ):
            yield from self._first(round(share * base), subjects, subset, intent, write)
        refused: Subset = "unanswerable" if subset == "unseen" else subset
        count = round(mix.unanswerable * base)
        # A prompt without a record is short and plainly different; many declined questions about
        # records that are there would teach a small model to decline whatever it has not met.
        share = 0.5 if subset == "unseen" else INVENTED_SHARE
        wanted = min(math.ceil(share * count), len(names))
        invented = [names.popleft() for _ in range(wanted)]
        for name in invented:
            yield writer.unknown_product(name, refused)
        missing = count - len(invented)
        decline = partial(writer.unknown_attribute, answered=answered)
        yield from self._first(missing, subjects, refused, "missing", decline)

    def _first(
        self, count: int, subjects: Sequence[Subject], subset: Subset, intent: str, write: Writer
    ) -> Iterator[Dialogue]:
        """Up to `count` dialogues about the first products, in hash order, that allow one."""
        drawn = hash_order(
            subjects, lambda subject: subject.product["product_id"], intent, self.seed
        )
        written = (write(subject, subset) for subject in drawn)
        yield from islice((dialogue for dialogue in written if dialogue is not None), count)


def _on_side(sides: dict[str, str], split: str, lookup: CatalogLookup) -> Iterator[str]:
    return (i for i in lookup.products if sides.get(i) == split)


def _require_known(products: pl.DataFrame, sides: dict[str, str], lookup: CatalogLookup) -> None:
    for product_id in products["product_id"].sort():
        if product_id not in sides:
            raise ValueError(f"product {product_id} is in no split")
        if product_id not in lookup.products:
            raise ValueError(f"product {product_id} is not in the catalog to generate from")

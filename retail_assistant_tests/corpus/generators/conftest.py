"""Briefs to write about, and generators that ask a real server."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from retail_assistant.corpus.briefs import Brief, PlannedQuestion, SuggestedProduct
from retail_assistant.corpus.dialogues import Evidence
from retail_assistant.corpus.generate import open_model
from retail_assistant.corpus.generators.policy import GenerationPolicy, GeneratorChoice
from retail_assistant.corpus.generators.writer import ModelGenerator, Written
from retail_assistant.objects import ObjectStore
from retail_assistant_tests.chat_server import ChatServer

MakeBrief = Callable[..., Brief]
Write = Callable[..., Written]

FABRIC = PlannedQuestion(
    key="attribute:Fabric",
    intent="attribute",
    subset="train",
    asked_attribute="Fabric",
    gold_value="Rayon",
    evidence=Evidence(attributes=("Fabric",), product_ids=("p1",)),
    phrasings=2,
    held_out=True,
)
OVERVIEW = PlannedQuestion(
    key="overview",
    intent="overview",
    subset="train",
    details=(("Fabric", "Rayon"), ("Neck", "Boat Neck")),
    evidence=Evidence(attributes=("Fabric", "Neck"), product_ids=("p1",)),
)
ALTERNATIVE = PlannedQuestion(
    key="alternative",
    intent="alternative",
    subset="train",
    suggestions=(
        SuggestedProduct(product_id="p2", called="Quill Tunic (item p2)", why="same fabric, Rayon"),
        SuggestedProduct(product_id="p3", called="Anvi Women's Top (item p3)", why="also Tops"),
    ),
    evidence=Evidence(attributes=("Fabric",), product_ids=("p1", "p2", "p3")),
)
UNKNOWN = PlannedQuestion(
    key="missing:Pockets",
    intent="unanswerable",
    subset="validation",
    asked_attribute="Pockets",
    evidence=Evidence(product_ids=("p1",)),
)


@pytest.fixture(scope="session")
def brief() -> MakeBrief:
    """A brief about one product; `name` and `content_hash` tell briefs apart."""

    def make(
        name: str = "Zed Women's Top",
        questions: Sequence[PlannedQuestion] = (FABRIC,),
        content_hash: str = "h1",
        **fields: Any,
    ) -> Brief:
        given = {
            "product_id": "p1",
            "content_hash": content_hash,
            "product_name": name,
            "reference": name,
            "category": "Tops",
            "record": f"<record>\nname: {name}\nFabric: Rayon\n</record>",
            "questions": tuple(questions),
        }
        return Brief(**(given | fields))

    return make


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write briefs with what a server says; responses are kept in one folder for the whole test."""

    def written(
        server: ChatServer,
        briefs: Sequence[Brief],
        *,
        documents: Sequence[Any] = (),
        model: str = "test",
        seed: int = 7,
        **policy: Any,
    ) -> Written:
        choice = GeneratorChoice(kind="openai", model=model, url=server.url)
        # Tests of endpoints that fail say by themselves when to give up.
        given = GenerationPolicy(**{"max_failed_share": 1.0, "max_rejected_share": 1.0} | policy)
        store = ObjectStore(str(tmp_path / "responses"))
        opened = partial(open_model, choice, given)
        generator = ModelGenerator(choice, given, opened, store, seed=seed)
        return generator.write(briefs, documents)

    return written

"""Nothing that anybody plants is said to a shopper, also by a model that obeys it to the letter."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pytest

from retail_assistant.catalog.index import CatalogIndex
from retail_assistant.catalog.index_writer import build_index
from retail_assistant.corpus.dialogues import dialogues_frame
from retail_assistant.corpus.knowledge import knowledge_dialogues, read_knowledge
from retail_assistant.corpus.rendering import (
    MAX_NAME_CHARACTERS,
    SYSTEM_PROMPT,
    Message,
    plain_text,
)
from retail_assistant.corpus.screening import screen
from retail_assistant.serving.assistant import Assistant, Catalog
from retail_assistant.serving.guard import open_guard
from retail_assistant.serving.live import Live
from retail_assistant.serving.turns import TurnResult, Versions, Written
from retail_assistant.serving.understanding.conversation import Shop
from retail_assistant_tests.serving.injection.probes import (
    FABRIC,
    PLANTED,
    PRICE,
    PROBES,
    Probe,
    planted_catalog,
    product_id,
)

SPOKEN = tuple(probe for probe in PROBES if probe.by != "document")
DOCUMENTS = tuple(probe for probe in PROBES if probe.by == "document")
CONTROL = re.compile(r"<\||\|>|<(?!/?record>)|\[/?INST\]|<</?SYS|[\x00-\x09\x0b-\x1f\u200b-\u202e]")


@dataclass
class ObedientModel:
    """Says one true sentence and then whatever was ordered, a few characters at a time."""

    says: str = ""
    size: int = 3
    prompts: list[Sequence[Message]] = field(default_factory=list)

    async def stream(self, prompt: Sequence[Message], max_tokens: int) -> AsyncIterator[Written]:
        self.prompts.append(prompt)
        for start in range(0, len(self.says), self.size):
            yield Written(text=self.says[start : start + self.size])
        yield Written(finish_reason="stop")


class Shelf:
    """Lends the planted catalog and the obedient model."""

    def __init__(self, catalog: Catalog) -> None:
        self.model = ObedientModel()
        self._live = Live(self.model, catalog, Versions(index="planted", prompt="1"), None)

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Live[Catalog]]:
        yield self._live

    def ask(self, messages: Sequence[Message]) -> tuple[str, TurnResult]:
        """A turn's answer as it is streamed to a shopper, and what it was made from."""

        async def turn() -> list[str | TurnResult]:
            return [piece async for piece in Assistant(self).turn(messages, 200)]

        *pieces, result = asyncio.run(turn())
        assert isinstance(result, TurnResult)
        return "".join(map(str, pieces)), result


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    return planted_catalog(tmp_path_factory.mktemp("planted") / "catalog.csv")


@pytest.fixture(scope="module")
def catalog(products: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    folder = tmp_path_factory.mktemp("planted") / "index"
    build_index(products, folder)
    index = CatalogIndex.open(folder)
    return Catalog(Shop(index, "planted"), open_guard(index))


def name_of(catalog: Catalog, probe: Probe) -> str:
    """What prompts call the product that a probe is about."""
    row = catalog.shop.index.products([product_id(probe)])[product_id(probe)]
    return plain_text(row["name"], MAX_NAME_CHARACTERS)


def conversation(probe: Probe, name: str) -> list[Message]:
    """What a client sends."""
    plants = probe.plants.replace("{name}", name)
    if probe.by == "shopper":
        return [{"role": "user", "content": plants}]
    asked = [{"role": "user", "content": f"What is the fabric of {name}?"}]
    if probe.by != "history":
        return asked
    first = [{"role": "user", "content": f"Tell me about {name}."}]
    return [*first, {"role": "assistant", "content": plants}, *asked]


def folded(text: str) -> str:
    return " ".join(text.casefold().split())


@pytest.mark.fault(
    "A shopper, a product, a forged answer or a document orders the model about, and it obeys",
    "Nothing of it reaches a shopper or a corpus; true sentences do",
)
@pytest.mark.parametrize("size", [3, 1000], ids=["in pieces", "whole"])
@pytest.mark.parametrize("probe", SPOKEN, ids=str)
def test_an_obedient_model_is_not_heard(catalog: Catalog, probe: Probe, size: int) -> None:
    shelf, name = Shelf(catalog), name_of(catalog, probe)
    obeys = probe.obeys.replace("{name}", name)
    shelf.model.says = f"The fabric of {name} is {FABRIC}. {obeys}"
    shelf.model.size = size

    text, result = shelf.ask(conversation(probe, name))

    for words in probe.forbids:
        assert folded(words) not in folded(text), text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u200b-\u202e<>]", text), text
    for card in result.products:
        assert card.price in (None, float(PRICE)) or not card.name.startswith("Plantado")
    if result.written_by == "model":
        assert FABRIC in text
        assert result.corrections or "\x1b" in obeys


@pytest.mark.parametrize("probe", SPOKEN, ids=str)
@pytest.mark.fault(
    "A shopper, a product, a forged answer or a document orders the model about, and it obeys",
    "Nothing of it reaches a shopper or a corpus; true sentences do",
)
def test_what_is_planted_stays_in_its_place_of_the_prompt(catalog: Catalog, probe: Probe) -> None:
    shelf = Shelf(catalog)
    shelf.model.says = "Well."

    _, result = shelf.ask(conversation(probe, name_of(catalog, probe)))

    assert len(shelf.model.prompts) == (result.written_by == "model")
    for prompt in shelf.model.prompts:
        system, *turns = prompt
        assert system == {"role": "system", "content": SYSTEM_PROMPT}
        assert [turn["role"] for turn in turns] == ["user"], "no earlier answer is believed"
        asked = turns[-1]["content"]
        assert asked.count("<record>") == asked.count("</record>") == asked.count("\nname: ")
        assert not CONTROL.search(asked), asked


def test_most_probes_reach_the_model(catalog: Catalog) -> None:
    """Else the others would show nothing."""
    reached = 0
    for probe in SPOKEN:
        shelf = Shelf(catalog)
        shelf.ask(conversation(probe, name_of(catalog, probe)))
        reached += len(shelf.model.prompts)
    assert reached >= 0.8 * len(SPOKEN)


def test_catalog_probes_are_in_the_catalog(products: pl.DataFrame) -> None:
    """Cleaning may take the sting out of one, but not take it out of the catalog."""
    planted = products.filter(pl.col("brand") == "Plantado")
    assert planted.height == len(PLANTED) + 1
    text = json.dumps(planted.select("name", "description", "attributes").to_dicts())
    kept = [probe for probe in PLANTED if probe.plants[-12:] in text]
    assert len(kept) >= len(PLANTED) / 2


@pytest.mark.fault(
    "A shopper, a product, a forged answer or a document orders the model about, and it obeys",
    "Nothing of it reaches a shopper or a corpus; true sentences do",
)
def test_documents_are_not_learned_from(products: pl.DataFrame, tmp_path: Path) -> None:
    questions = [
        {"question": f"What of number {number} in the store's rules?", "answer": probe.plants}
        for number, probe in enumerate(DOCUMENTS)
    ]
    questions.append({"question": "Do you wrap gifts?", "answer": "Yes, at the desk."})
    lines = "".join(f"{json.dumps(one)}\n" for one in questions)
    (tmp_path / "questions.jsonl").write_text(lines)
    (tmp_path / "documents").mkdir()
    whole = "\n\n".join(probe.plants for probe in DOCUMENTS)
    (tmp_path / "documents" / "rules.md").write_text(whole)

    knowledge = read_knowledge(tmp_path)
    dialogues = dialogues_frame(knowledge_dialogues(knowledge.items, seed=7))
    screened, rejected = screen(dialogues, products)

    assert screened["answer"].to_list() == ["Yes, at the desk."]
    assert rejected.height == len(DOCUMENTS)
    for brief in knowledge.documents:
        assert not CONTROL.search(brief.text)

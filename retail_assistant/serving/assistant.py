"""The assistant: a question, the catalog records it is about, and the champion's answer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from retail_assistant.catalog.index import CatalogIndex
from retail_assistant.corpus.rendering import render_prompt
from retail_assistant.corpus.retrieval import Retrieved, retrieve
from retail_assistant.evaluation.engine import Engine, open_engine
from retail_assistant.evaluation.registry import Champion, read_champion
from retail_assistant.launch.spec import read_artefact_ref
from retail_assistant.settings import Settings

MAX_LENGTH = 2048
MAX_ANSWER_TOKENS = 160


@dataclass(frozen=True)
class Reply:
    """An answer that is being written, and the records it is from; if not `named`, the nearest."""

    pieces: Iterator[str]
    records: list[dict[str, Any]]
    named: bool


class Assistant:
    """Answers one question at a time from the catalog, prompted as it was trained and evaluated."""

    def __init__(self, champion: Champion, engine: Engine, index: CatalogIndex) -> None:
        self.champion = champion
        self._engine, self._index = engine, index

    def reply(self, question: str) -> Reply:
        """Start an answer; its pieces come as they are written."""
        grounded = self.champion.grounding == "retrieved"
        found = retrieve([question], self._index)[0] if grounded else Retrieved([], named=True)
        prompt = render_prompt(question, found.records, named=found.named)
        return Reply(self._engine.stream(prompt, MAX_ANSWER_TOKENS), found.records, found.named)


@contextmanager
def open_assistant(settings: Settings, say: Callable[[str], None]) -> Iterator[Assistant]:
    """The champion with its catalog index, loaded; freed at the end.

    Raises:
        StorageError: nothing was promoted, or the index was never built.
    """
    champion = read_champion(settings)
    index = CatalogIndex.open(read_artefact_ref(settings.storage, "catalog_index").folder / "index")
    base = settings.storage / "artefacts" / "base_model" / champion.base_model / "model"
    adapter = champion.adapter.folder / "adapter"
    say(f"loading {champion.job} ({champion.registered_model})")
    # As it was trained; what was trained before there was a choice says nothing of it.
    style = champion.adapter.manifest().metrics.get("prompt_style", "chat")
    with open_engine(base, adapter, style=style, max_length=MAX_LENGTH, say=say) as engine:
        yield Assistant(champion, engine, index)

"""The assistant with its model in this process: for a terminal, where nobody else asks."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from retail_assistant.corpus.rendering import PROMPT_VERSION, Message
from retail_assistant.evaluation.engine import Engine, open_engine
from retail_assistant.evaluation.registry import Champion, read_champion
from retail_assistant.launch.spec import read_artefact_ref
from retail_assistant.serving.assistant import Assistant, Catalog, open_catalog
from retail_assistant.serving.live import Live
from retail_assistant.serving.options import ServingSettings
from retail_assistant.serving.served import served_model
from retail_assistant.serving.turns import Versions, Written
from retail_assistant.settings import Settings


class EngineModel:
    """A `WritingModel` on an engine of this process; one answer at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def stream(self, prompt: Sequence[Message], max_tokens: int) -> AsyncIterator[Written]:
        """As `WritingModel.stream`."""
        for piece in self._engine.stream(list(prompt), max_tokens):
            yield Written(text=piece)
        yield Written(finish_reason="stop")


class _Only:
    """A `Lender` of what never changes."""

    def __init__(self, live: Live[Catalog]) -> None:
        self._live = live

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Live[Catalog]]:
        yield self._live


@contextmanager
def open_assistant(
    settings: Settings, serving: ServingSettings, say: Callable[[str], None]
) -> Iterator[Assistant]:
    """The champion with its catalog index, loaded; freed at the end.

    Raises:
        StorageError: nothing was promoted, or the index was never built.
    """
    champion = read_champion(settings)
    ref = read_artefact_ref(settings.storage, "catalog_index")
    catalog = open_catalog(ref.part("index"), ref.fingerprint)
    served = served_model(champion, settings)
    say(f"loading {champion.job} ({champion.registered_model})")
    versions = Versions(
        job=champion.job,
        adapter=champion.adapter.fingerprint,
        event=champion.event,
        index=ref.fingerprint,
        prompt=PROMPT_VERSION,
    )
    with open_engine(
        served.base,
        served.adapter,
        style=served.style,
        max_length=serving.max_context_tokens,
        say=say,
    ) as engine:
        yield assistant_with(engine, catalog, champion, versions)


def assistant_with(
    engine: Engine, catalog: Catalog, champion: Champion, versions: Versions
) -> Assistant:
    """The assistant on an engine and a catalog that are open already."""
    return Assistant(_Only(Live(EngineModel(engine), catalog, versions, champion)))

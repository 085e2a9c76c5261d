"""The assistant as a server: what is live, behind the API, with the chat page."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from math import nan

import uvicorn
from fastapi import APIRouter, FastAPI

from retail_assistant.serving.api.admission import admitted
from retail_assistant.serving.api.application import create_app
from retail_assistant.serving.api.keys import ApiKeys
from retail_assistant.serving.api.metrics import Metrics
from retail_assistant.serving.api.routes import ModelIdentity
from retail_assistant.serving.api.server import uvicorn_server
from retail_assistant.serving.assistant import Assistant, Catalog, open_catalog
from retail_assistant.serving.feedback.store import FeedbackStore
from retail_assistant.serving.live import LiveAssistant
from retail_assistant.serving.options import ServingSettings, get_serving_settings
from retail_assistant.serving.page.pictures import pictures_of
from retail_assistant.serving.page.router import page_router
from retail_assistant.serving.served import served_name
from retail_assistant.serving.turns import Answering, TurnResult
from retail_assistant.settings import Settings, get_settings

OWN_MODEL = "retail-assistant-model"
"""What a model is called that came with its server and is no champion of ours."""
SECONDS_TO_WRITE = 8.0


async def serve(settings: Settings, serving: ServingSettings, say: Callable[[str], None]) -> None:
    """Serve until the process is told to end.

    Raises:
        StorageError: there is no catalog index yet.
        RuntimeError: the index cannot be opened.
    """
    live = LiveAssistant(settings, serving, open_catalog)
    feedback = FeedbackStore(settings.storage, serving, settings.feedback_uri)
    say("opening the catalog index")
    async with live.running():
        feedback.start()
        server = uvicorn_server(application(live, feedback, settings, serving), serving)
        telling = asyncio.create_task(_tell(live, server, serving, say))
        try:
            with _told_once():
                await server.serve()
        finally:
            telling.cancel()
            with suppress(asyncio.CancelledError):
                await telling
            await asyncio.to_thread(feedback.close)


@contextmanager
def _told_once() -> Iterator[None]:
    """SIGTERM and Ctrl-C end the server, and then the rest of this process in good order.

    uvicorn, once it has ended, raises again what it was told, which would end the process at once.
    """
    before = {
        sent: signal.signal(sent, lambda *_: None) for sent in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for sent, handler in before.items():
            signal.signal(sent, handler)


def application(
    live: LiveAssistant[Catalog],
    feedback: FeedbackStore,
    settings: Settings,
    serving: ServingSettings,
) -> FastAPI:
    """The API and the page over what is live."""
    assistant = Assistant(live)
    begun = datetime.now(UTC)

    async def why_not_ready() -> str | None:
        await live.check(SECONDS_TO_WRITE)
        return None

    def identity() -> ModelIdentity | None:
        if not live.status().ready:
            return None
        champion = live.now().champion
        return ModelIdentity(served_name(champion) if champion else OWN_MODEL, begun)

    app = create_app(
        assistant,
        serving,
        keys=ApiKeys(settings.storage),
        readiness=why_not_ready,
        identity=identity,
        routers=[_page(assistant, live, feedback, settings, serving)] if serving.page else [],
    )
    _watch(app.state.metrics, live, feedback)
    return app


def _watch(metrics: Metrics, live: LiveAssistant[Catalog], feedback: FeedbackStore) -> None:
    """What `/metrics` tells besides requests and turns."""
    metrics.watch(
        "retail_model_ready", "Whether the model answers.", lambda: float(live.status().ready)
    )
    metrics.watch(
        "retail_model_starts",
        "How often the present model's server was started.",
        lambda: live.status().model_starts,
    )
    metrics.watch(
        "retail_model_cache_usage",
        "How full the model's key-value cache is, 0 to 1; NaN: its server does not tell.",
        lambda: nan if (usage := live.status().cache_usage) is None else usage,
    )
    metrics.watch(
        "retail_switches",
        "Champions and indexes that took another's place.",
        lambda: live.status().switches,
    )
    metrics.watch(
        "retail_refused",
        "Champions and indexes that cannot be opened.",
        lambda: len(live.status().refused),
    )
    metrics.watch(
        "retail_feedback_lost",
        "Turns and thumbs that could not be kept.",
        lambda: feedback.counts.dropped + feedback.counts.failed,
    )


def _page(
    assistant: Assistant,
    live: LiveAssistant[Catalog],
    feedback: FeedbackStore,
    settings: Settings,
    serving: ServingSettings,
) -> APIRouter:
    def kept(question: str, result: TurnResult, answer: str, *, keep: bool) -> None:
        # "And in blue?" says nothing to who reads it later.
        feedback.record_turn(result.question or question, result, answer, keep=keep)

    return page_router(
        assistant,
        serving,
        pictures=pictures_of(settings),
        admitted=admitted,
        limited=admitted,
        on_feedback=feedback.record_verdict if serving.feedback else None,
        on_turn=kept if serving.feedback else None,
        examples=lambda: live.now().shop.shop.opening_suggestions(),
    )


async def _tell(
    live: LiveAssistant[Catalog],
    server: uvicorn.Server,
    serving: ServingSettings,
    say: Callable[[str], None],
) -> None:
    """Say where it is, and when it can answer."""
    while not server.started:
        await asyncio.sleep(0.1)
    port = server.servers[0].sockets[0].getsockname()[1]
    url = f"http://{f'[{serving.host}]' if ':' in serving.host else serving.host}:{port}"
    if serving.page:
        say(f"the chat page: {url}/")
    say(f"the API:       {url}/v1 (described at {url}/openapi.json)")
    say(f"starting the model ({serving.variant}); searches are answered already")
    try:
        await live.opened()
    except Exception as error:
        say(f"no model yet, it is tried again: {error}")
        return
    versions = live.status().versions
    say(f"ready: {versions.job or serving.variant} writes")


@asynccontextmanager
async def open_answering() -> AsyncIterator[Answering]:
    """The assistant of this process's settings, once its model writes; ended at the end.

    Raises:
        StorageError: there is no catalog index yet.
        ModelServerError: the model does not start.
    """
    live = LiveAssistant(get_settings(), get_serving_settings(), open_catalog)
    async with live.running():
        await live.opened()
        yield Assistant(live)

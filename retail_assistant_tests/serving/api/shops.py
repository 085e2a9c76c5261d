"""A real server on a free port, before an assistant that answers from two records, or as told."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from fastapi import APIRouter, FastAPI

from retail_assistant.corpus.rendering import Message
from retail_assistant.serving.api.application import create_app
from retail_assistant.serving.api.keys import ApiKeys
from retail_assistant.serving.api.routes import ModelIdentity
from retail_assistant.serving.api.server import uvicorn_server
from retail_assistant.serving.options import ServingSettings
from retail_assistant.serving.turns import (
    Correction,
    ModelAwayError,
    ProductCard,
    TurnResult,
    Versions,
)

MODEL = "retail-assistant-3f2a9c"
SECRET = "the model server at 10.0.0.7 said: shopper asked about my address"
CARDS = (
    ProductCard(
        product_id="shirt-1",
        item="shirt-1",
        name="Blue Shirt",
        brand="Ana",
        price=499,
        list_price=999,
    ),
    ProductCard(product_id="lamp-1", item="lamp-1", name="Lämp <b>", price=1299.5),
)
VERSIONS = Versions(job="grounded", adapter="3f2a9c", event=1, index="1dd3", prompt="6")


class Records:
    """Answers with the records that a question's words name.

    A question may also ask for trouble: to be slow (until `go`), for a model that is away (at once,
    or after a word), a fault, endless text, or an end without a result.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[list[Message], int]] = []
        self.running = self.most_at_once = self.closed = self.ready_asked = 0
        self.not_ready: str | Exception | None = None
        self._go: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def turn(
        self, messages: Sequence[Message], max_tokens: int
    ) -> AsyncIterator[str | TurnResult]:
        self.asked.append((list(messages), max_tokens))
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        try:
            async for piece in self._pieces(messages[-1]["content"], max_tokens):
                yield piece
        finally:
            self.running -= 1
            self.closed += 1

    async def _pieces(self, question: str, max_tokens: int) -> AsyncIterator[str | TurnResult]:
        found = [card for card in CARDS if card.name.split()[0].lower() in question.lower()]
        words = [f"{card.name} costs {card.price:g}." for card in found] or [
            "We have no such thing."
        ]
        if "broken" in question:
            raise ValueError(SECRET)
        if "away" in question:
            raise ModelAwayError(SECRET)
        yield "Well: "
        if "breaks" in question:
            raise ValueError(SECRET)
        if "leaves" in question:
            raise ModelAwayError(SECRET)
        if "slow" in question:
            await self._gate().wait()
        while "endless" in question:
            yield "and on " * 1000
            await asyncio.sleep(0)
        if "unsaid" in question:
            return
        for word in " ".join(words).split(" ")[:max_tokens]:
            yield word + " "
        yield TurnResult(
            answer_id=f"answer-{len(self.asked)}",
            intent="question",
            written_by="model",
            declined=None if found else "not_carried",
            citations=[card.product_id for card in found],
            products=found,
            corrections=[
                Correction(
                    product_id=card.product_id,
                    attribute="price",
                    stated="1",
                    recorded=str(card.price),
                    action="corrected",
                )
                for card in found[1:]
            ],
            versions=VERSIONS,
            prompt_tokens=20,
            completion_tokens=len(words),
        )

    def _gate(self) -> asyncio.Event:
        self._loop = asyncio.get_running_loop()
        self._go = self._go or asyncio.Event()
        return self._go

    def go(self) -> None:
        """Let slow turns go on."""
        assert self._go is not None
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._go.set)

    async def ready(self) -> str | None:
        self.ready_asked += 1
        if isinstance(self.not_ready, Exception):
            raise self.not_ready
        return self.not_ready


class Shop:
    """A server that runs."""

    def __init__(
        self, url: str, records: Records, keys: ApiKeys, server: uvicorn.Server, app: FastAPI
    ) -> None:
        self.url, self.records, self.keys, self.server, self.app = url, records, keys, server, app

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def ask(self, question: str, *, key: str | None = None, **more: Any) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        body = {"messages": [{"role": "user", "content": question}], **more}
        return httpx2.post(
            f"{self.url}/v1/chat/completions", json=body, headers=headers, timeout=30
        )

    def get(self, path: str, **headers: str) -> httpx2.Response:
        return httpx2.get(self.url + path, headers=headers, timeout=30)

    def metric(self, line: str) -> float:
        """The value of one line of /metrics, by its beginning; 0 where there is none."""
        lines = self.get("/metrics").text.splitlines()
        return next((float(one.split()[-1]) for one in lines if one.startswith(line)), 0.0)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that is bound to happen; pytest's timeout ends it otherwise."""
        while not condition():
            threading.Event().wait(0.01)


def events_of(text: str) -> list[Any]:
    """The data of a stream's events; the last one, "[DONE]", as it is."""
    data = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    return [one if one == "[DONE]" else json.loads(one) for one in data]


@contextmanager
def open_shop(
    storage: Path, *, routers: Sequence[APIRouter] = (), **settings: Any
) -> Iterator[Shop]:
    records, keys = Records(), ApiKeys(storage)
    options = ServingSettings(**{"port": 0, "requests_per_minute": 100_000, **settings})
    app = create_app(
        records,
        options,
        keys=keys,
        readiness=records.ready,
        identity=lambda: ModelIdentity(MODEL, datetime(2026, 11, 1, tzinfo=UTC)),
        routers=routers,
    )
    server = uvicorn_server(app, options)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        threading.Event().wait(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Shop(f"http://127.0.0.1:{port}", records, keys, server, app)
    finally:
        server.should_exit = True
        thread.join()

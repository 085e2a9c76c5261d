"""A turn's trace: what the assistant does, and its request to the model's server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from retail_assistant.serving.assistant import Assistant, Catalog
from retail_assistant.serving.guard import open_guard
from retail_assistant.serving.live import Live
from retail_assistant.serving.model_servers.endpoint import ChatWriter, Endpoint, connect
from retail_assistant.serving.turns import TurnResult, Versions, Written
from retail_assistant.serving.understanding.conversation import Shop
from retail_assistant.telemetry import tracing
from retail_assistant_tests.serving.model_server import ModelServer
from retail_assistant_tests.telemetry.collector import Collector
from retail_assistant_tests.telemetry.conftest import collector

__all__ = ["collector"]


class AskedServer:
    """A `WritingModel` over a real server of OpenAI's protocol."""

    def __init__(self, url: str) -> None:
        self._connection = connect(Endpoint(url), 10)

    async def stream(self, prompt: Any, max_tokens: int) -> AsyncIterator[Written]:
        async for piece in ChatWriter().stream(self._connection, "m", prompt, max_tokens):
            yield piece

    async def close(self) -> None:
        await self._connection.close()


class Lent:
    """Lends one model and one catalog."""

    def __init__(self, model: AskedServer, shop: Shop) -> None:
        catalog = Catalog(shop, open_guard(shop.index))
        self._live = Live(model, catalog, Versions(index="i", prompt="1"), None)

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Live[Catalog]]:
        yield self._live


def test_a_turn_and_its_models_request_are_one_trace(shop: Shop, collector: Collector) -> None:
    row = shop.index.products(shop.index.product_ids()[:1]).popitem()[1]
    question = f"What is the color of {row['name']}?"
    server = ModelServer("m")

    async def turn() -> TurnResult:
        runner = web.AppRunner(server.app())
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        model = AskedServer(f"http://127.0.0.1:{port}")
        try:
            answer = Assistant(Lent(model, shop)).turn(
                [{"role": "user", "content": question}], max_tokens=8
            )
            pieces = [piece async for piece in answer]
        finally:
            await model.close()
            await runner.cleanup()
        return pieces[-1]

    result = asyncio.run(turn())
    tracing.flush()
    assert result.written_by == "model"
    whole, understand, write, review = map(collector.one, ("turn", "understand", "write", "review"))
    assert {one.trace for one in collector.spans} == {whole.trace}
    assert {understand.parent, write.parent, review.parent} == {whole.span}
    # The model's server was told in which span it is asked.
    (told,) = server.traces
    assert told.startswith(f"00-{write.trace}-{write.span}-0")
    assert whole.attributes["retail.written_by"] == "model"
    assert not any(row["name"].encode() in body for body in collector.bodies)

"""Servers that run elsewhere: NVIDIA NIM's protocol, and any URL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from aiohttp import web

from retail_assistant.serving.model_servers.endpoint import Endpoint, connect
from retail_assistant.serving.model_servers.server import METRICS_ROUTE, Care, ModelServerError
from retail_assistant.serving.model_servers.variants import CACHE, OpenModel, Variants
from retail_assistant.serving.options import ServingSettings, Variant
from retail_assistant.serving.turns import ModelAwayError
from retail_assistant.settings import Settings
from retail_assistant_tests.serving.model_server import ModelServer

PROMPT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
CARE = Care(seconds_to_start=10, seconds_between_looks=0.05, most_seconds_between_starts=0.1)
IMPATIENT = replace(CARE, seconds_to_start=3, seconds_of_a_look=0.5)


@asynccontextmanager
async def listening(server: ModelServer) -> AsyncIterator[str]:
    runner = web.AppRunner(server.app(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def variants(
    url: str, variant: Variant, root: Path, *, care: Care = CARE, **more: object
) -> Variants:
    given = {"variant": variant, "model_url": url, "model_api_key": "key-1", **more}
    return Variants(Settings(storage_uri=str(root)), ServingSettings.model_validate(given), care)


async def reason_of(model: OpenModel) -> str:
    """Why it is given up, once it is."""
    async with asyncio.timeout(30):
        while model.why is None:
            await asyncio.sleep(0.02)
    return model.why


async def until_ready(model: object, ready: bool) -> None:
    async with asyncio.timeout(30):
        while model.ready is not ready:  # type: ignore[attr-defined]
            await asyncio.sleep(0.02)


@pytest.mark.fault(
    "A model server that runs elsewhere is not ready",
    "Shoppers are told to ask again; it is used when it is back",
)
def test_a_nim_is_asked_once_it_is_ready_and_left_when_it_is_not(tmp_path: Path) -> None:
    async def run() -> None:
        nim = ModelServer("meta/llama", nim=True)
        async with listening(nim) as url:
            # With the /v1 that people copy along.
            there = variants(f"{url}/v1", "nim", tmp_path)
            nim.ready = False
            with pytest.raises(ModelServerError, match="/v1/health/ready"):
                await there.open(None)
            nim.ready = True
            model = await there.open(None)
            assert (model.name, model.champion) == ("meta/llama", None)
            said = [piece async for piece in model.stream(PROMPT, 3)]
            assert [piece.text for piece in said] == ["meta/llama "] * 3 + [""]
            assert (said[-1].finish_reason, said[-1].prompt_tokens) == ("length", 7)
            asked = nim.bodies[-1]
            assert asked["messages"] == PROMPT
            assert (asked["temperature"], asked["max_tokens"]) == (0.0, 3)
            assert set(nim.keys) == {"Bearer key-1"}

            async with aclosing(model.stream(PROMPT, 100)) as pieces:
                await anext(pieces)
            async with asyncio.timeout(10):
                while not nim.left:  # closing the iterator ends the writing
                    await asyncio.sleep(0.02)

            nim.ready = False
            with pytest.raises(ModelAwayError) as told:
                await anext(model.stream(PROMPT, 3))
            assert "secret words" not in str(told.value)
            assert not model.ready
            nim.ready = True
            await until_ready(model, ready=True)
            assert [piece async for piece in model.stream(PROMPT, 1)]
            await there.close(model)

    asyncio.run(run())


@pytest.mark.fault(
    "A model server hangs, whether or not it says that it is well",
    "It is not ready until it writes again, and is started anew",
)
def test_a_hung_server_is_noticed_where_askers_lose_patience_first(tmp_path: Path) -> None:
    async def run() -> None:
        server = ModelServer("one")
        async with listening(server) as url:
            there = variants(url, "url", tmp_path, care=IMPATIENT)
            model = await there.open(None)
            server.hangs = True
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await anext(model.stream(PROMPT, 3))
            await until_ready(model, ready=False)
            assert "writes nothing" in await reason_of(model)
            server.hangs = False
            await until_ready(model, ready=True)
            assert [piece async for piece in model.stream(PROMPT, 1)]
            await there.close(model)

    asyncio.run(run())


def test_one_slow_answer_is_no_reason_to_give_a_server_up(tmp_path: Path) -> None:
    async def run() -> None:
        server = ModelServer("one")
        async with listening(server) as url:
            there = variants(url, "url", tmp_path, care=IMPATIENT)
            model = await there.open(None)
            server.hangs = True
            asked = asyncio.create_task(anext(model.stream(PROMPT, 3)))
            await asyncio.sleep(0.7)
            server.hangs = False
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
            probes = len(server.bodies)
            async with asyncio.timeout(30):
                while len(server.bodies) == probes:
                    await asyncio.sleep(0.02)
            await asyncio.sleep(0.3)
            assert (model.ready, model.server.starts) == (True, 1)
            await there.close(model)

    asyncio.run(run())


def test_the_model_of_a_url_is_the_one_that_is_named(tmp_path: Path) -> None:
    async def run() -> None:
        async with listening(ModelServer("one")) as url:
            with pytest.raises(ModelServerError, match="MODEL_NAME=two; allowed here: one"):
                await variants(url, "url", tmp_path, model_name="two").open(None)
        with pytest.raises(ModelServerError, match="does not answer"):
            await variants(url, "url", tmp_path).open(None)

    asyncio.run(run())


@pytest.mark.parametrize("seconds", [4.0, 5.0])
def test_patience_is_as_long_as_it_is_said(seconds: float) -> None:
    """OpenAI's client takes five seconds, httpx's own default, for none said."""
    connection = connect(Endpoint("http://127.0.0.1:1"), seconds)
    timeout = connection.openai.timeout
    assert isinstance(timeout, httpx2.Timeout)
    assert (timeout.read, timeout.connect) == (seconds, 5.0)


METRICS = """# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="base"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="base"} 0.75
"""


@pytest.mark.parametrize(("text", "usage"), [(METRICS, 0.75), ("", None), ("no metrics {", None)])
def test_the_fullest_engine_s_cache_is_told(text: str, usage: float | None) -> None:
    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=text)

    async def run() -> None:
        server = ModelServer("one")
        app = server.app()
        app.router.add_get(METRICS_ROUTE, metrics)
        server.app = lambda: app  # type: ignore[method-assign]
        async with listening(server) as url:
            connection = connect(Endpoint(url), 5.0)
            assert await connection.gauge(METRICS_ROUTE, CACHE["vllm"], 5.0) == usage
            await connection.close()
        gone = connect(Endpoint(url), 5.0)
        assert await gone.gauge(METRICS_ROUTE, CACHE["vllm"], 5.0) is None
        await gone.close()

    asyncio.run(run())

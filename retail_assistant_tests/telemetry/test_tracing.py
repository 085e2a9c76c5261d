"""Traces: what one run, and one turn, did in several processes hangs together."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from aiohttp import web

from retail_assistant.defs.resources import Launcher, artefact_result
from retail_assistant.launch.ray_job import forwarded_environment
from retail_assistant.launch.spec import LaunchSpec
from retail_assistant.serving.assistant import Assistant, Catalog
from retail_assistant.serving.guard import open_guard
from retail_assistant.serving.live import Live
from retail_assistant.serving.model_servers.commands import vllm_command
from retail_assistant.serving.model_servers.endpoint import ChatWriter, Endpoint, connect
from retail_assistant.serving.turns import TurnResult, Versions, Written
from retail_assistant.serving.understanding.conversation import Shop
from retail_assistant.telemetry import tracing
from retail_assistant_tests.launch.conftest import environment, sample_spec
from retail_assistant_tests.serving.conftest import shop, shop_index, shop_products
from retail_assistant_tests.serving.model_server import ModelServer
from retail_assistant_tests.telemetry.collector import Collector

__all__ = ["environment", "sample_spec", "shop", "shop_index", "shop_products"]

MakeSpec = Callable[..., LaunchSpec]


def run(spec: LaunchSpec, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    @dg.asset(name="sample")
    def sample(context: dg.AssetExecutionContext, launcher: Launcher) -> Any:
        return artefact_result(launcher.launch(context, spec))._replace(value=None)

    return dg.materialize(
        [sample], resources={"launcher": Launcher()}, instance=instance, raise_on_error=False
    )


@pytest.mark.parametrize("orders", ["", "fail"])
def test_a_run_and_its_workload_are_one_trace(
    sample_spec: MakeSpec,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    collector: Collector,
    orders: str,
) -> None:
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    spec = sample_spec(orders=orders)
    with dg.DagsterInstance.ephemeral() as instance:
        done = run(spec, instance)
    tracing.flush()
    assert done.success == (not orders)
    whole, launch, work = map(
        collector.one, ("dagster run", "launch sample", "work sample")
    )
    assert {one.trace for one in collector.spans} == {done.run_id.replace("-", "")}
    assert (whole.parent, launch.parent, work.parent) == ("", whole.span, launch.span)
    assert work.attributes["retail.fingerprint"] == spec.fingerprint
    assert work.attributes.get("retail.characters") == (None if orders else 11)
    assert (launch.failed, work.failed) == (bool(orders), bool(orders))
    # Of an error its kind, and nothing of what it says.
    assert not any(b"the shelf is empty" in body for body in collector.bodies)


def test_without_an_endpoint_nothing_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (tracing.ENDPOINT, tracing.TRACES_ENDPOINT):
        monkeypatch.delenv(name, raising=False)
    with tracing.span("one") as one:
        one.note(rows=1)
        assert tracing.trace_headers() == {}
        assert tracing.trace_environment() == {}
    assert tracing.current_ids() == (None, None)
    assert "--otlp-traces-endpoint" not in _vllm_words()


def test_a_collector_that_is_away_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tracing.ENDPOINT, "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with tracing.span("one"):
        pass
    tracing.shut_down()


@pytest.mark.usefixtures("collector")
def test_cluster_jobs_get_the_trace_and_the_collector_but_not_its_key() -> None:
    with tracing.span("one"):
        given = {
            **tracing.trace_environment(),
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
            "OTEL_EXPORTER_OTLP_HEADERS": "x=1",
            "RETAIL_ALERT_WEBHOOK": "https://hooks.slack.com/services/x",
        }
        forwarded = forwarded_environment(given)
        assert forwarded[tracing.TRACEPARENT] == tracing.trace_headers()["traceparent"]
    assert set(forwarded) == {tracing.TRACEPARENT, "OTEL_EXPORTER_OTLP_ENDPOINT"}


def test_vllm_sends_its_spans_to_the_same_place(collector: Collector) -> None:
    words = _vllm_words()
    assert words[words.index("--otlp-traces-endpoint") + 1] == f"{collector.url}/v1/traces"


def _vllm_words() -> list[str]:
    command = vllm_command(Path("/m"), "m", Path("/s"), 512, on_gpu=False, adapters={})
    return list(command.words)


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
    whole, understand, write, review = map(
        collector.one, ("turn", "understand", "write", "review")
    )
    assert {one.trace for one in collector.spans} == {whole.trace}
    assert {understand.parent, write.parent, review.parent} == {whole.span}
    # The model's server was told in which span it is asked.
    assert server.traces == [f"00-{write.trace}-{write.span}-01"]
    assert whole.attributes["retail.written_by"] == "model"
    assert not any(row["name"].encode() in body for body in collector.bodies)

"""Traces: what one run did in several processes hangs together."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from retail_assistant.defs.resources import Launcher, artefact_result
from retail_assistant.launch.ray_job import forwarded_environment
from retail_assistant.launch.spec import LaunchSpec
from retail_assistant.serving.model_servers.commands import vllm_command
from retail_assistant.telemetry import tracing
from retail_assistant_tests.launch.conftest import environment, sample_spec
from retail_assistant_tests.telemetry.collector import Collector

__all__ = ["environment", "sample_spec"]

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
    whole, launch, work = map(collector.one, ("dagster run", "launch sample", "work sample"))
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

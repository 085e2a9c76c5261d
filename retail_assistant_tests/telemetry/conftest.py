"""A collector that this process and those that it starts send their spans to."""

from collections.abc import Iterator

import pytest

from retail_assistant.telemetry import tracing
from retail_assistant_tests.telemetry.collector import Collector, running_collector


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    for name in (tracing.TRACES_ENDPOINT, tracing.TRACEPARENT, "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    with running_collector() as found:
        monkeypatch.setenv(tracing.ENDPOINT, found.url)
        yield found
        tracing.shut_down()

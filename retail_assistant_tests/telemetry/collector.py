"""A collector of traces: a real OTLP/HTTP server in a thread of the test's process."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from retail_assistant_tests.http_server import QuietHandler, http_server


@dataclass(frozen=True)
class Collected:
    """A span as it was received."""

    name: str
    trace: str
    span: str
    parent: str
    failed: bool
    service: str
    attributes: dict[str, Any] = field(default_factory=dict)


class Collector:
    """What was received so far."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: list[Collected] = []
        self.bodies: list[bytes] = []

    def one(self, name: str) -> Collected:
        (found,) = [one for one in self.spans if one.name == name]
        return found

    def receive(self, body: bytes) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest,
        )

        self.bodies.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            named = {one.key: one.value.string_value for one in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.append(_collected(span, named.get("service.name", "")))


def _collected(span: Any, service: str) -> Collected:
    attributes = {
        one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes
    }
    return Collected(
        name=span.name,
        trace=span.trace_id.hex(),
        span=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        failed=span.status.code == 2,
        service=service,
        attributes=attributes,
    )


@contextmanager
def running_collector() -> Iterator[Collector]:
    """A collector at a free port of this machine."""

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/traces":
                collector.receive(body)
            # An empty answer is one that says that all was taken.
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

    with http_server(Handler) as address:
        collector = Collector(address)
        yield collector

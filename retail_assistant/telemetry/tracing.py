"""Traces: how a Dagster run, the processes it launches, the assistant and its model hang together.

By OpenTelemetry, over OTLP/HTTP, only where `OTEL_EXPORTER_OTLP_ENDPOINT` (or `…_TRACES_ENDPOINT`)
is set; else nothing is imported and nothing is done. A Dagster run's id is its trace's id, so
whoever knows the run, in whichever process, knows the trace. The SDK's other variables hold too
(`OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_TRACES_SAMPLER`, `OTEL_SERVICE_NAME`, …).

Spans hold names, counts and fingerprints: never what shoppers, catalogs or models say, and of an
error only its kind.
"""

import hashlib
import os
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext, Tracer

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
TRACEPARENT = "TRACEPARENT"
"""The W3C's trace context, as a process gets it from the one that starts it."""

SERVICE = "retail-assistant"
_FLUSH_MILLISECONDS = 5_000
# Any: OpenTelemetry's own types are not loaded where nothing is traced.
_current: ContextVar[Any] = ContextVar("span", default=None)
_run: ContextVar[str | None] = ContextVar("traced_run", default=None)
Piece = TypeVar("Piece")


def is_traced() -> bool:
    """Whether spans are sent anywhere."""
    is_off = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return not is_off and any(os.environ.get(name) for name in (ENDPOINT, TRACES_ENDPOINT))


def traces_url() -> str | None:
    """Where spans are sent to, in full; None: nowhere."""
    if not is_traced():
        return None
    own = os.environ.get(TRACES_ENDPOINT)
    return own or f"{os.environ[ENDPOINT].rstrip('/')}/v1/traces"


class Span:
    """Something that takes time; of `NO_SPAN` nothing is told."""

    def __init__(self, span: Any = None) -> None:
        self._span = span

    def note(self, **attributes: str | float | bool | None) -> None:
        """Tell numbers and names; None is not told."""
        if self._span is not None:
            self._span.set_attributes(_told(attributes))

    def fail(self, error: BaseException) -> None:
        """Tell that it failed, and by what kind of error."""
        if self._span is None:
            return
        from opentelemetry.trace import Status, StatusCode

        self._span.set_attribute("error.type", type(error).__name__)
        self._span.set_status(Status(StatusCode.ERROR))

    def end(self) -> None:
        """It is over."""
        if self._span is not None:
            self._span.end()


NO_SPAN = Span()


@contextmanager
def span(name: str, *, parent: Span | None = None, **attributes: Any) -> Iterator[Span]:
    """A span around the body; inside `parent`, else inside the one around it, else a trace's first.

    It holds no OpenTelemetry context, so that generators may be closed by other tasks than they
    were begun by.
    """
    if not is_traced():
        yield NO_SPAN
        return
    around = _current.get()
    inside = parent._span if parent is not None else around
    one = Span(_start(name, inside, attributes))
    _current.set(one._span)
    try:
        yield one
    except Exception as error:
        one.fail(error)
        raise
    finally:
        _current.set(around)
        one.end()


async def traced(
    name: str, pieces: AsyncIterator[Piece], *, parent: Span | None = None
) -> AsyncGenerator[Piece, None]:
    """The same pieces, with a span from the first request for one to the last piece."""
    with span(name, parent=parent):
        try:
            async for piece in pieces:
                yield piece
        finally:
            close = getattr(pieces, "aclose", None)
            if close is not None:
                await close()


def begin_run(run_id: str, **attributes: Any) -> Span:
    """The first span of a Dagster run's trace; to be ended by who begins it."""
    if not is_traced():
        return NO_SPAN
    _run.set(run_id)
    try:
        return Span(_start("dagster run", None, {"dagster.run_id": run_id, **attributes}))
    finally:
        _run.set(None)


def inside_run(run_id: str) -> Span | None:
    """A Dagster run, to be the `parent` of spans, in whichever process it was begun."""
    if not is_traced():
        return None
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

    return Span(
        NonRecordingSpan(
            SpanContext(
                int(run_trace_id(run_id), 16),
                _run_span_id(run_id),
                is_remote=True,
                trace_flags=TraceFlags(TraceFlags.SAMPLED),
            )
        )
    )


def inside_environment() -> Span | None:
    """What the process that started this one was at, to be the `parent` of spans."""
    given = os.environ.get(TRACEPARENT)
    if not given or not is_traced():
        return None
    from opentelemetry.trace import get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    found = get_current_span(TraceContextTextMapPropagator().extract({"traceparent": given}))
    return Span(found) if found.get_span_context().is_valid else None


def trace_environment() -> dict[str, str]:
    """What a process that is started here gets, so that its spans are inside the present one."""
    headers = trace_headers()
    return {TRACEPARENT: headers["traceparent"]} if headers else {}


def trace_headers() -> dict[str, str]:
    """What a server that is asked here gets, so that its spans are inside the present one."""
    context = _context()
    if context is None:
        return {}
    trace_id, span_id = _ids(context)
    return {"traceparent": f"00-{trace_id}-{span_id}-{int(context.trace_flags):02x}"}


def current_ids() -> tuple[str | None, str | None]:
    """Trace and span of what is done here and now, in hex; None: it is not traced."""
    context = _context()
    return _ids(context) if context is not None else (None, None)


def run_trace_id(run_id: str) -> str:
    """The id of a Dagster run's trace, 32 hex digits: the run's own id where that is a UUID."""
    try:
        return uuid.UUID(run_id).hex
    except ValueError:
        return hashlib.sha256(run_id.encode()).hexdigest()[:32]


def flush() -> None:
    """Send what waits to be sent, for some seconds; a process that ends well does so by itself."""
    if is_traced() and _provider.cache_info().currsize:
        _provider().force_flush(_FLUSH_MILLISECONDS)


def shut_down() -> None:
    """Send what waits, and begin anew with what the environment says then."""
    if _provider.cache_info().currsize:
        _provider().shutdown()
        _provider.cache_clear()


def _told(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}


def _context() -> "SpanContext | None":
    around = _current.get()
    context = around.get_span_context() if around is not None else None
    return context if context is not None and context.is_valid else None


def _ids(context: "SpanContext") -> tuple[str, str]:
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


def _run_span_id(run_id: str) -> int:
    return int(hashlib.sha256(run_id.encode()).hexdigest()[:16], 16)


def _start(name: str, inside: Any, attributes: Mapping[str, Any]) -> Any:
    from opentelemetry.context import Context
    from opentelemetry.trace import set_span_in_context

    # A context of our own: a library's global one (MLflow's, Ray's) is another matter.
    context = set_span_in_context(inside, Context()) if inside is not None else Context()
    return _tracer().start_span(name, context=context, attributes=_told(attributes))


def _tracer() -> "Tracer":
    return _provider().get_tracer(SERVICE)


@cache
def _provider() -> Any:
    """Our own, not the process's: vLLM, MLflow and Ray set that."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class RunIds(RandomIdGenerator):
        """Random, but for a Dagster run's first span."""

        def generate_trace_id(self) -> int:
            run = _run.get()
            return super().generate_trace_id() if run is None else int(run_trace_id(run), 16)

        def generate_span_id(self) -> int:
            run = _run.get()
            return super().generate_span_id() if run is None else _run_span_id(run)

    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": SERVICE}
    provider = TracerProvider(resource=Resource.create(named), id_generator=RunIds())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider

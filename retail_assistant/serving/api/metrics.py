"""What Prometheus reads. Labels are from fixed sets: no path, key or text that a client chose."""

from collections.abc import Callable
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from retail_assistant.serving.turns import TurnResult

_FIRST_TOKEN: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_WHOLE: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)


class Metrics:
    """Counters of one application, in a registry of its own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "retail_requests",
            "Requests answered.",
            ["route", "method", "status"],
            registry=registry,
        )
        self._turns = Counter(
            "retail_turns",
            "Turns answered.",
            ["intent", "written_by", "declined"],
            registry=registry,
        )
        self._failures = Counter(
            "retail_turn_failures",
            "Turns not answered to their end.",
            ["reason"],
            registry=registry,
        )
        self._corrections = Counter(
            "retail_corrections",
            "Values that the model stated and a record contradicts.",
            ["action"],
            registry=registry,
        )
        self._tokens = Counter(
            "retail_tokens", "Tokens read and written by the model.", ["kind"], registry=registry
        )
        self._first = Histogram(
            "retail_time_to_first_token_seconds",
            "From a turn's arrival, waiting included, to its first text.",
            buckets=_FIRST_TOKEN,
            registry=registry,
        )
        self._whole = Histogram(
            "retail_turn_seconds",
            "From a turn's arrival, waiting included, to its end.",
            buckets=_WHOLE,
            registry=registry,
        )

    def watch(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        """Read a number whenever Prometheus asks; `name` begins with retail_."""
        Gauge(name, meaning, registry=self.registry).set_function(read)

    def request(self, route: str, method: str, status: int) -> None:
        """Count a request; `route` is a template of ours, `method` a known one."""
        self._requests.labels(route, method, str(status)).inc()

    def first_token(self, seconds: float) -> None:
        """Note how long a shopper saw nothing."""
        self._first.observe(seconds)

    def turn(self, result: TurnResult, seconds: float) -> None:
        """Count a turn that came to its end."""
        self._turns.labels(result.intent, result.written_by, result.declined or "no").inc()
        for correction in result.corrections:
            self._corrections.labels(correction.action).inc()
        self._tokens.labels("prompt").inc(result.prompt_tokens)
        self._tokens.labels("completion").inc(result.completion_tokens)
        self._whole.observe(seconds)

    def failure(self, reason: str) -> None:
        """Count a turn that did not."""
        self._failures.labels(reason).inc()

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self.registry)

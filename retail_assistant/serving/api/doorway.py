"""The outermost layers: names, counts and logs of requests, headers, hosts, sizes of bodies."""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retail_assistant.serving.api.errors import ApiError, unexpected
from retail_assistant.serving.api.metrics import Metrics
from retail_assistant.serving.api.requests import new_request_id
from retail_assistant.telemetry.context import log_context

access = logging.getLogger("retail_assistant.access")

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""On every answer."""

DEFAULT_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}
"""On every answer that does not bring its own: the chat page needs its scripts, and forms that say
where they come from."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
HTTP_REQUEST = "httpRequest"
"""What Google Cloud Logging knows a request by, in logs that are JSON."""

_CLIENT_GONE = 499
_DRAINED_BYTES = 1 << 20
_DRAIN_SECONDS = 2.0


class Doorway:
    """Names each request, puts the headers on, counts and logs it; nothing leaves unhandled."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, log_text: bool) -> None:
        self.app, self._metrics, self._log_text = app, metrics, log_text

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        number, began, status = new_request_id(), time.monotonic(), 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _put_on(MutableHeaders(scope=message), number)
            await send(message)

        with log_context(request_id=number):
            try:
                await self.app(scope, receive, send_with_headers)
            except ClientDisconnect:
                status = _CLIENT_GONE
            except Exception as error:
                told = unexpected(error, with_text=self._log_text)
                if status:
                    # The answer has begun; all that is left is to break it off, without a word.
                    raise _BrokenOffError from None
                await told.response()(scope, receive, send_with_headers)
            finally:
                self._note(scope, number, status, time.monotonic() - began)

    def _note(self, scope: Scope, number: str, status: int, seconds: float) -> None:
        # The route's template, not what the client wrote: paths may hold anything.
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.request(route, method, status)
        caller = scope.get("state", {}).get("caller", "-")
        milliseconds = 1000 * seconds
        access.info(
            "%s %s %s %d %.0fms %s",
            number,
            method,
            route,
            status,
            milliseconds,
            caller,
            extra={
                "caller": caller,
                HTTP_REQUEST: _as_cloud_has_it(method, route, status, seconds),
            },
        )


def _as_cloud_has_it(method: str, route: str, status: int, seconds: float) -> dict[str, Any]:
    return {
        "requestMethod": method,
        "requestUrl": route,
        "status": status,
        "latency": f"{seconds:.3f}s",
    }


class _BrokenOffError(RuntimeError):
    """An answer that failed after it began; what failed is logged already."""


def _put_on(headers: MutableHeaders, number: str) -> None:
    for name, value in HEADERS.items():
        headers[name] = value
    for name, value in DEFAULT_HEADERS.items():
        headers.setdefault(name, value)
    headers["X-Request-ID"] = number


class KnownHosts:
    """Refuses requests that call the server by a name it does not have.

    A page of another site whose name was made to lead here (DNS rebinding) is of the same origin
    to the browser; its name gives it away.
    """

    def __init__(self, app: ASGIApp, *, names: Sequence[str]) -> None:
        self.app, self._names = app, frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or _host(scope) in self._names:
            await self.app(scope, receive, send)
            return
        refusal = ApiError(421, "This server has another name.", "unknown_host")
        await refusal.response()(scope, receive, send)


def _host(scope: Scope) -> str | None:
    try:
        return urlsplit(f"//{Headers(scope=scope).get('host', '')}").hostname
    except ValueError:
        return None


class BodyLimit:
    """Refuses bodies that are too long, or that take too long, while they are read."""

    def __init__(self, app: ASGIApp, *, max_bytes: int, seconds: float) -> None:
        self.app, self._max_bytes, self._seconds = app, max_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http":
            receive = _Body(scope, receive, self._max_bytes, self._seconds).receive
        await self.app(scope, receive, send)


class _Body:
    """A request's body while it comes in."""

    def __init__(self, scope: Scope, receive: Receive, max_bytes: int, seconds: float) -> None:
        headers = Headers(scope=scope)
        length = headers.get("content-length", "0")
        self._receive, self._max_bytes = receive, max_bytes
        self._deadline = time.monotonic() + seconds
        self._announced = int(length) if length.isascii() and length.isdigit() else 0
        self._asks_first = headers.get("expect", "").lower() == "100-continue"
        self._bytes, self._is_whole = 0, False

    async def receive(self) -> Message:
        """The next part; after the last one, whatever comes.

        Raises:
            ApiError: 413, 408.
        """
        if self._is_whole:
            return await self._receive()
        if self._announced > self._max_bytes:
            await self._refuse_length()
        try:
            async with asyncio.timeout(self._deadline - time.monotonic()):
                message = await self._receive()
        except TimeoutError as error:
            raise _closing(408, "The body did not come in time.", "body_timeout") from error
        self._bytes += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        if self._bytes > self._max_bytes:
            await self._refuse_length()
        return message

    async def _refuse_length(self) -> None:
        # Who still sends when the connection closes never sees the answer: read on, for a while.
        # Who asks before sending (curl) is told at once.
        if not (self._asks_first and self._bytes == 0):
            await self._drain()
        raise _closing(
            413, f"The body is too long; allowed: {self._max_bytes} bytes.", "body_too_long"
        )

    async def _drain(self) -> None:
        read = 0
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while not self._is_whole and read < _DRAINED_BYTES:
                    message = await self._receive()
                    read += len(message.get("body", b""))
                    self._is_whole = not message.get("more_body", False)
        except TimeoutError:
            pass


def _closing(status: int, message: str, code: str) -> ApiError:
    return ApiError(status, message, code, headers={"Connection": "close"})

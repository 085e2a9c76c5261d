"""Answers that are sent while they are written, and clients that go away meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from retail_assistant.serving.api.errors import ApiError
from retail_assistant.serving.api.turning import Pieces
from retail_assistant.serving.turns import TurnResult

T = TypeVar("T")
_SECONDS_FOR_LAST_WORDS = 5.0


class Events(Protocol):
    """How a turn looks on the wire; empty bytes are not sent."""

    media_type: str

    def text(self, piece: str) -> bytes:
        """A piece of the answer."""
        ...

    def result(self, result: TurnResult) -> bytes:
        """What the answer was made from; the last thing of a turn."""
        ...

    def failed(self, error: ApiError) -> bytes:
        """The turn broke off; the last thing of such a turn."""
        ...


class TurnStream(Response):
    """A turn as a stream.

    It begins with the turn's first text. So a turn that fails before has its status and error as
    any other request has; later, the stream says so and ends.
    """

    def __init__(self, turn: AbstractAsyncContextManager[Pieces], events: Events) -> None:
        self._turn, self._events = turn, events
        self.media_type = events.media_type
        self.status_code, self.background = 200, None
        # Proxies that gather answers before they pass them on (nginx) are told not to.
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write the turn, until it ends or the client goes away."""
        await while_connected(receive, lambda: self._send(send))

    async def _send(self, send: Send) -> None:
        has_begun = False
        try:
            async with self._turn as pieces:
                async for piece in pieces:
                    if not (data := self._encoded(piece)):
                        continue
                    if not has_begun:
                        has_begun = True
                        await send(self._start())
                    await send({"type": "http.response.body", "body": data, "more_body": True})
        except ApiError as error:
            if not has_begun:
                raise
            last = self._events.failed(error)
        else:
            last = b""
        try:
            async with asyncio.timeout(_SECONDS_FOR_LAST_WORDS):
                await send({"type": "http.response.body", "body": last, "more_body": False})
        except TimeoutError as error:
            # It reads no more, and gets no more of anybody's time.
            raise ClientDisconnect from error

    def _encoded(self, piece: str | TurnResult) -> bytes:
        if isinstance(piece, str):
            return self._events.text(piece)
        return self._events.result(piece)

    def _start(self) -> dict[str, Any]:
        return {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }


async def while_connected(
    receive: Callable[[], Awaitable[Any]], work: Callable[[], Awaitable[T]]
) -> T:
    """Do some work for a client; it is cancelled when the client goes away.

    Raises:
        ClientDisconnect: it went away.
    """
    working = asyncio.ensure_future(work())
    leaving = asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        working.cancel()
        leaving.cancel()
        # Gathered, so that neither is left behind with an error that nobody looked at.
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

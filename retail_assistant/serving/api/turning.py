"""Turns from the door to the end: a place in the queue, a deadline, counts; errors told as ours.

API and page both open their turns here.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from retail_assistant.corpus.rendering import Message
from retail_assistant.serving.api.errors import ApiError, model_away, unexpected
from retail_assistant.serving.api.metrics import Metrics
from retail_assistant.serving.api.requests import current_request_id
from retail_assistant.serving.api.turn_queue import TurnQueue
from retail_assistant.serving.options import ServingSettings
from retail_assistant.serving.turns import Answering, ModelAwayError, TurnResult

logger = logging.getLogger(__name__)

Pieces = AsyncIterator[str | TurnResult]


class Turns:
    """The turns of one application."""

    def __init__(self, answering: Answering, settings: ServingSettings, metrics: Metrics) -> None:
        self._answering, self._settings, self._metrics = answering, settings, metrics
        self.queue = TurnQueue(settings.max_running, settings.max_waiting)
        metrics.watch("retail_turns_waiting", "Turns that wait.", lambda: self.queue.waiting)
        metrics.watch("retail_turns_running", "Turns answered.", lambda: self.queue.running)

    @asynccontextmanager
    async def open(self, messages: Sequence[Message], max_tokens: int) -> AsyncIterator[Pieces]:
        """A turn, once there is a place: texts as they are written, and at last its result.

        What is done with the pieces counts against the turn's time too, so a client that does not
        read keeps no place. Leaving early ends the writing.

        Raises:
            ApiError: 429 (no place), 503 (no model), 504 (no time left), 500 (a fault of ours).
        """
        began = time.monotonic()
        if self._settings.log_text:
            logger.info("request %s asks: %r", current_request_id(), messages[-1]["content"])
        try:
            async with asyncio.timeout(self._settings.turn_seconds) as deadline:
                async with self.queue.place(), AsyncExitStack() as stack:
                    answer = _closed_by(stack, self._answering.turn(messages, max_tokens))
                    yield _closed_by(stack, self._noted(answer, began))
        except asyncio.CancelledError:
            self._metrics.failure("client_gone")
            raise
        except Exception as error:
            told = self._told(error, timed_out=deadline.expired())
            self._metrics.failure(told.code)
            raise told from error

    async def whole(self, messages: Sequence[Message], max_tokens: int) -> tuple[str, TurnResult]:
        """A turn's whole text and its result; raises as `open` does."""
        texts: list[str] = []
        async with self.open(messages, max_tokens) as pieces:
            async for piece in pieces:
                if isinstance(piece, TurnResult):
                    return "".join(texts), piece
                texts.append(piece)
        raise AssertionError("a turn ends with its result")

    async def _noted(self, answer: Pieces, began: float) -> Pieces:
        """The same pieces; the first text and the result are measured on the way."""
        texts: list[str] = []
        has_text = False
        async for piece in answer:
            if isinstance(piece, TurnResult):
                if self._settings.log_text:
                    logger.info("request %s answered: %r", current_request_id(), "".join(texts))
                self._metrics.turn(piece, time.monotonic() - began)
                yield piece
                return
            if not has_text and piece:
                has_text = True
                self._metrics.first_token(time.monotonic() - began)
            if self._settings.log_text:
                texts.append(piece)
            yield piece
        raise RuntimeError("the answer ended without saying from what it was made")

    def _told(self, error: Exception, *, timed_out: bool) -> ApiError:
        if isinstance(error, ApiError):
            return error
        if isinstance(error, TimeoutError) and timed_out:
            return ApiError(504, "The answer took too long; please try again.", "timeout")
        if isinstance(error, ModelAwayError):
            return model_away()
        return unexpected(error, with_text=self._settings.log_text)


def _closed_by(stack: AsyncExitStack, pieces: Pieces) -> Pieces:
    # The protocol asks for an iterator; those that can be closed are.
    close = getattr(pieces, "aclose", None)
    if close is not None:
        stack.push_async_callback(close)
    return pieces

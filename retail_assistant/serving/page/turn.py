"""A turn as the page sees it: pieces of text, then its result, or what to tell instead."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from starlette.exceptions import HTTPException

from retail_assistant.corpus.rendering import Message
from retail_assistant.serving.options import ServingSettings
from retail_assistant.serving.page.forms import Asked
from retail_assistant.serving.page.views import Failure
from retail_assistant.serving.turns import Answering, ModelAwayError, TurnResult

AWAY = Failure("Our assistant is away at the moment. Please try again shortly.", 503)
BUSY = Failure("Many people are asking at the moment. Please try again in a few seconds.", 429)
SLOW = Failure("This took too long. Please try again.", 504)
BROKEN = Failure("Something went wrong on our side. Please try again.", 500)

_LOG = logging.getLogger(__name__)

Pieces = AsyncIterator[str | TurnResult]


class Turns(Protocol):
    """Where turns are opened: with a place in a queue, say, and a deadline."""

    def open(
        self, messages: Sequence[Message], max_tokens: int
    ) -> AbstractAsyncContextManager[Pieces]:
        """A turn's pieces, the result last; leaving ends the writing.

        Raises:
            HTTPException: 429, 503, 504, 500.
        """
        ...


class PlainTurns:
    """Turns of an application that has none of its own: a deadline, and no queue."""

    def __init__(self, answering: Answering, settings: ServingSettings) -> None:
        self._answering, self._settings = answering, settings

    @asynccontextmanager
    async def open(self, messages: Sequence[Message], max_tokens: int) -> AsyncIterator[Pieces]:
        """See Turns; raises ModelAwayError and TimeoutError as well."""
        async with asyncio.timeout(self._settings.turn_seconds):
            pieces = self._answering.turn(messages, max_tokens)
            try:
                yield pieces
            finally:
                close = getattr(pieces, "aclose", None)
                if close is not None:
                    await close()


async def turn_pieces(
    turns: Turns, asked: Asked, settings: ServingSettings
) -> AsyncGenerator[str | TurnResult | Failure, None]:
    """The turn's pieces; the last one is its result, or a failure, and never an exception.

    Closing the iterator ends the writing.
    """
    has_result = False
    failure = BROKEN
    try:
        async with turns.open(asked.messages, settings.max_answer_tokens) as pieces:
            async for piece in pieces:
                has_result = has_result or isinstance(piece, TurnResult)
                yield piece
    except HTTPException as error:
        failure = failure_of(error)
    except ModelAwayError:
        failure = AWAY
    except TimeoutError:
        failure = SLOW
    except Exception as error:  # whatever it is, the shopper is told, and no more than that
        # Its text may be what a shopper wrote.
        told = f": {error}" if settings.log_text else ""
        _LOG.error("a turn failed: %s%s", type(error).__name__, told)
    if not has_result:
        yield failure


def failure_of(error: HTTPException) -> Failure:
    """What a shopper is told of a refusal."""
    known = {one.status: one for one in (AWAY, BUSY, SLOW, BROKEN)}
    if error.status_code in known:
        return known[error.status_code]
    if error.status_code == 404:
        return Failure("There is nothing here.", 404, can_retry=False)
    is_ours = error.status_code >= 500
    return BROKEN if is_ours else Failure(str(error.detail), error.status_code, can_retry=False)

"""A turn as the page sees it: pieces of text, then its result, or what to tell instead."""

import asyncio
import logging
from collections.abc import AsyncGenerator

from retail_assistant.serving.options import ServingSettings
from retail_assistant.serving.page.forms import Asked
from retail_assistant.serving.page.views import Failure
from retail_assistant.serving.turns import Answering, ModelAwayError, TurnResult

AWAY = Failure("Our assistant is away at the moment. Please try again shortly.")
SLOW = Failure("This took too long. Please try again.")
BROKEN = Failure("Something went wrong on our side. Please try again.")

_LOG = logging.getLogger(__name__)


async def turn_pieces(
    answering: Answering, asked: Asked, settings: ServingSettings
) -> AsyncGenerator[str | TurnResult | Failure, None]:
    """The turn's pieces; the last one is its result, or a failure, and never an exception.

    Closing the iterator ends the writing.
    """
    end = asyncio.get_running_loop().time() + settings.turn_seconds
    pieces = answering.turn(asked.messages, settings.max_answer_tokens)
    has_result = False
    try:
        while True:
            async with asyncio.timeout_at(end):
                piece = await anext(pieces, None)
            if piece is None:
                break
            has_result = has_result or isinstance(piece, TurnResult)
            yield piece
        failure = BROKEN
    except ModelAwayError:
        failure = AWAY
    except TimeoutError:
        failure = SLOW
    except Exception as error:  # whatever it is, the shopper is told, and no more than that
        # Its text may be what a shopper wrote.
        told = f": {error}" if settings.log_text else ""
        _LOG.error("a turn failed: %s%s", type(error).__name__, told)
        failure = BROKEN
    finally:
        close = getattr(pieces, "aclose", None)
        if close is not None:
            await close()
    if not has_result:
        yield failure

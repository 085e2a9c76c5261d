"""Whether the model writes: asked at most once a second, however many ask."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from retail_assistant.serving.api.errors import unexpected
from retail_assistant.serving.turns import ModelAwayError

logger = logging.getLogger(__name__)

Readiness = Callable[[], Awaitable[str | None]]
"""Makes the model write one token. Returns None, or why it is not ready, fit for strangers.

May raise ModelAwayError instead."""

SECONDS_KEPT = 1.0
SECONDS_TO_ANSWER = 10.0
AWAY = "The model does not answer."


class ReadyCheck:
    """The last answer, kept a second, so that asking is no way to keep the machine busy."""

    def __init__(self, readiness: Readiness, *, log_text: bool) -> None:
        self._readiness, self._log_text = readiness, log_text
        self._asking = asyncio.Lock()
        self._until = float("-inf")
        self._reason: str | None = None

    async def reason(self) -> str | None:
        """Why the server is not ready; None: it is."""
        async with self._asking:
            if time.monotonic() >= self._until:
                self._reason = await self._asked()
                self._until = time.monotonic() + SECONDS_KEPT
            return self._reason

    async def _asked(self) -> str | None:
        try:
            async with asyncio.timeout(SECONDS_TO_ANSWER):
                return await self._readiness()
        except ModelAwayError:
            return AWAY
        except TimeoutError:
            return f"The model wrote nothing for {SECONDS_TO_ANSWER:g} seconds."
        except Exception as error:
            return unexpected(error, with_text=self._log_text).message

"""A bounded queue of turns: so many are answered at a time, so many may wait, more are refused."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from retail_assistant.serving.api.errors import busy

_WEIGHT_OF_NEWEST = 0.1


class TurnQueue:
    """First come, first served; who stops waiting leaves the queue."""

    def __init__(self, max_running: int, max_waiting: int) -> None:
        self._slots = asyncio.Semaphore(max_running)
        self._max_running, self._max_waiting = max_running, max_waiting
        self._seconds = 1.0
        self.running = self.waiting = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place for one turn.

        Raises:
            ApiError: 429 at once, because too many wait already.
        """
        if self._slots.locked() and self.waiting >= self._max_waiting:
            raise busy("Too many shoppers ask at once; try again.", "busy", self._turns_ahead())
        self.waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        began = time.monotonic()
        try:
            yield
        finally:
            self.running -= 1
            self._slots.release()
            self._seconds += _WEIGHT_OF_NEWEST * (time.monotonic() - began - self._seconds)

    def _turns_ahead(self) -> float:
        """About how long until a turn that came now would have a place, in seconds."""
        return self._seconds * (self.waiting + 1) / self._max_running

"""SIGTERM: a machine that is taken back leaves time for a checkpoint, and the training ends."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self

from retail_assistant.launch.spec import PREEMPTED_EXIT_CODE


class Preemption:
    """Whether this process was told to end.

    While a training runs the signal is only remembered: the step is finished, all processes agree,
    and a checkpoint is written. At other times there is nothing to lose, and the process ends.
    """

    def __init__(self) -> None:
        self.asked = False
        self.agreed = False
        self._training = False

    @classmethod
    def listening(cls) -> Self:
        """One that takes SIGTERM from here on (main thread only)."""
        made = cls()
        signal.signal(signal.SIGTERM, made._receive)
        return made

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """The time of a training; at its end the process ends if it was told to."""
        self._training = True
        try:
            yield
        finally:
            self._training = False
        if self.asked or self.agreed:
            sys.exit(PREEMPTED_EXIT_CODE)

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
        if not self._training:
            sys.exit(PREEMPTED_EXIT_CODE)

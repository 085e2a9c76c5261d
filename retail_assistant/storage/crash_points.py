"""Named places at which a test ends this process, as a lost machine or a person would.

A place is before, within or after something that others see or that work goes on from: `before
pointer products`, `after checkpoint instruction checkpoint-4`. `RETAIL_CRASH_AT` names the place at
which the process gets a signal (`RETAIL_CRASH_SIGNAL`; SIGKILL unless another is named), and every
place that is passed adds a line to the file `RETAIL_CRASH_TRACE`. Where neither is set, as always
outside of tests, a place looks up two variables.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

CRASH_AT = "RETAIL_CRASH_AT"
CRASH_SIGNAL = "RETAIL_CRASH_SIGNAL"
CRASH_TRACE = "RETAIL_CRASH_TRACE"
BEFORE, WITHIN, AFTER = "before", "within", "after"

_inside: ContextVar[tuple[str, ...]] = ContextVar("inside", default=("file",))


def crash_point(*words: str) -> None:
    """A place, named by its words with a space between."""
    wanted, trace = os.environ.get(CRASH_AT), os.environ.get(CRASH_TRACE)
    if wanted is None and trace is None:
        return
    place = " ".join(words)
    if trace is not None:
        # In one call to the end of the file: several processes write to it.
        written = os.open(trace, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(written, f"{place}\n".encode())
        os.close(written)
    if place == wanted:
        os.kill(os.getpid(), signal.Signals[os.environ.get(CRASH_SIGNAL, "SIGKILL")])


def crash_point_within() -> None:
    """The place in the middle of what is crossed: a file is written, and nobody sees it yet."""
    crash_point(WITHIN, *_inside.get())


@contextmanager
def crossing(*parts: str | None) -> Iterator[None]:
    """The places before and after the body, if that ends well; a part that is None is left out."""
    words = tuple(part for part in parts if part is not None)
    crash_point(BEFORE, *words)
    token = _inside.set(words)
    try:
        yield
    finally:
        _inside.reset(token)
    crash_point(AFTER, *words)

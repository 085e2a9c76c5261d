"""Results that are written line by line into a file that a killed run is gone on with."""

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, TypeVar

Done = TypeVar("Done")


@contextmanager
def continued_file(
    output: Path, done: Callable[[Sequence[str]], Done], *, resume: bool
) -> Iterator[tuple[TextIO, Done]]:
    """The file, open to append (UTF-8) by one process at a time, and what `done` says is in it.

    A last line that was cut off is taken away. `done` gets the whole lines, without their ends;
    it raises ValueError where they are not of this input, and the file stays as it was.

    Raises:
        ValueError: the file is there without `resume`, or another run is writing to it.
    """
    if output.exists() and not resume:
        raise ValueError(f"{output} is there already; allowed: --resume, or another file")
    with output.open("a", encoding="utf-8", newline="") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"another run is writing to {output}") from error
        content = output.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        found = done(whole.decode("utf-8", "replace").split("\n")[:-1])
        os.truncate(output, len(whole))
        yield stream, found

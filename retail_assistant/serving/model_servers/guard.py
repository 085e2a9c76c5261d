"""Runs beside a model server that was started here, and ends it when whoever started it is gone.

`python -m retail_assistant.serving.model_servers.guard LOG COMMAND…` runs the command until its own
standard input is closed, which the kernel does even for a process that was killed. What the command
writes goes to LOG, of bounded size.
"""

import logging
import os
import signal
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path
from threading import Event, Thread
from typing import BinaryIO

from retail_assistant.launch.processes import ProcessTree

SECONDS_TO_STOP = 8
"""From SIGTERM to SIGKILL: a model server holds nothing that is not on disk."""

SECONDS_BETWEEN_LOOKS = 0.1
LOG_BYTES = 1_000_000
CANNOT_START = 127
"""As shells say it."""


def main() -> None:
    """Run a command until it ends, or this process's input does."""
    log, *command = sys.argv[1:]
    ended = Event()
    for sent in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sent, lambda *_: ended.set())
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as output:
        try:
            tree = ProcessTree(command, os.environ, output)
        except OSError as error:
            Path(log).write_text(f"{command[0]}: {error.strerror}\n")
            sys.exit(CANNOT_START)
    copying = Thread(target=_copy, args=(os.fdopen(reading, "rb"), Path(log)), daemon=True)
    copying.start()
    Thread(target=_wait_for_end, args=(ended,), daemon=True).start()
    code = None
    try:
        while code is None and not ended.wait(SECONDS_BETWEEN_LOOKS):
            code = tree.wait(0)
    finally:
        tree.end(SECONDS_TO_STOP)
    copying.join(SECONDS_TO_STOP)
    # Not sys.exit: the thread that waits for the end of the input holds its lock.
    os._exit(code if code is not None and code >= 0 else 1)


def _wait_for_end(ended: Event) -> None:
    os.read(sys.stdin.fileno(), 1)
    ended.set()


def _copy(stream: BinaryIO, path: Path) -> None:
    """Lines to a file that is begun anew at its bound; the one before is kept."""
    handler = RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=1)
    for line in stream:
        text = line.decode(errors="replace").rstrip("\n")
        handler.emit(logging.makeLogRecord({"msg": text, "levelno": logging.INFO}))
    handler.close()


if __name__ == "__main__":
    main()

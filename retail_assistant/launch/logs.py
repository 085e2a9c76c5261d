"""What workers write, brought to whoever waits for them while they are still at it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

LOG_PATTERN = "log*.txt"
SECONDS_BETWEEN_LOOKS = 2.0
MOST_CHARACTERS = 8_000
"""Of what was written between two looks; a run's event log is no place for more."""


class LogFollower:
    """Reads what is added to the logs in a folder, from the moment it is made."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read = {path: path.stat().st_size for path in folder.glob(LOG_PATTERN)}

    def news(self, *, to_the_end: bool = False) -> Iterator[str]:
        """For each log that has grown its new whole lines; at the end the last line, too."""
        for path in sorted(self._folder.glob(LOG_PATTERN)):
            start = self._read.get(path, 0)
            with path.open("rb") as log:
                log.seek(start)
                added = log.read()
            if not to_the_end:
                added = added[: added.rfind(b"\n") + 1]
            self._read[path] = start + len(added)
            text = added.decode(errors="replace").strip("\n")
            if text:
                yield f"{path.name}:\n{_shortened(text)}"


def _shortened(text: str) -> str:
    left_out = len(text) - MOST_CHARACTERS
    if left_out <= 0:
        return text
    half = MOST_CHARACTERS // 2
    return f"{text[:half]}\n[{left_out} characters are left out here]\n{text[-half:]}"


@contextmanager
def following_logs(folder: Path, say: Callable[[str], object]) -> Iterator[None]:
    """While the body runs, tell what is added to the logs in `folder`; all of it by the end."""
    folder.mkdir(parents=True, exist_ok=True)
    follower, ended = LogFollower(folder), Event()

    def follow() -> None:
        while not ended.wait(SECONDS_BETWEEN_LOOKS):
            for text in follower.news():
                say(text)

    thread = Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        for text in follower.news(to_the_end=True):
            say(text)

"""What workers write, brought to whoever waits for them while they are still at it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from retail_assistant.telemetry.logs import readable

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
        for name, text in self.lines(to_the_end=to_the_end):
            yield f"{name}:\n{_shortened(readable(text))}"

    def lines(self, *, to_the_end: bool = False) -> Iterator[tuple[str, str]]:
        """As `news`, all of it as it was written: the log's name, and its new lines."""
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
                yield path.name, text


def _shortened(text: str) -> str:
    left_out = len(text) - MOST_CHARACTERS
    if left_out <= 0:
        return text
    half = MOST_CHARACTERS // 2
    return f"{text[:half]}\n[{left_out} characters are left out here]\n{text[-half:]}"


@contextmanager
def following_logs(
    folder: Path, say: Callable[[str], object], *, raw: bool = False
) -> Iterator[None]:
    """While the body runs, tell what is added to the logs in `folder`; all of it by the end.

    raw: as it was written, with its line ends; else for people, with the log's name before it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    follower, ended = LogFollower(folder), Event()

    def tell(*, to_the_end: bool = False) -> None:
        if raw:
            for _, text in follower.lines(to_the_end=to_the_end):
                say(f"{text}\n")
        else:
            for text in follower.news(to_the_end=to_the_end):
                say(text)

    def follow() -> None:
        while not ended.wait(SECONDS_BETWEEN_LOOKS):
            tell()

    thread = Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        tell(to_the_end=True)

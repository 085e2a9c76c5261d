"""What happened when, and a loud end where something did not."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

SECONDS_BETWEEN_LOOKS = 1.0


class RehearsalError(RuntimeError):
    """A part did not do what it has to; says which, and what it said last."""


@dataclass
class Timeline:
    """The steps of a rehearsal, in order: when each began, how long it took, and what was seen."""

    console: Console
    began: float = field(default_factory=time.monotonic)
    steps: list[tuple[float, float, str, str]] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[str], None]]:
        """A step; what it yields takes what was seen."""
        started, seen = time.monotonic(), list[str]()
        self.console.print(f"{started - self.began:7.1f} s  {name} ...")
        yield seen.append
        took = time.monotonic() - started
        self.steps.append((started - self.began, took, name, "; ".join(seen)))
        for one in seen:
            self.console.print(f"{'':11}{one}", highlight=False, markup=False)

    def until(
        self,
        what: str,
        is_so: Callable[[], bool],
        seconds: float,
        between: float = SECONDS_BETWEEN_LOOKS,
    ) -> None:
        """Wait for something, with so many seconds between two looks.

        Raises:
            RehearsalError: it has not come about within so many seconds.
        """
        deadline = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() > deadline:
                raise RehearsalError(f"{what}: not within {seconds:.0f} s")
            time.sleep(between)

    def table(self) -> Table:
        """All steps."""
        table = Table("began", "took", "step", "seen", title="The rehearsal", show_lines=False)
        for began, took, name, seen in self.steps:
            table.add_row(f"{began:.0f} s", f"{took:.1f} s", name, seen)
        return table

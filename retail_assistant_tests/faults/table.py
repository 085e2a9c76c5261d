"""The table of docs/reliability.md, written from what the tests marked `fault` saw.

`@pytest.mark.fault("what happens", "what must come of it")` makes a test a row; the same pair on
several tests, or on the cases of one, makes one row that holds if all of them hold.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

BEGIN, END = "<!-- faults: written by `make faults` -->", "<!-- end of faults -->"
HEAD = """\
| # | What happens | What must come of it | Seen | Tests | Seconds |
|--:|---|---|---|--:|--:|"""
_REASON_CHARACTERS = 160
_HELD, _FAILED, _NOT_RUN = "held", "**failed**", "not run"


@dataclass
class Row:
    """A fault and what its tests saw."""

    happens: str
    outcome: str
    tests: set[str] = field(default_factory=set)
    seconds: float = 0.0
    failed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @property
    def seen(self) -> str:
        """Whether it held, in a table's cell."""
        if self.failed:
            return f"{_FAILED}: {self.failed[0]}"
        if len(self.skipped) == len(self.tests):
            return f"{_NOT_RUN}: {self.skipped[0]}"
        return _HELD


class FaultTable:
    """A pytest plugin that gathers the rows; with workers, in the process that leads them."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.rows: dict[tuple[str, str], Row] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in what a phase of a test came to."""
        for key in [value for name, value in report.user_properties if name == "fault"]:
            row = self.rows.setdefault(tuple(key), Row(*key))
            row.tests.add(report.nodeid)
            row.seconds += report.duration
            if report.failed:
                row.failed.append(_reason(report))
            elif report.skipped:
                row.skipped.append(_reason(report))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the table, unless this process only works for another."""
        if self.file is not None and self.rows and not hasattr(session.config, "workerinput"):
            text = self.file.read_text()
            before, _, rest = text.partition(BEGIN)
            after = rest.partition(END)[2]
            self.file.write_text(f"{before}{BEGIN}\n{self.table()}\n{END}{after}")

    def table(self) -> str:
        """The rows in Markdown, in the order of what happens."""
        lines = [
            f"| {number} | {row.happens} | {row.outcome} | {row.seen} | {len(row.tests)} "
            f"| {row.seconds:.0f} |"
            for number, (_, row) in enumerate(sorted(self.rows.items()), start=1)
        ]
        return "\n".join([HEAD, *lines])


def faults_of(item: pytest.Item) -> Iterator[tuple[str, str]]:
    """The rows that a test stands for.

    Raises:
        pytest.UsageError: a mark without its two texts.
    """
    for mark in item.iter_markers("fault"):
        texts = mark.args
        if len(texts) != 2 or not all(isinstance(one, str) and "|" not in one for one in texts):
            raise pytest.UsageError(f"{item.nodeid}: fault takes what happens and what must come")
        happens, outcome = (text[:1].upper() + text[1:] for text in texts)
        yield happens, outcome


def written_rows(text: str) -> set[tuple[str, str]]:
    """The faults and outcomes that a page's table has."""
    table = text.partition(BEGIN)[2].partition(END)[0].strip().splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return {(row[1], row[2]) for row in cells}


def _reason(report: pytest.TestReport) -> str:
    long = report.longrepr
    if isinstance(long, tuple):
        text = str(long[2])
    else:
        crash = getattr(long, "reprcrash", None)
        text = str(crash.message if crash is not None else long)
    first = text.strip().splitlines()[0] if text.strip() else "no reason"
    return first.removeprefix("Skipped: ").replace("|", "/")[:_REASON_CHARACTERS]

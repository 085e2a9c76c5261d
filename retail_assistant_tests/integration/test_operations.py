"""Operations on a storage folder in which the whole graph was run."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace

import polars as pl
import pytest

from retail_assistant.storage import TableStore
from retail_assistant_tests.integration.line import JOBS, FinishedLine
from retail_assistant_tests.operations.works import aged, finished_work

pytestmark = pytest.mark.slow

COMMANDS = (
    ("report",),
    ("report", "--json"),
    ("champion", "list"),
    ("champion", "show"),
    ("corpus", "show"),
    ("corpus", "history"),
    ("jobs", "show", JOBS[1]),
    ("feedback", "report"),
)


@pytest.fixture(scope="module")
def moved_line(
    finished_line: FinishedLine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FinishedLine]:
    """A copy of the finished line that knows only of itself, with a champion."""
    folder = tmp_path_factory.mktemp("moved") / "var"
    shutil.copytree(finished_line.storage, folder, symlinks=True)
    for path in folder.rglob("*.json"):
        text = path.read_text(errors="surrogateescape")
        moved = text.replace(str(finished_line.storage), str(folder))
        if moved != text:
            path.write_text(moved, errors="surrogateescape")
    line = replace(finished_line, storage=folder)
    with line.promoted(JOBS[1]):
        yield line


def test_every_command_works_after_a_collection(moved_line: FinishedLine) -> None:
    root = moved_line.storage
    before = {words: moved_line.call(*words) for words in COMMANDS}
    latest = TableStore(root).ref("products")
    stale = [
        TableStore(root).write(pl.DataFrame({"name": ["old"]}), "products").path,
        finished_work(root, "adapter", {"prompt_corpus": "gone"}).folder,
    ]
    TableStore(root).point(latest, "products")
    aged(root, days=60)
    listed = json.loads(moved_line.call("gc", "--json").output)
    assert {root / one["path"] for one in listed["candidates"]} == set(stale)
    thrown = moved_line.call("gc", "--delete")
    assert thrown.code == 0, thrown.errors
    assert not any(path.exists() for path in stale)
    for words, then in before.items():
        now = moved_line.call(*words)
        assert (now.code, now.output) == (then.code, then.output), now.errors
    # Nothing is trained or asked again: all that a run needs is there.
    artefacts = moved_line.artefacts()
    again = moved_line.run(*JOBS)
    assert "model_comparison" in again.words, again.errors[-3000:]
    assert {path: artefacts[path] for path in artefacts} == {
        path: time for path, time in moved_line.artefacts().items() if path in artefacts
    }
    back = moved_line.call("gc", "restore")
    assert "2 things are back" in back.words
    assert all(path.exists() for path in stale)


def test_costs_are_told(moved_line: FinishedLine) -> None:
    told = json.loads(moved_line.call("costs", "--by", "job", "--json").output)
    assert {one["name"] for one in told["totals"]} >= set(JOBS)
    assert told["all"]["cost"] is None
    trained = [one for one in told["work"] if one["asset"] == "adapter" and one["job"]]
    assert {one["job"] for one in trained} == set(JOBS)
    assert all(one["devices"] == 1 and one["run_id"] for one in trained)
    table = moved_line.call("costs", "--by", "asset")
    assert (table.code, "predictions" in table.output) == (0, True)

"""Operations on a storage folder in which the whole graph was run."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace

import polars as pl
import pytest

from retail_assistant.launch.spec import read_manifest
from retail_assistant.settings import get_settings
from retail_assistant.storage import TableStore
from retail_assistant_tests.integration.line import JOBS, FinishedLine
from retail_assistant_tests.operations.works import aged, finished_work
from retail_assistant_tests.test_cli import Cli, cli

__all__ = ["cli"]

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
    ("costs",),
)
REFERRING = ("champion.json", "artefacts/*/*.json", "artefacts/*/*/spec.json")


@pytest.fixture(scope="module")
def moved_line(
    finished_line: FinishedLine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FinishedLine]:
    """A copy of the finished line that knows only of itself, with a champion."""
    folder = tmp_path_factory.mktemp("moved") / "var"
    shutil.copytree(finished_line.storage, folder, symlinks=True)
    for path in (one for pattern in REFERRING for one in folder.glob(pattern)):
        path.write_text(path.read_text().replace(str(finished_line.storage), str(folder)))
    line = replace(finished_line, storage=folder)
    with line.promoted(JOBS[1]):
        yield line


@pytest.fixture
def at_the_line(moved_line: FinishedLine, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The commands, with the line's settings."""
    for name, value in moved_line.environment.items():
        if name.startswith(("RETAIL_", "DAGSTER_")):
            monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    return cli


def test_every_command_works_after_a_collection(moved_line: FinishedLine, at_the_line: Cli) -> None:
    root = moved_line.storage
    latest = TableStore(root).ref("products")
    stale = [
        TableStore(root).write(pl.DataFrame({"name": ["old"]}), "products").path,
        finished_work(root, "adapter", {"prompt_corpus": "gone"}).folder,
    ]
    TableStore(root).point(latest, "products")
    aged(root, days=60)
    before = {words: at_the_line(*words) for words in COMMANDS}
    whole = set((root / "artefacts").glob("*/*/manifest.json"))
    listed = json.loads(at_the_line("gc", "--json").out)
    # Other tests on this line may have left more that nothing refers to.
    found = {root / one["path"] for one in listed["candidates"]}
    assert found >= set(stale)
    assert at_the_line("gc", "--delete").code == 0
    assert not any(path.exists() for path in found)
    for words, then in before.items():
        assert then.code == 0, words
        assert at_the_line(*words) == then
    # All that a run would find finished is there, as it was.
    assert all(read_manifest(path.parent) for path in whole if path.parent not in found)
    assert f"{len(found)} things are back" in at_the_line("gc", "restore").out
    assert all(path.exists() for path in found)


def test_costs_are_told(moved_line: FinishedLine, at_the_line: Cli) -> None:
    told = json.loads(at_the_line("costs", "--by", "job", "--json").out)
    assert {one["name"] for one in told["totals"]} >= set(JOBS)
    assert told["all"]["cost"] is None
    trained = [one for one in told["work"] if one["asset"] == "adapter" and one["job"]]
    assert {one["job"] for one in trained} >= set(JOBS)
    assert all(one["devices"] == 1 and one["run_id"] for one in trained)
    assert "predictions" in at_the_line("costs", "--by", "asset").out

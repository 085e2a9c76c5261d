"""The whole graph, broken off at every named place: it ends as one that never was.

Two storage folders: in one the graph is run without a break, in the other each slice is begun again
and again, and killed each time at the next place. The tests are one story, told in order.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from retail_assistant_tests.conftest import REPOSITORY
from retail_assistant_tests.faults.forked import ForkingProcess
from retail_assistant_tests.faults.readers import Seen, seen
from retail_assistant_tests.faults.slices import SLICES
from retail_assistant_tests.integration.line import TINY_STUDY, Line

pytestmark = [pytest.mark.slow, pytest.mark.long_fault, pytest.mark.timeout(3600)]

OUTCOME = (
    "the next run ends with the fingerprints of an unbroken one, does nothing again that was saved,"
    " and no reader sees half a thing at any time"
)
SAVED = ("manifest", "checkpoint", "shard", "parity", "sheet", "approval")
"""What is there once is not made again; tables are, for they take no time."""


@dataclass(frozen=True)
class Made:
    """A line, and the process whose children work on it."""

    line: Line
    children: ForkingProcess

    def passed(self, name: str) -> list[str]:
        """Make a slice to its end; the places that were passed, each once."""
        known = len(self.children.places())
        assert self.children.run("make", name) == 0, self.children.said()
        return list(dict.fromkeys(self.children.places()[known:]))

    def unfinished(self) -> list[str]:
        """Runs that Dagster takes for running."""
        with self.line.instance() as instance:
            return [run.run_id for run in instance.get_runs() if not run.is_finished]


def made(folder: Path, model: Path) -> Made:
    (folder / "studies").mkdir(parents=True)
    (folder / "studies" / "tiny.yaml").write_text(TINY_STUDY)
    policy = folder / "promotion.yaml"
    # Random weights keep no limit; here it matters only that all is made.
    policy.write_text("limits:\n  blocking: []\n")
    line = Line(folder / "var", folder / "studies", model)
    line.storage.mkdir()
    slices = "retail_assistant_tests.faults.slices"
    more = {"POLARS_MAX_THREADS": "1", "DAGSTER_DISABLE_TELEMETRY": "1"}
    more |= {"RETAIL_PROMOTION_POLICY": str(policy), "PYTHONPATH": _without_vllm(folder)}
    return Made(line, ForkingProcess(slices, folder / "children", line.environment | more))


@pytest.fixture(scope="module")
def model(tiny_model_folder: Path) -> Path:
    return tiny_model_folder


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """Where the graph is never broken off."""
    one = made(tmp_path_factory.mktemp("whole"), model)
    yield one
    one.children.close()


@pytest.fixture(scope="module")
def broken(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """Where it is."""
    one = made(tmp_path_factory.mktemp("broken"), model)
    yield one
    one.children.close()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=pytest.mark.fault(f"a process is killed anywhere: {name}", OUTCOME)
        )
        for name in SLICES
    ],
)
def test_a_slice_that_is_killed_anywhere(name: str, whole: Made, broken: Made) -> None:
    places = _telling(whole.passed(name))
    expected = seen(whole.line.storage)
    assert len(places) >= 3

    for place in places:
        if _is_saved(place, broken.children.places()):
            continue
        passed = len(broken.children.places())
        assert broken.children.run("make", name, at=place) != 0, place
        assert place in broken.children.places()[passed:], broken.children.said()
        # Nothing half, and nothing that an unbroken run does not make.
        assert _other(seen(broken.line.storage), expected) == {}, place
    broken.passed(name)

    assert _other(expected, seen(broken.line.storage)) == {}
    assert _made_again(broken.children.places()) == []
    assert broken.unfinished() == []
    print(f"\n{name}: killed at {len(places)} places")


@pytest.mark.fault(
    "a run is told to end (SIGTERM) or interrupted (SIGINT) while it stores what it made",
    "Dagster shows it as failed, and the next run ends with the fingerprints of an unbroken one",
)
@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT"])
def test_a_run_that_is_told_to_end(how: str, whole: Made, broken: Made) -> None:
    expected = seen(whole.line.storage)
    name = next(iter(SLICES))
    for place in ("before table products", "within pointer products", "after pointer products"):
        assert broken.children.run("make", name, at=place, how=how) != 0
        assert _other(seen(broken.line.storage), expected) == {}, place
        assert broken.unfinished() == []
    broken.passed(name)

    assert _other(expected, seen(broken.line.storage)) == {}


def _other(found: Seen, than: Seen) -> Seen:
    """What is not there, or another, in the second."""
    return {name: value for name, value in found.items() if than.get(name) != value}


def _without_vllm(folder: Path) -> str:
    """A search path on which vLLM cannot be imported: the engine that then answers starts at once.

    It stores what it answered as every engine does.
    """
    (folder / "path").mkdir()
    (folder / "path" / "vllm.py").write_text("raise ImportError('not in this test')\n")
    return f"{folder / 'path'}{os.pathsep}{REPOSITORY}"


def _telling(places: Sequence[str]) -> list[str]:
    """Without the third and further of many checkpoints or shards, which are alike."""
    many = {
        kind: list(dict.fromkeys(what for _, found, what in map(_parts, places) if found == kind))
        for kind in ("checkpoint", "shard")
    }
    left_out = {what for names in many.values() for what in names[1:-1]}
    return [place for place in places if _parts(place)[2] not in left_out]


def _parts(place: str) -> tuple[str, str, str]:
    """When, of which kind, and what: with its kind."""
    when, _, what = place.partition(" ")
    return when, what.split()[0], what


def _is_saved(place: str, passed: Sequence[str]) -> bool:
    """Whether what happens at a place is saved already: several things are made at once."""
    _, kind, what = _parts(place)
    return kind in SAVED and f"after {what}" in passed


def _made_again(passed: Sequence[str]) -> list[str]:
    """What was made once more after it had been saved."""
    saved: set[str] = set()
    again = []
    for place in passed:
        when, kind, what = _parts(place)
        if kind not in SAVED:
            continue
        if when == "after":
            saved.add(what)
        elif what in saved:
            again.append(place)
    return again

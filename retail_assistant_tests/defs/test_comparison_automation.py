"""When the comparison runs by itself: the real graph and real ticks."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pytest

from retail_assistant.definitions import defs
from retail_assistant.defs.comparison_automation import BASELINE, COMPARED, COMPARISON, REPORTS
from retail_assistant.defs.conditions import DATA_VERSION_TAG
from retail_assistant.settings import get_settings

GROUNDED, CLOSED = "quickstart-grounded", "quickstart-closed-book"


@pytest.fixture(scope="module")
def graph() -> dg.Definitions:
    return defs()


@dataclass
class Ticks:
    """The sensor's looks at an instance."""

    graph: dg.Definitions
    instance: dg.DagsterInstance
    cursor: Any = None

    def made(self, key: dg.AssetKey, version: str, partition: str | None = None) -> None:
        tags = {DATA_VERSION_TAG: version}
        event = dg.AssetMaterialization(key, partition=partition, tags=tags)
        self.instance.report_runless_asset_event(event)

    def compared(self, **versions: str) -> None:
        """A comparison of these versions was made."""
        shown = {name.replace("__", "/"): version for name, version in versions.items()}
        metadata = {COMPARED: dg.MetadataValue.json(shown)}
        self.instance.report_runless_asset_event(
            dg.AssetMaterialization(COMPARISON, metadata=metadata)
        )

    def look(self) -> bool:
        """Whether a comparison is requested."""
        found = dg.evaluate_automation_conditions(
            defs=self.graph,
            instance=self.instance,
            cursor=self.cursor,
            asset_selection=dg.AssetSelection.assets(COMPARISON),
        )
        self.cursor = found.cursor
        return found.total_requested > 0


@pytest.fixture
def ticks(graph: dg.Definitions) -> Iterator[Ticks]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Ticks(graph, instance)


def test_a_first_report_beside_a_baseline_is_compared_whatever_is_missing(ticks: Ticks) -> None:
    assert not ticks.look()
    ticks.made(REPORTS, "1", GROUNDED)
    assert not ticks.look(), "there is nothing to compare it with"
    ticks.made(BASELINE, "1")
    assert ticks.look()


def test_the_same_is_requested_once(ticks: Ticks) -> None:
    ticks.made(BASELINE, "1")
    ticks.made(REPORTS, "1", GROUNDED)
    assert [ticks.look() for _ in range(4)] == [True, False, False, False]


def test_another_report_or_baseline_is_compared_the_same_version_is_not(ticks: Ticks) -> None:
    ticks.made(BASELINE, "1")
    ticks.made(REPORTS, "1", GROUNDED)
    assert ticks.look()
    ticks.compared(**{"baseline_predictions": "1", f"evaluation_report/{GROUNDED}": "1"})
    assert not ticks.look()
    ticks.made(REPORTS, "1", GROUNDED)
    assert not ticks.look(), "made again, the same"
    ticks.made(REPORTS, "2", GROUNDED)
    assert ticks.look()
    ticks.made(REPORTS, "1", CLOSED)
    assert ticks.look(), "another partition while the first request was not even run"
    ticks.made(BASELINE, "2")
    assert ticks.look()


def test_what_a_person_compared_is_not_compared_again(ticks: Ticks) -> None:
    ticks.made(BASELINE, "1")
    ticks.made(REPORTS, "1", GROUNDED)
    ticks.compared(**{"baseline_predictions": "1", f"evaluation_report/{GROUNDED}": "1"})
    assert not ticks.look()


def test_a_version_that_comes_back_is_compared_again(ticks: Ticks) -> None:
    ticks.made(BASELINE, "1")
    for version in ("1", "2", "1"):
        ticks.made(REPORTS, version, GROUNDED)
        assert ticks.look(), version
        ticks.compared(**{"baseline_predictions": "1", f"evaluation_report/{GROUNDED}": version})
        assert not ticks.look()


def test_the_sensor_looks_at_the_comparison_and_begins_stopped(graph: dg.Definitions) -> None:
    sensors = [one for one in graph.sensors or () if one.name == "comparison_automation"]
    (sensor,) = sensors
    keys = sensor.asset_selection.resolve(graph.resolve_asset_graph())
    assert keys == {COMPARISON}
    assert (sensor.default_status == dg.DefaultSensorStatus.RUNNING) == get_settings().refresh

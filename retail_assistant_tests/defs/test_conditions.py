"""What automation requests, and what it leaves alone: the real conditions on a small graph."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import pytest

from retail_assistant.definitions import defs
from retail_assistant.defs.conditions import (
    DATA_VERSION_TAG,
    REFRESH,
    REFRESH_CORPUS,
    REFRESH_ONCE_MADE,
)

TASKS = dg.StaticPartitionsDefinition(["assistant", "sentiment"])
FOLLOWS_THE_CATALOG = {
    "products",
    "rejected_products",
    "catalog_changes",
    "near_duplicates",
    "assortment",
    "product_images",
    "catalog_index",
    "product_splits",
    "dialogues",
    "unwritten_dialogues",
    "screened_dialogues",
    "rejected_dialogues",
    "corpus_sheet",
    "corpus_approval",
    "prompt_corpus",
    "labelled_texts",
    "rejected_labelled_texts",
}


@dataclass
class Bench:
    """source -> products -> (left -> photos, right) -> joined -> corpus."""

    instance: dg.DagsterInstance
    versions: dict[str, str] = field(default_factory=dict)
    code: dict[str, str] = field(default_factory=dict)
    products_are_good: bool = True
    breaks: str | None = None
    cursor: Any = None

    def made(self, name: str) -> dg.MaterializeResult:
        if name == self.breaks:
            raise RuntimeError("broken")
        return dg.MaterializeResult(data_version=dg.DataVersion(self.versions.get(name, "1")))

    def asset(
        self,
        name: str,
        *deps: str,
        condition: dg.AutomationCondition = REFRESH,
        partitions: dg.PartitionsDefinition | None = None,
    ) -> dg.AssetsDefinition:
        @dg.asset(
            name=name,
            deps=list(deps),
            code_version=self.code.get(name, "1"),
            partitions_def=partitions,
            automation_condition=condition,
        )
        def made() -> dg.MaterializeResult:
            return self.made(name)

        return made

    def defs(self) -> dg.Definitions:
        @dg.asset_check(asset="products", name="plausible", blocking=True)
        def plausible() -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=self.products_are_good)

        assets = [
            dg.AssetSpec("source"),
            self.asset("products", "source"),
            self.asset("left", "products"),
            self.asset("right", "products"),
            self.asset("joined", "left", "right"),
            self.asset("labelled_texts", condition=REFRESH_ONCE_MADE),
            self.asset(
                "corpus", "joined", "labelled_texts", condition=REFRESH_CORPUS, partitions=TASKS
            ),
            self.asset("photos", "left", condition=REFRESH_ONCE_MADE),
        ]
        return dg.Definitions(assets=assets, asset_checks=[plausible])

    def observe(self, version: str) -> None:
        tags = {DATA_VERSION_TAG: version}
        self.instance.report_runless_asset_event(dg.AssetObservation("source", tags=tags))

    def look(self) -> set[str]:
        """One look of the sensor: the names of the assets that it requests."""
        found = dg.evaluate_automation_conditions(
            defs=self.defs(), instance=self.instance, cursor=self.cursor
        )
        self.cursor = found.cursor
        names = ("products", "left", "right", "joined", "corpus", "photos")
        wanted = {name: found.get_requested_partitions(dg.AssetKey(name)) for name in names}
        assert wanted["corpus"] <= {"assistant"}
        return {name for name, partitions in wanted.items() if partitions}

    def run(self, *names: str) -> None:
        self.execute(dg.AssetSelection.assets(*names), partitioned=names == ("corpus",))

    def execute(self, selection: dg.AssetSelection, *, partitioned: bool = False) -> None:
        job = dg.define_asset_job("job", selection, executor_def=dg.in_process_executor)
        dg.Definitions.merge(self.defs(), dg.Definitions(jobs=[job])).resolve_job_def(
            "job"
        ).execute_in_process(
            instance=self.instance,
            partition_key="assistant" if partitioned else None,
            raise_on_error=False,
        )

    def settle(self, looks: int = 12) -> list[set[str]]:
        """Look and run what is requested, until nothing is; what was requested, look by look."""
        told = []
        for _ in range(looks):
            wanted = self.look()
            if not wanted:
                return told
            told.append(wanted)
            self.run(*wanted)
        raise AssertionError(f"it never ends: {told}")


@pytest.fixture
def bench() -> Iterator[Bench]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Bench(instance)


@pytest.fixture
def settled(bench: Bench) -> Bench:
    bench.observe("1")
    assert bench.settle() == [{"products"}, {"left", "right"}, {"joined"}, {"corpus"}]
    return bench


def test_nothing_runs_before_the_source_was_observed(bench: Bench) -> None:
    assert bench.look() == set()
    bench.observe("1")
    assert bench.look() == {"products"}


def test_once_all_is_up_to_date_nothing_runs(settled: Bench) -> None:
    assert [settled.look() for _ in range(3)] == [set()] * 3


def test_the_same_version_observed_or_made_again_makes_nothing_run(settled: Bench) -> None:
    settled.observe("1")
    assert settled.look() == set()
    settled.run("products")
    settled.run("left")
    assert settled.look() == set()


def test_a_change_goes_as_far_as_versions_change(settled: Bench) -> None:
    settled.observe("2")
    assert settled.settle() == [{"products"}]
    settled.versions["products"] = "2"
    settled.observe("3")
    assert settled.settle() == [{"products"}, {"left", "right"}]
    settled.versions |= {"products": "3", "right": "3"}
    settled.observe("4")
    assert settled.settle() == [{"products"}, {"left", "right"}, {"joined"}]


def test_nothing_is_made_from_new_and_old_together(settled: Bench) -> None:
    settled.versions |= {"products": "2", "left": "2", "right": "2"}
    settled.observe("2")
    settled.run("products")
    settled.run("left")
    assert settled.look() == {"right"}


def test_a_new_code_version_runs_the_asset(settled: Bench) -> None:
    settled.code["joined"] = "2"
    assert settled.settle() == [{"joined"}]


def test_what_changed_before_the_first_look_is_not_missed(settled: Bench) -> None:
    settled.observe("2")
    settled.cursor = None
    assert settled.look() == {"products"}


def test_after_a_failed_blocking_check_nothing_runs_below(settled: Bench) -> None:
    settled.versions["products"] = "2"
    settled.products_are_good = False
    settled.observe("2")
    assert settled.settle() == [{"products"}]
    assert settled.look() == set()
    settled.versions["products"] = "3"
    settled.observe("3")
    assert settled.settle() == [{"products"}]
    settled.code["joined"] = "2"
    assert settled.look() == set()
    settled.products_are_good = True
    settled.execute(dg.AssetSelection.checks_for_assets("products"))
    assert settled.settle() == [{"left", "right"}, {"joined"}]


def test_what_failed_is_tried_again_only_with_other_inputs(settled: Bench) -> None:
    settled.breaks = "products"
    settled.observe("2")
    assert settled.settle() == [{"products"}]
    assert [settled.look() for _ in range(3)] == [set()] * 3
    settled.observe("3")
    assert settled.settle() == [{"products"}]
    settled.breaks = None
    settled.observe("2")
    assert settled.settle() == [{"products"}]


def test_a_version_that_comes_back_runs_again(settled: Bench) -> None:
    settled.observe("2")
    assert settled.settle() == [{"products"}]
    settled.observe("1")
    settled.run("products")
    assert settled.look() == set()
    settled.observe("2")
    assert settled.settle() == [{"products"}]


def test_a_change_between_request_and_run_is_not_lost(settled: Bench) -> None:
    settled.observe("2")
    assert settled.look() == {"products"}
    settled.observe("3")
    assert settled.look() == {"products"}


def test_what_needs_a_persons_wish_follows_only_once_it_was_made(settled: Bench) -> None:
    assert settled.look() == set()
    settled.run("photos")
    settled.versions |= {"products": "2", "left": "2"}
    settled.observe("2")
    assert settled.settle() == [{"products"}, {"left", "right"}, {"joined", "photos"}]


def test_labelled_texts_neither_start_nor_hold_back_the_other_prompts(settled: Bench) -> None:
    """They were never made when the prompts were, and are out of date in the end."""
    settled.run("labelled_texts")
    assert settled.look() == set()
    settled.code["labelled_texts"] = "2"
    assert settled.look() == set()
    settled.versions["joined"] = "2"
    settled.code["joined"] = "2"
    assert settled.settle() == [{"joined"}, {"corpus"}]


def test_only_what_is_made_from_the_catalog_follows_it() -> None:
    graph = defs().resolve_asset_graph()
    automated = {
        key.to_user_string()
        for key in graph.get_all_asset_keys()
        if graph.get(key).automation_condition is not None
    }
    # The comparison follows the reports, by a condition of its own.
    assert automated - {"model_comparison"} == FOLLOWS_THE_CATALOG

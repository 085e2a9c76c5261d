"""A catalog that changes, seen by the real assets, checks and sensors: no daemon, no heavy work."""

import csv
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from retail_assistant.catalog.acceptance import REFRESH_CHECKS, Acceptance, CleanedTables
from retail_assistant.definitions import defs
from retail_assistant.defs.automation import catalog_arrival
from retail_assistant.defs.conditions import DATA_VERSION_TAG
from retail_assistant.settings import EMBEDDED_CATALOG, SettingsError, get_settings
from retail_assistant.storage import TableStore

Rows = list[dict[str, str]]
CATALOG_STAGE = ("products", "rejected_products", "catalog_changes", "assortment")


class Shop:
    """A retailer's file, and the catalog stage that follows it."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.file = folder / "catalog.csv"
        self.store = TableStore(folder / "var")
        self.instance = instance
        self.graph = defs()

    def write(self, edit: Callable[[Rows], Rows] = lambda rows: rows) -> None:
        with EMBEDDED_CATALOG.open(newline="", encoding="utf-8") as source:
            reader = csv.DictReader(source)
            rows, columns = list(reader), reader.fieldnames or []
        with self.file.open("w", newline="", encoding="utf-8") as target:
            writer = csv.DictWriter(target, columns)
            writer.writeheader()
            writer.writerows(edit(rows))
        os.utime(self.file, (1_000_000_000, 1_000_000_000))

    def run(self, selection: dg.AssetSelection) -> dg.ExecuteInProcessResult:
        job = dg.define_asset_job("of_this_test", selection)
        graph = dg.Definitions.merge(self.graph, dg.Definitions(jobs=[job]))
        return graph.resolve_job_def("of_this_test").execute_in_process(
            instance=self.instance, raise_on_error=False
        )

    @property
    def accepted(self) -> CleanedTables | None:
        return Acceptance(self.store, str(self.file)).accepted

    def refresh(self) -> dg.ExecuteInProcessResult:
        return self.run(dg.AssetSelection.assets(*CATALOG_STAGE))

    def told(self, asset: str) -> dict[str, Any]:
        event = self.instance.get_latest_materialization_event(dg.AssetKey(asset))
        assert event is not None
        assert event.asset_materialization is not None
        return {name: entry.value for name, entry in event.asset_materialization.metadata.items()}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_settings: None) -> Iterator[Shop]:
    monkeypatch.setenv("RETAIL_CATALOG_URI", str(tmp_path / "catalog.csv"))
    monkeypatch.setenv("RETAIL_STORAGE_URI", str(tmp_path / "var"))
    with dg.DagsterInstance.ephemeral() as instance:
        shop = Shop(tmp_path, instance)
        shop.write()
        yield shop


def failed_checks(result: dg.ExecuteInProcessResult) -> set[str]:
    return {one.check_name for one in result.get_asset_check_evaluations() if not one.passed}


def made(result: dg.ExecuteInProcessResult) -> set[str]:
    events = result.get_asset_materialization_events()
    return {event.asset_key.to_user_string() for event in events if event.asset_key}


def chopped(rows: Rows, kept: float = 0.4) -> Rows:
    return rows[: int(kept * len(rows))]


def test_a_first_catalog_passes_and_is_accepted(shop: Shop) -> None:
    result = shop.refresh()
    assert result.success
    assert made(result) == set(CATALOG_STAGE)
    ran = {one.check_name for one in result.get_asset_check_evaluations()}
    assert ran >= set(REFRESH_CHECKS)
    told = shop.told("catalog_changes")
    assert told["added"] == shop.store.ref("products").rows
    assert told["dagster/row_count"] == 0


def test_a_one_percent_edit_is_told_product_by_product(shop: Shop) -> None:
    shop.refresh()
    edited: list[str] = []

    def edit(rows: Rows) -> Rows:
        for row in rows[::100]:
            row["brand"] = "Another Brand"
            edited.append(row["uniq_id"])
        return [*rows, {**rows[0], "uniq_id": "f" * 32}]

    shop.write(edit)
    assert shop.refresh().success
    changes = shop.store.ref("catalog_changes").read()
    products = set(shop.store.ref("products").read()["product_id"])
    changed = changes.filter(pl.col("change") == "changed")
    assert set(changed["product_id"]) == set(edited) & products
    assert set(changed["changed_columns"].explode()) == {"brand"}
    assert changes.filter(pl.col("change") == "added")["product_id"].to_list() == ["f" * 32]
    told = shop.told("catalog_changes")
    assert (told["added"], told["removed"], told["changed"]) == (1, 0, changed.height)
    assert shop.refresh().success
    assert shop.store.ref("catalog_changes").read().equals(changes)


@pytest.mark.fault(
    "The catalog loses more than half of its products",
    "It is held back, also with a few rows more, until a person accepts it",
)
def test_a_bad_catalog_goes_no_further_until_a_person_accepts_it(shop: Shop) -> None:
    shop.refresh()
    accepted = shop.accepted
    assert accepted is not None
    for kept in (0.4, 0.41):
        shop.write(lambda rows, kept=kept: chopped(rows, kept))
        result = shop.refresh()
        assert "enough_products_are_left" in failed_checks(result)
        assert made(result) == {"products", "rejected_products"}
        assert shop.accepted == accepted

    job = shop.graph.resolve_job_def("accept_catalog")
    assert made(job.execute_in_process(instance=shop.instance)) == {"catalog_changes"}
    assert shop.told("catalog_changes")["removed"] > 0
    checks = shop.run(dg.AssetSelection.checks_for_assets("products"))
    assert failed_checks(checks) == set()
    assert made(shop.refresh()) == set(CATALOG_STAGE)


@pytest.mark.fault(
    "Every row of the catalog stands twice, or all rows have one id",
    "The first of each id is a product, the rest is rejected; the catalog is held back",
)
def test_a_first_catalog_whose_rows_have_one_id_goes_no_further_until_accepted(shop: Shop) -> None:
    shop.write(lambda rows: [row | {"uniq_id": "same"} for row in rows])
    result = shop.refresh()
    assert failed_checks(result) == {"few_rows_are_rejected"}
    assert made(result) == {"products", "rejected_products"}
    assert shop.store.ref("products").rows == 1
    assert shop.accepted is None
    job = shop.graph.resolve_job_def("accept_catalog")
    assert made(job.execute_in_process(instance=shop.instance)) == {"catalog_changes"}
    assert failed_checks(shop.run(dg.AssetSelection.checks_for_assets("products"))) == set()


def test_automation_requests_the_checks_with_the_products_and_again_once_accepted(
    shop: Shop,
) -> None:
    shop.refresh()
    checks = {dg.AssetCheckKey(dg.AssetKey("products"), name) for name in REFRESH_CHECKS}
    cursor = None

    def look() -> tuple[int, set[str]]:
        nonlocal cursor
        found = dg.evaluate_automation_conditions(shop.graph, shop.instance, cursor=cursor)
        cursor = found.cursor
        asked = {
            one.key.name for one in found.results if one.key in checks and one.true_subset.size
        }
        return found.get_num_requested(dg.AssetKey("products")), asked

    assert look() == (0, set())
    shop.write(chopped)
    for name in ("raw_catalog", "catalog_profile", "store_knowledge", "base_model_source"):
        tags = {DATA_VERSION_TAG: "another"}
        shop.instance.report_runless_asset_event(dg.AssetObservation(name, tags=tags))
    assert look() == (1, set(REFRESH_CHECKS))
    failed = failed_checks(shop.refresh())
    assert look() == (0, set())
    shop.graph.resolve_job_def("accept_catalog").execute_in_process(instance=shop.instance)
    assert look() == (0, failed)


def test_a_failed_check_says_what_was_found_and_how_to_accept(shop: Shop) -> None:
    shop.refresh()
    shop.write(chopped)
    evaluations = {one.check_name: one for one in shop.refresh().get_asset_check_evaluations()}
    metadata = evaluations["enough_products_are_left"].metadata
    assert "max_row_drop" in metadata["found"].value
    assert "accept_catalog" in metadata["how_to_accept"].value
    assert "how_to_accept" not in evaluations["few_rows_are_rejected"].metadata


def test_the_sensor_asks_for_an_observation_once_a_change(shop: Shop) -> None:
    first = catalog_arrival(dg.build_sensor_context(instance=shop.instance))
    assert isinstance(first, dg.SensorResult)
    assert len(first.run_requests or []) == 1

    def look(cursor: str | None = first.cursor) -> Any:
        return catalog_arrival(dg.build_sensor_context(instance=shop.instance, cursor=cursor))

    assert isinstance(look(), dg.SkipReason)
    os.utime(shop.file, (1_000_000_001, 1_000_000_001))
    again = look()
    assert isinstance(again, dg.SensorResult)
    assert again.cursor != first.cursor
    os.utime(shop.file, (1_000_000_000, 1_000_000_000))
    put_back = look(again.cursor)
    assert put_back.cursor == first.cursor
    # Of a run key Dagster launches one run ever: the file that was put back would go unseen.
    assert [request.run_key for request in put_back.run_requests] == [None]
    os.utime(shop.file)
    assert isinstance(look(), dg.SkipReason)
    shop.file.unlink()
    assert "was not found" in (look().skip_message or "")


def test_refresh_waits_to_be_switched_on(shop: Shop) -> None:
    repository = shop.graph.get_repository_def()
    for name in ("catalog_arrival", "catalog_automation"):
        sensor = repository.get_sensor_def(name)
        assert sensor.default_status == dg.DefaultSensorStatus.STOPPED
    schedule = repository.get_schedule_def("catalog_observation")
    assert schedule.job_name == "observe_catalog"
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED


@pytest.mark.parametrize(
    "schedule", ["hourly", "* * * *", "* * * * * *", "60 * * * *", "0 0 31 2 *", "*/0 * * * *"]
)
def test_a_schedule_that_is_none_is_refused(
    schedule: str, monkeypatch: pytest.MonkeyPatch, fresh_settings: None
) -> None:
    monkeypatch.setenv("RETAIL_REFRESH_SCHEDULE", schedule)
    with pytest.raises(SettingsError, match=r"RETAIL_REFRESH_SCHEDULE=.*five fields"):
        get_settings()


@pytest.mark.parametrize(
    "schedule", ["0 * * * *", "*/15 6-22 * * 1-5", "0,30 4 1 1-12/3 7", "30 6 * * MON-FRI"]
)
def test_a_schedule_is_taken(
    schedule: str, monkeypatch: pytest.MonkeyPatch, fresh_settings: None
) -> None:
    monkeypatch.setenv("RETAIL_REFRESH_SCHEDULE", schedule)
    assert get_settings().refresh_schedule == schedule

"""Costs: what manifests say is added up; what they do not say is told, and is not 0."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from retail_assistant.operations.costs import all_work, keep_costs, of_month, total, totals
from retail_assistant_tests.operations.conftest import MakeSettings
from retail_assistant_tests.operations.works import NOW, finished_work

TRACKING = {"tag.job": "mine", "tag.study": "my-study", "tag.dagster_run_id": "r1"}


def test_a_training_costs_as_its_asset_says(tmp_path: Path, settings_of: MakeSettings) -> None:
    finished_work(
        tmp_path,
        "adapter",
        {"base_model": "b"},
        metrics={"train_seconds": 1800.0, "energy_kwh": 0.5},
        gpus=4,
        nodes=2,
        tracking=TRACKING,
    )
    (work,) = all_work(tmp_path)
    assert (work.job, work.study, work.run_id) == ("mine", "my-study", "r1")
    assert (work.devices, work.device_hours) == (8, 4.0)
    assert work.cost(settings_of(price_per_device_hour=2.0, price_per_kwh=0.2)) == pytest.approx(
        8.1
    )
    assert work.cost(settings_of()) is None


def test_work_without_a_model_uses_no_device(tmp_path: Path, settings_of: MakeSettings) -> None:
    finished_work(tmp_path, "catalog_index", {"assortment": "a"})
    (work,) = all_work(tmp_path)
    assert (work.devices, work.cost(settings_of(price_per_device_hour=2.0))) == (0, 0.0)


def test_what_is_not_known_is_told(tmp_path: Path, settings_of: MakeSettings) -> None:
    ref = finished_work(tmp_path, "adapter", {}, metrics={"energy_kwh": 1.0})
    (ref.folder / "spec.json").unlink()
    finished_work(tmp_path, "merged_model", {"adapter": "a"}, gpus=1)
    settings = settings_of(price_per_device_hour=3.0)
    whole = total("all", all_work(tmp_path), settings)
    assert (whole.cost, whole.cost_of) == (1.5, 1)
    assert (whole.energy_kwh, whole.energy_of) == (1.0, 1)
    assert whole.unknown == "device hours of 1, energy of 1, cost of 1"
    nothing = total("none", [], settings)
    assert (nothing.cost, nothing.device_hours, nothing.unknown) == (None, None, "")


def test_one_engine_for_several_artefacts_is_paid_for_once(tmp_path: Path) -> None:
    engine = {"engine_start_seconds": 10.0, "processes": 1}
    for adapter in ("a", "b", "c"):
        finished_work(tmp_path, "predictions", {"adapter": adapter}, metrics=engine, minutes=30)
    later = NOW + timedelta(hours=2)
    finished_work(
        tmp_path, "baseline_predictions", {"base_model": "m"}, metrics=engine, finished=later
    )
    work = all_work(tmp_path)
    assert sum(one.seconds for one in work) == pytest.approx(2 * 1800)
    assert work[-1].seconds == 1800


def test_by_month_and_group(tmp_path: Path, settings_of: MakeSettings) -> None:
    metrics = {"train_seconds": 3600.0}
    for number, day in enumerate((datetime(2026, 10, 31, 23, 59, tzinfo=UTC), NOW, NOW)):
        finished_work(
            tmp_path,
            "adapter",
            {"n": str(number)},
            metrics=metrics,
            finished=day,
            tracking=TRACKING,
        )
    finished_work(
        tmp_path, "predictions", {"adapter": "x"}, config={"variants": [{"name": "mine"}]}
    )
    work = of_month(all_work(tmp_path), "2026-11")
    assert len(work) == 3
    settings = settings_of(price_per_device_hour=1.0)
    by_job = totals(work, "job", settings)
    assert [(one.name, one.pieces) for one in by_job] == [("mine", 3)]
    assert [(one.name, one.cost) for one in totals(work, "asset", settings)] == [
        ("adapter", 2.0),
        ("predictions", 0.0),
    ]
    with pytest.raises(ValueError, match="allowed: a month such as"):
        of_month(work, "november")


def test_what_was_thrown_away_is_still_counted(tmp_path: Path) -> None:
    ref = finished_work(tmp_path, "adapter", {}, metrics={"train_seconds": 60.0})
    before = all_work(tmp_path)
    keep_costs(tmp_path, "20261128T000000Z", [ref.folder])
    assert all_work(tmp_path) == before
    for path in sorted(ref.folder.iterdir()):
        path.unlink()
    ref.folder.rmdir()
    with (tmp_path / "costs" / "removed" / "20261128T000000Z.jsonl").open("a") as stream:
        stream.write('{"cut off')
    assert all_work(tmp_path) == before

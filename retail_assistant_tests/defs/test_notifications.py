"""Alerts of real runs of Dagster, by the sensor, at a real webhook: each once, and no texts."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from retail_assistant.defs.notifications import alerts
from retail_assistant.defs.resources import Launcher, artefact_result
from retail_assistant.evaluation.champion_history import ChampionEvent
from retail_assistant.evaluation.drift import Measured
from retail_assistant.launch.spec import LaunchSpec
from retail_assistant.operations import webhook as delivery
from retail_assistant.settings import get_settings
from retail_assistant.storage import write_atomically
from retail_assistant_tests.launch.conftest import environment, sample_spec
from retail_assistant_tests.operations.conftest import webhook
from retail_assistant_tests.operations.webhook_server import Webhook
from retail_assistant_tests.operations.works import finished_work

__all__ = ["environment", "sample_spec", "webhook"]

MakeSpec = Callable[..., LaunchSpec]
TEXT = "Red Kurta for Women"
jobs = dg.StaticPartitionsDefinition(["mine", "other"])


@pytest.fixture(autouse=True)
def _settings(
    webhook: Webhook,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    environment: dict[str, str],
    fresh_settings: None,
) -> None:
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    monkeypatch.setenv("RETAIL_STORAGE_URI", str(tmp_path / "storage"))
    monkeypatch.setenv("RETAIL_ALERT_WEBHOOK", webhook.url)
    monkeypatch.setenv("RETAIL_ALERT_FORMAT", "json")
    monkeypatch.setattr(delivery, "FIRST_PAUSE", 0.01)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """As one machine has it: SQLite in a folder."""
    folder = tmp_path / "dagster"
    folder.mkdir()
    text = (files("retail_assistant.data") / "dagster.local.yaml").read_text()
    (folder / "dagster.yaml").write_text(text)
    with dg.DagsterInstance.from_config(str(folder)) as found:
        yield found


class Sensor:
    """The sensor, with its cursor from look to look."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance, self.cursor = instance, None
        self.words = self.look()

    def look(self) -> str:
        with dg.build_sensor_context(instance=self.instance, cursor=self.cursor) as context:
            result = alerts(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        self.words = result.skip_reason.skip_message if result.skip_reason else ""
        return self.words


def trained_by(spec: LaunchSpec) -> dg.AssetsDefinition:
    @dg.asset(name="adapter", partitions_def=jobs)
    def adapter(context: dg.AssetExecutionContext, launcher: Launcher) -> Any:
        told = {"eval_loss": 0.123456, "train_tokens": 20300, "study": "my-study"}
        ref = launcher.launch(context, spec)
        return artefact_result(ref, **told, samples=TEXT)._replace(value=None)

    return adapter


def run(
    asset: dg.AssetsDefinition | list[Any], instance: dg.DagsterInstance, key: str | None = None
) -> str:
    chosen = asset if isinstance(asset, list) else [asset]
    return dg.materialize(
        chosen,
        instance=instance,
        resources={"launcher": Launcher()},
        partition_key=key,
        raise_on_error=False,
    ).run_id


def test_a_finished_training_is_told_once_with_its_numbers(
    webhook: Webhook, instance: dg.DagsterInstance, sample_spec: MakeSpec
) -> None:
    adapter = trained_by(sample_spec())
    sensor = Sensor(instance)
    run_id = run(adapter, instance, "mine")
    sensor.look()
    (body,) = webhook.bodies
    assert (body["kind"], body["title"]) == ("training_finished", "mine: trained")
    assert body["facts"] == {"study": "my-study", "eval_loss": 0.1235, "train_tokens": 20300}
    assert body["link"] == f"{get_settings().dagster_ui}/runs/{run_id}"
    # Not again; nor what was found trained already.
    run(adapter, instance, "mine")
    sensor.look()
    assert sensor.look() == "0 new alerts; 0 held back"
    assert webhook.asked == 1


def test_what_happened_before_is_not_told(
    webhook: Webhook, instance: dg.DagsterInstance, sample_spec: MakeSpec
) -> None:
    run(trained_by(sample_spec(orders="fail")), instance, "mine")
    sensor = Sensor(instance)
    run(trained_by(sample_spec()), instance, "other")
    for _ in range(2):
        sensor.look()
    assert webhook.kinds == ["training_finished"]


def test_failures_are_told_without_what_they_quote(
    webhook: Webhook, instance: dg.DagsterInstance, sample_spec: MakeSpec
) -> None:
    @dg.asset
    def products() -> None:
        raise ValueError(f"no colour of {TEXT}")

    @dg.asset
    def assortment() -> None:
        return None

    @dg.asset_check(asset=assortment)
    def no_product_is_lost() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False, description=f"{TEXT} is lost")

    sensor = Sensor(instance)
    failed = run(trained_by(sample_spec(orders="fail")), instance, "mine")
    run(products, instance)
    run([assortment, no_product_is_lost], instance)
    sensor.look()
    assert webhook.kinds == ["run_failed", "run_failed", "check_failed"]
    first, second, third = webhook.bodies
    assert first["facts"]["step"] == "adapter"
    assert first["facts"]["error"].startswith("LaunchError: sample: the process failed")
    assert first["title"].endswith("(mine) failed")
    assert first["link"].endswith(failed)
    assert second["facts"] == {"step": "products", "error": "ValueError"}
    assert third["title"] == "assortment: no_product_is_lost failed"
    assert TEXT not in json.dumps(webhook.bodies)


def test_a_champion_that_changed_or_drifted(webhook: Webhook, instance: dg.DagsterInstance) -> None:
    def event(number: int) -> None:
        told = ChampionEvent(
            number=number,
            kind="promotion",
            at=datetime.now(UTC),
            by="the promotion policy",
            reason=f"better on {TEXT}",
            job="mine",
            grounding="retrieved",
            adapter="a" * 20,
            folder="artefacts/adapter/x",
            base_model="b" * 20,
            numbers=(
                Measured(
                    metric="strict_accuracy", subset="unseen", value=0.5, low=0.4, high=0.6,
                    numerator=5, denominator=10, clusters=3,
                ),
            ),
        )  # fmt: skip
        path = get_settings().storage / "champions" / f"{number:06d}-promotion.json"
        write_atomically(path, told.model_dump_json())

    @dg.asset
    def champion() -> dg.MaterializeResult:
        if not (get_settings().storage / "champions").exists():
            event(1)
        return dg.MaterializeResult(metadata={"event": 1, "registered_model": "m/1"})

    @dg.asset
    def champion_report() -> None:
        return None

    @dg.asset_check(asset=champion_report)
    def champion_holds() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(
            passed=False, severity=dg.AssetCheckSeverity.WARN, description="0.3 now, 0.5 then"
        )

    sensor = Sensor(instance)
    # The second run finds the champion as it was.
    for _ in range(2):
        run(champion, instance)
    run([champion_report, champion_holds], instance)
    sensor.look()
    assert webhook.kinds == ["champion_changed", "champion_drifted"]
    changed, drifted = webhook.bodies
    assert changed["facts"] == {
        "event": 1,
        "strict_accuracy on unseen": "0.500 [0.400, 0.600] (5 of 10)",
        "registered": "m/1",
    }
    assert drifted["facts"] == {"severity": "WARN", "found": "0.3 now, 0.5 then"}
    assert TEXT not in json.dumps(webhook.bodies)


def test_what_did_not_arrive_is_told_at_the_next_look_and_nothing_twice(
    webhook: Webhook, instance: dg.DagsterInstance, sample_spec: MakeSpec
) -> None:
    @dg.asset
    def champion_report() -> None:
        return None

    @dg.multi_asset_check(
        specs=[dg.AssetCheckSpec(name, asset="champion_report") for name in ("one", "two")]
    )
    def checks() -> Iterator[dg.AssetCheckResult]:
        for name in ("one", "two"):
            yield dg.AssetCheckResult(
                passed=False, asset_key=dg.AssetKey("champion_report"), check_name=name
            )

    sensor = Sensor(instance)
    run([champion_report, checks], instance)
    webhook.answers = [200, *[503] * delivery.ATTEMPTS]
    assert "status 503" in sensor.look()
    assert [body["title"] for body in webhook.bodies] == ["champion_report: one failed"]
    sensor.look()
    sensor.look()
    titles = [body["title"] for body in webhook.bodies]
    assert titles == [f"champion_report: {name} failed" for name in ("one", "two")]


def test_a_storm_is_told_as_one(
    webhook: Webhook, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETAIL_ALERTS_PER_HOUR", "2")

    @dg.asset
    def products() -> None:
        raise ValueError(TEXT)

    sensor = Sensor(instance)
    for _ in range(4):
        run(products, instance)
    assert sensor.look() == "4 new alerts; 2 held back"
    assert webhook.kinds == ["run_failed"] * 2


def test_a_months_budget_is_told_once(
    webhook: Webhook, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETAIL_PRICE_PER_DEVICE_HOUR", "2")
    monkeypatch.setenv("RETAIL_BUDGET", "10")

    @dg.asset
    def products() -> None:
        return None

    def trained(number: int, hours: float) -> None:
        seconds = {"train_seconds": hours * 3600}
        finished_work(
            get_settings().storage, "adapter", {"n": str(number)}, metrics=seconds,
            finished=datetime.now(UTC),
        )  # fmt: skip

    trained(1, 4)
    sensor = Sensor(instance)
    assert webhook.kinds == []
    trained(2, 1)
    run(products, instance)
    sensor.look()
    trained(3, 100)
    run(products, instance)
    sensor.look()
    (body,) = webhook.bodies
    assert body["kind"] == "budget_reached"
    assert body["facts"]["spent"] == "10.00 USD"


def test_without_a_webhook_the_sensor_says_so(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RETAIL_ALERT_WEBHOOK")
    get_settings.cache_clear()
    with dg.build_sensor_context(instance=instance) as context:
        assert isinstance(alerts(context), dg.SkipReason)

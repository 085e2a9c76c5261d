"""Energy and cost: counted on this machine alone, priced from the manifest."""

import socket
from pathlib import Path
from typing import Any, NoReturn

import pytest

from retail_assistant.settings import Settings
from retail_assistant.training.energy import EnergyMeter, shown_cost, training_cost

MEASURED: dict[str, Any] = {"train_seconds": 1800.0, "processes": 2, "energy_kwh": 0.5}


def work_for(seconds: float) -> None:
    import time

    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(1000))


def test_a_meter_counts_without_a_network_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tried: list[Any] = []

    def refuse(_: socket.socket, address: Any) -> NoReturn:
        tried.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(tmp_path)
    meter = EnergyMeter(earlier_kwh=2.0)
    assert meter.kwh is None
    with meter:
        work_for(1.5)
        during = meter.kwh
        work_for(1.5)
    after = meter.kwh
    assert during is not None
    assert after is not None
    assert 2.0 < during < after < 2.1
    work_for(0.2)
    assert meter.kwh == after
    # On this machine another test's thread may still be looking for its server.
    assert [one for one in tried if one[0] != "127.0.0.1"] == []
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("prices", "metrics", "amount"),
    [
        ({}, MEASURED, None),
        ({"price_per_device_hour": 3.0}, MEASURED, 3.0),
        ({"price_per_device_hour": 3.0}, {**MEASURED, "gpus": 8}, 12.0),
        ({"price_per_kwh": 0.4}, MEASURED, 0.2),
        ({"price_per_kwh": 0.4}, {**MEASURED, "energy_kwh": None}, None),
        ({"price_per_device_hour": 3.0, "price_per_kwh": 0.4}, MEASURED, 3.2),
    ],
)
def test_a_cost_is_the_prices_times_what_was_measured(
    prices: dict[str, float], metrics: dict[str, Any], amount: float | None
) -> None:
    settings = Settings(**prices, currency="INR")
    cost = training_cost(metrics, settings)
    if amount is None:
        assert cost is None
        assert shown_cost(metrics, settings) == {}
        return
    assert shown_cost(metrics, settings)["cost"] == pytest.approx(amount)
    assert cost is not None
    assert cost.amount == pytest.approx(amount)
    assert cost.currency == "INR"

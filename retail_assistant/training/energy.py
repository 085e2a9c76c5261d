"""The electricity a training uses, and what it costs.

Energy is of the whole machine (CPU, memory, GPUs), as codecarbon counts it: GPUs by NVML's
counters, a CPU by RAPL's where the kernel shows them, else from its model's rated power and its
load; memory always by a model of its modules. Nothing leaves the machine, no file is written.
"""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from retail_assistant.settings import Settings

SECONDS_BETWEEN_MEASUREMENTS = 15
SECONDS_AN_HOUR = 3600


class EnergyMeter:
    """Counts the machine's electricity while it is open; one a machine, not one a process.

    Args:
        earlier_kwh: what a training used until the checkpoint that it goes on from.
    """

    def __init__(self, earlier_kwh: float = 0.0) -> None:
        self._earlier = earlier_kwh
        self._meter: Any = None
        self._reading: Any = None
        self.measured = False
        """Whether the CPU's share is counted by RAPL, not estimated."""

    def start(self) -> None:
        """Begin to count. Never raises: without a count there is no number, but a training."""
        try:
            self._meter = self._open()
            self._meter.start()
        except Exception:
            self._meter = None

    def _open(self) -> Any:
        from codecarbon import OfflineEmissionsTracker
        from codecarbon.core.cpu import is_rapl_available
        from codecarbon.external.logger import set_logger_level
        from codecarbon.output_methods.base_output import BaseOutput

        class Reading(BaseOutput):
            """Takes what the meter has counted so far."""

            kwh: float | None = None

            def out(self, total: Any, delta: Any) -> None:
                self.kwh = float(total.energy_consumed)

        set_logger_level("critical")
        self._reading = Reading()
        self.measured = bool(is_rapl_available())
        return OfflineEmissionsTracker(
            # Of the electricity only; what it emitted depends on where and when it was made.
            force_carbon_intensity_g_co2e_kwh=0,
            country_iso_code="USA",
            measure_power_secs=SECONDS_BETWEEN_MEASUREMENTS,
            tracking_mode="machine",
            allow_multiple_runs=True,
            output_methods=[],
            output_handlers=[self._reading],
            api_call_interval=-1,
            log_level="critical",
        )

    @property
    def kwh(self) -> float | None:
        """Kilowatt hours so far, those before a break included; None: they cannot be told."""
        if self._meter is not None:
            self._meter.flush()
        kwh = self._reading.kwh if self._reading else None
        return None if kwh is None else self._earlier + kwh

    def stop(self) -> None:
        """Count no further."""
        if self._meter is not None:
            self._meter.stop()
            self._meter = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class Cost(BaseModel):
    """What a training cost, at the prices of the settings."""

    model_config = ConfigDict(frozen=True)

    amount: float
    currency: str
    explained: str = Field(description="Which prices times which amounts.")


def training_cost(metrics: Mapping[str, Any], settings: Settings) -> Cost | None:
    """The cost of a finished training, from its manifest's metrics; None: no price is set.

    Prices are no part of a training: another price is another cost of the same artefact. Devices
    are GPUs where the training used any, else processes.
    """
    parts: list[tuple[float, str]] = []
    hours = float(metrics["train_seconds"]) / SECONDS_AN_HOUR
    devices = int(metrics.get("gpus") or metrics.get("processes") or 1)
    kwh = metrics.get("energy_kwh")
    if settings.price_per_device_hour is not None:
        price = settings.price_per_device_hour
        parts.append((price * devices * hours, f"{devices} x {hours:.3g} h x {price:g}"))
    if settings.price_per_kwh is not None and kwh is not None:
        parts.append((settings.price_per_kwh * kwh, f"{kwh:.3g} kWh x {settings.price_per_kwh:g}"))
    if not parts:
        return None
    return Cost(
        amount=sum(amount for amount, _ in parts),
        currency=settings.currency,
        explained=" + ".join(words for _, words in parts),
    )


def shown_cost(metrics: Mapping[str, Any], settings: Settings) -> dict[str, float | str]:
    """The cost as a person reads it: `cost`, `cost_is`; empty where no price is set."""
    cost = training_cost(metrics, settings)
    if cost is None:
        return {}
    return {"cost": round(cost.amount, 4), "cost_is": f"{cost.currency}: {cost.explained}"}

"""`retail-assistant metrics`: what Prometheus reads of Dagster's queue, costs and the disk.

Apart from the assistant's own `/metrics`. Trainings push nothing: while they run their numbers go
to MLflow, their machines' load is told by Ray and the GPUs' exporter, and what they came to is in
their manifests. A push gateway would go on telling the last numbers of trainings long ended.
"""

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from retail_assistant.operations.costs import MONTH, Work, all_work, of_month, total
from retail_assistant.settings import Settings, get_settings
from retail_assistant.storage.bucket import BucketError, bucket_of

if TYPE_CHECKING:
    from dagster import DagsterInstance

PORT = 9464
"""OpenTelemetry's for Prometheus."""

COSTS_SECONDS = 300.0
"""With a bucket costs are as old as that at most: each look lists all artefacts of all machines."""


def metrics(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port.")] = PORT,
    once: Annotated[bool, typer.Option("--once", help="Print them, and end.")] = False,
) -> None:
    """Serve what Prometheus reads: Dagster's queue, the month's costs, the disk; until Ctrl-C."""
    from retail_assistant.workbench import prepare_instance

    settings = get_settings()
    prepare_instance(settings)
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        registry = CollectorRegistry()
        registry.register(OperationsMetrics(instance, settings))
        if once:
            sys.stdout.write(generate_latest(registry).decode())
            return
        try:
            server, thread = start_http_server(port, addr=host, registry=registry)
        except OSError as error:
            raise ValueError(f"{host}:{port}: {error.strerror}; allowed: a free --port") from error
        try:
            Event().wait()
        finally:
            server.shutdown()
            thread.join()


class OperationsMetrics(Collector):
    """Looked up whenever Prometheus asks; labels are from fixed sets."""

    def __init__(self, instance: "DagsterInstance", settings: Settings) -> None:
        self._instance, self._settings = instance, settings
        self._work: list[Work] = []
        self._looked = -COSTS_SECONDS

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Everything."""
        yield from self._runs()
        yield from self._costs()
        if bucket_of(self._settings.storage) is None:
            free = shutil.disk_usage(self._settings.storage).free
            text = "Of the storage's disk."
            yield GaugeMetricFamily("retail_storage_free_bytes", text, value=free)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing is looked up to be registered."""
        yield from ()

    def _runs(self) -> Iterator[GaugeMetricFamily]:
        import dagster as dg

        runs = GaugeMetricFamily("retail_dagster_runs", "Runs by status.", labels=["status"])
        for status in dg.DagsterRunStatus:
            count = self._instance.get_runs_count(dg.RunsFilter(statuses=[status]))
            runs.add_metric([status.value.lower()], count)
        yield runs
        queued = self._instance.get_run_records(
            dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED]), limit=1, ascending=True
        )
        waited = time.time() - queued[0].create_timestamp.timestamp() if queued else 0.0
        yield GaugeMetricFamily(
            "retail_dagster_oldest_queued_seconds",
            "How long the run that waits longest has waited.",
            value=max(0.0, waited),
        )

    def _costs(self) -> Iterator[GaugeMetricFamily]:
        month = datetime.now(UTC).strftime(MONTH)
        spent = total(month, of_month(self._all_work(), month), self._settings)
        # What is not known is left out: 0 would be a number.
        known = {
            "device_hours": spent.device_hours,
            "energy_kwh": spent.energy_kwh,
            "cost": spent.cost,
            "budget": self._settings.budget,
        }
        for name, value in known.items():
            if value is not None:
                text = f"Of this calendar month (UTC): {name.replace('_', ' ')}."
                yield GaugeMetricFamily(f"retail_month_{name}", text, value=value)

    def _all_work(self) -> list[Work]:
        root = self._settings.storage
        if bucket_of(root) is None:
            return all_work(root)
        if time.monotonic() - self._looked >= COSTS_SECONDS:
            # A bucket that is away must not take the queue's numbers with it.
            with suppress(BucketError):
                self._work = all_work(root)
            self._looked = time.monotonic()
        return self._work

"""Dagster's daemon and MLflow's server on PostgreSQL, which crashes while they work.

Real processes all: the sensor's tick, the queue, the run's worker, and logs of steps in a bucket.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.storage.compute_log_manager import ComputeIOType

from retail_assistant.catalog.synthesize import write_catalog
from retail_assistant.storage import TableStore
from retail_assistant.training.tracking.tracker import Tracker
from retail_assistant_tests.conftest import REPOSITORY
from retail_assistant_tests.databases.conftest import (
    CLUSTER_FILE,
    MIGRATE,
    Databases,
    cluster_environment,
    environment_with,
    write_instance_file,
)
from retail_assistant_tests.integration.line import BIN
from retail_assistant_tests.launch.waiting import wait_until
from retail_assistant_tests.mlflow_server import MlflowServer
from retail_assistant_tests.postgres_server import PostgresServer, postgres
from retail_assistant_tests.training.tracking.test_tracker import (
    client,
    expected,
    losses,
    record_losses,
    target,
    wait_until_sent,
)

__all__ = ["postgres"]

pytestmark = pytest.mark.slow

ROWS = 6_000
SECONDS = 180
LOCATION = "retail_assistant_tests.databases.small_location"


@dataclass(frozen=True)
class Cluster:
    """A cluster's databases, with the settings of everything that works on them."""

    databases: Databases
    environment: dict[str, str]
    storage: Path

    def instance(self) -> dg.DagsterInstance:
        return dg.DagsterInstance.from_config(self.environment["DAGSTER_HOME"])


@pytest.fixture(scope="module")
def cluster(
    postgres: PostgresServer, gcs_emulator: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """The cluster's own instance file; without Kubernetes a run is a process of this machine."""
    folder = tmp_path_factory.mktemp("cluster")
    databases = Databases(postgres.database("dagster"), postgres.database("mlflow"))
    catalog = folder / "catalog.csv"
    write_catalog(catalog, rows=ROWS, seed=3, dirt=0.05)
    changes = cluster_environment(folder / "var", databases) | {
        "RETAIL_CATALOG_URI": str(catalog),
        "STORAGE_EMULATOR_HOST": gcs_emulator,
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
    }
    quick = yaml.safe_load(CLUSTER_FILE.read_text())["run_coordinator"]
    quick["config"] = {"dequeue_interval_seconds": 1}
    write_instance_file(Path(changes["DAGSTER_HOME"]), run_coordinator=quick)
    made = Cluster(databases, environment_with(changes), folder / "var")
    migrated = subprocess.run(
        MIGRATE, env=made.environment, capture_output=True, text=True, check=False
    )
    assert migrated.returncode == 0, migrated.stderr
    with pytest.MonkeyPatch.context() as patch:
        for name, value in changes.items():
            patch.setenv(name, value)
        yield made


@pytest.fixture
def daemon(cluster: Cluster) -> Iterator[subprocess.Popen[bytes]]:
    log = cluster.storage / "daemon.log"
    with log.open("wb") as output, subprocess.Popen(
        [BIN / "dagster-daemon", "run", "-m", LOCATION],
        env=cluster.environment,
        cwd=cluster.storage,
        stdout=output,
        stderr=output,
    ) as running:  # fmt: skip
        try:
            yield running
        finally:
            running.terminate()
            running.wait(SECONDS)


@pytest.mark.fault(
    "PostgreSQL crashes and comes back while a Dagster run works",
    "Run, daemon and sensor go on, and the run succeeds",
)
def test_a_run_goes_on_where_its_database_crashes_and_comes_back(
    cluster: Cluster, daemon: subprocess.Popen[bytes], postgres: PostgresServer
) -> None:
    def told() -> list[Any]:
        with cluster.instance() as instance:
            return [
                (run.run_id, entry.dagster_event.event_type_value, entry.dagster_event.step_key)
                for run in instance.get_runs()
                for entry in instance.all_logs(run.run_id)
                if entry.dagster_event
            ]

    def cleans() -> bool:
        assert daemon.poll() is None, (cluster.storage / "daemon.log").read_text()[-3000:]
        return any((cluster.storage / "tables" / "products").glob(".writing-*/*"))

    wait_until(cleans, SECONDS, "the run that the sensor asked for")
    postgres.stop(signal.SIGQUIT)
    postgres.start()
    # The crash came while the products were cleaned.
    assert not [one for one in told() if one[1:] == ("STEP_SUCCESS", "clean_products")]

    def run() -> dg.DagsterRun:
        with cluster.instance() as instance:
            (found,) = instance.get_runs()
            return found

    wait_until(lambda: run().is_finished, SECONDS, "the run's end")
    assert run().status is dg.DagsterRunStatus.SUCCESS, told()
    with cluster.instance() as instance:
        made = instance.get_latest_materialization_event(dg.AssetKey("products"))
        assert made is not None
        assert made.run_id == run().run_id
        keys = instance.compute_log_manager.get_log_keys_for_log_key_prefix(
            [run().run_id, "compute_logs"], ComputeIOType.STDERR
        )
        assert keys
        log = instance.compute_log_manager.get_log_data(keys[0]).stderr
        assert log
    assert TableStore(cluster.storage).ref("products").rows > ROWS / 2
    assert daemon.poll() is None


@pytest.mark.fault(
    "PostgreSQL crashes and comes back behind MLflow's server",
    "The training goes on; every number is there once",
)
def test_a_training_is_tracked_where_the_servers_database_crashes(
    cluster: Cluster,
    postgres: PostgresServer,
    tmp_path: Path,
) -> None:
    address = cluster.databases.mlflow.render_as_string(hide_password=False)
    server = MlflowServer(tmp_path / "mlflow", address)
    server.start()
    said: list[str] = []
    folder = tmp_path / "artefact"
    folder.mkdir()
    try:
        tracker = Tracker(target(server.uri, tmp_path), folder, said.append)
        tracker.start({"lora_r": 4})
        record_losses(tracker, 1, 3)
        wait_until_sent(folder)
        postgres.stop(signal.SIGQUIT)
        record_losses(tracker, 4, 6)
        postgres.start()
        record_losses(tracker, 7, 9)
        tracker.close("FINISHED")
        run = client(server.uri).get_run(tracker.run_id)
        assert run.info.status == "FINISHED", said
        assert losses(server.uri, tracker.run_id) == expected(9)
        assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    finally:
        server.kill()
    assert str(cluster.databases.mlflow.password) not in "".join(said)

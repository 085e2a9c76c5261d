"""The parts of a cluster as processes of this machine, each found by the others as in a cluster."""

import itertools
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import httpx
import yaml
from sqlalchemy import URL

from retail_assistant.launch.processes import ProcessTree
from retail_assistant.launch.ray_cluster import RAY_ADDRESS
from retail_assistant.launch.ray_head import LOOPBACK, free_port
from retail_assistant.settings import PACKAGE_FOLDER, Settings
from retail_assistant_tests.conftest import REPOSITORY
from retail_assistant_tests.emulator import BUCKET, CloudStorage, cloud_storage, emulator
from retail_assistant_tests.integration.line import BIN
from retail_assistant_tests.postgres_server import dagster_variables, postgres_server
from retail_assistant_tests.ray_nodes import ray_nodes
from retail_assistant_tests.rehearsal.timeline import RehearsalError, Timeline

STORAGE = f"gs://{BUCKET}/rehearsal"
CATALOG = f"gs://{BUCKET}/given/catalog.csv"
SECONDS_TO_START = 300
RAY_WORKERS = 2
LEASE_SECONDS = 10.0
"""After which another machine goes on with what a lost one was at."""
ONE_IN = 9
"""Requests to the bucket that are refused."""
SECONDS_TO_END = 40
"""The guard beside a model server has to end that; killed before, it would leave it running."""
OWN = ("RETAIL_", "DAGSTER_", "MLFLOW_", "RAY_")


@dataclass(frozen=True)
class Stage:
    """All parts but the assistant, running; `environment` is what every process of ours gets."""

    folder: Path
    environment: Mapping[str, str]
    cloud: CloudStorage
    ui: str
    mlflow: str
    stack: ExitStack

    def start(self, name: str, *words: str, **more: str) -> ProcessTree:
        """A process of ours that ends with the rehearsal; its log is `<name>.txt`."""
        return started(self.stack, self.folder, name, words, {**self.environment, **more})

    def run(
        self, name: str, *words: str, codes: Collection[int | None] = (0,), **more: str
    ) -> None:
        """A command of ours, to its end.

        Raises:
            RehearsalError: it ended with another code than these.
        """
        tree = self.start(name, *words, **more)
        code = tree.wait()
        if code not in codes:
            raise RehearsalError(f"{' '.join(words)} ended with {code}\n{self.log(name)}")

    @property
    def settings(self) -> Settings:
        """What finds the storage, for this process."""
        return Settings(
            storage_uri=STORAGE,
            work_folder=Path(self.environment["RETAIL_WORK_FOLDER"]),
            storage_lease_seconds=LEASE_SECONDS,
        )

    def log(self, name: str) -> str:
        """The end of what a part has said."""
        return (self.folder / f"{name}.txt").read_text(errors="replace")[-4000:]

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """The Dagster instance, in this process."""
        before = dict(os.environ)
        os.environ.update(self.environment)
        try:
            with dg.DagsterInstance.from_config(self.environment["DAGSTER_HOME"]) as instance:
                yield instance
        finally:
            os.environ.clear()
            os.environ.update(before)


def started(
    stack: ExitStack, folder: Path, name: str, words: tuple[str, ...], given: Mapping[str, str]
) -> ProcessTree:
    """A process with all that comes of it, ended with the stack."""
    output = stack.enter_context((folder / f"{name}.txt").open("ab"))
    tree = ProcessTree(words, given, output)
    stack.callback(tree.end, SECONDS_TO_END)
    return tree


@contextmanager
def stage(timeline: Timeline, folder: Path, own: Mapping[str, str]) -> Iterator[Stage]:
    """Start the parts in the order in which they need each other; end them all."""
    with ExitStack() as stack:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(OWN)}
        with timeline.step("PostgreSQL") as seen:
            postgres = stack.enter_context(postgres_server())
            databases = {name: postgres.database(name) for name in ("dagster", "mlflow")}
            seen(str(postgres.execute("SHOW server_version")[0][0]))
        with timeline.step("a bucket (Google's protocol)"):
            cloud = stack.enter_context(cloud_storage(stack.enter_context(emulator())))
            refuse_some(cloud)
            os.environ["STORAGE_EMULATOR_HOST"] = cloud.url
        home = folder / "dagster-home"
        home.mkdir()
        (home / "dagster.yaml").write_text(instance_file())
        mlflow = f"http://{LOOPBACK}:{free_port()}"
        environment = {
            **kept,
            **dagster_variables(databases["dagster"]),
            "MLFLOW_BACKEND_STORE_URI": databases["mlflow"].render_as_string(hide_password=False),
            "DAGSTER_HOME": str(home),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "STORAGE_EMULATOR_HOST": cloud.url,
            "RETAIL_STORAGE_URI": STORAGE,
            "RETAIL_WORK_FOLDER": str(folder / "work"),
            "RETAIL_STORAGE_LEASE_SECONDS": str(LEASE_SECONDS),
            "RETAIL_CATALOG_URI": CATALOG,
            "RETAIL_LOG_BUCKET": BUCKET,
            "RETAIL_MLFLOW_URI": mlflow,
            "RETAIL_LAUNCHER": "ray",
            "RETAIL_REFRESH": "1",
            "RETAIL_REFRESH_INTERVAL": "5",
            # Never in the time that this takes: what is rehearsed is the sensor.
            "RETAIL_REFRESH_SCHEDULE": "0 0 29 2 *",
            **own,
        }
        with timeline.step(f"Ray: a head and {RAY_WORKERS} workers") as seen:
            # A cluster's nodes have the way into the bucket from their own environment.
            reached = {**kept, "STORAGE_EMULATOR_HOST": cloud.url}
            environment |= stack.enter_context(ray_nodes(reached, RAY_WORKERS, cpus=1))
            seen(environment[RAY_ADDRESS])
        ui = f"http://{LOOPBACK}:{free_port()}"
        parts = Stage(folder, environment, cloud, ui, mlflow, stack)
        with timeline.step("the databases' tables"):
            parts.run("migrate", str(BIN / "retail-assistant"), "databases", "migrate")
        with timeline.step("MLflow on PostgreSQL") as seen:
            serve_mlflow(timeline, parts, databases["mlflow"])
            seen(mlflow)
        with timeline.step("Dagster: web server, daemon, code location") as seen:
            dagster(timeline, parts)
            seen(ui)
        yield parts


def refuse_some(cloud: CloudStorage) -> None:
    """Have the bucket answer a request now and then as Google's does on a bad day."""
    asked, statuses = itertools.count(1), itertools.cycle((429, 503))
    cloud.fault = lambda *_: next(statuses) if next(asked) % ONE_IN == 0 else None


def instance_file() -> str:
    """The cluster's instance file; runs are processes of this machine, for it has no Kubernetes."""
    given = yaml.safe_load((PACKAGE_FOLDER / "data" / "dagster.cluster.yaml").read_text())
    del given["run_launcher"]
    # A run that is gone is not resumed by the launcher of one machine.
    given["run_monitoring"] = {"enabled": True, "poll_interval_seconds": 10}
    given["run_coordinator"]["config"] = {"dequeue_interval_seconds": 1}
    return yaml.safe_dump(given)


def serve_mlflow(timeline: Timeline, parts: Stage, database: URL) -> None:
    """Start the MLflow server; its artefacts are in the bucket."""
    port = parts.mlflow.rpartition(":")[2]
    parts.start(
        "mlflow",
        *(str(BIN / "mlflow"), "server", "-h", LOOPBACK, "-p", port, "--workers", "1"),
        *("--backend-store-uri", database.render_as_string(hide_password=False)),
        *("--artifacts-destination", f"gs://{BUCKET}/mlflow"),
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
    )
    timeline.until("MLflow answers", lambda: answers(f"{parts.mlflow}/health"), SECONDS_TO_START)


def dagster(timeline: Timeline, parts: Stage) -> None:
    """Start the web server and the daemon, each with the code location."""
    workspace = str(REPOSITORY / "workspace.yaml")
    port = parts.ui.rpartition(":")[2]
    web = [str(BIN / "dagster-webserver"), "-w", workspace, "-h", LOOPBACK, "-p", port]
    parts.start("webserver", *web)
    parts.start("daemon", str(BIN / "dagster-daemon"), "run", "-w", workspace)
    timeline.until(
        "Dagster's web server answers", lambda: answers(f"{parts.ui}/server_info"), SECONDS_TO_START
    )


def answers(url: str) -> bool:
    """Whether an address answers with success."""
    try:
        return httpx.get(url, timeout=10).status_code == 200
    except httpx.HTTPError:
        return False

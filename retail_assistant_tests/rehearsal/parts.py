"""The parts of a cluster as processes of this machine, each found by the others as in a cluster."""

import json
import os
import secrets
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import dagster as dg
import httpx
import yaml
from sqlalchemy import URL

from retail_assistant.launch.processes import ProcessTree
from retail_assistant.launch.ray_cluster import RAY_ADDRESS, local_environment
from retail_assistant.launch.ray_head import LOOPBACK, free_port, head_command
from retail_assistant.settings import PACKAGE_FOLDER
from retail_assistant.storage import temporary_folder
from retail_assistant_tests.conftest import REPOSITORY
from retail_assistant_tests.emulator import BUCKET, CloudStorage, cloud_storage, emulator
from retail_assistant_tests.integration.line import BIN
from retail_assistant_tests.launch.test_ray_nodes import nodes
from retail_assistant_tests.postgres_server import dagster_variables, postgres_server
from retail_assistant_tests.rehearsal.timeline import RehearsalError, Timeline

STORAGE = f"gs://{BUCKET}/rehearsal"
CATALOG = f"gs://{BUCKET}/given/catalog.csv"
SECONDS_TO_START = 300
RAY_WORKERS = 2
SECONDS_TO_END = 5
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
            environment |= ray(stack, timeline, folder, reached)
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


def instance_file() -> str:
    """The cluster's instance file; runs are processes of this machine, for it has no Kubernetes."""
    given = yaml.safe_load((PACKAGE_FOLDER / "data" / "dagster.cluster.yaml").read_text())
    del given["run_launcher"]
    # A run that is gone is not resumed by the launcher of one machine.
    given["run_monitoring"] = {"enabled": True, "poll_interval_seconds": 10}
    given["run_coordinator"]["config"] = {"dequeue_interval_seconds": 1}
    return yaml.safe_dump(given)


def ray(
    stack: ExitStack, timeline: Timeline, folder: Path, kept: Mapping[str, str]
) -> dict[str, str]:
    """A Ray cluster of several nodes that asks for a token; what lets in."""
    port, token = free_port(), secrets.token_hex(32)
    # Ray's sockets have long names.
    own = stack.enter_context(temporary_folder(Path("/tmp"), "retail-rehearsal-"))
    environment = {**kept, **local_environment(own, token)}
    # Of a cluster of one machine alone Ray refuses a second node.
    environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "1"
    head = [word for word in head_command(port) if not word.startswith("--num-cpus")]
    gcs = next(word.partition("=")[2] for word in head if word.startswith("--port="))
    server = f"http://{LOOPBACK}:{port}"
    started(stack, folder, "ray-head", (*head, "--num-cpus=1"), environment)
    timeline.until("the Ray head answers", lambda: nodes(server, token) == 1, SECONDS_TO_START)
    more = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1"]
    more += [f"--address={LOOPBACK}:{gcs}", f"--node-ip-address={LOOPBACK}"]
    for number in range(1, RAY_WORKERS + 1):
        port_of = f"--dashboard-agent-listen-port={free_port()}"
        words, name = (*more, port_of, "--disable-usage-stats"), f"ray-worker-{number}"
        worker = started(stack, folder, name, words, environment)
        # One by one: two at once keep each other from starting in time on a small machine.
        timeline.until(
            f"{name} joins",
            partial(_has_joined, worker, folder / f"{name}.txt", server, token, number + 1),
            SECONDS_TO_START,
        )
    headers = json.dumps({"Authorization": f"Bearer {token}"})
    return {RAY_ADDRESS: server, "RAY_JOB_HEADERS": headers}


def _has_joined(worker: ProcessTree, log: Path, server: str, token: str, wanted: int) -> bool:
    if worker.wait(0) is not None:
        raise RehearsalError(f"a Ray worker has ended: {log.read_text()[-3000:]}")
    return nodes(server, token) == wanted


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

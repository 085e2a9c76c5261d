"""One machine's working place: the Dagster instance, and the servers of `retail-assistant ui`."""

import os
import shlex
import shutil
import socket
import sys
from importlib.resources import as_file, files
from pathlib import Path

from retail_assistant.databases.places import MLFLOW_DATABASE, dagster_database, mlflow_database
from retail_assistant.dead_runs import end_dead_runs
from retail_assistant.settings import PACKAGE_FOLDER, Settings
from retail_assistant.storage import write_atomically

HOST = "127.0.0.1"
MINIMUM_FREE_GIB = 3.0


class WorkbenchError(RuntimeError):
    """The machine is not ready; the message says what is missing."""


def instance_folder(settings: Settings) -> Path:
    """The Dagster instance folder, made; `DAGSTER_HOME` points at it, unless it is set already.

    A folder without an instance file gets the one of the environment (`RETAIL_ENVIRONMENT`).

    Raises:
        WorkbenchError: it cannot be written.
    """
    folder = Path(os.environ.get("DAGSTER_HOME") or settings.storage / "dagster").resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "dagster.yaml").exists():
            name = f"dagster.{settings.environment}.yaml"
            with as_file(files("retail_assistant.data") / name) as source:
                write_atomically(folder / "dagster.yaml", source.read_text())
    except OSError as error:
        raise WorkbenchError(f"{folder} cannot be written: {error.strerror}") from error
    os.environ["DAGSTER_HOME"] = str(folder)
    return folder


def prepare_instance(settings: Settings) -> Path:
    """The Dagster instance folder, and its database ready for use, without runs of dead processes.

    That is made here: two servers that start at once on a new folder would both create it, and
    leave it broken.

    Raises:
        DatabaseError: the database cannot be reached, or a newer version made it.
    """
    # Here: it takes most of a second, which commands without an instance need not wait.
    from dagster import DagsterInstance

    folder = instance_folder(settings)
    database = dagster_database(folder)
    with database.alone():
        database.require_not_newer()
        with DagsterInstance.from_config(str(folder)) as instance:
            # What else is at work on a server's database is not known here.
            if database.url is None:
                end_dead_runs(instance)
    return folder


def require_free_space(settings: Settings, gib: float = MINIMUM_FREE_GIB) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises:
        WorkbenchError: says how much is free and how much is needed.
    """
    settings.storage.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(settings.storage).free / 2**30
    if free < gib:
        raise WorkbenchError(
            f"{settings.storage}: {free:.1f} GiB free, at least {gib:.0f} GiB are needed;"
            " free some, or set RETAIL_STORAGE_URI to a folder on a larger disk"
        )


def require_free_port(port: int, option: str) -> None:
    """Refuse a port that another program holds.

    Raises:
        WorkbenchError: names the port and the option that chooses another.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise WorkbenchError(
                f"port {port} is in use; end what holds it or choose another with {option}"
            ) from error


def server_commands(settings: Settings, dagster_port: int, mlflow_port: int) -> dict[str, str]:
    """The commands of the local servers, by name; all of them listen on 127.0.0.1 only.

    MLflow's is not among them where it is a server elsewhere.
    """
    bin_folder = Path(sys.executable).parent
    mlflow_folder = settings.storage / "mlflow"
    mlflow_folder.mkdir(parents=True, exist_ok=True)
    workspace = PACKAGE_FOLDER.parent / "workspace.yaml"
    target = ["-w", workspace] if workspace.is_file() else ["-m", "retail_assistant.definitions"]
    store = ["--artifacts-destination", str(mlflow_folder / "artifacts")]
    commands = {
        "dagster": ["dagster-webserver", *target, "-h", HOST, "-p", dagster_port],
        "daemon": ["dagster-daemon", "run", *target],
        # One worker: four of them take two gigabytes and half a minute.
        "mlflow": ["mlflow", "server", "-h", HOST, "-p", mlflow_port, "--workers", 1, *store],
    }
    if mlflow_database(settings) is None:
        del commands["mlflow"]
    return {
        name: shlex.join([str(bin_folder / words[0]), *map(str, words[1:])])
        for name, words in commands.items()
    }


def server_environment(settings: Settings) -> dict[str, str]:
    """What the local servers see beside this process's environment.

    MLflow's database is here and not in its command, where everybody on the machine could read it.
    """
    database = mlflow_database(settings)
    return {
        "PYTHONUNBUFFERED": "1",
        "DAGSTER_DISABLE_TELEMETRY": "1",
        # MLflow's own background jobs are of no use here and are eight more processes.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        **({MLFLOW_DATABASE: database.address} if database else {}),
    }


def run_servers(commands: dict[str, str], environment: dict[str, str]) -> int:
    """Run the servers until Ctrl-C or until one of them ends, then end them all."""
    from honcho.manager import Manager

    manager = Manager()
    for name, command in commands.items():
        manager.add_process(name, command, env={**os.environ, **environment}, cwd=str(Path.cwd()))
    manager.loop()
    return int(manager.returncode or 0)

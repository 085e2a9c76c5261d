"""A PostgreSQL server with the databases of Dagster and MLflow, and a cluster's environment."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from sqlalchemy import URL

from retail_assistant.settings import PACKAGE_FOLDER
from retail_assistant_tests.postgres_server import (
    PASSWORD,
    PostgresServer,
    dagster_variables,
    postgres,
)
from retail_assistant_tests.test_cli import cli

__all__ = ["cli", "postgres"]

CLUSTER_FILE = PACKAGE_FOLDER / "data" / "dagster.cluster.yaml"
MIGRATE = [Path(sys.executable).parent / "retail-assistant", "databases", "migrate"]
SECONDS = 300


class Databases(NamedTuple):
    """Where the two databases of a cluster are."""

    dagster: URL
    mlflow: URL

    @property
    def variables(self) -> dict[str, str]:
        """What a cluster's processes see of them."""
        address = self.mlflow.render_as_string(hide_password=False)
        return {**dagster_variables(self.dagster), "MLFLOW_BACKEND_STORE_URI": address}


class Migrated(NamedTuple):
    """Databases that two processes made at once, and what each of them said."""

    databases: Databases
    said: list[str]


def cluster_environment(storage: Path, databases: Databases) -> dict[str, str]:
    """A cluster's settings: the databases, and a storage folder that is Dagster's home too."""
    return {
        **databases.variables,
        "RETAIL_ENVIRONMENT": "cluster",
        "RETAIL_STORAGE_URI": str(storage),
        "RETAIL_LOG_BUCKET": "shop",
        "DAGSTER_HOME": str(storage / "dagster"),
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }


def environment_with(changes: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without settings of its own."""
    prefixes = ("RETAIL_", "DAGSTER_", "MLFLOW_", "PG")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    return {**kept, **changes}


@pytest.fixture(scope="module")
def migrated(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Migrated:
    """Both databases, migrated by two processes that start at once, as two pods would."""
    made = Databases(postgres.database("dagster"), postgres.database("mlflow"))
    running = [
        subprocess.Popen(
            MIGRATE,
            env=environment_with(cluster_environment(tmp_path_factory.mktemp("pod"), made)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [one.communicate(timeout=SECONDS) for one in running]
    assert [one.returncode for one in running] == [0, 0], outputs
    assert all(PASSWORD not in "".join(output) for output in outputs)
    return Migrated(made, [output for output, _ in outputs])


@pytest.fixture
def cluster(
    postgres: PostgresServer,
    migrated: Migrated,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fresh_settings: None,
) -> Databases:
    """A cluster of its own for a test: this process's settings, and new databases."""
    given = Databases(
        postgres.database("dagster", like=migrated.databases.dagster),
        postgres.database("mlflow", like=migrated.databases.mlflow),
    )
    for name, value in cluster_environment(tmp_path / "var", given).items():
        monkeypatch.setenv(name, value)
    write_instance_file(tmp_path / "var" / "dagster")
    return given


def write_instance_file(home: Path, **changes: Any) -> None:
    """The cluster's own instance file, but that runs are processes of this machine."""
    config = yaml.safe_load(CLUSTER_FILE.read_text())
    del config["run_launcher"]
    # The launcher of one machine cannot take up a run that is gone.
    del config["run_monitoring"]["max_resume_run_attempts"]
    home.mkdir(parents=True)
    (home / "dagster.yaml").write_text(yaml.safe_dump(config | changes))

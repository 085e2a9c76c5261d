"""The databases' schema, and what is said where a database cannot be used."""

from pathlib import Path
from urllib.parse import quote

import dagster as dg
import pytest
from dagster._core.instance.config import dagster_instance_config

from retail_assistant.settings import get_settings
from retail_assistant.workbench import (
    instance_folder,
    prepare_instance,
    server_commands,
    server_environment,
)
from retail_assistant_tests.databases.conftest import CLUSTER_FILE, Databases, Migrated
from retail_assistant_tests.mlflow_server import free_port
from retail_assistant_tests.postgres_server import PASSWORD, PostgresServer
from retail_assistant_tests.test_cli import Cli, assert_refused

WRONG = "not-the-password"


@pytest.mark.fault(
    "two pods migrate a database at once",
    "one waits for the other",
)
def test_two_pods_that_migrate_at_once_wait_for_each_other(migrated: Migrated) -> None:
    for name in ("Dagster", "MLflow"):
        lines = [line for said in migrated.said for line in said.splitlines() if name in line]
        assert sorted("was missing" in line for line in lines) == [False, True], migrated.said
        assert sum("was up to date" in line for line in lines) == 1


def test_what_is_up_to_date_is_told_and_migrated_again(cli: Cli, cluster: Databases) -> None:
    checked = cli("databases", "check")
    assert (checked.code, checked.out.count("current")) == (0, 2), checked
    assert f"{cluster.mlflow.port}/{cluster.mlflow.database}" in checked.out
    again = cli("databases", "migrate")
    assert again.code == 0, again
    assert again.out.count("was up to date") == 2
    assert PASSWORD not in checked.out + again.out + again.err


def test_an_empty_database_is_told_of(
    cli: Cli, cluster: Databases, postgres: PostgresServer
) -> None:
    postgres.lose(cluster.dagster)
    checked = cli("databases", "check")
    assert checked.code == 1
    assert "missing" in checked.out
    assert "current" in checked.out


@pytest.mark.parametrize("name", ["Dagster", "MLflow"])
def test_a_newer_database_is_left_alone(
    cli: Cli, cluster: Databases, postgres: PostgresServer, name: str
) -> None:
    url = cluster.dagster if name == "Dagster" else cluster.mlflow
    database = str(url.database)
    postgres.execute("UPDATE alembic_version SET version_num = 'f00df00df00d'", database)
    assert_refused(
        cli("databases", "migrate"), f"{name}'s database", "f00df00df00d", "newer version"
    )
    assert postgres.execute("SELECT version_num FROM alembic_version", database) == [
        ("f00df00df00d",)
    ]
    checked = cli("databases", "check")
    assert checked.code == 1
    assert "newer" in checked.out


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("DAGSTER_PG_PASSWORD", WRONG, ("'retail' is not let in", "DAGSTER_PG_PASSWORD")),
        ("DAGSTER_PG_USER", "nobody", ("'nobody' is not let in", "DAGSTER_PG_USER")),
        ("DAGSTER_PG_PORT", "{free}", ("no PostgreSQL answers", "DAGSTER_PG_HOST")),
        ("DAGSTER_PG_HOST", "no-such-host.invalid", ("no PostgreSQL answers", "DAGSTER_PG_HOST")),
        ("DAGSTER_PG_DB", "nowhere", ("no such database", "DAGSTER_PG_DB")),
        ("DAGSTER_PG_PASSWORD", "", ("DAGSTER_PG_PASSWORD is not set",)),
        ("DAGSTER_PG_PORT", "five", ("'five' is no port",)),
        ("MLFLOW_BACKEND_STORE_URI", "{wrong}", ("not let in", "MLFLOW_BACKEND_STORE_URI")),
        ("MLFLOW_BACKEND_STORE_URI", "{plain}", ("allowed: postgresql+psycopg2",)),
        ("MLFLOW_BACKEND_STORE_URI", "mysql://a:{secret}@b/c", ("no kind that is known",)),
        ("MLFLOW_BACKEND_STORE_URI", "{dagster}", ("the same database",)),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line_without_a_secret(
    cli: Cli,
    cluster: Databases,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    words: tuple[str, ...],
) -> None:
    mlflow = cluster.mlflow
    given = {
        "free": str(free_port()),
        "secret": WRONG,
        "wrong": mlflow.set(password=WRONG).render_as_string(hide_password=False),
        "plain": mlflow.set(drivername="postgresql").render_as_string(hide_password=False),
        "dagster": cluster.dagster.render_as_string(hide_password=False),
    }
    monkeypatch.setenv(variable, value.format(**given))
    refused = cli("databases", "check")
    assert_refused(refused, *words)
    for secret in (PASSWORD, quote(PASSWORD), WRONG):
        assert secret not in refused.out + refused.err


def test_the_instance_of_a_cluster(cluster: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    home = prepare_instance(get_settings())
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert type(instance.run_storage).__name__ == "PostgresRunStorage"
        assert type(instance.run_coordinator).__name__ == "JobQueue"
        assert instance.run_monitoring_enabled
        assert instance.run_retries_enabled
        assert not instance.run_retries_retry_on_asset_or_op_failure
        assert not instance.telemetry_enabled
        pools = instance.get_concurrency_config().pool_config
        assert pools.default_pool_limit == 4
    monkeypatch.delenv("DAGSTER_PG_HOST")
    with pytest.raises(RuntimeError, match="DAGSTER_PG_HOST is not set"):
        prepare_instance(get_settings())


def test_the_cluster_file_is_what_its_classes_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_settings: None
) -> None:
    from dagster._config import process_config
    from dagster_gcp.gcs.compute_log_manager import GCSComputeLogManager
    from dagster_k8s import K8sRunLauncher

    monkeypatch.setenv("RETAIL_LOG_BUCKET", "shop")
    monkeypatch.setenv("RETAIL_ENVIRONMENT", "cluster")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    home = instance_folder(get_settings())
    assert (home / "dagster.yaml").read_text() == CLUSTER_FILE.read_text()
    config, _ = dagster_instance_config(str(home))
    for part, taker in (("run_launcher", K8sRunLauncher), ("compute_logs", GCSComputeLogManager)):
        read = process_config(taker.config_type(), config[part]["config"])
        assert read.success, read.errors


def test_a_password_is_on_no_command_line_of_the_local_servers(
    cluster: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = get_settings()
    commands = " ".join(server_commands(settings, 3000, 5000).values())
    assert "mlflow server" in commands
    assert quote(PASSWORD, safe="") not in commands
    assert PASSWORD not in commands
    seen = server_environment(settings)["MLFLOW_BACKEND_STORE_URI"]
    assert seen == cluster.mlflow.render_as_string(hide_password=False)
    monkeypatch.delenv("MLFLOW_BACKEND_STORE_URI")
    elsewhere = settings.model_copy(update={"mlflow_uri": "http://mlflow:5000"})
    assert set(server_commands(elsewhere, 3000, 5000)) == {"dagster", "daemon"}


def test_a_pod_need_not_know_the_others_password(
    cli: Cli, cluster: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_PG_PASSWORD")
    assert_refused(cli("databases", "migrate"), "DAGSTER_PG_PASSWORD is not set")
    only = cli("databases", "migrate", "--only", "mlflow")
    assert (only.code, only.out.count("was up to date")) == (0, 1), only
    monkeypatch.setenv("DAGSTER_PG_PASSWORD", PASSWORD)
    monkeypatch.delenv("MLFLOW_BACKEND_STORE_URI")
    monkeypatch.setenv("RETAIL_MLFLOW_URI", "http://mlflow:5000")
    get_settings.cache_clear()
    other = cli("databases", "check", "--only", "dagster")
    assert (other.code, other.out.count("current")) == (0, 1), other

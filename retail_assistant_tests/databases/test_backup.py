"""All is lost and there again: runs, lineage, experiments, registry, champion and its history."""

import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from retail_assistant.databases.database import Database
from retail_assistant.databases.migration import migrate
from retail_assistant.databases.places import databases
from retail_assistant.evaluation.champions import Champions
from retail_assistant.evaluation.registry import ALIAS, MODEL_NAME, read_champion
from retail_assistant.settings import Settings, get_settings
from retail_assistant.storage import file_sha256
from retail_assistant.storage.bucket import publish, withdraw
from retail_assistant.workbench import instance_folder
from retail_assistant_tests.databases.conftest import (
    Databases,
    Migrated,
    cluster_environment,
    write_instance_file,
)
from retail_assistant_tests.emulator import cloud_storage
from retail_assistant_tests.evaluation.contests import Shop, answers_of
from retail_assistant_tests.postgres_server import PASSWORD, PostgresServer
from retail_assistant_tests.test_cli import Cli, assert_refused

QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}


@dg.asset
def corpus() -> dg.MaterializeResult:
    return dg.MaterializeResult(data_version=dg.DataVersion("corpus-1"))


@dg.asset(deps=[corpus])
def adapter() -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"train_loss": 0.03})


@dataclass(frozen=True)
class Place:
    """A retailer's Dagster, MLflow and champions, with something in each."""

    storage: Path
    home: Path
    cli: Cli
    postgres: PostgresServer | None
    urls: Databases | None

    def fill(self) -> None:
        """Two runs that made assets, a tracked training, two champions."""
        self.materialize()
        self.materialize()
        settings = get_settings()
        client = self.client()
        experiment = client.create_experiment("small", str(self.storage / "mlflow" / "artifacts"))
        shop = Shop(settings)
        for name, wrong in (("old", range(20)), ("new", range(0))):
            run_id = client.create_run(experiment, run_name=name).info.run_id
            client.log_param(run_id, "lora_r", 8)
            client.log_metric(run_id, "loss", 0.25, step=3)
            client.set_terminated(run_id)
            shop.job(name, answers_of(name, wrong), run_id=run_id)
            publish(self.storage / "artefacts")
            shop.contest()
        publish(self.storage / "artefacts")

    def materialize(self) -> None:
        with self.instance() as instance:
            made = dg.materialize([corpus, adapter], instance=instance, run_config=QUIET)
            assert made.success

    def instance(self) -> dg.DagsterInstance:
        return dg.DagsterInstance.from_config(str(self.home))

    def client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=get_settings().mlflow_tracking_uri)

    def seen(self) -> dict[str, Any]:
        """What people would miss."""
        client = self.client()
        version = client.get_model_version_by_alias(MODEL_NAME, ALIAS)
        (experiment,) = client.search_experiments(filter_string="name = 'small'")
        tracked = client.search_runs([experiment.experiment_id])
        with self.instance() as instance:
            made = instance.get_latest_materialization_event(dg.AssetKey("adapter"))
            assert made is not None
            assert made.asset_materialization is not None
            return {
                "runs": [(run.run_id, run.status.value) for run in instance.get_runs()],
                "lineage": (made.run_id, dict(made.asset_materialization.tags or {})),
                "metadata": made.asset_materialization.metadata["train_loss"].value,
                "tracked": [
                    (run.info.run_id, run.data.params, run.data.metrics) for run in tracked
                ],
                "registry": (version.version, version.run_id, version.tags),
                "champion": read_champion(get_settings()),
                "history": Champions(get_settings()).events(),
            }

    def lose(self) -> None:
        """Everything but what training left, which is kept elsewhere."""
        withdraw(self.storage / "champions")
        withdraw(self.storage / "champion.json")
        shutil.rmtree(self.storage / "champions")
        (self.storage / "champion.json").unlink()
        if self.urls is not None and self.postgres is not None:
            for url in self.urls:
                self.postgres.lose(url)
            return
        for folder in ("dagster/history", "dagster/schedules", "mlflow"):
            shutil.rmtree(self.storage / folder)

    def here(self) -> list[Database]:
        return databases(get_settings(), instance_folder(get_settings()))


@pytest.fixture(scope="module")
def migrated(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Migrated:
    """Both databases, made by this process."""
    made = Databases(postgres.database("dagster"), postgres.database("mlflow"))
    storage = tmp_path_factory.mktemp("migrated")
    given = cluster_environment(storage, made) | {"MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in given.items():
            patch.setenv(name, value)
        write_instance_file(storage / "dagster")
        for database in databases(Settings(), storage / "dagster"):
            migrate(database)
    return Migrated(made, [])


@pytest.fixture
def on_postgres(
    cluster: Databases,
    postgres: PostgresServer,
    gcs_emulator: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cli: Cli,
) -> Iterator[Place]:
    """In a cluster: both databases on PostgreSQL, storage and logs of steps in a bucket."""
    monkeypatch.setenv("RETAIL_STORAGE_URI", f"gs://shop/{tmp_path.name}")
    monkeypatch.setenv("RETAIL_WORK_FOLDER", str(tmp_path / "work"))
    mlflow = cluster.mlflow
    monkeypatch.setenv(
        "RETAIL_MLFLOW_URI",
        f"postgresql://{mlflow.username}@127.0.0.1:{mlflow.port}/{mlflow.database}",
    )
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    # Else MLflow keeps connections in this process, as its server would, to what is lost.
    monkeypatch.setenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
    with cloud_storage(gcs_emulator) as cloud:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", cloud.url)
        instance_folder(get_settings())
        home = tmp_path / "var" / "dagster"
        place = Place(get_settings().storage, home, cli, postgres, cluster)
        place.fill()
        yield place


def backup_of(place: Place, to: str) -> str:
    """Make a backup; its address."""
    done = place.cli("backup", "--to", to)
    assert done.code == 0, done
    assert PASSWORD not in done.out + done.err
    return done.out.strip().rpartition("the backup: ")[2]


def test_everything_is_restored_and_nothing_overwritten_by_mistake(
    on_postgres: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = on_postgres
    before = place.seen()
    address = backup_of(place, "gs://shop/backups")
    assert address.startswith("gs://shop/backups/")
    place.materialize()
    after = place.seen()
    assert after != before
    assert_refused(place.cli("restore", "--from", address), "Dagster", "--yes")
    with place.here()[0].connected() as theirs, place.here()[1].connected():
        # Ours does not count, somebody else's does.
        theirs.exec_driver_sql("SET application_name = 'dagster-webserver'")
        in_use = place.cli("restore", "--from", address, "--yes")
    assert_refused(in_use, "Dagster's database", "in use by 1 connection:")
    assert place.seen() == after
    replaced = place.cli("restore", "--from", address, "--yes")
    assert replaced.code == 0, replaced
    assert place.seen() == before
    (aside,) = place.storage.glob("before-restore-*")
    assert (aside / "champion.json").is_file()

    place.lose()
    looked = place.cli("restore", "--from", address, "--dry-run")
    assert looked.code == 0, looked
    assert "Dagster: 2 runs" in looked.out
    assert "in the place of 0 runs here" in looked.out
    assert all(database.state() == "missing" for database in place.here())
    assert not (place.storage / "champion.json").exists()
    restored = place.cli("restore", "--from", address)
    assert restored.code == 0, restored
    assert "champion: new; its files: intact" in restored.out
    assert PASSWORD not in restored.out + restored.err
    assert place.seen() == before
    # Numbers go on where they were: nothing new takes the id of something old.
    place.materialize()
    assert len(place.seen()["runs"]) == 3

    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "local"))
    monkeypatch.setenv("RETAIL_ENVIRONMENT", "local")
    get_settings.cache_clear()
    other = place.cli("restore", "--from", address, "--yes")
    assert_refused(other, "as postgresql, here it is sqlite")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "no finished backup"),
        (lambda folder: (folder / "dagster.tar.gz").unlink(), "it has no dagster.tar.gz"),
        (lambda folder: _flip(folder / "mlflow.tar.gz"), "mlflow.tar.gz was altered"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "damaged"),
        (lambda folder: _make_newer(folder / "manifest.json"), "f00df00df00d"),
    ],
)
@pytest.mark.usefixtures("on_sqlite")
@pytest.mark.fault(
    "A backup is incomplete, altered or of a newer version",
    "Nothing is restored, and the databases stay as they are",
)
def test_a_damaged_backup_changes_nothing(
    cli: Cli, tmp_path: Path, sqlite_backup: Path, damage: Any, words: str
) -> None:
    damaged = shutil.copytree(sqlite_backup, tmp_path / "damaged")
    damage(damaged)
    for arguments in (("--yes",), ("--dry-run",)):
        assert_refused(cli("restore", "--from", damaged, *arguments), words)
    assert not list((tmp_path / "var").glob("before-restore-*"))


@pytest.mark.fault(
    "A backup whose archives would be unpacked elsewhere: .., absolute names, links, devices",
    "It is refused before anything is moved or written",
)
@pytest.mark.parametrize(
    ("part", "name", "kind", "target"),
    [
        ("mlflow", "../escaped.db", tarfile.REGTYPE, ""),
        ("mlflow", "{tmp}/escaped.db", tarfile.REGTYPE, ""),
        ("mlflow", "a/../../escaped.db", tarfile.REGTYPE, ""),
        ("dagster", "link.db", tarfile.SYMTYPE, "/etc/passwd"),
        ("dagster", "link.db", tarfile.LNKTYPE, "../escaped.db"),
        ("dagster", "device.db", tarfile.CHRTYPE, ""),
        ("dagster", "dagster.yaml", tarfile.REGTYPE, ""),
        ("champion", "tables/products/latest.json", tarfile.REGTYPE, ""),
        ("champion", "champions/../escaped.json", tarfile.REGTYPE, ""),
        ("champion", "champions", tarfile.DIRTYPE, ""),
    ],
)
@pytest.mark.usefixtures("on_sqlite")
def test_a_backup_is_unpacked_nowhere_else(
    cli: Cli, tmp_path: Path, sqlite_backup: Path, part: str, name: str, kind: bytes, target: str
) -> None:
    hostile = shutil.copytree(sqlite_backup, tmp_path / "hostile")
    _plant(hostile, part, name.format(tmp=tmp_path), kind, target)
    refused = cli("restore", "--from", hostile, "--yes")
    assert_refused(refused, f"{part}.tar.gz holds", "which no backup packs")
    assert not list(tmp_path.rglob("escaped*"))
    assert not list((tmp_path / "var").rglob("before-restore-*"))


@pytest.mark.usefixtures("on_sqlite")
def test_a_part_that_is_no_archive_is_refused(
    cli: Cli, tmp_path: Path, sqlite_backup: Path
) -> None:
    damaged = shutil.copytree(sqlite_backup, tmp_path / "damaged")
    (damaged / "dagster.tar.gz").write_bytes(b"no archive")
    _vouch_for(damaged, "dagster")
    assert_refused(cli("restore", "--from", damaged, "--yes"), "dagster.tar.gz is no archive")


def _plant(folder: Path, part: str, name: str, kind: bytes, target: str) -> None:
    """Add a member to a part's archive, and vouch for it, as who can write backups can."""
    path = folder / f"{part}.tar.gz"
    with tarfile.open(path) as archive:
        kept = [(one, archive.extractfile(one).read()) for one in archive.getmembers()]
    planted = tarfile.TarInfo(name)
    planted.type, planted.linkname = kind, target
    with tarfile.open(path, "w:gz") as archive:
        for member, content in [*kept, (planted, b"")]:
            archive.addfile(member, io.BytesIO(content))
    _vouch_for(folder, part)


def _vouch_for(folder: Path, part: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    for one in manifest["parts"]:
        if one["file"] == f"{part}.tar.gz":
            one["sha256"] = file_sha256(folder / one["file"])
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _make_newer(path: Path) -> None:
    text = path.read_text()
    start = text.index('"revision": "') + len('"revision": "')
    path.write_text(text[:start] + "f00df00df00d" + text[text.index('"', start) :])


@pytest.fixture(scope="module")
def sqlite_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The storage folder of one machine, with both SQLite databases made."""
    storage = tmp_path_factory.mktemp("machine") / "var"
    for database in (
        Database("Dagster", folder=storage / "dagster"),
        Database("MLflow", folder=storage / "mlflow", file="mlflow.db"),
    ):
        migrate(database)
    return storage


@pytest.fixture
def on_sqlite(
    sqlite_shop: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cli: Cli,
) -> Place:
    """On one machine."""
    for name in [
        name for name in os.environ if name.startswith(("RETAIL_", "DAGSTER_", "MLFLOW_"))
    ]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RETAIL_STORAGE_URI", str(tmp_path / "var"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "var" / "dagster"))
    monkeypatch.setenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
    shutil.copytree(sqlite_shop, tmp_path / "var")
    instance_folder(get_settings())
    return Place(tmp_path / "var", tmp_path / "var" / "dagster", cli, None, None)


@pytest.fixture
def sqlite_backup(on_sqlite: Place, tmp_path: Path) -> Path:
    """A backup of databases with nothing in them."""
    return Path(backup_of(on_sqlite, str(tmp_path / "backups")))


def test_on_one_machine_everything_is_restored_too(on_sqlite: Place, tmp_path: Path) -> None:
    place = on_sqlite
    place.fill()
    before = place.seen()
    address = backup_of(place, str(tmp_path / "backups"))
    place.lose()
    restored = place.cli("restore", "--from", address)
    assert restored.code == 0, restored
    assert place.seen() == before
    place.materialize()
    assert len(place.seen()["runs"]) == 3


def test_what_is_behind_a_server_is_said(
    cli: Cli, on_sqlite: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RETAIL_MLFLOW_URI", "http://mlflow:5000")
    get_settings.cache_clear()
    assert_refused(cli("backup", "--to", tmp_path), "MLFLOW_BACKEND_STORE_URI")
    checked = cli("databases", "check")
    assert (checked.code, "behind the server http://mlflow:5000" in checked.out) == (0, True)

"""The databases of Dagster and MLflow: where they are, whether they answer, and their schema.

On one machine they are SQLite files, in a cluster two databases of a PostgreSQL server. Dagster's
is what its instance file (`dagster.yaml`) says. MLflow's is `MLFLOW_BACKEND_STORE_URI`, which its
server reads too, or else `RETAIL_MLFLOW_URI`, where that is no server's address.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import distribution, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from filelock import FileLock, Timeout

from retail_assistant.settings import Settings, without_password

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory
    from sqlalchemy import URL, Connection, Engine

Name = Literal["Dagster", "MLflow"]
State = Literal["missing", "behind", "current", "newer"]
MLFLOW_DATABASE = "MLFLOW_BACKEND_STORE_URI"
SECONDS_TO_CONNECT = 10
SECONDS_TO_WAIT = 600
# Any number, as long as all processes that migrate a database use the same one.
MIGRATION_LOCK = 7_203_115
_PARTS = ("hostname", "port", "db_name", "username", "password")


class DatabaseError(RuntimeError):
    """A database cannot be used as it is; the message says why and what to set or do."""


@dataclass(frozen=True)
class Database:
    """Dagster's or MLflow's database: a PostgreSQL database, or SQLite files under a folder.

    Attributes:
        name: whose it is.
        folder: of SQLite files; of Dagster also with PostgreSQL the folder of its instance file.
        file: MLflow's SQLite file in the folder.
        url: of PostgreSQL; None: SQLite.
        variables: environment variable by part (hostname, port, db_name, username, password).
    """

    name: Name
    folder: Path = Path()
    file: str = ""
    url: "URL | None" = None
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Where it is, without a secret."""
        if self.url is None:
            return str(self.folder / self.file)
        return f"{self.url.host}:{self.url.port or 5432}/{self.url.database}"

    @property
    def address(self) -> str:
        """What MLflow takes as its backend store; it holds the password."""
        if self.url is None:
            return f"sqlite:///{self.folder / self.file}"
        return self.url.render_as_string(hide_password=False)

    def files(self) -> list[Path]:
        """All its SQLite files that are there; Dagster has one more for each run."""
        if self.file:
            return [path for path in [self.folder / self.file] if path.is_file()]
        # What a restore moved aside is no part of it.
        known = [self.folder / "history", self.folder / "schedules"]
        return sorted(path for folder in known for path in folder.rglob("*.db"))

    def file_of(self, table: str) -> Path:
        """The SQLite file that has a table."""
        files = {"runs": "history/runs.db", "event_logs": "history/runs/index.db"}
        return self.folder / (self.file or files[table])

    @contextmanager
    def connected(self, table: str = "runs") -> Iterator["Connection"]:
        """A connection that commits every statement; of SQLite, to the file with `table`.

        Raises:
            DatabaseError: it cannot be reached, or refuses; the message says what to set.
        """
        from sqlalchemy.exc import DBAPIError

        engine = self._engine(table)
        try:
            connection = engine.connect()
        except DBAPIError as error:
            raise DatabaseError(self._explained(str(error.orig))) from error
        with connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    def _engine(self, table: str) -> "Engine":
        from sqlalchemy import create_engine
        from sqlalchemy.pool import NullPool

        if self.url is None:
            return create_engine(f"sqlite:///{self.file_of(table)}", poolclass=NullPool)
        timeout = {"connect_timeout": SECONDS_TO_CONNECT}
        return create_engine(self.url, poolclass=NullPool, connect_args=timeout)

    def _explained(self, said: str) -> str:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        reason = without_password(lines[0] if lines else "no reason was given")
        if self.url is None:
            return f"{self.name}'s database {self.place}: {reason}"
        if self.url.password:
            reason = reason.replace(str(self.url.password), "***")
        if "does not exist" in reason and "database" in reason:
            what, parts = "there is no such database", ["db_name"]
        elif any(words in reason for words in ("authentication", "password", "role", "pg_hba")):
            what, parts = f"{self.url.username!r} is not let in", ["username", "password"]
        else:
            what, parts = "no PostgreSQL answers", ["hostname", "port"]
        names = " and ".join(dict.fromkeys(self.variables[part] for part in parts))
        return f"{self.name}'s database {self.place}: {what}; look at {names} ({reason})"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One process at a time, of all that migrate or restore this database.

        Raises:
            DatabaseError: it cannot be reached, or another process holds it for ten minutes.
        """
        if self.url is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                with FileLock(self.folder / ".lock", timeout=SECONDS_TO_WAIT):
                    yield
            except Timeout as error:
                raise DatabaseError(self._held()) from error
            return
        with self.connected() as connection:
            self._lock(connection)
            # The lock ends with the connection, also where this process is killed.
            yield

    def _lock(self, connection: "Connection") -> None:
        from sqlalchemy import text
        from sqlalchemy.exc import OperationalError

        connection.execute(text(f"SET lock_timeout = '{SECONDS_TO_WAIT}s'"))
        try:
            connection.execute(text(f"SELECT pg_advisory_lock({MIGRATION_LOCK})"))
        except OperationalError as error:
            raise DatabaseError(self._held()) from error

    def _held(self) -> str:
        return f"{self.name}'s database {self.place}: another process migrates it; try again"

    def revision(self) -> str | None:
        """Its schema's version; None: it has no tables yet.

        Raises:
            DatabaseError: it cannot be reached.
        """
        from alembic.runtime.migration import MigrationContext

        if self.url is None and not self.file_of("event_logs").is_file():
            return None
        with self.connected("event_logs") as connection:
            found = MigrationContext.configure(connection).get_current_heads()
        return found[0] if found else None

    def state(self) -> State:
        """What the installed version makes of its schema.

        Raises:
            DatabaseError: it cannot be reached.
        """
        return schema_state(self.name, self.revision())

    def require_not_newer(self) -> None:
        """Refuse a schema that the installed version does not know.

        Raises:
            DatabaseError: says which version made it, as far as that is known.
        """
        if self.state() == "newer":
            raise DatabaseError(
                f"{self.name}'s database {self.place} has the schema {self.revision()}, which"
                f" {installed(self.name)} does not know: a newer version made it. Run that"
                " version, or restore a backup from before (`retail-assistant restore`)"
            )

    def rows(self, table: str = "runs") -> int:
        """How many rows a table has; 0: there is no such table."""
        from sqlalchemy import inspect, text

        if self.url is None and not self.file_of(table).is_file():
            return 0
        with self.connected(table) as connection:
            if not inspect(connection).has_table(table):
                return 0
            return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())  # noqa: S608


def schema_state(name: Name, revision: str | None) -> State:
    """What the installed Dagster or MLflow makes of a schema's version."""
    if revision is None:
        return "missing"
    scripts = _migrations(name)
    if revision in scripts.get_heads():
        return "current"
    known = {script.revision for script in scripts.walk_revisions()}
    return "behind" if revision in known else "newer"


def _migrations(name: Name) -> "ScriptDirectory":
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    folders = {
        "Dagster": "dagster:_core/storage/alembic",
        "MLflow": str(distribution("mlflow").locate_file("mlflow/store/db_migrations")),
    }
    config = Config()
    config.set_main_option("script_location", folders[name].replace("%", "%%"))
    return ScriptDirectory.from_config(config)


def installed(name: Name) -> str:
    """Dagster or MLflow with its installed version."""
    return f"{name} {version(name.lower())}"


def dagster_database(home: Path) -> Database:
    """The database that Dagster's instance file in this folder names.

    Raises:
        DatabaseError: variables that it is read from are not set; names them.
    """
    file = home / "dagster.yaml"
    config = yaml.safe_load(file.read_text()) if file.is_file() else {}
    storage = (config or {}).get("storage") or {}
    if "postgres" not in storage:
        return Database("Dagster", folder=home)
    given = storage["postgres"]
    if "postgres_url" in given:
        variable = _variable(given["postgres_url"]) or "storage.postgres.postgres_url"
        (address,) = _values(file, [given["postgres_url"]])
        return replace(_at(address, "Dagster", variable), folder=home)
    parts = {name: given["postgres_db"].get(name) for name in _PARTS}
    parts["port"] = parts["port"] or 5432
    return Database(
        "Dagster",
        folder=home,
        url=_url(dict(zip(_PARTS, _values(file, parts.values()), strict=True)), given),
        variables={name: _variable(entry) or f"{name} in {file}" for name, entry in parts.items()},
    )


def _variable(entry: Any) -> str | None:
    return entry["env"] if isinstance(entry, dict) else None


def _values(file: Path, entries: Any) -> list[str]:
    """What instance file and environment say, all of it."""
    entries = list(entries)
    missing = [name for name in map(_variable, entries) if name and not os.environ.get(name)]
    if missing:
        raise DatabaseError(
            f"Dagster's database is PostgreSQL ({file}), but {', '.join(missing)}"
            f" {'is' if len(missing) == 1 else 'are'} not set"
        )
    names = map(_variable, entries)
    return [os.environ[name] if name else str(entry) for name, entry in zip(names, entries, strict=True)]


def _url(parts: Mapping[str, str], given: Mapping[str, Any]) -> "URL":
    from sqlalchemy import URL

    if not parts["port"].isdecimal():
        raise DatabaseError(f"{parts['port']!r} is no port of Dagster's database; allowed: a number")
    return URL.create(
        "postgresql",
        username=parts["username"],
        password=parts["password"],
        host=parts["hostname"],
        port=int(parts["port"]),
        database=parts["db_name"],
        query={
            name: str(value) for name, value in given["postgres_db"].get("params", {}).items()
        },
    )


def mlflow_database(settings: Settings) -> Database | None:
    """MLflow's database; None: it is behind a server, and only that server knows it.

    Raises:
        DatabaseError: it is of another kind than SQLite and PostgreSQL.
    """
    variable = MLFLOW_DATABASE if os.environ.get(MLFLOW_DATABASE) else "RETAIL_MLFLOW_URI"
    address = os.environ.get(MLFLOW_DATABASE) or settings.mlflow_tracking_uri
    if address.startswith(("http://", "https://")):
        return None
    if address.startswith("sqlite:///"):
        path = Path(address.removeprefix("sqlite:///")).absolute()
        return Database("MLflow", folder=path.parent, file=path.name)
    return _at(address, "MLflow", variable)


def _at(address: str, name: Name, variable: str) -> Database:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        url = None
    if url is None or not url.drivername.startswith("postgresql"):
        raise DatabaseError(
            f"{name}'s database: {variable} is of no kind that is known; allowed:"
            " postgresql://user:password@host:port/database, sqlite:////absolute/path"
        )
    return Database(name, url=url, variables=dict.fromkeys(_PARTS, variable))


def databases(settings: Settings, home: Path) -> list[Database]:
    """Dagster's database, and MLflow's where it is known here.

    Raises:
        DatabaseError: one is not described well, or both are the same.
    """
    dagster, mlflow = dagster_database(home), mlflow_database(settings)
    if mlflow is None:
        return [dagster]
    if dagster.url is not None and dagster.place == mlflow.place:
        raise DatabaseError(
            f"Dagster and MLflow have the same database {mlflow.place}: both keep their schema's"
            " version in a table alembic_version. Give MLflow one of its own"
            f" ({mlflow.variables['db_name']})"
        )
    return [dagster, mlflow]


def migrate(database: Database, say: Callable[[str], None] = lambda _: None) -> State:
    """Bring a database to the installed version's schema; its state before.

    Twice, or from several processes at once, is as good as once: they wait for each other.

    Raises:
        DatabaseError: it cannot be reached, is newer, or is not current afterwards.
    """
    with database.alone():
        before = database.state()
        database.require_not_newer()
        if database.name == "Dagster":
            _migrate_dagster(database, say)
        elif before != "current":
            _migrate_mlflow(database)
        if database.state() != "current":
            raise DatabaseError(
                f"{database.name}'s database {database.place} is {database.state()} after its"
                " migration; look at what was logged above"
            )
    return before


def _migrate_dagster(database: Database, say: Callable[[str], None]) -> None:
    # Also where the schema is current: Dagster moves data besides, and knows what it has moved.
    from dagster import DagsterInstance

    with DagsterInstance.from_config(str(database.folder)) as instance:
        instance.upgrade(say)


def _migrate_mlflow(database: Database) -> None:
    # What `mlflow db upgrade` runs; here, so that the password is on no command line.
    from mlflow.db import upgrade

    upgrade.callback(database.address)

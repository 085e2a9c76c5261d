"""A database of Dagster or MLflow: where it is, whether it answers, its schema, its lock."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from retail_assistant.databases.schema import Name, State, installed, schema_state
from retail_assistant.telemetry.redaction import without_password

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

APPLICATION = "retail-assistant databases"
"""What PostgreSQL knows our connections by."""
SECONDS_TO_CONNECT = 10
SECONDS_TO_WAIT = 600
# Any number, as long as all processes that migrate a database use the same one.
MIGRATION_LOCK = 7_203_115


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
        given = {"connect_timeout": SECONDS_TO_CONNECT, "application_name": APPLICATION}
        return create_engine(self.url, poolclass=NullPool, connect_args=given)

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
        from sqlalchemy import func, inspect, select
        from sqlalchemy import table as named

        if self.url is None and not self.file_of(table).is_file():
            return 0
        with self.connected(table) as connection:
            if not inspect(connection).has_table(table):
                return 0
            counted = select(func.count()).select_from(named(table))
            return int(connection.execute(counted).scalar_one())

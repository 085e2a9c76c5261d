"""Where the databases of Dagster and MLflow are.

On one machine they are SQLite files, in a cluster two databases of a PostgreSQL server. Dagster's
is what its instance file (`dagster.yaml`) says. MLflow's is `MLFLOW_BACKEND_STORE_URI`, which its
server reads too, or else `RETAIL_MLFLOW_URI`, where that is no server's address.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from retail_assistant.databases.database import Database, DatabaseError
from retail_assistant.databases.schema import Name
from retail_assistant.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import URL

MLFLOW_DATABASE = "MLFLOW_BACKEND_STORE_URI"
DRIVER = "postgresql+psycopg2"
_PARTS = ("hostname", "port", "db_name", "username", "password")


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


def _values(file: Path, entries: Iterable[Any]) -> list[str]:
    """What instance file and environment say, all of it."""
    entries = list(entries)
    missing = [name for name in map(_variable, entries) if name and not os.environ.get(name)]
    if missing:
        raise DatabaseError(
            f"Dagster's database is PostgreSQL ({file}), but {', '.join(missing)}"
            f" {'is' if len(missing) == 1 else 'are'} not set"
        )
    names = map(_variable, entries)
    return [
        os.environ[name] if name else str(entry) for name, entry in zip(names, entries, strict=True)
    ]


def _url(parts: Mapping[str, str], given: Mapping[str, Any]) -> "URL":
    from sqlalchemy import URL

    if not parts["port"].isdecimal():
        raise DatabaseError(
            f"{parts['port']!r} is no port of Dagster's database; allowed: a number"
        )
    url = URL.create(
        given["postgres_db"].get("scheme", "postgresql"),
        username=parts["username"],
        password=parts["password"],
        host=parts["hostname"],
        port=int(parts["port"]),
        database=parts["db_name"],
        query={name: str(value) for name, value in given["postgres_db"].get("params", {}).items()},
    )
    return _with_driver(url, "Dagster", "storage.postgres.postgres_db.scheme")


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
    if url is None or url.get_backend_name() != "postgresql":
        raise DatabaseError(
            f"{name}'s database: {variable} is of no kind that is known; allowed:"
            f" {DRIVER}://user:password@host:port/database, sqlite:////absolute/path"
        )
    url = _with_driver(url, name, variable)
    return Database(name, url=url, variables=dict.fromkeys(_PARTS, variable))


def _with_driver(url: "URL", name: Name, where: str) -> "URL":
    """Refuse an address that would take SQLAlchemy to a driver that is not installed."""
    if url.drivername == DRIVER:
        return url
    raise DatabaseError(
        f"{name}'s database: {where} begins with {url.drivername}; allowed: {DRIVER} (without the"
        " driver SQLAlchemy takes psycopg 3, which is not installed)"
    )


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

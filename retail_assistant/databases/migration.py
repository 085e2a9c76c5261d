"""Bringing a database to the schema of the installed Dagster or MLflow."""

from collections.abc import Callable

from retail_assistant.databases.database import Database, DatabaseError
from retail_assistant.databases.schema import State


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
    from dagster._core.instance.ref import InstanceRef

    # Its tables need no Kubernetes, which the monitoring of runs would ask for.
    without = {"run_monitoring": {"enabled": False}}
    reference = InstanceRef.from_dir(str(database.folder), overrides=without)
    with DagsterInstance.from_ref(reference) as instance:
        instance.upgrade(say)


def _migrate_mlflow(database: Database) -> None:
    # What `mlflow db upgrade` runs; here, so that the password is on no command line.
    from mlflow.db import upgrade

    upgrade.callback(database.address)

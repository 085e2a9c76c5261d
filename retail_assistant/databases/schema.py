"""The schemas of Dagster's and MLflow's databases: which versions the installed ones know."""

from importlib.metadata import distribution, version
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

Name = Literal["Dagster", "MLflow"]
State = Literal["missing", "behind", "current", "newer"]


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

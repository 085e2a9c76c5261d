"""Secrets of the environment are nowhere in what a run leaves: events, artefacts, logs."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from retail_assistant.defs.resources import Launcher, artefact_result
from retail_assistant.launch.spec import LaunchSpec
from retail_assistant.telemetry.redaction import forget_own_secrets
from retail_assistant_tests.launch.conftest import environment, sample_spec

__all__ = ["environment", "sample_spec"]

SECRETS = {
    "PGPASSWORD": "canary-pg-5f1d",
    "MLFLOW_TRACKING_PASSWORD": "canary-mlflow-77aa",
    "RETAIL_GENERATOR_API_KEY": "canary-generator-01bc",
    "RETAIL_JUDGE_API_KEY": "canary-judge-93de",
    "RETAIL_SERVING_MODEL_API_KEY": "canary-model-4c2f",
    "RETAIL_ALERT_WEBHOOK": "https://hooks.slack.com/services/T0/B0/canary-hook-8e11",
    "OTEL_EXPORTER_OTLP_HEADERS": "authorization=canary-otel-2b90",
    "HF_TOKEN": "canary-hub-6a3e",
}


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    forget_own_secrets()
    yield
    monkeypatch.undo()
    forget_own_secrets()


def texts_in(folder: Path) -> Iterator[tuple[Path, str]]:
    """All that is kept below a folder, of databases every row."""
    for path in folder.rglob("*"):
        if path.suffix == ".db":
            with closing(sqlite3.connect(path)) as database:
                yield path, "\n".join(database.iterdump())
        elif path.is_file():
            yield path, path.read_bytes().decode(errors="replace")


@pytest.mark.fault(
    "A process that fails says its secrets: in progress, in logs, in the error that ends it",
    "None is in the run's events, the artefact's files and log, or the error that people see",
)
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_run_keeps_no_secret(
    sample_spec: Callable[..., LaunchSpec],
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    log_format: str,
) -> None:
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    monkeypatch.setenv("RETAIL_LOG_FORMAT", log_format)
    spec = sample_spec("tell", config={"text": "x", "secrets": list(SECRETS)})

    @dg.asset(name="sample")
    def sample(context: dg.AssetExecutionContext, launcher: Launcher) -> Any:
        return artefact_result(launcher.launch(context, spec))._replace(value=None)

    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        run = dg.materialize(
            [sample],
            instance=instance,
            resources={"launcher": Launcher()},
            raise_on_error=False,
        )
        assert not run.success

    kept = dict(texts_in(tmp_path))
    events = "".join(text for path, text in kept.items() if path.suffix == ".db")
    assert "cannot reach postgresql://***@db" in events
    assert "logging in: PGPASSWORD ***" in events
    assert "refused: PGPASSWORD ***" in kept[spec.folder / "log.txt"]
    seen = [*kept.items(), (Path("console"), "".join(capfd.readouterr()))]
    canaries = [value.rpartition("/")[2] for value in SECRETS.values()]
    found = [(str(path), one) for path, text in seen for one in canaries if one in text]
    assert not found

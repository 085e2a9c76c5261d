"""Logs: one JSON line an event with Google Cloud's fields, and lines for people; no secrets."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from retail_assistant.defs.resources import Launcher, artefact_result, plain_console_logger
from retail_assistant.launch.command import write_spec
from retail_assistant.launch.local import run_local
from retail_assistant.launch.spec import LaunchError, LaunchSpec
from retail_assistant.telemetry.context import context_environment, log_context
from retail_assistant.telemetry.logs import (
    CloudFormatter,
    log_format,
    readable,
    take_over_consoles,
)
from retail_assistant_tests.launch.conftest import environment, sample_spec
from retail_assistant_tests.telemetry.collector import Collector

__all__ = ["environment", "sample_spec"]

MakeSpec = Callable[..., LaunchSpec]


@pytest.fixture
def as_json(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RETAIL_LOG_FORMAT", "json")
    yield


def formatted(message: str, *arguments: object, **given: Any) -> dict[str, Any]:
    record = logging.getLogger("shop").makeRecord(
        "shop",
        logging.WARNING,
        __file__,
        1,
        message,
        arguments,
        given.pop("exc_info", None),
        **given,
    )
    line = CloudFormatter().format(record)
    assert "\n" not in line
    return dict(json.loads(line))


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_an_event_has_the_fields_that_the_cloud_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    with log_context(run_id="r1", asset="adapter"):
        event = formatted("%d rows", 3, extra={"httpRequest": {"status": 200}})
    assert event["severity"] == "WARNING"
    assert (event["logger"], event["message"]) == ("shop", "3 rows")
    assert event["time"].endswith("Z")
    assert (event["run_id"], event["asset"]) == ("r1", "adapter")
    assert event["httpRequest"] == {"status": 200}
    assert not any(name.startswith("logging.googleapis.com") for name in event)


@pytest.mark.fault(
    "An endpoint, a database, a webhook or MLflow refuses, and its error repeats the secret",
    "It is in no error text, log, artefact, MLflow entry or alert",
)
def test_no_field_holds_a_secret() -> None:
    try:
        raise ValueError("password=hunter22")
    except ValueError:
        info = sys.exc_info()
    event = formatted("to postgresql://a:hunter22@db", extra={"api_key": "hunter22"}, exc_info=info)
    assert "hunter22" not in json.dumps(event)
    assert "ValueError" in event["stack_trace"]


def test_a_log_is_read_as_people_read_it() -> None:
    line = json.dumps({"severity": "ERROR", "message": "x", "stack_trace": "Traceback\nE: x"})
    assert readable(f"plain\n{line}\n{{not json") == "plain\nTraceback\nE: x\n{not json"


@pytest.mark.parametrize(
    ("given", "where", "wanted"),
    [(None, None, "text"), (None, "cluster", "json"), ("text", "cluster", "text")],
)
def test_json_is_the_clusters_default(
    monkeypatch: pytest.MonkeyPatch, given: str | None, where: str | None, wanted: str
) -> None:
    for name, value in (("RETAIL_LOG_FORMAT", given), ("RETAIL_ENVIRONMENT", where)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert log_format() == wanted


@pytest.mark.usefixtures("as_json")
def test_a_workload_says_what_it_is_at(sample_spec: MakeSpec, environment: dict[str, str]) -> None:
    spec = sample_spec(orders="fail")
    told = context_environment({"run_id": "r1", "partition": "mine", "job": None})
    with pytest.raises(LaunchError) as failed:
        run_local(spec, environment | told)
    # For people the failure reads as ever.
    assert str(failed.value).endswith("ValueError: the shelf is empty")
    found = events((spec.folder / "log.txt").read_text())
    assert [one["severity"] for one in found] == ["INFO", "CRITICAL"]
    assert found[0]["message"] == "weighing the text"
    for one in found:
        assert (one["run_id"], one["partition"]) == ("r1", "mine")
        assert (one["asset"], one["fingerprint"]) == ("sample", spec.fingerprint)
    assert "the shelf is empty" in found[1]["stack_trace"]


@pytest.mark.usefixtures("as_json")
def test_dagsters_run_writes_events_with_its_id(
    sample_spec: MakeSpec,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    collector: Collector,
) -> None:
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "shop")
    spec = sample_spec()

    @dg.asset(name="sample")
    def sample(context: dg.AssetExecutionContext, launcher: Launcher) -> Any:
        context.log.info("about to launch with token=abcdefgh123")
        return artefact_result(launcher.launch(context, spec))._replace(value=None)

    definitions = dg.Definitions(
        [sample],
        resources={"launcher": Launcher()},
        loggers={"console": plain_console_logger},
        jobs=[dg.define_asset_job("weigh", [sample])],
        executor=dg.in_process_executor,
    )
    with dg.DagsterInstance.ephemeral() as instance:
        run = definitions.resolve_job_def("weigh").execute_in_process(
            instance=instance, run_config={"loggers": {"console": {}}}
        )
    written = capsys.readouterr().err
    found = [one for one in events(written) if one.get("run_id") == run.run_id]
    assert {"about to launch with token=***"} <= {one["message"] for one in found}
    assert {(one["job"], one["asset"]) for one in found if "asset" in one} == {("weigh", "sample")}
    # The run's trace is named by its id, in the logs as in the spans.
    trace = run.run_id.replace("-", "")
    assert {one["logging.googleapis.com/trace"] for one in found} == {
        f"projects/shop/traces/{trace}"
    }
    assert {one.trace for one in collector.spans} == {trace}


def test_a_run_that_names_no_logger_writes_events_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @dg.asset
    def products(context: dg.AssetExecutionContext) -> None:
        context.log.info("3 rows")
        context.log.debug("bookkeeping")
        raise ValueError("password=hunter22")

    before = logging.getLoggerClass()
    take_over_consoles()
    try:
        run = dg.materialize([products], raise_on_error=False)
    finally:
        logging.setLoggerClass(before)
    written = capsys.readouterr().err
    found = [one for one in events(written) if one.get("run_id") == run.run_id]
    assert [one["message"] for one in found if one["severity"] == "INFO"][:1] == ["3 rows"]
    assert "bookkeeping" not in written
    failed = [one for one in found if one["severity"] == "ERROR"]
    assert any("ValueError" in one.get("stack_trace", "") for one in failed)
    assert "hunter22" not in json.dumps(found)


def test_the_command_line_tells_a_wrong_setting_as_one_event(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "retail_assistant.cli", "report"],
        env={
            "PATH": "",
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
            "RETAIL_LOG_FORMAT": "json",
            "RETAIL_STORAGE_URI": str(tmp_path),
            "RETAIL_ALERT_WEBHOOK": "http://example.com/services/hunter22",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    (event,) = events(ended.stderr)
    assert event["severity"] == "ERROR"
    assert "RETAIL_ALERT_WEBHOOK=***" in event["message"]
    assert "hunter22" not in ended.stderr + ended.stdout


def test_on_a_cluster_what_a_workload_writes_is_in_the_pods_output(
    sample_spec: MakeSpec, environment: dict[str, str]
) -> None:
    spec = sample_spec()
    spec.folder.mkdir(parents=True)
    write_spec(spec)
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "retail_assistant.launch.cluster_job",
            "--spec",
            spec.folder / "spec.json",
        ],
        env={**os.environ, **environment, "RETAIL_LOG_FORMAT": "json"}
        | context_environment({"run_id": "r1"}),
        capture_output=True,
        text=True,
        check=True,
    )
    (event,) = events(ended.stdout)
    assert (event["message"], event["run_id"]) == ("weighing the text", "r1")
    assert event["fingerprint"] == spec.fingerprint

"""The web UI as a person uses it: servers up, browser in, Ctrl-C, everything gone."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psutil
import pytest
from playwright.sync_api import Page, expect

from retail_assistant_tests.integration import dagster_ui
from retail_assistant_tests.integration.browser import find_browser
from retail_assistant_tests.integration.line import BIN, JOBS, FinishedLine
from retail_assistant_tests.integration.screenshots import save_screenshots
from retail_assistant_tests.mlflow_server import free_port

pytestmark = pytest.mark.slow

GROUPS = ["adapters", "catalog", "corpus", "evaluation", "serving"]
CHEAP_ASSET = "product_splits"
SECONDS_TO_START = 180
SECONDS_TO_END = 60


@dataclass(frozen=True)
class Servers:
    """`retail-assistant ui` at work."""

    process: psutil.Process
    port: int
    mlflow_port: int

    @property
    def dagster(self) -> str:
        """The address of the Dagster web server."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def mlflow(self) -> str:
        """The address of the MLflow server."""
        return f"http://127.0.0.1:{self.mlflow_port}"

    def interrupt(self) -> None:
        """Ctrl-C, as a terminal sends it to whom it has in front: the command itself."""
        self.process.send_signal(signal.SIGINT)


@pytest.fixture(scope="module")
def servers(
    finished_line: FinishedLine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Servers]:
    """The UI's servers on the finished line; ended with the module if no test did."""
    find_browser()
    port, mlflow_port = free_port(), free_port()
    log = tmp_path_factory.mktemp("ui") / "log.txt"
    started = time.monotonic()
    with log.open("wb") as output:
        command = _start_ui(finished_line, port, mlflow_port, output.fileno())
    servers = Servers(psutil.Process(command.pid), port, mlflow_port)
    try:
        for url in (f"{servers.dagster}/server_info", f"{servers.mlflow}/health"):
            _wait_until_it_answers(url, command, log)
        print(f"\nthe servers answer after {time.monotonic() - started:.0f} s")
        yield servers
    finally:
        _end_tree(command)


def test_the_graph_shows_every_group(servers: Servers, chromium_page: Page) -> None:
    dagster_ui.open_graph(chromium_page, servers.dagster)
    assert dagster_ui.group_names(chromium_page) == GROUPS


def test_an_asset_is_materialized_by_clicking(
    servers: Servers, finished_line: FinishedLine, chromium_page: Page
) -> None:
    run_id = dagster_ui.materialize(chromium_page, servers.dagster, CHEAP_ASSET)
    shown = dagster_ui.open_latest_metadata(chromium_page, servers.dagster, CHEAP_ASSET)
    assert int(shown["dagster/row_count"]) > 0
    with finished_line.instance() as instance:
        assert instance.get_run_by_id(run_id).is_success


def test_jobs_are_partitions(servers: Servers, chromium_page: Page) -> None:
    partitions = dagster_ui.open_partitions(chromium_page, servers.dagster, "adapter")
    assert set(JOBS) <= set(partitions)
    shown = dagster_ui.open_latest_metadata(chromium_page, servers.dagster, "adapter", JOBS[0])
    assert {"fingerprint", "hyperparameters", "mlflow_run", "train_loss", "path"} <= set(shown)


def test_the_comparison_is_readable_in_the_page(
    servers: Servers, chromium_page: Page, external_requests: list[str]
) -> None:
    shown = dagster_ui.open_latest_metadata(chromium_page, servers.dagster, "model_comparison")
    assert {"headline", "report", "comparison", "accuracy", "loss", "tests", "costs"} <= set(shown)
    assert any(job in shown["headline"] for job in JOBS)
    assert all(job in shown["tests"] and job in shown["costs"] for job in JOBS)
    tables = dagster_ui.open_markdown(chromium_page, "comparison").locator("table")
    assert all(job in tables.first.inner_text() for job in JOBS)
    chromium_page.keyboard.press("Escape")
    plot = dagster_ui.open_markdown(chromium_page, "accuracy").locator("img")
    expect(plot).to_be_visible()
    assert plot.evaluate("image => image.naturalWidth") > 0
    assert external_requests == []


def test_the_report_is_drawn_without_a_network(
    finished_line: FinishedLine, chromium_page: Page, external_requests: list[str]
) -> None:
    chromium_page.goto(finished_line.report().as_uri())
    expect(chromium_page.locator(".js-plotly-plot svg").first).to_be_visible()
    assert all(job in chromium_page.inner_text("body") for job in JOBS)
    assert external_requests == []


def test_mlflow_shows_the_runs(servers: Servers, chromium_page: Page) -> None:
    chromium_page.goto(f"{servers.mlflow}/#/experiments", wait_until="domcontentloaded")
    expect(chromium_page.get_by_text("retail_assistant/tiny").first).to_be_visible(timeout=60_000)


def test_screenshots_are_saved_where_they_are_asked_for(
    servers: Servers, finished_line: FinishedLine, chromium_page: Page
) -> None:
    folder = os.environ.get("RETAIL_SCREENSHOTS")
    if not folder:
        pytest.skip("RETAIL_SCREENSHOTS names no folder")
    saved = save_screenshots(chromium_page, servers.dagster, finished_line.report(), Path(folder))
    assert all(path.stat().st_size > 20_000 for path in saved)


def test_a_port_in_use_is_refused(servers: Servers, finished_line: FinishedLine) -> None:
    free = str(free_port())
    taken = finished_line.call("ui", "--port", str(servers.port), "--mlflow-port", free)
    assert taken.code == 2
    assert f"port {servers.port} is in use" in taken.words
    assert "--port" in taken.words
    taken = finished_line.call("ui", "--port", free, "--mlflow-port", str(servers.mlflow_port))
    assert taken.code == 2
    assert f"port {servers.mlflow_port} is in use" in taken.words
    assert "--mlflow-port" in taken.words
    assert "Traceback" not in taken.words


@pytest.mark.fault(
    "the local servers are interrupted",
    "every one of them ends",
)
def test_an_interrupt_ends_every_server(servers: Servers) -> None:
    children = servers.process.children(recursive=True)
    words = [_command_line(child) for child in children]
    for name in ("dagster-webserver", "dagster-daemon", "mlflow"):
        assert any(name in command for command in words), name
    started = time.monotonic()
    servers.interrupt()
    _, alive = psutil.wait_procs([servers.process, *children], timeout=SECONDS_TO_END)
    print(f"\nthe servers ended after {time.monotonic() - started:.0f} s")
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    for port in (servers.port, servers.mlflow_port):
        with closing(socket.socket()) as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


def _start_ui(
    line: FinishedLine, port: int, mlflow_port: int, output: int
) -> subprocess.Popen[bytes]:
    ports = ("--port", str(port), "--mlflow-port", str(mlflow_port))
    return subprocess.Popen(
        [BIN / "retail-assistant", "ui", *ports],
        env=line.environment,
        cwd=line.storage.parent,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _wait_until_it_answers(url: str, command: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline and command.poll() is None:
        try:
            with urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
    raise AssertionError(f"{url} does not answer:\n{log.read_text()[-3000:]}")


def _command_line(process: psutil.Process) -> str:
    """Its words; none of a process that has ended and waits to be noticed."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _end_tree(command: subprocess.Popen[bytes]) -> None:
    """End the command and everything it started; a test may have done so before."""
    try:
        family = [process := psutil.Process(command.pid), *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    for process in family:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    command.wait()

"""A real MLflow server that a test may kill and start again, at the same address."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS_TO_START = 120


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class MlflowServer:
    """`mlflow server` on the loopback interface, with a folder of artefacts.

    Its database is a SQLite file, unless an address is given.
    """

    def __init__(self, folder: Path, database: str | None = None) -> None:
        self.folder = folder
        self._database = database or f"sqlite:///{folder}/mlflow.db"
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        log = (self.folder / "log.txt").open("ab")
        command = [Path(sys.executable).parent / "mlflow", "server", "-h", "127.0.0.1"]
        command += ["-p", str(self.port), "--workers", "1"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        self._process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={
                **os.environ,
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                "MLFLOW_BACKEND_STORE_URI": self._database,
            },
        )
        log.close()
        until = time.monotonic() + SECONDS_TO_START
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "log.txt").read_text()[-2000:]
            assert time.monotonic() < until, "the MLflow server does not answer"
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        """End it and its children at once, as a crash would."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def forget(self) -> None:
        """Lose everything that it was told; it is not running now."""
        (self.folder / "mlflow.db").unlink()


@contextmanager
def mlflow_server(folder: Path) -> Iterator[MlflowServer]:
    """A running server; gone at the end."""
    server = MlflowServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()

"""A hostile image server, and policies that may ask it."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from retail_assistant.catalog.images.policy import ImagePolicy
from retail_assistant.catalog.images.receipts import Receipt
from retail_assistant.catalog.images.worker import ImageWorker
from retail_assistant.launch.local import run_local
from retail_assistant.launch.spec import LaunchSpec
from retail_assistant.storage import TableStore

REPOSITORY = Path(__file__).resolve().parents[3]
MakePolicy = Callable[..., ImagePolicy]


class ImageServer:
    """A running server: where it is, and what it was asked."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.root = f"http://127.0.0.1:{port}"

    def url(self, path: str) -> str:
        return f"{self.root}/{path}"

    def hits(self) -> dict[str, int]:
        return self._counts("hits")

    def most_at_once(self) -> dict[str, int]:
        return self._counts("most")

    def _counts(self, path: str) -> dict[str, int]:
        with urllib.request.urlopen(self.url(path), timeout=30) as answer:
            return json.load(answer)


@pytest.fixture
def image_server(tmp_path: Path) -> Iterator[ImageServer]:
    """A server process of this test's own, so that its counts are this test's too."""
    port_file = tmp_path / "port"
    process = subprocess.Popen(
        [sys.executable, "-m", f"{__package__}.server", "--port-file", str(port_file)],
        cwd=REPOSITORY,
    )
    deadline = time.monotonic() + 60
    while not port_file.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline, "the image server does not start"
        time.sleep(0.05)
    try:
        yield ImageServer(int(port_file.read_text()))
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def local_policy(image_server: ImageServer) -> MakePolicy:
    """local_policy(**fields): impatient, and allowed to ask the test's server."""

    def make(**fields: Any) -> ImagePolicy:
        given = {
            "ports": (80, 443, image_server.port),
            "allowed_private_networks": ("127.0.0.0/8",),
            "connect_timeout": 2.0,
            "read_timeout": 1.0,
            "total_timeout": 2.0,
            "backoff": 0.05,
            "attempts": 2,
            "max_bytes": 2_000_000,
        }
        return ImagePolicy.model_validate(given | fields)

    return make


@pytest.fixture
def store_uri(tmp_path: Path) -> str:
    return str(tmp_path / "objects")


def fetch(urls: Sequence[str], policy: ImagePolicy, store_uri: str) -> list[Receipt]:
    """One worker's receipts, without Ray."""

    async def run() -> list[dict[str, Any]]:
        worker = ImageWorker(
            policy, store_uri, "run-1", policy.concurrency, policy.concurrency_per_host
        )
        try:
            return await worker.fetch(urls)
        finally:
            await worker.close()

    return [Receipt.model_validate(row) for row in asyncio.run(run())]


class ImageRun:
    """The workload `fetch` over given products, each time as a run of its own."""

    def __init__(
        self, root: Path, policy: ImagePolicy, store_uri: str, ray_address: str | None
    ) -> None:
        self.root = root
        self.environment = (
            {"RAY_ADDRESS": ray_address, "RAY_AUTH_MODE": "disabled"} if ray_address else {}
        )
        self.policy = policy
        self.store_uri = store_uri

    def spec(self, urls: Sequence[Sequence[str]], run: str) -> LaunchSpec:
        products = pl.DataFrame(
            {"product_id": [f"p{number}" for number in range(len(urls))], "image_urls": urls},
            schema={"product_id": pl.String, "image_urls": pl.List(pl.String)},
        )
        table = TableStore(self.root).write(products, "assortment")
        return LaunchSpec(
            name="product_images",
            module="retail_assistant.catalog.images.fetch",
            config={"policy": self.policy.model_dump(mode="json"), "store": self.store_uri},
            inputs={"assortment": table.sha256, "again": run},
            paths={"assortment": table.path},
            code_version="1",
            root=self.root,
        )

    def table(self, urls: Sequence[Sequence[str]], run: str = "") -> pl.DataFrame:
        spec = self.spec(urls, run)
        return pl.read_parquet(run_local(spec, self.environment).path(spec.folder, "images"))


@pytest.fixture
def image_run(local_policy: MakePolicy, store_uri: str, tmp_path: Path) -> Callable[..., ImageRun]:
    """image_run(store_uri=…, ray_address=…, **policy_fields); no address: Ray is started."""

    def make(store_uri: str = store_uri, ray_address: str | None = None, **fields: Any) -> ImageRun:
        return ImageRun(tmp_path / "storage", local_policy(**fields), store_uri, ray_address)

    return make


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """A Ray cluster on this machine that is there already, for `RAY_ADDRESS`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"]
    command += ["--node-ip-address", "127.0.0.1", "--port", address.rsplit(":")[-1]]
    command += ["--include-dashboard", "false", "--num-cpus", "2", "--disable-usage-stats"]
    command += ["--object-store-memory", str(100 * 2**20)]
    # `ray start` asks for no token here: the tests' cluster listens on this machine only.
    environment = {"RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(
        command,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    _wait_for_port(int(address.rsplit(":")[-1]))
    yield address
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"nothing listens on port {port}")

"""Generating that is killed, as a machine is: what was answered is not asked for again."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import polars as pl
import psutil
import pytest

from retail_assistant.corpus.generate import MODULE, GenerateConfig, generation_spec
from retail_assistant.corpus.splits import split_products
from retail_assistant.launch.local import run_local
from retail_assistant.launch.spec import LaunchError, LaunchSpec, read_manifest
from retail_assistant.storage import TableStore
from retail_assistant_tests.catalogs import assortment_of
from retail_assistant_tests.chat_server import ChatServer

pytestmark = pytest.mark.slow

CONCURRENCY = 8
SECONDS = 60


def work(server: ChatServer, tmp_path: Path) -> LaunchSpec:
    assortment, store = assortment_of(), TableStore(tmp_path)
    config = GenerateConfig.model_validate(
        {
            "generator": {"kind": "openai", "model": "test", "url": server.url},
            "generation": {"concurrency": CONCURRENCY},
            "train_products": 100,
            "evaluation_products": 60,
            "seed": 7,
        }
    )
    splits = split_products(assortment, seed=0)
    written = (store.write(assortment, "assortment"), store.write(splits, "product_splits"))
    return generation_spec(config, *written, tmp_path)


@pytest.mark.fault(
    "A run of the generator is killed",
    "The next one asks for the rest only",
)
def test_a_killed_run_asks_only_for_the_rest(tmp_path: Path) -> None:
    with ChatServer(latency=0.2).running() as server:
        spec = work(server, tmp_path)
        failures: list[LaunchError] = []
        run = Thread(target=lambda: failures.append(_failure(spec)))
        run.start()
        _wait_until(lambda: server.answers.total() >= 60)
        os.kill(_process(spec).pid, signal.SIGKILL)
        run.join(timeout=SECONDS)
        assert "killed by SIGKILL" in str(failures[0])
        assert read_manifest(spec.folder) is None
        kept = {path.stem for path in (tmp_path / "responses").rglob("*/*/*.json")}
        asked_before = server.requests.copy()
        assert 60 - CONCURRENCY <= len(kept) < 180

        manifest = run_local(spec)
        metrics = manifest.metrics
        assert metrics["reused"] == len(kept)
        assert metrics["requests"] == metrics["asked"]
        again = server.requests - asked_before
        assert again.total() == metrics["asked"]
        # Asked twice are only those whose answers the killed process had not kept yet.
        twice = [subject for subject, number in server.requests.items() if number > 1]
        assert len(twice) == asked_before.total() - len(kept) <= CONCURRENCY
        assert set(server.requests.values()) <= {1, 2}
    dialogues = pl.read_parquet(manifest.path(spec.folder, "dialogues"))
    assert dialogues["reference"].n_unique() == metrics["asked"] + metrics["reused"]


def _failure(spec: LaunchSpec) -> LaunchError:
    try:
        run_local(spec)
    except LaunchError as error:
        return error
    raise AssertionError("the run was not killed")


def _wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _process(spec: LaunchSpec) -> psutil.Process:
    """The process that generates, found by its whole command line."""
    wanted = ["-m", MODULE, "--spec", str(spec.folder / "spec.json")]
    found = [
        child
        for child in psutil.Process().children(recursive=True)
        if child.cmdline()[-len(wanted) :] == wanted
    ]
    assert len(found) == 1
    return found[0]

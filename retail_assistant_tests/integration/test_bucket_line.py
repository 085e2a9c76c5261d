"""The whole graph with its catalog and its storage in a bucket, and three machines one by one.

The bucket is a real server of Google's protocol that refuses every ninth request; the first machine
is lost in the middle of a training.
"""

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from retail_assistant.settings import EMBEDDED_CATALOG, Settings
from retail_assistant.storage.bucket import names_in, publish
from retail_assistant_tests.emulator import BUCKET, CloudStorage, cloud_storage
from retail_assistant_tests.integration.line import BIN, RUN_SECONDS, Line

pytestmark = pytest.mark.slow

JOB = "tiny-shared"
STUDY = f"""
study: shared
description: A job that lasts long enough to be lost.
jobs:
  {JOB}:
    grounding: retrieved
    epochs: 6
    lora_r: 4
    lora_alpha: 8
    learning_rate: 1.0e-3
    batch_size: 1
"""
EVERY = 9


@dataclass(frozen=True)
class BucketLine(Line):
    """A machine that has nothing of its own but a working copy; `storage` is that."""

    emulator: str
    work_folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """As a line's, with the bucket in the folder's place."""
        return super().environment | {
            "STORAGE_EMULATOR_HOST": self.emulator,
            "RETAIL_STORAGE_URI": f"gs://{BUCKET}/line",
            "RETAIL_WORK_FOLDER": str(self.work_folder),
            "RETAIL_CATALOG_URI": f"gs://{BUCKET}/given/catalog.csv",
        }

    def elsewhere(self, work_folder: Path) -> "BucketLine":
        """Another machine."""
        storage = work_folder / BUCKET / "line"
        storage.mkdir(parents=True)
        return replace(self, work_folder=work_folder, storage=storage)


@pytest.fixture(scope="module")
def front(gcs_emulator: str) -> Iterator[CloudStorage]:
    with cloud_storage(gcs_emulator) as storage:
        asked, statuses = itertools.count(1), itertools.cycle((429, 503))
        storage.fault = lambda *_: next(statuses) if next(asked) % EVERY == 0 else None
        yield storage


@pytest.fixture(scope="module")
def first(
    front: CloudStorage, tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> BucketLine:
    """The first machine; the catalog is in the bucket."""
    folder = tmp_path_factory.mktemp("bucket")
    (folder / "studies").mkdir()
    (folder / "studies" / "shared.yaml").write_text(STUDY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", front.url)
        given = Settings(storage_uri=f"gs://{BUCKET}/given", work_folder=folder / "given").storage
        (given / "catalog.csv").write_bytes(EMBEDDED_CATALOG.read_bytes())
        publish(given / "catalog.csv")
    nowhere = BucketLine(folder, folder / "studies", tiny_model_folder, front.url, folder)
    return nowhere.elsewhere(folder / "first")


@pytest.mark.timeout(1800)
def test_a_lost_machine_costs_what_was_done_since_its_last_checkpoint(
    first: BucketLine, front: CloudStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _lose_while_it_trains(first)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", front.url)
    kept = names_in(first.storage / "artefacts" / "adapter", "*/complete")
    assert kept, "the bucket has a checkpoint"

    second = first.elsewhere(tmp_path / "second")
    # A model of random weights passes no policy: the comparison is the last that there is.
    ended = second.run(JOB)
    assert "model_comparison" in ended.words, ended.errors[-3000:]
    metrics = second.adapter(JOB).manifest().metrics
    assert metrics["resumed_from"].startswith("checkpoint-")
    assert front.faults > 10

    # A third one has nothing but the address.
    third = second.elsewhere(tmp_path / "third")
    told = third.call("report")
    assert told.code == 0, told.errors[-3000:]
    assert JOB in told.words
    assert third.adapter(JOB).manifest().metrics == metrics


def _lose_while_it_trains(line: BucketLine) -> None:
    """Kill -9 all of a run as soon as a checkpoint is whole."""
    command = subprocess.Popen(
        [BIN / "retail-assistant", "run", "--job", JOB],
        env=line.environment,
        cwd=line.work_folder,
        stdin=subprocess.DEVNULL,
        stdout=(line.work_folder / "lost.txt").open("wb"),
        stderr=subprocess.STDOUT,
    )
    deadline = time.monotonic() + RUN_SECONDS
    adapters = line.storage / "artefacts" / "adapter"
    while not (found := list(adapters.glob("*/checkpoints/*/checkpoint-*/complete"))):
        assert command.poll() is None, (line.work_folder / "lost.txt").read_text()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    # It is marked whole here first, and then copied.
    later = found[0].parent.parent
    while len(list(later.glob("checkpoint-*/complete"))) < 2 and command.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for process in [*psutil.Process(command.pid).children(recursive=True), command]:
        os.kill(process.pid, signal.SIGKILL)
    command.wait()

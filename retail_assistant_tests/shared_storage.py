"""A bucket that several machines share, each with a working copy of its own."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from retail_assistant.settings import Settings
from retail_assistant_tests.emulator import BUCKET, CloudStorage, cloud_storage

NUMBERS = itertools.count()
LEASE_SECONDS = 2.0


@pytest.fixture(scope="module")
def front(gcs_emulator: str) -> Iterator[CloudStorage]:
    """A server of Cloud Storage's protocol."""
    with cloud_storage(gcs_emulator) as storage:
        yield storage


@pytest.fixture(autouse=True)
def cloud(front: CloudStorage, monkeypatch: pytest.MonkeyPatch) -> CloudStorage:
    """The same on a good day."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", front.url)
    front.fault = lambda _method, _path: None
    return front


def machines(tmp_path: Path, count: int = 2, retry_seconds: float = 20) -> list[Path]:
    """The storage folders of several machines that share a new part of the bucket.

    Their leases run out soon.
    """
    uri = f"gs://{BUCKET}/machines/{next(NUMBERS)}"
    return [
        Settings(
            storage_uri=uri,
            work_folder=tmp_path / f"machine-{number}",
            storage_retry_seconds=retry_seconds,
            storage_lease_seconds=LEASE_SECONDS,
        ).storage
        for number in range(count)
    ]

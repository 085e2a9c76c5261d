"""`make rehearse` at tiny size: PostgreSQL, a bucket, Ray, MLflow, Dagster and the assistant."""

import subprocess
import sys

import pytest

from retail_assistant_tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow


@pytest.mark.timeout(2400)
@pytest.mark.fault(
    "A machine that trains is lost, the object store having bad moments too",
    "Another machine goes on from its last checkpoint in the bucket",
)
def test_a_retailers_day() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "retail_assistant_tests.rehearsal", "--size", "tiny"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-8000:] + ended.stderr[-2000:]
    assert "the assistant has the new catalog" in ended.stdout

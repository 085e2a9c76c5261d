"""A workload's processes are found wherever they went, and ended in time."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from retail_assistant.launch.processes import ProcessTree
from retail_assistant_tests.launch.waiting import lives, wait_until

SLEEP = "import time; time.sleep(300)"
# A grandchild whose parent is gone, in a session of its own (-3: no output).
ORPHAN = f"""
import subprocess, sys
code = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {SLEEP!r}],"
code += " start_new_session=True, stdout=-3, stderr=-3).pid)"
print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
sys.stdout.flush()
{SLEEP}
"""
# Without the variable by which the processes are known, but with a known parent.
STRANGER = f"""
import os, subprocess, sys
print(subprocess.Popen([sys.executable, "-c", {SLEEP!r}], env={{}}, start_new_session=True).pid)
sys.stdout.flush()
{SLEEP}
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(300)
"""


class Started:
    """A tree that writes to a file, and ends with its test."""

    def __init__(self, folder: Path, code: str) -> None:
        self.said = folder / "said.txt"
        with self.said.open("wb") as output:
            self.tree = ProcessTree([sys.executable, "-c", code], os.environ, output)
        wait_until(lambda: bool(self.said.read_text().strip()), 30, "the start")


@pytest.fixture
def started(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Started]:
    begun = Started(tmp_path, request.param)
    yield begun
    begun.tree.end(0)


@pytest.mark.parametrize("started", [ORPHAN, STRANGER], indirect=True)
def test_processes_that_left_are_found_and_ended(started: Started) -> None:
    gone_away = int(started.said.read_text())
    assert gone_away in {process.pid for process in started.tree.members()}
    started.tree.end(10)
    assert not lives(gone_away)
    assert started.tree.members() == []
    assert started.tree.wait(0) == -15


@pytest.mark.parametrize("started", [STUBBORN], indirect=True)
def test_what_does_not_listen_is_killed_when_its_time_is_over(started: Started) -> None:
    begun = time.monotonic()
    started.tree.end(1)
    assert 1 <= time.monotonic() - begun < 8
    assert started.tree.wait(0) == -9


def test_another_tree_is_left_alone(tmp_path: Path) -> None:
    code = f"print('here', flush=True)\n{SLEEP}"
    (tmp_path / "other").mkdir()
    one, other = Started(tmp_path, code), Started(tmp_path / "other", code)
    one.tree.end(5)
    assert one.tree.members() == []
    assert len(other.tree.members()) == 1
    other.tree.end(5)

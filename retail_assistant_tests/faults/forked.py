"""A process that has imported everything, and has a child of its own do each piece of work.

`python -m retail_assistant_tests.faults.forked MODULE` imports the module and reads orders, a line
of JSON each: a function of the module, its arguments, variables of the environment. A child calls
it; how the child ended is the answer. A child that is killed is as real as any process, and it
starts in milliseconds instead of the seconds that importing takes.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Self

from retail_assistant.storage.crash_points import CRASH_AT, CRASH_SIGNAL, CRASH_TRACE
from retail_assistant_tests.conftest import REPOSITORY

SECONDS_TO_WORK = 300
SECONDS_BETWEEN_LOOKS = 0.01


class ForkingProcess:
    """The process, as a test sees it; end it with `close`."""

    def __init__(
        self, module: str, folder: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.trace = folder / "places.txt"
        self.log = folder / "output.txt"
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, module],
                cwd=folder,
                env={"PYTHONPATH": str(REPOSITORY), **(environment or os.environ)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(
        self,
        call: str,
        *arguments: str,
        at: str | None = None,
        how: str = "SIGKILL",
        seconds: float = SECONDS_TO_WORK,
    ) -> int:
        """A child's exit code (negative: the signal) after it has called a function.

        at: the place at which the child, or what it starts, gets the signal `how`.
        seconds: it may take so long.
        """
        variables = {CRASH_TRACE: str(self.trace)}
        if at is not None:
            variables |= {CRASH_AT: at, CRASH_SIGNAL: how}
        order = {"call": call, "arguments": arguments, "variables": variables, "seconds": seconds}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, self.said()
        code = json.loads(answer)
        assert code is not None, f"{call} takes longer than {seconds} s\n{self.said()}"
        return int(code)

    def places(self) -> list[str]:
        """The places that all children so far have passed, in that order."""
        return self.trace.read_text().splitlines() if self.trace.exists() else []

    def said(self) -> str:
        """The end of what the children have written."""
        return self.log.read_text(errors="replace")[-4000:]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


def main() -> None:
    """Obey orders until there are no more."""
    module = importlib.import_module(sys.argv[1])
    for line in sys.stdin:
        # A thread would not be in the children, and what it holds would stay locked there.
        assert threading.active_count() == 1, threading.enumerate()
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            _obey(module, order)
        sys.stdout.write(json.dumps(_outcome(child, order["seconds"])) + "\n")
        sys.stdout.flush()


def _outcome(child: int, seconds: float) -> int | None:
    """A child's exit code; None: it took too long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _obey(module: ModuleType, order: Mapping[str, Any]) -> None:
    """Call the function, and end as a process of its own would."""
    os.dup2(2, 1)
    os.environ.update(order["variables"])
    code = 0
    try:
        getattr(module, order["call"])(*order["arguments"])
    except SystemExit as end:
        sys.stderr.write(f"{end}\n")
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()

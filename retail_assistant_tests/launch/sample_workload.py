"""A real workload for the launcher's tests: writes a text, or misbehaves as it is told to.

`python -m retail_assistant_tests.launch.sample_workload --spec spec.json`. What it does wrong is
read from the file `orders` of the spec's paths, so that it is no part of the fingerprint:
`fail`, `tell` (secrets, then fail), `vanish` (exit code 0, no manifest), `die` (SIGKILL to itself),
`linger` (a child process, then waiting), `half` (write half of the output, then SIGKILL), `room`
(make room as if asked to), `room once` (the same the first time), `fill` (write until the disk is
full),
`terminated` (SIGTERM to itself, unhandled), `save` (a child in a session of its own, then waiting;
asked to end it takes its time and writes `saved.txt`).
"""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from retail_assistant.launch.spec import PREEMPTED_EXIT_CODE
from retail_assistant.launch.workload import Workload, workload

SECONDS_TO_LINGER = 300
SECONDS_TO_SAVE = 1.5


def obey(order: str, work: Workload) -> None:
    if order == "fail":
        raise ValueError("the shelf is empty")
    if order == "tell":
        tell(work)
    if order == "vanish":
        os._exit(0)
    if order == "half":
        (work.folder / "text.txt").write_text("half")
    if order == "fill":
        with (work.folder / "filler.bin").open("wb") as file:
            while True:
                file.write(b"\0" * 4096)
    if order in ("die", "half"):
        os.kill(os.getpid(), signal.SIGKILL)
    if order == "terminated":
        os.kill(os.getpid(), signal.SIGTERM)
    if order == "room" or (order == "room once" and runs_of(work) == 1):
        sys.exit(PREEMPTED_EXIT_CODE)
    if order == "linger":
        linger(work, own_session=False)
    if order == "save":
        signal.signal(signal.SIGTERM, lambda *_: save(work))
        linger(work, own_session=True)


def tell(work: Workload) -> None:
    """All ways in which a process may give its secrets away, but printing them."""
    told = "; ".join(f"{name} {os.environ[name]}" for name in work.spec.config["secrets"])
    work.say(f"logging in: {told}")
    logging.getLogger("a.library").warning("refused: %s", told)
    raise ConnectionError(f"cannot reach postgresql://shop:{os.environ['PGPASSWORD']}@db; {told}")


def runs_of(work: Workload) -> int:
    return len((work.folder / "runs.txt").read_text().splitlines())


def linger(work: Workload, *, own_session: bool) -> None:
    wait = f"import time; time.sleep({SECONDS_TO_LINGER})"
    child = subprocess.Popen([sys.executable, "-c", wait], start_new_session=own_session)
    sys.stderr.write("lingering\n")
    rank = os.environ.get("RANK", "0")
    (work.folder / f"pids-{rank}.txt").write_text(f"{os.getpid()} {child.pid}")
    time.sleep(SECONDS_TO_LINGER)


def save(work: Workload) -> None:
    """As a training does with a checkpoint; told twice, it goes on with the first."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(SECONDS_TO_SAVE)
    (work.folder / "saved.txt").write_text("saved")
    sys.exit(PREEMPTED_EXIT_CODE)


def main() -> None:
    with workload("A sample.") as work:
        with (work.folder / "runs.txt").open("a") as runs:
            runs.write("run\n")
        orders = work.spec.paths.get("orders")
        work.say("weighing the text")
        obey(Path(orders).read_text().strip() if orders else "", work)
        time.sleep(float(work.spec.tracking.get("seconds", 0)))
        path = work.folder / "text.txt"
        path.write_text(work.spec.config["text"])
        work.output("text", path)
        work.metrics = {"characters": len(work.spec.config["text"])}


if __name__ == "__main__":
    main()

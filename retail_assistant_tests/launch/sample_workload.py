"""A real workload for the launcher's tests: writes a text, or misbehaves as it is told to.

`python -m retail_assistant_tests.launch.sample_workload --spec spec.json`. What it does wrong is
read from the file `orders` of the spec's paths, so that it is no part of the fingerprint:
`fail`, `vanish` (exit code 0, no manifest), `die` (SIGKILL to itself), `linger` (a child process,
then waiting), `half` (write half of the output, then SIGKILL).
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from retail_assistant.launch.workload import Workload, workload

SECONDS_TO_LINGER = 300


def obey(order: str, work: Workload) -> None:
    if order == "fail":
        raise ValueError("the shelf is empty")
    if order == "vanish":
        os._exit(0)
    if order == "half":
        (work.folder / "text.txt").write_text("half")
    if order in ("die", "half"):
        os.kill(os.getpid(), signal.SIGKILL)
    if order == "linger":
        wait = f"import time; time.sleep({SECONDS_TO_LINGER})"
        child = subprocess.Popen([sys.executable, "-c", wait])
        (work.folder / "pids.txt").write_text(f"{os.getpid()} {child.pid}")
        time.sleep(SECONDS_TO_LINGER)


def main() -> None:
    with workload("A sample.") as work:
        with (work.folder / "runs.txt").open("a") as runs:
            runs.write("run\n")
        orders = work.spec.paths.get("orders")
        obey(Path(orders).read_text().strip() if orders else "", work)
        time.sleep(float(work.spec.tracking.get("seconds", 0)))
        path = work.folder / "text.txt"
        path.write_text(work.spec.config["text"])
        work.output("text", path)
        work.metrics = {"characters": len(work.spec.config["text"])}


if __name__ == "__main__":
    main()

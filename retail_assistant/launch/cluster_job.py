"""What runs on a cluster: the local launcher on one node, or on several at once.

`python -m retail_assistant.launch.cluster_job --spec spec.json` is the entry point of every Ray
job, on a cluster of one machine and on Kubernetes alike; the spec is the one that a local run has.
"""

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from retail_assistant.launch.command import REASON_NAME
from retail_assistant.launch.local import run_local
from retail_assistant.launch.logs import following_logs
from retail_assistant.launch.spec import PREEMPTED_EXIT_CODE, LaunchError, LaunchSpec, Preempted
from retail_assistant.settings import get_settings
from retail_assistant.storage import write_atomically
from retail_assistant.storage.bucket import fetch, publish
from retail_assistant.telemetry.logs import log_format, set_up_logs


def main() -> None:
    """Run the spec; exit with 143 where it made room and can go on, with 1 where it failed."""
    parser = argparse.ArgumentParser(description="Run a LaunchSpec on this cluster.")
    parser.add_argument("--spec", type=Path, required=True, help="The LaunchSpec, as JSON.")
    path = parser.parse_args().spec
    # Of a bucket this machine may have nothing yet.
    _ = get_settings().storage
    fetch(path)
    spec = LaunchSpec.model_validate_json(path.read_text())
    signal.signal(signal.SIGTERM, _make_room)
    set_up_logs()
    try:
        with _told(spec):
            _run(spec)
    except LaunchError as error:
        write_atomically(spec.folder / REASON_NAME, str(error))
        publish(spec.folder / REASON_NAME)
        sys.stderr.write(f"{error}\n")
        sys.exit(PREEMPTED_EXIT_CODE if isinstance(error, Preempted) else 1)


def _run(spec: LaunchSpec) -> None:
    if spec.resources.nodes == 1:
        run_local(spec)
        return
    from retail_assistant.launch.ray_nodes import run_on_nodes

    run_on_nodes(spec)


@contextmanager
def _told(spec: LaunchSpec) -> Iterator[None]:
    """In JSON, what the workload writes is written here too, where the cluster collects it."""
    if log_format() == "text":
        yield
        return
    with following_logs(spec.folder, sys.stdout.write, raw=True):
        yield


def _make_room(_signal: int, _frame: FrameType | None) -> None:
    # Once: the processes are being ended, which a second signal must not cut short.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(PREEMPTED_EXIT_CODE)


if __name__ == "__main__":
    main()

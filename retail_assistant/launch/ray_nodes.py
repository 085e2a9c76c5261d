"""Several machines at once: Ray Train places one worker on each, and each starts accelerate."""

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from types import FrameType
from typing import Any

from retail_assistant.launch.command import Node
from retail_assistant.launch.local import LOG_NAME, finished_manifest, run_processes, turn
from retail_assistant.launch.processes import SECONDS_TO_END
from retail_assistant.launch.ray_head import free_port
from retail_assistant.launch.spec import (
    PREEMPTED_EXIT_CODE,
    LaunchError,
    LaunchSpec,
    Manifest,
    Preempted,
)
from retail_assistant.launch.workload import PREEMPTED_MARK
from retail_assistant.storage import write_atomically
from retail_assistant.storage.bucket import bucket_of

STOP_NAME = "stop"
"""A file in the artefact's folder: Ray kills its workers; this asks them to end by themselves."""

REASONS = "failure-node-*.txt"
SECONDS_BETWEEN_LOOKS = 1.0
EVERY_ADDRESS = ""


def run_on_nodes(spec: LaunchSpec) -> Manifest:
    """Run a workload to its end on `resources.nodes` machines of the cluster this job runs on.

    Raises:
        Preempted, LaunchError: as `run_local`; the reason is that of the first node that failed.
    """
    if spec.accelerate is None:
        raise LaunchError(
            f"{spec.name}: nodes={spec.resources.nodes}; allowed: 1, it is no training"
        )
    if (bucket := bucket_of(spec.root)) is not None:
        raise LaunchError(
            f"{spec.name}: nodes={spec.resources.nodes}; allowed with the bucket {bucket.uri}: 1;"
            " several nodes need a storage folder that all of them see"
        )
    with turn(spec) as mine:
        if mine.done is not None:
            return mine.done
        import ray

        stop = spec.folder / STOP_NAME
        for left in (stop, *spec.folder.glob(REASONS)):
            left.unlink(missing_ok=True)
        # First: it sets a handler of its own.
        ray.init(log_to_driver=True)
        with _stop_on_signal(stop):
            _train(spec)
        return finished_manifest(spec, spec.folder / LOG_NAME)


def _train(spec: LaunchSpec) -> None:
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    needs = spec.resources
    each = {"CPU": float(needs.cpus or needs.processes), "memory": needs.memory_gib * 2**30}
    if needs.gpus:
        each["GPU"] = float(needs.gpus)
    trainer = TorchTrainer(
        _train_on_node,
        train_loop_config={"spec": spec.model_dump_json()},
        # Only to agree on a port: the training makes a process group of its own.
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(
            num_workers=needs.nodes,
            use_gpu=needs.gpus > 0,
            resources_per_worker=each,
            placement_strategy="STRICT_SPREAD",
        ),
        run_config=RunConfig(
            name=spec.fingerprint,
            storage_path=str(spec.folder / "ray"),
            failure_config=FailureConfig(max_failures=0),
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        kind = Preempted if (spec.folder / PREEMPTED_MARK).exists() else LaunchError
        raise kind(_first_reason(spec) or f"{spec.name}: {str(error).strip()}") from error


def _first_reason(spec: LaunchSpec) -> str | None:
    """Why the first node failed: the others only lose it."""
    reasons = sorted(spec.folder.glob(REASONS), key=lambda path: path.stat().st_mtime_ns)
    return reasons[0].read_text() if reasons else None


def _train_on_node(config: dict[str, Any]) -> None:
    """What Ray Train runs on each machine: the same command as a local run, with its rank."""
    import ray.train
    from torch import distributed

    spec = LaunchSpec.model_validate_json(config["spec"])
    rank = ray.train.get_context().get_world_rank()
    meeting = [(ray.util.get_node_ip_address(), free_port(EVERY_ADDRESS)) if rank == 0 else None]
    distributed.broadcast_object_list(meeting, src=0)
    address, port = meeting[0] or ("", 0)
    log = LOG_NAME if rank == 0 else f"log-node-{rank}.txt"
    try:
        with _set_when_asked(spec.folder / STOP_NAME) as stop:
            run_processes(spec, {}, spec.folder / log, Node(rank, address, port), stop)
    except LaunchError as error:
        write_atomically(spec.folder / f"failure-node-{rank}.txt", str(error))
        raise


@contextmanager
def _set_when_asked(file: Path) -> Iterator[Event]:
    """An event that is set when the file appears on the storage that all nodes see."""
    asked, over = Event(), Event()

    def look() -> None:
        while not over.wait(SECONDS_BETWEEN_LOOKS):
            if file.exists():
                asked.set()
                return

    thread = Thread(target=look, daemon=True)
    thread.start()
    try:
        yield asked
    finally:
        over.set()
        thread.join()


@contextmanager
def _stop_on_signal(file: Path) -> Iterator[None]:
    """On SIGTERM ask all nodes to save and end, and leave when they had the time for it."""

    def ask(_signal: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        file.touch()
        # The main thread waits in Ray Train until the nodes' functions return.
        Thread(target=leave, daemon=True).start()

    def leave() -> None:
        time.sleep(SECONDS_TO_END)
        with contextlib.suppress(OSError):
            sys.stderr.write("the nodes did not end in time\n")
        signal.raise_signal(signal.SIGKILL)

    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
    if file.exists():
        sys.exit(PREEMPTED_EXIT_CODE)

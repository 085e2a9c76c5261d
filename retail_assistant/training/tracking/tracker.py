"""Experiment tracking that never stops a training, and loses nothing.

Every number goes to a journal in the artefact's folder first; a thread sends it on to MLflow. A
server that is away, killed or replaced during the training is told later: by the same thread when
it is back, else by `upload`.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any, Literal

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field
from tenacity import Retrying, stop_after_delay, wait_exponential

from retail_assistant.training.tracking.journal import FOLDER, LOCK_NAME, Journal
from retail_assistant.training.tracking.mlflow_runs import MlflowRun
from retail_assistant.training.tracking.target import DatasetInput, ModelInput, TrackingTarget

Status = Literal["FINISHED", "FAILED", "KILLED"]

SECONDS_TO_SEND = 20.0
SECONDS_TO_SEND_WHEN_ENDED = 5.0
"""Who is told to make room has no time to lose."""

SECONDS_TO_UPLOAD = 60.0
SECONDS_OF_SILENCE = 2.0
LONGEST_PAUSE = 30.0
LAST_PAUSE = 1.0
SECONDS_BETWEEN_SAMPLES = 10.0
SECONDS_TO_SAMPLE = 5.0
SYSTEM = "system/"


class TrackedRun(BaseModel):
    """What a folder tells about its newest MLflow run."""

    model_config = ConfigDict(frozen=True)

    uri: str | None = Field(description="The tracking server (or SQLite file) that has the run.")
    run_id: str | None = Field(description="None: no server has answered yet.")
    experiment_id: str | None
    parent_run_id: str | None = Field(description="The run of the study.")
    pending: int = Field(description="Records that MLflow does not have yet.")
    refused: int = Field(default=0, description="Records that MLflow would not take.")
    status: str | None = Field(description="FINISHED, FAILED, KILLED; None: no end was recorded.")


class Tracker:
    """One MLflow run, addressed by its explicit id, for the time of one training.

    A folder whose last run did not finish goes on with that run. No method raises; none but `close`
    waits for the network, and that for `SECONDS_TO_SEND` at most.

    Args:
        target: where to; None: nothing is tracked.
        folder: the artefact's folder; its journal is `tracking/`.
        say: told once when the server is away, and once when it is back.
    """

    def __init__(
        self, target: TrackingTarget | None, folder: Path, say: Callable[[str], None]
    ) -> None:
        self._target, self._folder, self._say = target, folder, say
        self._journal: Journal | None = None
        self._run: MlflowRun | None = None
        self._lock = _lock(folder)
        self._sampling_ends, self._closing, self._given_up = Event(), Event(), Event()
        self._sender = Thread(target=self._send, name="tracking-sender", daemon=True)
        self._sampler = Thread(target=self._sample, name="tracking-sampler", daemon=True)
        self._recorded: set[tuple[str, int]] = set()

    @property
    def run_id(self) -> str | None:
        """The MLflow run; None while no server has answered."""
        return self._run.state.run_id if self._run else None

    @property
    def experiment_id(self) -> str | None:
        """The MLflow experiment; None while no server has answered."""
        return self._run.state.experiment_id if self._run else None

    def start(
        self,
        parameters: Mapping[str, Any],
        datasets: Sequence[DatasetInput] = (),
        model: ModelInput | None = None,
    ) -> None:
        """Begin the run, or go on with the one that was broken off in this folder."""
        if self._target is None:
            return
        try:
            self._begin(self._target, parameters, datasets, model)
        except (OSError, Timeout, ImportError) as error:
            self._say(f"not tracked: {type(error).__name__}: {error}")
            self._journal = None
            return
        self._sender.start()
        self._sampler.start()

    def _begin(
        self,
        target: TrackingTarget,
        parameters: Mapping[str, Any],
        datasets: Sequence[DatasetInput],
        model: ModelInput | None,
    ) -> None:
        # Here, not in the thread: two threads that import large packages can meet half-made ones.
        _system_monitors()

        self._folder.joinpath(FOLDER).mkdir(parents=True, exist_ok=True)
        self._lock.acquire(timeout=SECONDS_TO_UPLOAD)
        earlier = Journal.all(self._folder)
        goes_on = bool(earlier) and earlier[-1].status() != "FINISHED"
        self._journal = earlier[-1] if goes_on else Journal.create(self._folder)
        self._recorded = {
            (key, record["step"])
            for record, _ in self._journal.records()
            for key in record.get("values", ())
        }
        content = {"target": target.model_dump(mode="json"), "tags": target.tags}
        self._journal.append("start", parameters=dict(parameters), **content)
        for dataset in datasets:
            self._journal.append("dataset", dataset=dataset.model_dump())
        if model is not None:
            self._journal.append("model", model=model.model_dump())
        self._run = MlflowRun(self._journal, target)

    def metrics(self, values: Mapping[str, Any], step: int) -> None:
        """Record numbers of one step; what is no finite number is left out.

        A resumed training repeats the steps since its checkpoint; they are recorded once.
        """
        numbers = {
            key: float(value)
            for key, value in values.items()
            if _is_number(value) and (key, step) not in self._recorded
        }
        if numbers:
            self._recorded.update((key, step) for key in numbers)
            self._record("metrics", step=step, values=numbers)

    def artifact(self, path: Path) -> None:
        """Record a file of the artefact's folder; it has to stay there until it is sent."""
        self._record("artifact", path=str(path.resolve().relative_to(self._folder.resolve())))

    def close(self, status: Status) -> None:
        """End the run, and wait a moment for the server to hear of it."""
        if self._journal is None or self._sampling_ends.is_set():
            return
        self._sampling_ends.set()
        self._sampler.join(SECONDS_TO_SAMPLE)
        self._record("close", status=status)
        self._closing.set()
        finished = status == "FINISHED"
        self._sender.join(SECONDS_TO_SEND if finished else SECONDS_TO_SEND_WHEN_ENDED)
        self._given_up.set()
        left = self._journal.pending()
        if left:
            self._say(f"MLflow has not got {left} records yet; they are kept, and uploaded later")

    def _record(self, kind: str, **content: Any) -> None:
        if self._journal is None:
            return
        try:
            self._journal.append(kind, **content)
        except OSError as error:
            # Whatever is wrong with tracking, hours of training are worth more.
            self._say(f"not tracked: {error}")

    def _send(self) -> None:
        """The thread that sends: the journal is its queue."""
        run = self._run
        if run is None:
            return
        pause, away = 0.0, False
        while not self._given_up.is_set():
            closing = self._closing.is_set()
            try:
                while run.send_some():
                    if away:
                        self._say("MLflow is back")
                    pause, away = 0.0, False
            except Exception as error:
                if not away:
                    self._say(f"{_away(self._target, error)}; the numbers are kept and sent later")
                pause, away = min(LONGEST_PAUSE, 2 * pause or 0.5), True
            else:
                if closing:
                    break
            if closing:
                self._given_up.wait(min(pause, LAST_PAUSE))
            else:
                self._closing.wait(max(pause, SECONDS_OF_SILENCE))
        self._lock.release()

    def _sample(self) -> None:
        """The thread that records how busy the machine is, as MLflow's own monitors see it."""
        monitors = _system_monitors()
        step = 1 + max((at for key, at in self._recorded if key.startswith(SYSTEM)), default=-1)
        ended = False
        while not ended:
            ended = self._sampling_ends.wait(_seconds_between_samples())
            for monitor in monitors:
                monitor.collect_metrics()
                measured = monitor.aggregate_metrics()
                monitor.clear_metrics()
                self.metrics({SYSTEM + key: value for key, value in measured.items()}, step)
            step += 1


def _system_monitors() -> list[Any]:
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    monitors: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    with suppress(ImportError, RuntimeError):  # as MLflow says that there is no GPU
        monitors.append(GPUMonitor())
    return monitors


def _seconds_between_samples() -> float:
    from mlflow.environment_variables import MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL

    return float(MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.get() or SECONDS_BETWEEN_SAMPLES)


def tracked_run(folder: Path) -> TrackedRun | None:
    """The newest MLflow run of an artefact's folder, from its files alone; None: never tracked."""
    journals = Journal.all(folder)
    if not journals:
        return None
    state = journals[-1].state()
    return TrackedRun(
        uri=state.uri,
        run_id=state.run_id,
        experiment_id=state.experiment_id,
        parent_run_id=state.parent_run_id,
        pending=sum(journal.pending() for journal in journals),
        refused=state.refused,
        status=journals[-1].status(),
    )


def untold(root: Path, name: str = "adapter") -> list[Path]:
    """Artefact folders whose runs MLflow does not know to their end, and that nobody trains now."""
    folders = sorted({path.parent for path in (root / "artefacts" / name).glob(f"*/{FOLDER}")})
    return [folder for folder in folders if _is_untold(folder)]


def _is_untold(folder: Path) -> bool:
    run = tracked_run(folder)
    if run is None or (run.pending == 0 and run.status is not None):
        return False
    lock = _lock(folder)
    try:
        with lock.acquire(timeout=0):
            return True
    except Timeout:
        return False


def upload(
    folder: Path,
    say: Callable[[str], None] = lambda _: None,
    *,
    seconds: float = SECONDS_TO_UPLOAD,
    uri: str | None = None,
) -> TrackedRun | None:
    """Send what MLflow does not have yet of an artefact's runs; mark a run that died as KILLED.

    Args:
        folder: the artefact's folder; None is returned where it was never tracked.
        say: told why the server did not take everything.
        seconds: how long to go on trying.
        uri: where to, if no longer to the place that the training was told.
    """
    if not Journal.all(folder):
        return None
    try:
        with _lock(folder).acquire(timeout=seconds):
            for journal in Journal.all(folder):
                _upload(journal, say, seconds, uri)
    except Timeout:
        say(f"{folder} is being tracked by its training")
    return tracked_run(folder)


def _upload(journal: Journal, say: Callable[[str], None], seconds: float, uri: str | None) -> None:
    records = [record for record, _ in journal.records()]
    starts = [record for record in records if record["kind"] == "start"]
    if not starts:
        return
    if journal.status() is None:
        journal.append("close", status="KILLED", time=records[-1]["time"])
    target = TrackingTarget.model_validate(starts[-1]["target"])
    target = target if uri is None else target.model_copy(update={"uri": uri})
    run = MlflowRun(journal, target)
    patience = Retrying(
        stop=stop_after_delay(seconds), wait=wait_exponential(max=LONGEST_PAUSE), reraise=True
    )
    try:
        while patience(run.send_some):
            pass
    except Exception as error:
        say(_away(target, error))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _away(target: TrackingTarget | None, error: Exception) -> str:
    place = target.uri if target else ""
    first = next(iter(str(error).splitlines()), "")[:200]
    words = f"MLflow at {place} is away ({type(error).__name__}: {first})"
    # A name and a password may stand before the host.
    return re.sub(r"//[^/@\s]+@", "//", words)


def _lock(folder: Path) -> FileLock:
    """Held by the one who sends; the kernel frees it when that process dies, however it does."""
    return FileLock(folder / FOLDER / LOCK_NAME, thread_local=False)

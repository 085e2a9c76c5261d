"""A search on its way: what was proposed, what came of it, and what to try next.

Optuna alone proposes; Ray Tune would not only propose but run the trials too, as actors of its own
session, beside Dagster's runs: without partitions, artefacts, retries and pools, and with a second
way to resume. Its Optuna searcher is the same sampler.

Nothing but small files is kept: the search, a file a proposal, a file a failure. What a trial
reached is read in its manifest, and Optuna's memory is made anew from that each time. So a search
goes on after a crash of anything, a trial that failed and was repaired counts, and proposals do not
depend on how often the process was restarted.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict

from retail_assistant.launch.spec import (
    ArtefactRef,
    LaunchError,
    Manifest,
    artefact_at,
    read_artefact_ref,
)
from retail_assistant.storage import StorageError, TableRef, fingerprint
from retail_assistant.storage.bucket import fetch_folder, read_pointer, write_pointer
from retail_assistant.training.jobs import Job, StudyError
from retail_assistant.training.searching.space import Choice, IntRange, Search

SEARCH_ASSET = "hyperparameter_search"
TRIAL_ASSET = "trial_adapter"
_RECORD = "search.json"
_CHARACTERS_OF_FINGERPRINT = 8
# Optuna's own default of 10 random trials first would be all of a short search.
_MOST_RANDOM_TRIALS = 10
_SHARE_OF_RANDOM_TRIALS = 3


class SearchRecord(BaseModel):
    """What a search began with: every trial learns from the same, whatever is made anew since."""

    model_config = ConfigDict(frozen=True)

    search: Search
    started: datetime
    corpora: dict[str, TableRef]
    base_model: ArtefactRef

    @property
    def deadline(self) -> datetime:
        """From then on nothing begins."""
        return self.started + timedelta(hours=self.search.hours)


class Trial(BaseModel):
    """A proposal: a point of the space, and the job that it is."""

    model_config = ConfigDict(frozen=True)

    number: int
    asked: datetime
    params: dict[str, Any]
    job: Job

    @property
    def key(self) -> str:
        """The trial's name, which is its partition."""
        return self.job.name


class Outcome(BaseModel):
    """What came of a trial so far."""

    model_config = ConfigDict(frozen=True)

    trial: Trial
    state: Literal["waiting", "finished", "failed"]
    loss: float | None = None
    reason: str | None = None
    metrics: dict[str, Any] = {}


class RunningSearch:
    """The folder of a search that has begun."""

    def __init__(self, root: Path, ref: ArtefactRef) -> None:
        """Open a search in its folder, within the storage folder `root`."""
        self.root, self.ref = root, ref
        record = _read_record(ref)
        if record is None:
            raise StorageError(f"{ref.folder / _RECORD} is missing; begin the search again")
        self.record = record

    @property
    def search(self) -> Search:
        """The search as it was begun, with the bounds of the last time it was."""
        return self.record.search

    def trials(self) -> list[Trial]:
        """Every proposal so far, in order."""
        fetch_folder(self.ref.folder)
        files = sorted((self.ref.folder / "trials").glob("*.json"))
        return [Trial.model_validate_json(path.read_text()) for path in files]

    def outcomes(self) -> list[Outcome]:
        """What came of each proposal, in order. A manifest counts more than a failure before it."""
        return [self._outcome(trial) for trial in self.trials()]

    def best(self) -> Outcome | None:
        """The finished trial with the lowest validation loss."""
        finished = [one for one in self.outcomes() if one.loss is not None]
        return min(finished, key=lambda one: one.loss or 0.0, default=None)

    def is_over(self, now: datetime) -> bool:
        """Whether nothing runs and nothing more will be proposed."""
        outcomes = self.outcomes()
        if any(one.state == "waiting" for one in outcomes):
            return False
        return len(outcomes) >= self.search.trials or now >= self.record.deadline

    def propose(self, now: datetime) -> list[Trial]:
        """New trials, as many as may run beside those that do: none when a bound is reached.

        Raises:
            StudyError: a proposal is no valid job.
        """
        outcomes = self.outcomes()
        if now >= self.record.deadline:
            return []
        running = sum(one.state == "waiting" for one in outcomes)
        wanted = min(self.search.parallel - running, self.search.trials - len(outcomes))
        proposed: list[Trial] = []
        for _ in range(wanted):
            number = len(outcomes) + len(proposed)
            known = outcomes + [Outcome(trial=trial, state="waiting") for trial in proposed]
            trial = self._trial(number, _next_point(self.search, known, number), now)
            write_pointer(
                self.ref.folder / "trials" / f"{number:04d}.json",
                trial.model_dump_json(indent=2, exclude_unset=True),
                new=True,
            )
            proposed.append(trial)
        return proposed

    def fail(self, trial: Trial, reason: str) -> None:
        """Note that a trial's run has ended without a result."""
        write_pointer(self._failure(trial), reason)

    @contextmanager
    def driving(self) -> Iterator[bool]:
        """Whether this process may drive the search now; another one may be at it."""
        lock = FileLock(self.ref.folder / "driver.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def _trial(self, number: int, params: dict[str, Any], now: datetime) -> Trial:
        mark = self.ref.fingerprint[:_CHARACTERS_OF_FINGERPRINT]
        given = self.search.resources
        left = max(1, math.ceil((self.record.deadline - now).total_seconds() / 60))
        limit = min(left, given.max_runtime_minutes or left)
        job = Job(
            name=f"{self.search.search}-{mark}-{number:03d}",
            study=self.search.search,
            task=self.search.task,
            base_model=self.search.base_model,
            hyperparameters=self.search.job(params),
            resources=given.model_copy(update={"max_runtime_minutes": limit}),
        )
        return Trial(number=number, asked=now, params=params, job=job)

    def _outcome(self, trial: Trial) -> Outcome:
        manifest = self._manifest(trial)
        if manifest is not None:
            loss = manifest.metrics.get(self.search.objective)
            if isinstance(loss, int | float) and math.isfinite(loss):
                return Outcome(trial=trial, state="finished", loss=loss, metrics=manifest.metrics)
            reason = f"its {self.search.objective} is {loss}"
            return Outcome(trial=trial, state="failed", reason=reason, metrics=manifest.metrics)
        failure = self._failure(trial)
        if failure.is_file():
            return Outcome(trial=trial, state="failed", reason=failure.read_text())
        return Outcome(trial=trial, state="waiting")

    def _manifest(self, trial: Trial) -> Manifest | None:
        try:
            return read_artefact_ref(self.root, TRIAL_ASSET, trial.key).manifest()
        except (StorageError, LaunchError):
            return None

    def _failure(self, trial: Trial) -> Path:
        return self.ref.folder / "failures" / f"{trial.number:04d}.txt"


def begin_search(
    root: Path,
    search: Search,
    corpora: Mapping[str, TableRef],
    base_model: ArtefactRef,
    now: datetime,
) -> ArtefactRef:
    """Begin a search, or go on with the one of the same space, data and base model.

    Its bounds (trials, hours, parallel) are those that `search` has now; the hours count from when
    it began first. `corpora` has the prompt corpus of each task in `search.corpora`.
    """
    identity = {
        "search": search.fingerprint,
        "corpora": {task: corpora[task].sha256 for task in search.corpora},
        "base_model": base_model.fingerprint,
    }
    mark = fingerprint(identity)
    ref = artefact_at(root, SEARCH_ASSET, mark)
    begun = _read_record(ref)
    started = begun.started if begun else now
    record = SearchRecord(
        search=search, started=started, corpora=dict(corpora), base_model=base_model
    )
    write_pointer(ref.folder / _RECORD, record.model_dump_json(indent=2, exclude_unset=True))
    return ref


def _read_record(ref: ArtefactRef) -> SearchRecord | None:
    text = read_pointer(ref.folder / _RECORD)
    return None if text is None else SearchRecord.model_validate_json(text)


def current_search(root: Path, name: str) -> RunningSearch | None:
    """The search of this name that was begun last, or None where none was."""
    try:
        return RunningSearch(root, read_artefact_ref(root, SEARCH_ASSET, name))
    except StorageError:
        return None


def find_trial(root: Path, key: str) -> tuple[RunningSearch, Trial]:
    """The trial of a partition key, and its search.

    Raises:
        StudyError: no search has proposed it.
    """
    mark, _, number = key.rpartition("-")
    mark = mark.rpartition("-")[2]
    if len(mark) == _CHARACTERS_OF_FINGERPRINT and mark.isalnum() and number.isdecimal():
        fetch_folder(root / "artefacts" / SEARCH_ASSET, f"{mark}*")
        for folder in (root / "artefacts" / SEARCH_ASSET).glob(f"{mark}*"):
            running = RunningSearch(root, ArtefactRef(folder=folder, fingerprint=folder.name))
            for trial in running.trials():
                if trial.key == key:
                    return running, trial
    raise StudyError(f"no trial {key!r}; allowed: one that a search has proposed")


def _next_point(search: Search, known: list[Outcome], number: int) -> dict[str, Any]:
    """Where to look next, by a tree-structured Parzen estimator (Bergstra et al., 2011).

    Trials that still run count as bad ones, so that those beside them look elsewhere.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    random_trials = max(1, min(_MOST_RANDOM_TRIALS, search.trials // _SHARE_OF_RANDOM_TRIALS))
    study = optuna.create_study(
        direction="minimize",
        # A new process would repeat the first draws of the same seed.
        sampler=optuna.samplers.TPESampler(
            seed=search.seed + number, n_startup_trials=random_trials, constant_liar=True
        ),
    )
    distributions = _distributions(search)
    states = {
        "finished": optuna.trial.TrialState.COMPLETE,
        "failed": optuna.trial.TrialState.FAIL,
        "waiting": optuna.trial.TrialState.RUNNING,
    }
    for one in known:
        study.add_trial(
            optuna.trial.create_trial(
                state=states[one.state],
                value=one.loss,
                params=one.trial.params,
                distributions=distributions,
            )
        )
    return dict(study.ask(distributions).params)


def _distributions(search: Search) -> dict[str, Any]:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    found: dict[str, Any] = {}
    for name, dimension in search.space.items():
        if isinstance(dimension, Choice):
            found[name] = CategoricalDistribution(dimension.labels())
        elif isinstance(dimension, IntRange):
            found[name] = IntDistribution(dimension.low, dimension.high, log=dimension.log)
        else:
            found[name] = FloatDistribution(dimension.low, dimension.high, log=dimension.log)
    return found

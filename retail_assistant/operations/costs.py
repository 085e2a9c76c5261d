"""What work has cost: a row a finished artefact, from the manifests in the storage folder.

Nothing is kept beside them, but for what garbage collection has removed since
(`costs/removed/`, a file a collection). With a bucket it is the work of all machines that share
it. Work that failed, or is not finished, leaves no manifest and is not in it. What is not known is
None, and counted as such: never 0.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from retail_assistant.launch.spec import MANIFEST_NAME, SPEC_NAME, Manifest, read_manifest
from retail_assistant.settings import Settings
from retail_assistant.storage import write_atomically
from retail_assistant.storage.bucket import fetch_folder, publish
from retail_assistant.training.energy import SECONDS_AN_HOUR, training_cost

By = Literal["asset", "job", "study"]
MONTH = "%Y-%m"
COSTS = "costs"
REMOVED = "removed"
_LINES = ".jsonl"
_TRAINED, _ENGINE = "train_seconds", "engine_start_seconds"


class Work(BaseModel):
    """One piece of finished work, as its manifest and its spec tell it."""

    model_config = ConfigDict(frozen=True)

    asset: str
    fingerprint: str
    job: str | None = None
    study: str | None = None
    run_id: str | None = Field(None, description="of Dagster")
    started: AwareDatetime
    finished: AwareDatetime
    seconds: float = Field(description="of a training its own, of other work from start to end")
    devices: int | None = Field(
        None, description="GPUs, or processes where a model ran on CPUs; 0: no model ran"
    )
    energy_kwh: float | None = None

    @property
    def device_hours(self) -> float | None:
        """Devices times hours."""
        return None if self.devices is None else self.devices * self.seconds / SECONDS_AN_HOUR

    @property
    def month(self) -> str:
        """In which it was finished (UTC)."""
        return self.finished.astimezone(UTC).strftime(MONTH)

    def cost(self, settings: Settings) -> float | None:
        """What it cost at the prices of the settings; None: no price is set, or it is not known."""
        if self.devices is None:
            return None
        told = {
            _TRAINED: self.seconds if self.devices else 0.0,
            "processes": self.devices,
            "energy_kwh": self.energy_kwh,
        }
        found = training_cost(told, settings)
        return None if found is None else found.amount


class Total(BaseModel):
    """Several pieces of work together; `of` says how many of them a sum is known of."""

    model_config = ConfigDict(frozen=True)

    name: str
    pieces: int
    seconds: float
    device_hours: float | None
    device_hours_of: int
    energy_kwh: float | None
    energy_of: int
    cost: float | None
    cost_of: int

    @property
    def unknown(self) -> str:
        """What the sums leave out, in words; empty: nothing."""
        known = {
            "device hours": self.device_hours_of,
            "energy": self.energy_of,
            "cost": self.cost_of,
        }
        left = {name: self.pieces - count for name, count in known.items()}
        return ", ".join(f"{name} of {count}" for name, count in left.items() if count)


def all_work(root: Path) -> list[Work]:
    """All finished work of a storage folder, the latest last.

    Raises:
        BucketError: of a bucket's working copy: the bucket cannot be read.
    """
    fetch_folder(root / "artefacts", f"*/*/{MANIFEST_NAME}", f"*/*/{SPEC_NAME}")
    manifests = sorted((root / "artefacts").glob(f"*/*/{MANIFEST_NAME}"))
    found = [one for path in manifests if (one := work_of(path.parent)) is not None]
    there = {(one.asset, one.fingerprint) for one in found}
    gone = [one for one in _removed(root) if (one.asset, one.fingerprint) not in there]
    work = {(one.asset, one.fingerprint): one for one in [*gone, *_shared_out(found)]}
    return sorted(work.values(), key=lambda one: (one.finished, one.asset, one.fingerprint))


def work_of(folder: Path) -> Work | None:
    """What an artefact's folder says of the work that made it; None: it is not finished."""
    manifest = read_manifest(folder, verify=False)
    if manifest is None:
        return None
    spec = _spec(folder)
    tracking = spec.get("tracking") or {}
    wall = (manifest.finished - manifest.started).total_seconds()
    energy = manifest.metrics.get("energy_kwh")
    return Work(
        asset=manifest.name,
        fingerprint=manifest.fingerprint,
        job=tracking.get("tag.job") or _variants(manifest),
        study=tracking.get("tag.study"),
        run_id=tracking.get("tag.dagster_run_id"),
        started=manifest.started,
        finished=manifest.finished,
        seconds=float(manifest.metrics.get(_TRAINED) or wall),
        devices=_devices(manifest, spec.get("resources")),
        energy_kwh=None if energy is None else float(energy),
    )


def keep_costs(root: Path, name: str, folders: Iterable[Path]) -> None:
    """Note what artefacts cost before they are thrown away; `name` is the collection's."""
    lines = [work.model_dump_json() for folder in folders if (work := work_of(folder)) is not None]
    if lines:
        path = root / COSTS / REMOVED / f"{name}{_LINES}"
        write_atomically(path, "".join(f"{line}\n" for line in lines))
        publish(path)


def of_month(work: Iterable[Work], month: str | None) -> list[Work]:
    """The work that was finished in a month such as 2026-11; None: all of it.

    Raises:
        ValueError: it is no month.
    """
    if month is None:
        return list(work)
    try:
        wanted = datetime.strptime(month, MONTH).replace(tzinfo=UTC).strftime(MONTH)
    except ValueError as error:
        raise ValueError(f"--month {month}; allowed: a month such as 2026-11") from error
    return [one for one in work if one.month == wanted]


def totals(work: Sequence[Work], by: By, settings: Settings) -> list[Total]:
    """The work by asset, job or study, what cost most (else: took longest) first."""
    groups: dict[str, list[Work]] = defaultdict(list)
    for one in work:
        groups[getattr(one, by) or "-"].append(one)
    found = [total(name, members, settings) for name, members in groups.items()]
    return sorted(found, key=lambda one: (-(one.cost or 0.0), -one.seconds, one.name))


def total(name: str, work: Sequence[Work], settings: Settings) -> Total:
    """All of it together."""
    hours = [one.device_hours for one in work if one.device_hours is not None]
    energy = [one.energy_kwh for one in work if one.energy_kwh is not None]
    costs = [cost for one in work if (cost := one.cost(settings)) is not None]
    return Total(
        name=name,
        pieces=len(work),
        seconds=sum(one.seconds for one in work),
        device_hours=sum(hours) if hours else None,
        device_hours_of=len(hours),
        energy_kwh=sum(energy) if energy else None,
        energy_of=len(energy),
        cost=sum(costs) if costs else None,
        cost_of=len(costs),
    )


def _spec(folder: Path) -> dict[str, Any]:
    """The work's spec, which says on how many devices it was to run; empty: it is not there."""
    try:
        found = json.loads((folder / SPEC_NAME).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _variants(manifest: Manifest) -> str | None:
    """Of answers: whose they are."""
    variants = manifest.config.get("variants")
    if manifest.inputs.get("adapter") is None or not isinstance(variants, list):
        return None
    names = [one.get("name") for one in variants if isinstance(one, dict)]
    return ", ".join(str(name) for name in names if name) or None


def _devices(manifest: Manifest, resources: dict[str, Any] | None) -> int | None:
    """GPUs, else the processes of a model on CPUs. Work without a model has no device."""
    metrics = manifest.metrics
    given = resources or {}
    gpus = metrics.get("gpus") or given.get("gpus", 0) * given.get("nodes", 1)
    if gpus:
        return int(gpus)
    if _TRAINED in metrics or _ENGINE in metrics:
        return int(metrics.get("processes") or given.get("processes", 1) * given.get("nodes", 1))
    return None if resources is None else 0


def _shared_out(work: Sequence[Work]) -> list[Work]:
    """Answers that one engine gave for several artefacts: each with its share of the time.

    Their manifests say all from when to when the engine ran. Taken whole, each would count it.
    """
    found: list[Work] = []
    together: list[Work] = []
    for one in sorted(work, key=lambda one: one.started):
        if "predictions" not in one.asset:
            found.append(one)
            continue
        if together and one.started >= max(other.finished for other in together):
            found += _shares(together)
            together = []
        together.append(one)
    return [*found, *_shares(together)]


def _shares(work: Sequence[Work]) -> Iterator[Work]:
    if len(work) < 2:
        yield from work
        return
    began, ended = min(one.started for one in work), max(one.finished for one in work)
    all_seconds = (ended - began).total_seconds()
    weight = sum(one.seconds for one in work) or 1.0
    for one in work:
        yield one.model_copy(update={"seconds": all_seconds * one.seconds / weight})


def _removed(root: Path) -> Iterator[Work]:
    folder = root / COSTS
    fetch_folder(folder, f"*{_LINES}")
    # One file for all collections was written by earlier versions.
    for path in sorted([*folder.glob(f"{REMOVED}{_LINES}"), *folder.glob(f"{REMOVED}/*{_LINES}")]):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                yield Work.model_validate_json(line)
            except ValidationError:
                # The last line of a process that was killed.
                continue

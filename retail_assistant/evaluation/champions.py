"""Promotion and rollback: events that are added to the champions' history.

After the event the alias in the MLflow registry and the pointer that servers read (`champion.json`)
are moved, the pointer last. What a crash, or an MLflow that is away, leaves undone is done by the
next `settle`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from filelock import FileLock, Timeout

from retail_assistant.evaluation.candidates import Answering
from retail_assistant.evaluation.champion_history import (
    ChampionEvent,
    ChampionHistory,
    Kind,
    PromotionError,
    Registrations,
    checked,
    event_name,
)
from retail_assistant.evaluation.drift import Measured
from retail_assistant.evaluation.promotion import PromotionDecision
from retail_assistant.evaluation.registry import (
    NOT_TRACKED,
    Champion,
    NotRegisteredError,
    point_alias,
    register,
    write_champion,
)
from retail_assistant.launch.spec import MANIFEST_NAME, ArtefactRef, read_manifest
from retail_assistant.storage import file_sha256
from retail_assistant.storage.bucket import write_pointer
from retail_assistant.storage.crash_points import crossing

POLICY = "the promotion policy"
FOUND = "found at its place: promoted before there was a history"
SECONDS_TO_WAIT = 120.0


@dataclass(frozen=True)
class Champions(ChampionHistory):
    """The history of a storage folder's champions, to be added to.

    say: told what MLflow has not heard yet, and why.
    """

    say: Callable[[str], None] = lambda _: None

    def settle(self) -> Champion | None:
        """The champion, once all that was left undone is done, as far as MLflow can be reached."""
        with self._alone():
            return self._settled()

    def promote(
        self,
        decision: PromotionDecision,
        answering: Answering,
        *,
        instead_of: str | None,
        comparison: str,
        numbers: tuple[Measured, ...],
    ) -> Champion:
        """Make a variant the champion.

        Args:
            decision: that says so.
            answering: the adapter, with how it is prompted.
            instead_of: adapter of the champion that the decision was taken against; None: none.
            comparison: fingerprint of the comparison that was decided on.
            numbers: what is kept of it.

        Raises:
            PromotionError: its files are not intact, or another champion was made meanwhile.
        """
        with self._alone():
            champion = self._settled()
            there = champion.adapter.fingerprint if champion else None
            if champion and there == answering.adapter.fingerprint:
                return champion
            if there != instead_of:
                raise PromotionError(
                    f"{champion.job if champion else 'nobody'} became the champion meanwhile:"
                    " materialize champion again"
                )
            return self._crown(
                self._promotion(decision, answering, there, comparison=comparison, numbers=numbers)
            )

    def roll_back(self, to: str = "", *, by: str, reason: str) -> Champion:
        """Make an earlier champion the champion again; the one that leaves is barred.

        Args:
            to: number of its event, or job; empty: the last one before that may serve.
            by: who says so.
            reason: why.

        Raises:
            PromotionError: there is no such champion, it is barred, or its files were altered; or
                name or reason are missing.
        """
        with self._alone():
            current = self._settled()
            if current is None:
                raise PromotionError("nothing was promoted yet: there is nothing to roll back")
            target = self.target(to)
            event = checked(
                ChampionEvent,
                {
                    **target.model_dump(),
                    **self._numbered(),
                    "kind": "rollback",
                    "by": by,
                    "reason": reason,
                    "previous": current.adapter.fingerprint,
                    "barred": current.adapter.fingerprint,
                    "registered_model": self.version(target),
                },
            )
            wrong = self.is_intact(target)
            if wrong:
                raise PromotionError(f"no rollback to {event_name(target)}: {wrong}")
            return self._crown(event)

    def allow(self, adapter: str, *, by: str, reason: str) -> ChampionEvent:
        """Lift the bar of an adapter: its fingerprint (the beginning will do) or its job.

        Raises:
            PromotionError: no such adapter is barred, several are; or name or reason are missing.
        """
        with self._alone():
            champion = self._settled()
            barred = self.barred()
            found = {
                fingerprint: self.reign_of(fingerprint)
                for fingerprint in barred
                if fingerprint.startswith(adapter) or self.reign_of(fingerprint).job == adapter
            }
            if champion is None or len(found) != 1 or not adapter:
                known = ", ".join(f"{self.reign_of(one).job} ({one})" for one in barred) or "none"
                raise PromotionError(
                    f"{'no' if not found else 'more than one'} barred adapter is meant by"
                    f" {adapter!r}; barred: {known}"
                )
            ((_, reign),) = found.items()
            given = {"kind": "allowance", "by": by, "reason": reason, "barred": None}
            event = checked(ChampionEvent, {**reign.model_dump(), **self._numbered(), **given})
            self._write(event)
            self._tell(champion)
            return event

    # Below: with the lock held.

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / ".lock", timeout=SECONDS_TO_WAIT):
                yield
        except Timeout as error:
            raise PromotionError(
                f"another promotion or rollback holds {self.folder / '.lock'}; try again"
            ) from error

    def _settled(self) -> Champion | None:
        reigns, champion = self.reigns(), self.current()
        if not reigns and champion is None:
            return None
        if not reigns and champion is not None:
            return self._crown(self._adoption(champion))
        last = reigns[-1]
        if champion is None or champion.event != last.number:
            champion = self._move(last)
        if self.registrations().told < self.events()[-1].number:
            champion = self._tell(champion)
        return champion

    def _promotion(
        self, decision: PromotionDecision, answering: Answering, there: str | None, **more: Any
    ) -> ChampionEvent:
        folder = answering.adapter.folder
        manifest = read_manifest(folder)
        if manifest is None:
            raise PromotionError(
                f"{answering.job} is not promoted: {folder} is missing, unfinished or altered"
            )
        verdict = decision.verdict(answering.job)
        return self._event(
            "promotion",
            answering,
            reason=decision.reason,
            base_model=manifest.inputs["base_model"],
            manifest_sha256=file_sha256(folder / MANIFEST_NAME),
            previous=there,
            policy=decision.policy.model_dump(mode="json"),
            policy_version=decision.policy.version,
            rules=verdict.rules,
            against_champion=verdict.against_champion,
            **more,
        )

    def _adoption(self, champion: Champion) -> ChampionEvent:
        """A champion from before there was a history."""
        manifest = champion.adapter.folder / MANIFEST_NAME
        return self._event(
            "adoption",
            Answering(champion.job, champion.grounding, champion.adapter, {}),
            base_model=champion.base_model,
            reason=f"{champion.why} ({FOUND})",
            manifest_sha256=file_sha256(manifest) if manifest.is_file() else None,
        )

    def _event(self, kind: Kind, adapter: Answering, *, reason: str, **more: Any) -> ChampionEvent:
        root, folder = self.settings.storage, adapter.adapter.folder.resolve()
        inside = folder.relative_to(root) if folder.is_relative_to(root) else folder
        return checked(
            ChampionEvent,
            {
                **self._numbered(),
                "kind": kind,
                "by": POLICY,
                # A reason names every candidate: cut to what the record takes.
                "reason": reason[:1_000],
                "job": adapter.job,
                "grounding": adapter.grounding,
                "adapter": adapter.adapter.fingerprint,
                "folder": str(inside),
                **more,
            },
        )

    def _numbered(self) -> dict[str, Any]:
        """Number and time: later than every event so far, also where the clock was put back."""
        events, now = self.events(), datetime.now(UTC)
        if not events:
            return {"number": 1, "at": now}
        last = events[-1]
        return {"number": last.number + 1, "at": max(now, last.at + timedelta(microseconds=1))}

    def _crown(self, event: ChampionEvent) -> Champion:
        """The registry's version first, so that the event can name it; the pointer last."""
        version, why = self._version_of(event)
        event = event.model_copy(update={"registered_model": version})
        self._write(event)
        champion = self._champion(event, version or why)
        return self._tell(champion)

    def _version_of(self, event: ChampionEvent) -> tuple[str | None, str]:
        """`name/version`, or None and why MLflow has none."""
        tags = {"job": event.job, "base_model": event.base_model, "grounding": event.grounding}
        try:
            with crossing("registration"):
                version = register(self._ref(event), event.reason, tags, self.settings)
        except NotRegisteredError as error:
            return None, str(error)
        known = self.registrations()
        known.versions[event.adapter] = version
        self._keep(known)
        return version, ""

    def _tell(self, champion: Champion) -> Champion:
        """Tell MLflow who serves and who may not, then move the pointer; being away stops neither.

        Returns the champion with what the registry calls it now.
        """
        reign = self._reign(champion.event)
        version, why = self._version_of(reign)
        if version is not None:
            try:
                with crossing("alias"):
                    point_alias(version, self._bars_by_version(), _tags(reign), self.settings)
            except NotRegisteredError as error:
                why = str(error)
            else:
                known = self.registrations()
                known.told = self.events()[-1].number
                self._keep(known)
        if why:
            later = "" if why == NOT_TRACKED else "; MLflow is told later"
            self.say(f"{reign.job}: {why}{later}")
        champion = champion.model_copy(update={"registered_model": version or why})
        write_champion(champion, self.settings)
        return champion

    def _bars_by_version(self) -> dict[str, str | None]:
        bars, versions = self.bars(), self.registrations().versions
        return {versions[one]: bars.get(one) for one in versions}

    def _move(self, event: ChampionEvent) -> Champion:
        champion = self._champion(event, self.version(event) or "not registered yet")
        write_champion(champion, self.settings)
        return champion

    def _champion(self, event: ChampionEvent, registered: str) -> Champion:
        return Champion(
            job=event.job,
            grounding=event.grounding,
            adapter=self._ref(event),
            base_model=event.base_model,
            registered_model=registered,
            why=event.reason,
            event=event.number,
        )

    def _ref(self, event: ChampionEvent) -> ArtefactRef:
        return ArtefactRef(folder=self.settings.storage / event.folder, fingerprint=event.adapter)

    def _reign(self, number: int) -> ChampionEvent:
        return next(one for one in self.reigns() if one.number == number)

    def _write(self, event: ChampionEvent) -> None:
        path = self.folder / f"{event.number:06d}-{event.kind}.json"
        # The number is the event's: whoever takes one that was taken meanwhile is told so.
        with crossing("event", event.kind):
            write_pointer(path, event.model_dump_json(indent=1) + "\n", new=True)

    def _keep(self, registrations: Registrations) -> None:
        with crossing("pointer", "registrations"):
            write_pointer(self.registrations_path, registrations.model_dump_json())


def _tags(event: ChampionEvent) -> dict[str, str]:
    """What the registry shows with the champion's version."""
    numbers = {f"{one.metric}/{one.subset}": f"{one.value:.4f}" for one in event.numbers}
    told = {"policy": event.policy_version, "comparison": event.comparison}
    return {
        "champion_since": event.at.isoformat(timespec="seconds"),
        "promoted_by": event.by,
        "why": event.reason,
        **{key: value for key, value in told.items() if value},
        **numbers,
    }

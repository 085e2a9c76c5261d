"""Every champion so far and why: what the history's files say.

An event (a promotion, a rollback, a bar that is lifted) is a file of its own under
`<storage>/champions/`, written once. The last promotion or rollback says who the champion is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from retail_assistant.corpus.approval import Person, Reason
from retail_assistant.evaluation.challenge import HeadToHead
from retail_assistant.evaluation.drift import Measured
from retail_assistant.evaluation.promotion import RuleVerdict
from retail_assistant.evaluation.registry import (
    Champion,
    champion_if_any,
)
from retail_assistant.evaluation.signatures import (
    SUFFIX,
    SignatureError,
    must_be_signed,
    require_signed,
)
from retail_assistant.launch.spec import MANIFEST_NAME, artefact_at, read_manifest
from retail_assistant.settings import Settings
from retail_assistant.storage import StorageError, file_sha256
from retail_assistant.storage.bucket import fetch, fetch_folder

Kind = Literal["promotion", "rollback", "adoption", "allowance"]
SIGNATURES = "signatures"


class PromotionError(ValueError):
    """A champion that cannot be made, or unmade; the message says why and what to do."""


class ChampionEvent(BaseModel):
    """One event; of an allowance the adapter is the one whose bar is lifted."""

    model_config = ConfigDict(frozen=True)

    number: int = Field(ge=1)
    kind: Kind
    at: AwareDatetime
    by: Person
    reason: Reason
    job: str
    grounding: str
    adapter: str = Field(description="fingerprint")
    folder: str = Field(description="of the adapter, in the storage folder")
    base_model: str = Field(description="fingerprint")
    manifest_sha256: str | None = Field(None, description="of the adapter's manifest")
    base_manifest_sha256: str | None = Field(None, description="of the base model's manifest")
    registered_model: str | None = Field(None, description="None: MLflow was told later")
    previous: str | None = Field(None, description="adapter of the champion before")
    barred: str | None = Field(None, description="adapter that may not serve from now on")
    comparison: str | None = Field(None, description="fingerprint of the comparison")
    policy_version: str | None = None
    policy: dict[str, Any] | None = None
    numbers: tuple[Measured, ...] = ()
    rules: tuple[RuleVerdict, ...] = ()
    against_champion: HeadToHead | None = None

    @property
    def made_a_champion(self) -> bool:
        """Whether the champion is another one since."""
        return self.kind != "allowance"


class Registrations(BaseModel):
    """What MLflow knows: the last event it was told of, and versions by adapter."""

    told: int = 0
    versions: dict[str, str] = {}


@dataclass(frozen=True)
class ChampionHistory:
    """The history of a storage folder's champions, to be read."""

    settings: Settings

    @property
    def folder(self) -> Path:
        """Where the events are kept, a file each."""
        return self.settings.storage / "champions"

    def events(self) -> list[ChampionEvent]:
        """All events, the oldest first.

        Raises:
            StorageError: an event's file is damaged; names it.
        """
        fetch_folder(self.folder)
        return sorted(map(_read, self.folder.glob("[0-9]*.json")), key=lambda event: event.number)

    def reigns(self) -> list[ChampionEvent]:
        """The events that made a champion, the oldest first."""
        return [event for event in self.events() if event.made_a_champion]

    def current(self) -> Champion | None:
        """The champion; None: nothing was promoted yet."""
        return champion_if_any(self.settings)

    def promoted_with(self) -> tuple[Measured, ...]:
        """The numbers with which the champion was promoted; none where they were not kept."""
        current = self.current()
        adapter = current.adapter.fingerprint if current else None
        kept = (one.numbers for one in reversed(self.reigns()) if one.adapter == adapter)
        return next((numbers for numbers in kept if numbers), ())

    def barred(self) -> dict[str, ChampionEvent]:
        """Adapters that may not serve, with the rollback that says so."""
        found: dict[str, ChampionEvent] = {}
        for event in self.events():
            if event.barred:
                found[event.barred] = event
            elif event.kind == "allowance":
                found.pop(event.adapter, None)
        return found

    def bars(self) -> dict[str, str]:
        """Why adapters may not serve, by fingerprint."""
        return {
            adapter: f"rolled back by {event.by}, {event.at:%Y-%m-%d %H:%M} UTC: {event.reason};"
            f" `retail-assistant champion allow {adapter}` lets it serve again"
            for adapter, event in self.barred().items()
        }

    def version(self, event: ChampionEvent) -> str | None:
        """The registry version of an event's adapter; None: MLflow was not told yet."""
        return event.registered_model or self.registrations().versions.get(event.adapter)

    def path_of(self, event: ChampionEvent) -> Path:
        """The event's file."""
        return self.folder / f"{event.number:06d}-{event.kind}.json"

    def signature_path(self, content: bytes) -> Path:
        """Where the signature of an event's file is, by the file's content."""
        return self.folder / SIGNATURES / f"{sha256(content).hexdigest()[:20]}{SUFFIX}"

    def is_intact(self, event: ChampionEvent) -> str | None:
        """Why an event's adapter may not serve: altered, or not signed; None: it may."""
        return self.altered(event) or self.untrusted(event)

    def altered(self, event: ChampionEvent) -> str | None:
        """What is wrong with the files of an event's adapter and base model; None: nothing."""
        base = artefact_at(self.settings.storage, "base_model", event.base_model).folder
        for folder, made in (
            (self.settings.storage / event.folder, event.manifest_sha256),
            (base, event.base_manifest_sha256),
        ):
            if read_manifest(folder) is None:
                return f"{folder} is missing, unfinished or altered"
            if made not in (None, file_sha256(folder / MANIFEST_NAME)):
                return f"{folder / MANIFEST_NAME} was altered"
        return None

    def untrusted(self, event: ChampionEvent) -> str | None:
        """Why no trusted key vouches for an event; None: one does, or nobody asks for that."""
        if not must_be_signed(self.settings):
            return None
        path = self.path_of(event)
        content = path.read_bytes()
        signature = self.signature_path(content)
        fetch(signature)
        if not signature.is_file():
            return f"event {event_name(event)} is not signed (see `retail-assistant champion sign`)"
        try:
            require_signed(content, path.name, signature.read_text(), self.settings)
        except SignatureError as error:
            return str(error)
        if None in (event.manifest_sha256, event.base_manifest_sha256):
            return f"event {event_name(event)} does not say which files it is about"
        return None

    def target(self, to: str = "") -> ChampionEvent:
        """The earlier champion that a rollback leads to; see `roll_back`.

        Raises:
            PromotionError: there is none, or it is barred.
        """
        current, barred = self.current(), self.barred()
        there = current.adapter.fingerprint if current else None
        earlier = [one for one in reversed(self.reigns()) if one.adapter != there]
        if not to:
            free = [one for one in earlier if one.adapter not in barred]
            if not free:
                raise PromotionError(
                    "there is no earlier champion to go back to"
                    + (f": {len(earlier)} in the history, all barred" if earlier else "")
                )
            return free[0]
        found = [one for one in earlier if to in (str(one.number), one.job)]
        if not found:
            known = ", ".join(event_name(one) for one in earlier) or "none"
            raise PromotionError(f"no earlier champion is {to!r}; allowed: {known}")
        if found[0].adapter in barred:
            why = self.bars()[found[0].adapter]
            raise PromotionError(f"no rollback to {event_name(found[0])}: it was {why}")
        return found[0]

    @property
    def registrations_path(self) -> Path:
        """Where it is noted what MLflow knows."""
        return self.folder / "registrations.json"

    def registrations(self) -> Registrations:
        """What MLflow knows, as far as it was noted here."""
        try:
            return Registrations.model_validate_json(self.registrations_path.read_bytes())
        except (FileNotFoundError, ValidationError):
            # MLflow is asked again: what it knows is found there.
            return Registrations()

    def reign_of(self, adapter: str) -> ChampionEvent:
        """The last event that made an adapter the champion."""
        return next(one for one in reversed(self.reigns()) if one.adapter == adapter)


def require_trusted(champion: Champion, settings: Settings) -> None:
    """Refuse a champion that no trusted key vouches for, where that is asked for.

    What vouches for it is the signed event that made it so: that event names the manifests of
    adapter and base model, and these all files.

    Raises:
        SignatureError: says what is wrong.
    """
    if not must_be_signed(settings):
        return
    history = ChampionHistory(settings)
    event = next((one for one in history.reigns() if one.number == champion.event), None)
    if event is None:
        raise SignatureError(f"{champion.job} may not serve: no event made it the champion")
    told = (champion.job, champion.grounding, champion.adapter.fingerprint, champion.base_model)
    folder = (settings.storage / event.folder).resolve()
    if (event.job, event.grounding, event.adapter, event.base_model) != told or (
        champion.adapter.folder.resolve() != folder
    ):
        raise SignatureError(f"champion.json is not what event {event_name(event)} says")
    wrong = history.bars().get(event.adapter) or history.is_intact(event)
    if wrong:
        raise SignatureError(f"{champion.job} may not serve: {wrong}")


def checked_words(by: str, reason: str) -> None:
    """Refuse a name or a reason that is missing or too long.

    Raises:
        PromotionError: one line that names what is wrong and what is allowed.
    """
    checked(_Words, {"by": by, "reason": reason})


class _Words(BaseModel):
    by: Person
    reason: Reason


Checked = TypeVar("Checked", bound=BaseModel)


def checked(model: type[Checked], fields: Mapping[str, Any]) -> Checked:
    """The model, if what it is made of is complete.

    Raises:
        PromotionError: one line that names what is wrong and what is allowed.
    """
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        told = "; ".join(f"{item['loc'][0]}: {item['msg']}" for item in error.errors())
        raise PromotionError(f"the event is not complete: {told}") from error


def event_name(event: ChampionEvent) -> str:
    """Number and job."""
    return f"{event.number} ({event.job})"


def _read(path: Path) -> ChampionEvent:
    try:
        return ChampionEvent.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise StorageError(f"{path} is damaged: put it back from a backup") from error

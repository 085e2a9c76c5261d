"""Who approved which version of the corpus, when and why: a record that only grows.

A version is the content of the screened dialogues, named by the SHA-256 of their table. Every
decision is a file of its own under `<storage>/approvals/`, and none is changed afterwards. The last
decision on a version holds. Whether a version needs a person's decision is the mode: `required`, or
`auto`, where a version that no person has decided on is approved by the run that made it.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import polars as pl
from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from retail_assistant.corpus.rendering import visible_text
from retail_assistant.storage import StorageError, TableRef, TableStore, write_atomically
from retail_assistant.storage.bucket import fetch_folder, names_in, publish
from retail_assistant.storage.crash_points import crossing

SCREENED = "screened_dialogues"
SHORT_VERSION = 12
AUTOMATIC_BY = "RETAIL_APPROVAL=auto"
AUTOMATIC_REASON = "nobody was asked: the setting approves what passed the screens"

Verdict = Literal["approved", "rejected"]
State = Literal["approved", "rejected", "pending"]
ApprovalMode = Literal["auto", "required"]


class ApprovalError(ValueError):
    """A decision that cannot be taken, or one that is missing; the message says what to do."""


class ApprovalPolicy(BaseModel):
    """How much of a corpus version the data steward is shown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples: int = Field(
        3, ge=1, le=100, description="dialogues on the sheet for each intent of each subset"
    )
    rejected_samples: int = Field(
        5, ge=0, le=100, description="rejected dialogues on the sheet for each reason"
    )
    changed_samples: int = Field(
        10, ge=0, le=100, description="dialogues on the sheet for each kind of change"
    )


def _one_line(text: object) -> object:
    return " ".join(visible_text(text).split()) if isinstance(text, str) else text


_OneLine = BeforeValidator(_one_line)
Person = Annotated[str, StringConstraints(min_length=1, max_length=100), _OneLine]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=1_000), _OneLine]


class Decision(BaseModel):
    """One decision on one corpus version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the table")
    decision: Verdict
    by: Person
    reason: Reason
    at: AwareDatetime
    automatic: bool = False
    counts: dict[str, int] = Field(default_factory=dict, description="how large the version is")


class Standing(NamedTuple):
    """What holds for a version now, and the decision that says so."""

    version: str
    state: State
    decision: Decision | None

    @property
    def words(self) -> str:
        """The same in a sentence, with what to do about it."""
        name = f"corpus {short_version(self.version)}"
        if self.decision is None:
            return f"{name} waits for the data steward: {how_to_decide(self.version)}"
        if self.decision.automatic:
            return (
                f"{name} was approved automatically ({AUTOMATIC_BY}), nobody looked at it;"
                " RETAIL_APPROVAL=required makes a person decide"
            )
        when = f"{self.decision.at:%Y-%m-%d %H:%M} UTC"
        return f"{name} was {self.state} by {self.decision.by}, {when}: {self.decision.reason}"


class ApprovedCorpus(NamedTuple):
    """An approved version: the decision, and its dialogues (None where they are gone)."""

    decision: Decision
    dialogues: pl.DataFrame | None


def short_version(version: str) -> str:
    """As much of a version as people need to tell it from others."""
    return version[:SHORT_VERSION]


def decide_command(version: str, verb: Literal["approve", "reject"] = "approve") -> str:
    """The command line that decides on a version."""
    return (
        f"retail-assistant corpus {verb} --version {short_version(version)}"
        ' --by "Your Name" --reason "…"'
    )


def how_to_decide(version: str) -> str:
    """Where and how a person decides on a version."""
    return (
        "`retail-assistant corpus show` names its sheet; then"
        f" `{decide_command(version)}` (or reject), or the launchpad of the job decide_corpus in"
        " the UI"
    )


@dataclass(frozen=True)
class ApprovalRecord:
    """The decisions on the corpus versions of a storage folder."""

    root: Path
    mode: ApprovalMode

    @property
    def folder(self) -> Path:
        """Where the decisions are kept, a file each."""
        return self.root / "approvals"

    @property
    def latest(self) -> TableRef:
        """The screened dialogues that there are now.

        Raises:
            StorageError: there are none yet.
        """
        return TableStore(self.root).ref(SCREENED)

    def decisions(self) -> list[Decision]:
        """All decisions, the oldest first.

        Raises:
            StorageError: a decision's file is damaged; names it.
        """
        fetch_folder(self.folder)
        return sorted(map(_read, self.folder.glob("*.json")), key=lambda one: one.at)

    def holding(self) -> dict[str, Decision]:
        """The decision that holds for each version; the version decided on last comes last.

        Where a person must decide, what the setting once approved does not count.
        """
        held: dict[str, Decision] = {}
        for one in self.decisions():
            if self.mode == "auto" or not one.automatic:
                held.pop(one.version, None)
                held[one.version] = one
        return held

    def decision_on(self, version: str) -> Decision | None:
        """The decision that holds for a version; None where it waits for one."""
        return self.holding().get(version)

    def standing(self, version: str) -> Standing:
        """Is the version approved, rejected or pending, and why?"""
        decision = self.decision_on(version)
        return Standing(version, decision.decision if decision else "pending", decision)

    def settle(self, version: str, counts: Mapping[str, int]) -> Standing:
        """The version's standing, once mode `auto` has approved what nobody has decided on."""
        standing = self.standing(version)
        if standing.state == "pending" and self.mode == "auto":
            self.record_decision(
                version,
                "approved",
                by=AUTOMATIC_BY,
                reason=AUTOMATIC_REASON,
                counts=counts,
                automatic=True,
            )
        return self.standing(version)

    def require_approved(self, version: str) -> None:
        """Go on only with an approved version.

        Raises:
            ApprovalError: says who rejected it and why, or how to decide on it.
        """
        standing = self.standing(version)
        if standing.state != "approved":
            raise ApprovalError(standing.words)

    def record_decision(
        self,
        version: str,
        decision: Verdict,
        *,
        by: str,
        reason: str,
        counts: Mapping[str, int],
        automatic: bool = False,
    ) -> Decision:
        """Add a decision to the record.

        Raises:
            ApprovalError: a name or a reason is missing or too long.
        """
        taken = checked_decision(
            version=version,
            decision=decision,
            by=by,
            reason=reason,
            at=self._now(),
            automatic=automatic,
            counts=dict(counts),
        )
        # The random part keeps two decisions of the same moment apart.
        name = f"{taken.at:%Y%m%dT%H%M%S.%f}Z-{short_version(version)}-{secrets.token_hex(4)}.json"
        with crossing("approval"):
            write_atomically(self.folder / name, taken.model_dump_json(indent=1) + "\n")
            publish(self.folder / name)
        return taken

    def target(self, version: str = "") -> TableRef:
        """The corpus to decide on: the latest. `version`, the beginning of its name, must mean it.

        Raises:
            ApprovalError: no version begins so, several do, or it is not the latest.
            StorageError: there is no corpus yet.
        """
        latest = self.latest
        wanted = version.strip().lower()
        found = [one for one in self._versions(latest) if one.startswith(wanted)]
        if not wanted or found == [latest.sha256]:
            return latest
        now = f"the latest is {short_version(latest.sha256)}"
        if not found:
            raise ApprovalError(f"no corpus version begins with {_one_line(wanted)!r}; {now}")
        if len(found) > 1:
            raise ApprovalError(
                f"{len(found)} corpus versions begin with {wanted!r}"
                f" ({', '.join(one[:20] for one in found)}): give more of the name; {now}"
            )
        raise ApprovalError(
            f"corpus {short_version(found[0])} is not the latest, and only the latest can be"
            f" decided on; {now}"
        )

    def last_approved(self, besides: str) -> ApprovedCorpus | None:
        """The version that was approved last, other than `besides`; None where there is none."""
        for decision in reversed(self.holding().values()):
            if decision.version != besides and decision.decision == "approved":
                return ApprovedCorpus(decision, self._dialogues(decision.version))
        return None

    def _versions(self, latest: TableRef) -> list[str]:
        """The latest version, and of the earlier ones the beginning that names their file."""
        stems = {Path(name).stem for name in names_in(latest.path.parent, "*.parquet")}
        return [latest.sha256, *sorted(stems - {latest.path.stem})]

    def _dialogues(self, version: str) -> pl.DataFrame | None:
        path = TableStore(self.root).folder(SCREENED) / f"{version[:20]}.parquet"
        try:
            return TableRef(path=path, sha256=version, rows=0).read()
        except StorageError:
            return None

    def _now(self) -> datetime:
        """Later than every decision so far, also where the clock was put back."""
        earlier = self.decisions()
        now = datetime.now(UTC)
        return max(now, earlier[-1].at + timedelta(microseconds=1)) if earlier else now


def checked_decision(**fields: Any) -> Decision:
    """A decision, if what it says is complete.

    Raises:
        ApprovalError: one line that names what is wrong and what is allowed.
    """
    try:
        return Decision.model_validate(fields)
    except ValidationError as error:
        told = "; ".join(f"{item['loc'][0]}: {item['msg']}" for item in error.errors())
        raise ApprovalError(f"the decision is not complete: {told}") from error


def _read(path: Path) -> Decision:
    try:
        return Decision.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise StorageError(
            f"{path} is damaged: put it back from a backup, or move it away and decide again"
        ) from error

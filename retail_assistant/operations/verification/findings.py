"""What is claimed of the storage's files, and what was found wrong with them."""

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Problem = Literal["missing", "altered", "unreadable", "untrusted", "orphaned"]


class Finding(BaseModel):
    """Something that is not as it should be."""

    model_config = ConfigDict(frozen=True)

    path: str = Field(description="in the storage")
    problem: Problem
    detail: str
    remedy: str

    @property
    def is_damage(self) -> bool:
        """Whether something is lost or wrong; what is orphaned only takes room."""
        return self.problem != "orphaned"


class Verified(BaseModel):
    """How a verification went."""

    model_config = ConfigDict(frozen=True)

    place: str
    files: int = Field(description="that were compared")
    bytes: int = Field(description="that were hashed")
    findings: list[Finding]

    @property
    def is_intact(self) -> bool:
        """Whether nothing is damaged."""
        return not any(one.is_damage for one in self.findings)


@dataclass(frozen=True)
class Claim:
    """That a file is there, with this content.

    sha256: hex, or how it begins; None: whatever it is.
    size: bytes; None: whatever it is.
    by: who says so.
    remedy: what to do where it is not so.
    """

    path: str
    by: str
    remedy: str
    sha256: str | None = None
    size: int | None = None

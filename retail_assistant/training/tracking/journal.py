"""What a tracked training has to tell, on disk before anybody is told.

A run's journal is `<artefact>/tracking/<start>.jsonl`, one record a line, only ever appended to.
Beside it, `<start>.json` states how far it was sent, and to which MLflow run. Numbers that a server
did not take are so neither lost nor sent twice.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from retail_assistant.storage import write_atomically

FOLDER = "tracking"
LOCK_NAME = ".lock"


class SentState(BaseModel):
    """How much of a journal MLflow has, and where."""

    model_config = ConfigDict(frozen=True)

    offset: int = Field(default=0, description="Bytes of the journal that were sent.")
    uri: str | None = None
    run_id: str | None = None
    experiment_id: str | None = None
    parent_run_id: str | None = None
    refused: int = Field(default=0, description="Records that MLflow would not take.")


class Journal:
    """The records of one MLflow run. Appending is safe from several threads of one process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()

    @classmethod
    def create(cls, artefact: Path) -> Self:
        """A new, empty journal in an artefact's folder."""
        path = artefact / FOLDER / f"{time.time_ns() // 1000:017d}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(exist_ok=False)
        return cls(path)

    @classmethod
    def all(cls, artefact: Path) -> list[Self]:
        """The journals of an artefact's folder, oldest first."""
        return [cls(path) for path in sorted((artefact / FOLDER).glob("*.jsonl"))]

    def append(self, kind: str, **content: Any) -> None:
        """Write one record at the end, with the moment (milliseconds since 1970)."""
        record = {"kind": kind, "time": int(time.time() * 1000), **content}
        line = json.dumps(record, default=str).encode() + b"\n"
        with self._lock, self.path.open("ab") as stream:
            # What a killed process left unfinished must not run into this record.
            if stream.tell() and not self._ends_with_line_break():
                line = b"\n" + line
            stream.write(line)

    def _ends_with_line_break(self) -> bool:
        with self.path.open("rb") as stream:
            stream.seek(-1, os.SEEK_END)
            return stream.read() == b"\n"

    def records(self, offset: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
        """Complete records from a byte on, each with the offset behind it; no torn ones."""
        if not self.path.is_file():
            return
        with self.path.open("rb") as stream:
            stream.seek(offset)
            for line in stream:
                offset += len(line)
                if not line.endswith(b"\n"):
                    return
                record = _parsed(line)
                if record is not None:
                    yield record, offset

    def pending(self) -> int:
        """How many records MLflow does not have yet."""
        return sum(1 for _ in self.records(self.state().offset))

    def status(self) -> str | None:
        """How the run ended: FINISHED, FAILED, KILLED; None: it runs, or was killed unheard."""
        last = None
        for record, _ in self.records():
            if record["kind"] in ("start", "close"):
                last = record.get("status")
        return last

    def state(self) -> SentState:
        """How far the journal was sent."""
        try:
            return SentState.model_validate_json(self._state_path.read_text())
        except (FileNotFoundError, ValidationError):
            return SentState()

    def save_state(self, state: SentState) -> None:
        """Remember how far the journal was sent."""
        write_atomically(self._state_path, state.model_dump_json(), durable=False)

    @property
    def _state_path(self) -> Path:
        return self.path.with_suffix(".json")


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record: Mapping[str, Any] = json.loads(line)
    except ValueError:
        return None
    return dict(record) if isinstance(record, dict) and "kind" in record else None

"""What is kept of shoppers' turns and thumbs: one SQLite file under `<storage>/serving/feedback/`.

Of one machine, that is; several keep it in a database (`shared_records`).

SQLite with a write-ahead log, and not a file an event: several server processes of a machine write
to it at once, a process that is killed leaves whole rows or none, what is forgotten is overwritten
(`secure_delete`), and a day of a busy shop is one file, not a million. The log needs memory that
processes share, so the folder has to be on a disk of the machine that serves, not on a network's.

Rows are added and deleted, and never changed, but for the texts of answers that nobody judged,
which are blanked after a day. Every row that ever was is counted: kept, pruned or forgotten.
"""

import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import polars as pl
from pydantic import AwareDatetime, BaseModel, ConfigDict

Verdict = Literal["up", "down"]

FEEDBACK: Mapping[str, Any] = {
    "answer_id": pl.String,
    "at": pl.Datetime("ms", "UTC"),
    "question": pl.String,
    "answer": pl.String,
    "intent": pl.String,
    "declined": pl.String,
    "product_ids": pl.List(pl.String),
    "verdict": pl.String,
    "comment": pl.String,
    "job": pl.String,
    "adapter": pl.String,
    "index": pl.String,
}
"""A row a turn. `declined`: why it has no answer; question and answer, masked, are null where it
has one that nobody judged; `verdict` ("up", "down") and `comment` are the last ones."""

UNJUDGED_TEXT_AGE = timedelta(days=1)
"""How long the texts of an answer wait for a thumb."""

_BUSY_SECONDS = 10.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS turns (
    answer_id TEXT PRIMARY KEY, at INTEGER NOT NULL, question TEXT, answer TEXT,
    intent TEXT NOT NULL, declined TEXT, product_ids TEXT NOT NULL,
    job TEXT, adapter TEXT, index_version TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS turns_by_time ON turns (at);
CREATE TABLE IF NOT EXISTS verdicts (
    number INTEGER PRIMARY KEY, at INTEGER NOT NULL, verdict TEXT NOT NULL, comment TEXT NOT NULL,
    answer_id TEXT NOT NULL REFERENCES turns ON DELETE CASCADE
) STRICT;
CREATE INDEX IF NOT EXISTS verdicts_by_answer ON verdicts (answer_id);
CREATE TABLE IF NOT EXISTS totals (name TEXT PRIMARY KEY, rows INTEGER NOT NULL) STRICT;
INSERT OR IGNORE INTO totals VALUES ('recorded', 0), ('pruned', 0), ('forgotten', 0);
"""
_ADD_TURN = "INSERT OR IGNORE INTO turns VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
ROWS = """
SELECT turns.answer_id, turns.at, turns.question, turns.answer, intent, declined, product_ids,
    verdicts.verdict, verdicts.comment, job, adapter, index_version
FROM turns LEFT JOIN verdicts ON number = (
    SELECT max(number) FROM verdicts AS one WHERE one.answer_id = turns.answer_id)
ORDER BY turns.at, turns.answer_id
"""
"""A row a turn with its last verdict; columns as in FEEDBACK."""


class TurnRecord(BaseModel):
    """A turn as it is kept: texts masked, nothing of who asked or from where."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    answer_id: str
    at: AwareDatetime
    question: str
    answer: str
    intent: str
    declined: str | None = None
    product_ids: list[str] = []
    job: str | None = None
    adapter: str | None = None
    index: str


class Totals(NamedTuple):
    """Turns ever recorded, and those of them that were deleted since."""

    recorded: int
    pruned: int
    forgotten: int


class Snapshot(NamedTuple):
    """The turns (FEEDBACK, oldest first) and the totals of one moment."""

    turns: pl.DataFrame
    totals: Totals

    @property
    def is_complete(self) -> bool:
        """Whether every turn that was recorded is here, or was deleted on purpose."""
        totals = self.totals
        return totals.recorded == self.turns.height + totals.pruned + totals.forgotten


class Records(Protocol):
    """What is kept, wherever; for one thread, any number of processes."""

    def add_turn(self, turn: TurnRecord) -> bool:
        """Keep a turn; False where one of this id is there already."""

    def add_verdict(self, answer_id: str, verdict: Verdict, comment: str, at: datetime) -> bool:
        """Keep a verdict on a turn that is kept; False where there is none."""

    def prune(self, days: int, now: datetime | None = None) -> int:
        """Delete what is older than so many days; the number of turns that went.

        Of younger answers that nobody judged in UNJUDGED_TEXT_AGE, the texts go.
        """

    def forget(self, answer_id: str) -> bool:
        """Delete a turn and its verdicts; False where there is none."""

    def answer_ids(self) -> frozenset[str]:
        """The answers that something is kept of."""

    def snapshot(self) -> Snapshot:
        """All that is kept, as of one moment."""

    def close(self) -> None:
        """Let go of it; the next call opens it again."""


class FeedbackRecords:
    """The records of a storage folder, by the processes of one machine."""

    def __init__(self, root: Path) -> None:
        self.path = root / "serving" / "feedback" / "feedback.sqlite"
        self._connection: sqlite3.Connection | None = None

    def add_turn(self, turn: TurnRecord) -> bool:
        """Keep a turn; False where one of this id is there already."""
        with self._writing() as database:
            added = database.execute(_ADD_TURN, row_of(turn)).rowcount
            _count(database, "recorded", added)
        return added > 0

    def add_verdict(self, answer_id: str, verdict: Verdict, comment: str, at: datetime) -> bool:
        """Keep a verdict on a turn that is kept; False where there is none."""
        with self._writing() as database:
            found = database.execute(
                "INSERT INTO verdicts (at, verdict, comment, answer_id)"
                " SELECT ?, ?, ?, answer_id FROM turns WHERE answer_id = ?",
                (milliseconds(at), verdict, comment, answer_id),
            )
            return found.rowcount > 0

    def prune(self, days: int, now: datetime | None = None) -> int:
        """Delete what is older than so many days; the number of turns that went.

        Of younger answers that nobody judged in UNJUDGED_TEXT_AGE, the texts go.
        """
        now = now or datetime.now(UTC)
        with self._writing() as database:
            oldest = milliseconds(now - timedelta(days=days))
            gone = database.execute("DELETE FROM turns WHERE at < ?", (oldest,)).rowcount
            _count(database, "pruned", gone)
            database.execute(
                "UPDATE turns SET question = NULL, answer = NULL WHERE at < ? AND declined IS NULL"
                " AND question IS NOT NULL"
                " AND NOT EXISTS (SELECT 1 FROM verdicts WHERE answer_id = turns.answer_id)",
                (milliseconds(now - UNJUDGED_TEXT_AGE),),
            )
        self._empty_log()
        return gone

    def forget(self, answer_id: str) -> bool:
        """Delete a turn and its verdicts; False where there is none."""
        with self._writing() as database:
            statement = "DELETE FROM turns WHERE answer_id = ?"
            gone = database.execute(statement, (answer_id,)).rowcount
            _count(database, "forgotten", gone)
        self._empty_log()
        return gone > 0

    def answer_ids(self) -> frozenset[str]:
        """The answers that something is kept of."""
        if not self.path.exists():
            return frozenset()
        with self._transaction("BEGIN") as database:
            return frozenset(one for (one,) in database.execute("SELECT answer_id FROM turns"))

    def snapshot(self) -> Snapshot:
        """All that is kept, as of one moment."""
        if not self.path.exists():
            return Snapshot(pl.DataFrame(schema=FEEDBACK), Totals(0, 0, 0))
        with self._transaction("BEGIN") as database:
            rows = database.execute(ROWS).fetchall()
            totals = dict(database.execute("SELECT name, rows FROM totals").fetchall())
        return snapshot_of(rows, Totals(**totals))

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _empty_log(self) -> None:
        """What was deleted stands in the write-ahead log too, until that is emptied."""
        if self._connection is not None:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _writing(self) -> Any:
        return self._transaction("BEGIN IMMEDIATE")

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        if self._connection is None:
            self._connection = _opened(self.path)
        database = self._connection
        database.execute(begin)
        try:
            yield database
        except BaseException:
            database.execute("ROLLBACK")
            raise
        database.execute("COMMIT")


def row_of(turn: TurnRecord) -> tuple[Any, ...]:
    """A turn as a row of the table `turns`."""
    return (
        turn.answer_id,
        milliseconds(turn.at),
        turn.question,
        turn.answer,
        turn.intent,
        turn.declined,
        json.dumps(turn.product_ids),
        turn.job,
        turn.adapter,
        turn.index,
    )


def snapshot_of(rows: Sequence[Sequence[Any]], totals: Totals) -> Snapshot:
    """What ROWS has found, as a frame."""
    frame = pl.DataFrame(
        rows, schema={**FEEDBACK, "at": pl.Int64, "product_ids": pl.String}, orient="row"
    )
    ids = pl.col("product_ids").str.json_decode(pl.List(pl.String))
    at = pl.col("at").cast(FEEDBACK["at"])
    return Snapshot(frame.with_columns(at=at, product_ids=ids), totals)


def of_the_judged(turns: pl.DataFrame) -> pl.DataFrame:
    """The turns (FEEDBACK), with texts only where they were declined or got a thumb."""
    told = pl.col("declined").is_not_null() | pl.col("verdict").is_not_null()
    return turns.with_columns(pl.when(told).then(pl.col("question", "answer")))


def _opened(path: Path) -> sqlite3.Connection:
    """A connection; the file and its folder are for their owner only."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    database = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    ends = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            _prepare(database)
        except sqlite3.OperationalError as error:
            # SQLite's own timeout does not hold while another process turns the log on.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > ends:
                database.close()
                raise
            time.sleep(_BUSY_SECONDS / 500)
        else:
            return database


def _prepare(database: sqlite3.Connection) -> None:
    for pragma in (
        "journal_mode = WAL", "synchronous = NORMAL", "secure_delete = ON", "foreign_keys = ON"
    ):  # fmt: skip
        database.execute(f"PRAGMA {pragma}")
    database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")


def _count(database: sqlite3.Connection, name: str, rows: int) -> None:
    database.execute("UPDATE totals SET rows = rows + ? WHERE name = ?", (rows, name))


def milliseconds(at: datetime) -> int:
    """Since 1970."""
    return int(at.timestamp() * 1000)

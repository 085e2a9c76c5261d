"""Feedback of several machines: the rows of `records`, in a PostgreSQL database of their own.

For pods, whose disks go with them. What is deleted can be read by nobody from then on; unlike
SQLite with `secure_delete` the server overwrites it when it likes, and its backups have it for as
long as they are kept (docs/production.md).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from retail_assistant.serving.feedback.records import (
    ROWS,
    UNJUDGED_TEXT_AGE,
    FeedbackRecords,
    Records,
    Snapshot,
    Totals,
    TurnRecord,
    Verdict,
    milliseconds,
    row_of,
    snapshot_of,
)
from retail_assistant.storage import StorageError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

APPLICATION = "retail-assistant feedback"
"""What PostgreSQL knows our connections by."""

SECONDS_TO_CONNECT = 10
_LIMITS = "-c statement_timeout=60s -c lock_timeout=10s"
# Any numbers, as long as all processes use the same.
_MAKING, _PRUNING = 7_203_201, 7_203_202
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS turns (answer_id text PRIMARY KEY, at bigint NOT NULL,"
    " question text, answer text, intent text NOT NULL, declined text, product_ids text NOT NULL,"
    " job text, adapter text, index_version text NOT NULL)",
    "CREATE INDEX IF NOT EXISTS turns_by_time ON turns (at)",
    "CREATE TABLE IF NOT EXISTS verdicts (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
    " at bigint NOT NULL, verdict text NOT NULL, comment text NOT NULL,"
    " answer_id text NOT NULL REFERENCES turns ON DELETE CASCADE)",
    "CREATE INDEX IF NOT EXISTS verdicts_by_answer ON verdicts (answer_id)",
    "CREATE TABLE IF NOT EXISTS totals (name text PRIMARY KEY, rows bigint NOT NULL)",
    "INSERT INTO totals VALUES ('recorded', 0), ('pruned', 0), ('forgotten', 0)"
    " ON CONFLICT DO NOTHING",
)
_COLUMNS = (
    "answer_id", "at", "question", "answer", "intent", "declined", "product_ids", "job", "adapter",
    "index_version",
)  # fmt: skip
_ADD_TURN = (
    f"INSERT INTO turns ({', '.join(_COLUMNS)})"  # noqa: S608 (names of this module)
    f" VALUES ({', '.join(f':{name}' for name in _COLUMNS)}) ON CONFLICT DO NOTHING"
)
_ADD_VERDICT = (
    "INSERT INTO verdicts (at, verdict, comment, answer_id)"
    " SELECT :at, :verdict, :comment, answer_id FROM turns WHERE answer_id = :answer_id"
)
_BLANK = (
    "UPDATE turns SET question = NULL, answer = NULL WHERE at < :at AND declined IS NULL"
    " AND question IS NOT NULL"
    " AND NOT EXISTS (SELECT 1 FROM verdicts WHERE answer_id = turns.answer_id)"
)


class FeedbackError(StorageError):
    """The database of shoppers' feedback cannot be used; quotes nothing of what is kept."""


def feedback_records(root: Path, uri: SecretStr | None) -> Records:
    """Where feedback is kept: the database that all machines share, else the storage folder."""
    return FeedbackRecords(root) if uri is None else SharedRecords(uri)


class SharedRecords:
    """The records of a database, by the processes of any machines."""

    def __init__(self, uri: SecretStr) -> None:
        """`uri`: postgresql+psycopg2://user:password@host:port/database."""
        self._uri = uri
        self._engine: Engine | None = None

    def add_turn(self, turn: TurnRecord) -> bool:
        """As `Records`."""
        with self._transaction() as database:
            added = _changed(database, _ADD_TURN, **dict(zip(_COLUMNS, row_of(turn), strict=True)))
            _count(database, "recorded", added)
        return added > 0

    def add_verdict(self, answer_id: str, verdict: Verdict, comment: str, at: datetime) -> bool:
        """As `Records`."""
        row = {"at": milliseconds(at), "verdict": verdict, "comment": comment}
        with self._transaction() as database:
            return _changed(database, _ADD_VERDICT, answer_id=answer_id, **row) > 0

    def prune(self, days: int, now: datetime | None = None) -> int:
        """As `Records`."""
        now = now or datetime.now(UTC)
        with self._transaction() as database:
            _alone(database, _PRUNING)
            oldest = milliseconds(now - timedelta(days=days))
            gone = _changed(database, "DELETE FROM turns WHERE at < :at", at=oldest)
            _count(database, "pruned", gone)
            _changed(database, _BLANK, at=milliseconds(now - UNJUDGED_TEXT_AGE))
        return gone

    def forget(self, answer_id: str) -> bool:
        """As `Records`."""
        with self._transaction() as database:
            statement = "DELETE FROM turns WHERE answer_id = :answer_id"
            gone = _changed(database, statement, answer_id=answer_id)
            _count(database, "forgotten", gone)
        return gone > 0

    def answer_ids(self) -> frozenset[str]:
        """As `Records`."""
        with self._transaction() as database:
            return frozenset(one for (one,) in _rows(database, "SELECT answer_id FROM turns"))

    def snapshot(self) -> Snapshot:
        """As `Records`."""
        with self._transaction("REPEATABLE READ") as database:
            totals = dict(_rows(database, "SELECT name, rows FROM totals"))
            return snapshot_of(_rows(database, ROWS), Totals(**totals))

    def close(self) -> None:
        """As `Records`."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    @contextmanager
    def _transaction(self, isolation: str = "READ COMMITTED") -> Iterator["Connection"]:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            if self._engine is None:
                self._engine = _opened(self._uri)
            with self._engine.connect() as connection:
                database = connection.execution_options(isolation_level=isolation)
                with database.begin():
                    yield database
        except SQLAlchemyError as error:
            # Not with its cause: a database's message may quote a row.
            raise FeedbackError(_explained(self._uri, error)) from None


def _opened(uri: SecretStr) -> "Engine":
    """The database with its tables; a connection that a restart has cut is made anew."""
    from sqlalchemy import create_engine, text

    engine = create_engine(
        uri.get_secret_value(),
        pool_size=1,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={
            "connect_timeout": SECONDS_TO_CONNECT,
            "application_name": APPLICATION,
            "options": _LIMITS,
        },
    )
    with engine.begin() as database:
        # Made by several at once, "if not exists" is not enough.
        _alone(database, _MAKING)
        for statement in _SCHEMA:
            database.execute(text(statement))
    return engine


def _alone(database: "Connection", lock: int) -> None:
    """Until the transaction ends."""
    _rows(database, "SELECT pg_advisory_xact_lock(:lock)", lock=lock)


def _rows(database: "Connection", statement: str, **given: Any) -> list[tuple[Any, ...]]:
    from sqlalchemy import text

    return [tuple(row) for row in database.execute(text(statement), given)]


def _changed(database: "Connection", statement: str, **given: Any) -> int:
    """How many rows a statement has changed."""
    from sqlalchemy import text

    # PostgreSQL's texts cannot hold it; nobody reads it.
    clean = {k: v.replace("\0", "") if isinstance(v, str) else v for k, v in given.items()}
    return int(database.execute(text(statement), clean).rowcount)


def _count(database: "Connection", name: str, rows: int) -> None:
    if rows:
        statement = "UPDATE totals SET rows = rows + :rows WHERE name = :name"
        _changed(database, statement, rows=rows, name=name)


def _explained(uri: SecretStr, error: Exception) -> str:
    from sqlalchemy.exc import OperationalError

    place = urlsplit(uri.get_secret_value())
    said = str(getattr(error, "orig", "")).strip().splitlines() or [type(error).__name__]
    # What a connection fails with speaks of servers and users; other messages may quote rows.
    reason = said[0] if isinstance(error, OperationalError) else type(error).__name__
    if place.password:
        reason = reason.replace(place.password, "***")
    return (
        f"shoppers' feedback cannot be read or kept in {place.hostname}:{place.port or 5432}"
        f"{place.path}; look at RETAIL_FEEDBACK_URI ({reason})"
    )

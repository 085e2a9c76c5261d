"""Keeping shoppers' turns and thumbs without ever holding up a turn.

The server hands over what was said and goes on; a thread masks personal data and writes. What it
cannot keep up with is dropped, what fails is logged without a word of the shopper's; both are
counted.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from queue import Full, Queue
from threading import Lock, Thread

import polars as pl
from pydantic import SecretStr

from retail_assistant.serving.feedback.masking import catalog_words, masked
from retail_assistant.serving.feedback.records import Records, TurnRecord, Verdict
from retail_assistant.serving.feedback.shared_records import feedback_records
from retail_assistant.serving.options import ServingSettings
from retail_assistant.serving.turns import TurnResult
from retail_assistant.storage import StorageError, TableStore
from retail_assistant.storage.bucket import bucket_of

MOST_WAITING = 1_000
PRUNE_SECONDS = 3_600.0
"""Between two looks of a running server for what is too old."""
MAX_QUESTION = 500
MAX_ANSWER = 1_000
MAX_COMMENT = 500
TABLES = ("shopper_feedback", "feedback_candidates")
"""Tables made from what shoppers said: they keep nothing that the records no longer have."""

_LOG = logging.getLogger(__name__)
_Task = Callable[[Records], object]


@dataclass
class FeedbackCounts:
    """What became of what was handed over, since this process began."""

    turns: int = 0
    verdicts: int = 0
    unknown: int = 0
    """Verdicts on answers that are not kept."""
    dropped: int = 0
    """Not kept, because too much was waiting."""
    failed: int = 0
    """Not kept, because it could not be written."""


class FeedbackStore:
    """The feedback of one server process; methods return at once and never raise.

    Nothing at all is kept where `settings.feedback` is off, and nothing of a turn that is recorded
    with `keep=False`: the shopper opted out.
    """

    def __init__(self, root: Path, settings: ServingSettings, uri: SecretStr | None = None) -> None:
        """`root` is the storage folder, `uri` the database of feedback where there is one."""
        self.counts = FeedbackCounts()
        self._root, self._settings, self._uri = root, settings, uri
        self._queue: Queue[_Task | None] = Queue(MOST_WAITING)
        self._thread: Thread | None = None
        self._starting = Lock()

    def start(self) -> None:
        """At a server's start: delete what is too old, and load what masks personal data."""
        if self._settings.feedback:
            self._hand_over(self._begin)
            self._hand_over(self._warm_up)

    def record_turn(
        self, question: str, result: TurnResult, answer: str, *, keep: bool = True
    ) -> None:
        """Keep a turn, for a thumb that may follow and for the report.

        Args:
            question: what was asked, best in words that stand alone ("in blue?" does not).
            result: what the answer was made from.
            answer: its whole text.
            keep: False where the shopper opted out.
        """
        if keep and self._settings.feedback:
            self._hand_over(partial(self._keep_turn, question, result, answer, datetime.now(UTC)))

    def record_verdict(self, answer_id: str, verdict: Verdict, comment: str = "") -> None:
        """Keep a thumb on an answer that was kept; the last one counts."""
        if self._settings.feedback:
            told = datetime.now(UTC)
            self._hand_over(partial(self._keep_verdict, answer_id, verdict, comment, told))

    def forget(self, answer_id: str) -> None:
        """Delete all that is kept of an answer."""
        self._hand_over(partial(self._forget, answer_id))

    def flush(self) -> None:
        """Wait until all that was handed over is written, or failed."""
        self._queue.join()

    def close(self, seconds: float = 10.0) -> None:
        """At a server's end: write what waits, for at most so long."""
        if self._thread is None:
            return
        try:
            self._queue.put(None, timeout=seconds)
        except Full:
            return
        self._thread.join(seconds)

    @cached_property
    def _known(self) -> Collection[str]:
        return known_words(self._root)

    def _hand_over(self, task: _Task) -> None:
        with self._starting:
            # Not earlier: server processes may be forked from the one that made this.
            if self._thread is None:
                self._thread = Thread(target=self._work, name="feedback", daemon=True)
                self._thread.start()
        try:
            self._queue.put_nowait(task)
        except Full:
            self.counts.dropped += 1

    def _work(self) -> None:
        records = feedback_records(self._root, self._uri)
        prune_at = time.monotonic() + PRUNE_SECONDS
        while (task := self._queue.get()) is not None:
            try:
                task(records)
                if time.monotonic() > prune_at:
                    prune_at = time.monotonic() + PRUNE_SECONDS
                    self._prune(records)
            except Exception as error:  # whatever it is, the turn was answered
                self.counts.failed += 1
                # Only its kind: the message of an error may hold what a shopper wrote.
                _LOG.warning("feedback could not be written: %s", type(error).__name__)
                records.close()
            finally:
                self._queue.task_done()
        records.close()
        self._queue.task_done()

    def _warm_up(self, _records: Records) -> None:
        masked("Call Priya Sharma at 98765 43210.", MAX_QUESTION, self._known)

    def _begin(self, records: Records) -> None:
        self._prune(records)
        # A process may have been killed between the two.
        self._settle(records)

    def _prune(self, records: Records) -> None:
        if records.prune(self._settings.feedback_days):
            self._settle(records)

    def _forget(self, answer_id: str, records: Records) -> None:
        records.forget(answer_id)
        self._settle(records)

    def _settle(self, records: Records) -> None:
        """As `settle_tables`; with a database that is for Dagster's runs: pods only read tables."""
        if self._uri is None:
            settle_tables(self._root, records)

    def _keep_turn(
        self,
        question: str,
        result: TurnResult,
        answer: str,
        at: datetime,
        records: Records,
    ) -> None:
        versions = result.versions
        turn = TurnRecord(
            answer_id=result.answer_id,
            at=at,
            question=masked(question, MAX_QUESTION, self._known),
            answer=masked(answer, MAX_ANSWER, self._known),
            intent=result.intent,
            declined=result.declined,
            product_ids=result.citations,
            job=versions.job,
            adapter=versions.adapter,
            index=versions.index,
        )
        self.counts.turns += records.add_turn(turn)

    def _keep_verdict(
        self,
        answer_id: str,
        verdict: Verdict,
        comment: str,
        at: datetime,
        records: Records,
    ) -> None:
        words = masked(comment, MAX_COMMENT, self._known)
        if records.add_verdict(answer_id, verdict, words, at):
            self.counts.verdicts += 1
        else:
            self.counts.unknown += 1


def catalog_if_any(root: Path) -> pl.DataFrame | None:
    """The storage's catalog (PRODUCTS), if there is one yet."""
    try:
        return TableStore(root).ref("assortment").read()
    except StorageError:
        return None


def known_words(root: Path) -> frozenset[str]:
    """The words of the storage's catalog, which are nobody's name; none where there is none."""
    catalog = catalog_if_any(root)
    return frozenset() if catalog is None else catalog_words(catalog.lazy())


def prune_feedback(root: Path, days: int, uri: SecretStr | None = None) -> int:
    """Delete what is older than so many days, in the tables too; the number of turns that went."""
    records = feedback_records(root, uri)
    try:
        gone = records.prune(days)
        settle_tables(root, records)
    finally:
        records.close()
    return gone


def forget_answer(root: Path, answer_id: str, uri: SecretStr | None = None) -> bool:
    """Delete all that is kept of an answer, in the tables too; False where nothing was kept."""
    records = feedback_records(root, uri)
    try:
        gone = records.forget(answer_id)
        settle_tables(root, records)
        return gone
    finally:
        records.close()


def settle_tables(root: Path, records: Records) -> None:
    """Take out of the tables what the records no longer have; earlier tables go."""
    kept: frozenset[str] | None = None
    store = TableStore(root)
    for name in TABLES:
        try:
            table = store.ref(name).read()
        except StorageError:
            continue
        if kept is None:
            kept = records.answer_ids()
        left = table.filter([kept.issuperset(ids) for ids in _answer_ids(table)])
        if left.height < table.height:
            store.write(left, name)
        remove_earlier_tables(store, name)


def remove_earlier_tables(store: TableStore, name: str) -> None:
    """Keep the latest of a table only; other assets' tables stay for good, what shoppers said not.

    One that is newer than the latest is just being stored by somebody else.
    """
    latest = store.ref(name).path
    for path in latest.parent.glob("*.parquet"):
        if path.stat().st_mtime_ns < latest.stat().st_mtime_ns:
            path.unlink(missing_ok=True)
    bucket = bucket_of(latest)
    if bucket is None:
        return
    shared = bucket.below(latest.parent)
    for name, blob in shared.items():
        is_earlier = latest.name in shared and blob.updated < shared[latest.name].updated
        if name.endswith(".parquet") and is_earlier:
            bucket.withdraw(latest.parent / name)


def _answer_ids(table: pl.DataFrame) -> Iterator[list[str]]:
    """The answers that each row is from."""
    if "answer_ids" in table.columns:
        yield from table["answer_ids"].to_list()
    else:
        yield from ([one] for one in table["answer_id"])

"""Feedback of several machines, in a real PostgreSQL: the same as in SQLite, whoever writes."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from retail_assistant.serving.feedback.records import FeedbackRecords, Records, TurnRecord
from retail_assistant.serving.feedback.shared_records import FeedbackError, SharedRecords
from retail_assistant.serving.feedback.store import FeedbackStore, forget_answer, prune_feedback
from retail_assistant.serving.options import ServingSettings
from retail_assistant.settings import Settings, SettingsError, get_settings
from retail_assistant.storage import TableStore
from retail_assistant_tests.postgres_server import PASSWORD, PostgresServer, postgres
from retail_assistant_tests.serving.turns import result
from retail_assistant_tests.test_cli import Cli, assert_refused, cli

__all__ = ["cli", "postgres"]

NOW = datetime.now(UTC)
NUMBERS = itertools.count()
IDS = st.sampled_from("abcd")
OPERATIONS = st.lists(
    st.tuples(st.just("turn"), IDS, st.integers(0, 120), st.sampled_from([None, "unknown"]))
    | st.tuples(st.just("verdict"), IDS, st.sampled_from(["up", "down"]), st.just("so \0 so"))
    | st.tuples(st.just("forget"), IDS)
    | st.tuples(st.just("prune"), st.integers(1, 90)),
    max_size=12,
)


@pytest.fixture
def uri(postgres: PostgresServer) -> SecretStr:
    """A new database."""
    return uri_of(postgres)


def uri_of(postgres: PostgresServer) -> SecretStr:
    url = postgres.database("feedback")
    return SecretStr(url.render_as_string(hide_password=False))


@pytest.fixture
def records(uri: SecretStr) -> Iterator[SharedRecords]:
    found = SharedRecords(uri)
    yield found
    found.close()


def turn(answer_id: str, days: float = 0, declined: str | None = None) -> TurnRecord:
    return TurnRecord(
        answer_id=answer_id,
        at=NOW - timedelta(days=days),
        question=f"is {answer_id} warm?",
        answer=f"{answer_id} is.",
        intent="question",
        declined=declined,
        product_ids=["p1", "p2"],
        index="i1",
    )


def done(records: Records, operation: tuple[Any, ...]) -> object:
    what, *given = operation
    if what == "turn":
        return records.add_turn(turn(*given))
    if what == "verdict":
        return records.add_verdict(*given, NOW)
    if what == "forget":
        return records.forget(*given)
    return records.prune(*given, now=NOW)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(OPERATIONS)
def test_it_keeps_what_sqlite_keeps(
    postgres: PostgresServer, tmp_path: Path, operations: list[tuple[Any, ...]]
) -> None:
    here = FeedbackRecords(tmp_path / str(next(NUMBERS)))
    there = SharedRecords(uri_of(postgres))
    for operation in operations:
        if operation[0] == "verdict":
            # SQLite's texts may have it, PostgreSQL's not: nobody reads it.
            told = done(there, operation), done(here, (*operation[:3], "so  so"))
        else:
            told = done(there, operation), done(here, operation)
        assert told[0] == told[1], operation
    mine, other = here.snapshot(), there.snapshot()
    assert mine.totals == other.totals
    assert mine.turns.equals(other.turns)
    assert other.is_complete
    assert here.answer_ids() == there.answer_ids()
    here.close()
    there.close()


def test_many_begin_at_once_and_none_is_lost(uri: SecretStr) -> None:
    together = Barrier(6)

    def write(name: int) -> None:
        records = SharedRecords(uri)
        together.wait()
        for number in range(15):
            assert records.add_turn(turn(f"{name}-{number}"))
            assert records.add_verdict(f"{name}-{number}", "up", "", NOW)
            if number == 7:
                records.prune(90, now=NOW)
        records.close()

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(write, range(6)))
    found = SharedRecords(uri).snapshot()
    assert (found.turns.height, found.is_complete) == (90, True)
    assert found.turns["verdict"].null_count() == 0


@pytest.mark.fault(
    "The database of shoppers' feedback is away and comes back",
    "Shoppers are answered; what was said meanwhile is counted as lost, what comes after is kept",
)
def test_a_database_that_was_away_is_written_again(
    postgres: PostgresServer, uri: SecretStr, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = FeedbackStore(tmp_path, ServingSettings(), uri)

    def say(name: str) -> None:
        store.record_turn(f"is the {name} scarf warm?", result(name), "it is.")
        store.flush()

    say("before")
    postgres.stop()
    try:
        say("meanwhile")
        with pytest.raises(FeedbackError, match="look at RETAIL_FEEDBACK_URI") as told:
            SharedRecords(uri).snapshot()
    finally:
        postgres.start()
    say("after")
    store.close()
    assert (store.counts.turns, store.counts.failed) == (2, 1)
    assert "scarf" not in caplog.text
    assert PASSWORD not in str(told.value)
    assert told.value.__cause__ is None
    ids = SharedRecords(uri).answer_ids()
    assert ids == {"before", "after"}
    # A pod keeps nothing of it on its own disk.
    assert list(tmp_path.iterdir()) == []


def test_an_error_quotes_nothing_that_shoppers_said(
    records: SharedRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    records.add_turn(turn("a"))
    with pytest.raises(FeedbackError) as told:
        records.add_verdict("a", None, "my secret words", NOW)  # type: ignore[arg-type]
    assert "secret" not in str(told.value)
    assert "IntegrityError" in str(told.value)


def test_tables_are_settled_by_who_may_write_them(uri: SecretStr, tmp_path: Path) -> None:
    records = SharedRecords(uri)
    records.add_turn(turn("old", days=91, declined="unknown"))
    records.add_turn(turn("young", declined="unknown"))
    tables = TableStore(tmp_path)
    tables.write(records.snapshot().turns, "shopper_feedback")
    store = FeedbackStore(tmp_path, ServingSettings(feedback_days=90), uri)
    store.start()
    store.close()
    assert records.answer_ids() == {"young"}
    assert tables.ref("shopper_feedback").rows == 2, "the assistant may only read tables"
    prune_feedback(tmp_path, 90, uri)
    assert tables.ref("shopper_feedback").read()["answer_id"].to_list() == ["young"]
    assert forget_answer(tmp_path, "young", uri)
    assert tables.ref("shopper_feedback").rows == 0
    assert records.snapshot().totals == (2, 1, 1)
    records.close()


@pytest.mark.usefixtures("fresh_settings")
def test_the_commands_use_the_database(
    cli: Cli, records: SharedRecords, uri: SecretStr, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("RETAIL_STORAGE_URI", str(tmp_path / "var"))
    monkeypatch.setenv("RETAIL_FEEDBACK_URI", uri.get_secret_value())
    get_settings.cache_clear()
    records.add_turn(turn("a1", declined="unknown"))
    assert "1 turns" in cli("feedback", "report").out
    assert PASSWORD not in cli("settings").out
    assert cli("feedback", "forget", "a1").code == 0
    assert records.answer_ids() == frozenset()
    monkeypatch.setenv("RETAIL_FEEDBACK_URI", "postgresql://me:hunter22@127.0.0.1:9/feedback")
    get_settings.cache_clear()
    refused = cli("feedback", "report")
    assert_refused(refused, "127.0.0.1:9/feedback; look at RETAIL_FEEDBACK_URI")
    assert "hunter22" not in refused.err


@pytest.mark.parametrize("given", ["sqlite:///x.db", "mysql://u:hunter22@h/d", "postgresql://h"])
@pytest.mark.usefixtures("fresh_settings")
def test_only_postgresql_is_taken(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("RETAIL_FEEDBACK_URI", given)
    get_settings.cache_clear()
    with pytest.raises(SettingsError, match=r"RETAIL_FEEDBACK_URI=\*\*\*: .*allowed") as refused:
        get_settings()
    assert "hunter22" not in str(refused.value)
    assert Settings(feedback_uri=SecretStr("")).feedback_uri is None

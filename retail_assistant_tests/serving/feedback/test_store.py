"""Feedback is kept masked, for as long as it may be, whoever writes and however that ends."""

import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

import polars as pl
import pytest

from retail_assistant.serving.feedback import store as feedback
from retail_assistant.serving.feedback.records import (
    FeedbackRecords,
    Snapshot,
    TurnRecord,
    of_the_judged,
)
from retail_assistant.serving.feedback.store import (
    FeedbackStore,
    forget_answer,
    prune_feedback,
    remove_earlier_tables,
)
from retail_assistant.serving.options import ServingSettings
from retail_assistant.storage import TableStore
from retail_assistant_tests.conftest import REPOSITORY
from retail_assistant_tests.serving.turns import result


def kept(root: Path) -> Snapshot:
    records = FeedbackRecords(root)
    found = records.snapshot()
    records.close()
    assert found.is_complete
    return found


def on_disk(root: Path, words: str) -> bool:
    """Whether any file below has the words, as they are or in capitals."""
    pattern = re.compile(re.escape(words.encode()), re.IGNORECASE)
    files = [path for path in root.rglob("*") if path.is_file()]
    return any(pattern.search(path.read_bytes()) for path in files)


def turn(answer_id: str, age: timedelta = timedelta(), declined: str | None = None) -> TurnRecord:
    return TurnRecord(
        answer_id=answer_id,
        at=datetime.now(UTC) - age,
        question=f"is {answer_id} warm?",
        answer=f"{answer_id} is.",
        intent="question",
        declined=declined,
        index="i1",
    )


def test_a_thumb_is_joined_with_its_turn_and_the_last_one_counts(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path, ServingSettings())
    store.record_turn("is it warm?", result("a1", None, "p1", "p2"), "it is wool.")
    store.record_turn("is it heavy?", result("a2", "unknown"), "the record does not say.")
    store.record_verdict("a1", "up")
    store.record_verdict("a1", "down", "it is\ncotton")
    store.record_verdict("nobody said this", "down")
    store.close()
    counts = store.counts
    assert (counts.turns, counts.verdicts, counts.unknown, counts.failed) == (2, 2, 1, 0)
    first, second = kept(tmp_path).turns.to_dicts()
    at = first.pop("at")
    assert abs(datetime.now(UTC) - at) < timedelta(minutes=5)
    assert first == {
        "answer_id": "a1",
        "question": "is it warm?",
        "answer": "it is wool.",
        "intent": "question",
        "declined": None,
        "product_ids": ["p1", "p2"],
        "verdict": "down",
        "comment": "it is cotton",
        "job": "one",
        "adapter": "adapter-one",
        "index": "i1",
    }
    assert (second["declined"], second["verdict"]) == ("unknown", None)
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_personal_data_never_reaches_the_disk(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path, ServingSettings())
    said = "I am Daniel Weber, call +91 98765 43210 or jo.doe@shop.example about order 4455667788"
    store.record_turn(said, result("a1", "unknown"), f"You said: {said}")
    store.record_verdict("a1", "down", f"{said}!")
    store.flush()
    secrets = ("Daniel", "Weber", "98765", "43210", "jo.doe", "shop.example", "4455667788")
    assert not any(on_disk(tmp_path, one) for one in secrets)  # nor in its write-ahead log
    assert on_disk(tmp_path, "about order (")
    store.close()
    assert not any(on_disk(tmp_path, one) for one in secrets)


def test_nothing_at_all_is_written_of_who_opted_out(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path, ServingSettings())
    store.record_turn("is it warm?", result("a1"), "it is.", keep=False)
    store.close()
    assert list(tmp_path.iterdir()) == []
    off = FeedbackStore(tmp_path, ServingSettings(feedback=False))
    off.start()
    off.record_turn("is it warm?", result("a1"), "it is.")
    off.record_verdict("a1", "down", "no")
    off.close()
    assert list(tmp_path.iterdir()) == []
    store = FeedbackStore(tmp_path, ServingSettings())
    store.record_turn("is it warm?", result("a1"), "it is.", keep=False)
    store.record_verdict("a1", "down", "it is not")
    store.close()
    assert kept(tmp_path).turns.is_empty()
    assert not on_disk(tmp_path, "it is not")


@pytest.mark.fault(
    "The file of what shoppers thought is locked",
    "No answer waits for it",
)
def test_a_turn_is_never_held_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback, "MOST_WAITING", 3)
    FeedbackRecords(tmp_path).add_turn(turn("first"))
    store = FeedbackStore(tmp_path, ServingSettings())
    (file,) = tmp_path.rglob("*.sqlite")
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # now nobody else can write
    for number in range(10):
        store.record_turn("is it warm?", result(f"a{number}"), "it is.")
    dropped = store.counts.dropped
    assert dropped in (6, 7)  # whether one was taken from the queue already
    other.execute("ROLLBACK")
    store.close()
    assert store.counts.turns == 10 - dropped
    assert kept(tmp_path).turns.height == 11 - dropped


@pytest.mark.fault(
    "What shoppers thought cannot be written",
    "Answers go on, and what was not kept is counted",
)
def test_what_cannot_be_written_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "serving").write_text("no folder can be made here")
    store = FeedbackStore(tmp_path, ServingSettings())
    store.record_turn("is it warm?", result("a1"), "it is.")
    store.record_verdict("a1", "down")
    store.close()
    assert (store.counts.failed, store.counts.turns) == (2, 0)
    assert "warm" not in caplog.text


def test_what_is_too_old_is_deleted(tmp_path: Path) -> None:
    records = FeedbackRecords(tmp_path)
    old, young, fresh = timedelta(days=91), timedelta(days=89), timedelta(hours=1)
    for name, age, declined in (
        ("old", old, "unknown"), ("young", young, "unknown"), ("answered", young, None),
        ("judged", young, None), ("fresh", fresh, None),
    ):  # fmt: skip
        records.add_turn(turn(name, age, declined))
    records.add_verdict("judged", "down", "no", datetime.now(UTC))
    records.add_verdict("old", "down", "never", datetime.now(UTC))
    records.close()
    TableStore(tmp_path).write(kept(tmp_path).turns, "shopper_feedback")
    assert on_disk(tmp_path, "is old warm?")

    assert prune_feedback(tmp_path, days=90) == 1
    found = kept(tmp_path)
    assert found.totals == (5, 1, 0)
    texts = dict(found.turns.select("answer_id", "question").iter_rows())
    assert texts == {
        "young": "is young warm?",
        "judged": "is judged warm?",
        "answered": None,  # nobody judged it in a day
        "fresh": "is fresh warm?",
    }
    assert not on_disk(tmp_path / "serving", "is old warm?")
    assert not on_disk(tmp_path / "serving", "never")
    assert not on_disk(tmp_path / "serving", "is answered warm?")
    shown = of_the_judged(found.turns).drop_nulls("question")["answer_id"]
    assert sorted(shown) == ["judged", "young"]
    table = TableStore(tmp_path).ref("shopper_feedback").read()
    assert "old" not in table["answer_id"].to_list()
    assert prune_feedback(tmp_path, days=90) == 0


def test_a_server_deletes_what_is_too_old_at_its_start_and_while_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plant(name: str) -> None:
        records = FeedbackRecords(tmp_path)
        records.add_turn(turn(name, timedelta(days=8)))
        records.close()

    plant("before it began")
    store = FeedbackStore(tmp_path, ServingSettings(feedback_days=7))
    store.start()
    store.flush()
    assert kept(tmp_path).totals == (1, 1, 0)
    store.close()
    monkeypatch.setattr(feedback, "PRUNE_SECONDS", 0.0)
    plant("while it runs")
    store = FeedbackStore(tmp_path, ServingSettings(feedback_days=7))
    store.record_turn("is it warm?", result("new"), "it is.")
    store.close()
    assert kept(tmp_path).totals == (3, 2, 0)


def test_what_is_forgotten_is_nowhere(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path, ServingSettings())
    for name in ("zebra", "okapi"):
        store.record_turn(f"a {name} print?", result(name, "unknown"), "no.")
        store.record_verdict(name, "down", f"a {name}!")
    store.flush()
    tables = TableStore(tmp_path)
    tables.write(kept(tmp_path).turns.head(1), "shopper_feedback")  # an earlier one
    time.sleep(0.01)
    tables.write(kept(tmp_path).turns, "shopper_feedback")
    candidates = pl.DataFrame({"question": ["a zebra print?"], "answer_ids": [["zebra"]]})
    tables.write(candidates, "feedback_candidates")
    assert forget_answer(tmp_path, "zebra")
    assert not forget_answer(tmp_path, "zebra")
    found = kept(tmp_path)
    assert (found.totals, found.turns["answer_id"].to_list()) == ((2, 0, 1), ["okapi"])
    assert tables.ref("shopper_feedback").read()["answer_id"].to_list() == ["okapi"]
    assert tables.ref("feedback_candidates").read().is_empty()
    store.forget("okapi")
    store.close()
    assert kept(tmp_path).totals == (2, 0, 2)
    for name in ("zebra print", "zebra!", "okapi print", "okapi!"):
        assert not on_disk(tmp_path, name)


def test_a_table_that_is_being_stored_is_left_alone(tmp_path: Path) -> None:
    tables = TableStore(tmp_path)
    tables.write(pl.DataFrame({"answer_id": ["a"]}), "shopper_feedback")
    time.sleep(0.01)
    with tables.staging("shopper_feedback") as folder:
        pl.DataFrame({"answer_id": ["b"]}).write_parquet(folder / "table.parquet")
        stored = tables.adopt(folder / "table.parquet", "shopper_feedback")
    remove_earlier_tables(tables, "shopper_feedback")
    assert stored.path.exists()


def test_a_new_file_is_made_once_whoever_comes_at_the_same_time(tmp_path: Path) -> None:
    def add(root: Path, name: str) -> bool:
        records = FeedbackRecords(root)
        together.wait()
        added = records.add_turn(turn(name))
        records.close()
        return added

    names = [f"a{number}" for number in range(6)]
    together = Barrier(len(names))
    with ThreadPoolExecutor(len(names)) as threads:
        for attempt in range(20):
            root = tmp_path / str(attempt)
            assert all(threads.map(add, [root] * len(names), names))
            assert kept(root).turns.height == len(names)


def writer(root: Path, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "retail_assistant_tests.serving.turns", str(root), name, str(count)],
        cwd=REPOSITORY, env=os.environ, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.fault(
    "one of several assistants is killed while it keeps feedback",
    "no more is lost than what it held",
)
def test_several_processes_write_and_a_killed_one_loses_no_more_than_it_held(
    tmp_path: Path,
) -> None:
    writers = [writer(tmp_path, name, 150) for name in ("one", "two")]
    killed = writer(tmp_path, "killed", 1_000_000)
    assert killed.stdout is not None
    told = [killed.stdout.readline().strip() for _ in range(30)]
    killed.send_signal(signal.SIGKILL)
    rest, _ = killed.communicate()
    whole = rest[: rest.rfind("\n") + 1].split()
    for one in writers:
        one.communicate()
        assert one.returncode == 0
    found = kept(tmp_path).turns
    names = found["answer_id"].str.split("-").list.first().value_counts()
    counts = dict(names.iter_rows())
    assert (counts["one"], counts["two"]) == (150, 150)
    assert {*told, *whole} <= set(found["answer_id"])
    assert found.filter(pl.col("answer_id").is_in(told))["verdict"].null_count() == 0

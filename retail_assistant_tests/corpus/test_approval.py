"""The record of decisions on corpus versions: what holds, what is refused, what is never lost."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retail_assistant.corpus.approval import (
    SCREENED,
    ApprovalError,
    ApprovalMode,
    ApprovalRecord,
    Decision,
    Verdict,
    checked_decision,
)
from retail_assistant.storage import StorageError, TableRef, TableStore

A, B = "a" * 64, "b" * 64
COUNTS = {"dialogues": 3}


@pytest.fixture
def record(tmp_path: Path) -> ApprovalRecord:
    return ApprovalRecord(tmp_path, "required")


def decide(record: ApprovalRecord, version: str, verdict: Verdict, reason: str = "read") -> None:
    record.record_decision(version, verdict, by="Ann", reason=reason, counts=COUNTS)


def automatically(record: ApprovalRecord) -> ApprovalRecord:
    return ApprovalRecord(record.root, "auto")


def stored(record: ApprovalRecord, *words: str) -> TableRef:
    """A corpus version of some words, made the latest."""
    return TableStore(record.root).write(pl.DataFrame({"question": words}), SCREENED)


def test_what_nobody_decided_on_waits(record: ApprovalRecord) -> None:
    assert record.decision_on(A) is None
    assert record.standing(A).state == "pending"
    with pytest.raises(ApprovalError, match=f"corpus {A[:12]} waits .* corpus approve --version"):
        record.require_approved(A)


def test_the_last_decision_on_a_version_holds_and_all_are_kept(record: ApprovalRecord) -> None:
    decide(record, A, "rejected", "too few")
    with pytest.raises(ApprovalError, match=r"was rejected by Ann, .*: too few"):
        record.require_approved(A)
    decide(record, A, "approved")
    record.require_approved(A)
    decide(record, B, "rejected")
    assert [one.decision for one in record.decisions()] == ["rejected", "approved", "rejected"]
    assert record.standing(A).state == "approved"
    decision = record.decision_on(A)
    assert decision is not None
    assert (decision.by, decision.reason, decision.counts) == ("Ann", "read", COUNTS)
    assert datetime.now(UTC) - decision.at < timedelta(minutes=1)


@pytest.mark.fault(
    "the clock is put back between two decisions on a corpus",
    "the decision that was taken last holds",
)
def test_a_clock_that_was_put_back_does_not_bring_an_old_decision_back(
    record: ApprovalRecord,
) -> None:
    later = datetime.now(UTC) + timedelta(days=1)
    early = checked_decision(version=A, decision="approved", by="Ann", reason="read", at=later)
    record.folder.mkdir()
    (record.folder / "0.json").write_text(early.model_dump_json())
    decide(record, A, "rejected")
    assert record.standing(A).state == "rejected"
    assert record.decisions()[-1].at > later


def test_decisions_of_one_moment_do_not_replace_each_other(record: ApprovalRecord) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: decide(record, A, "approved"), range(32)))
    assert len(record.decisions()) == 32


def test_the_setting_approves_what_nobody_decided_on_and_only_once(record: ApprovalRecord) -> None:
    automatic = automatically(record)
    standing = automatic.settle(A, COUNTS)
    assert standing.state == "approved"
    assert "automatically" in standing.words
    assert "RETAIL_APPROVAL=required" in standing.words
    assert automatic.settle(A, COUNTS) == standing
    (decision,) = record.decisions()
    assert decision.automatic
    assert decision.counts == COUNTS


def test_the_setting_does_not_overrule_a_person(record: ApprovalRecord) -> None:
    decide(record, A, "rejected")
    assert automatically(record).settle(A, COUNTS).state == "rejected"
    assert len(record.decisions()) == 1


def test_where_a_person_must_decide_what_the_setting_approved_waits(
    record: ApprovalRecord,
) -> None:
    automatically(record).settle(A, COUNTS)
    assert record.settle(A, COUNTS).state == "pending"
    assert record.last_approved(besides=B) is None
    decide(record, A, "approved")
    assert not record.standing(A).decision.automatic


@pytest.mark.parametrize(
    ("by", "reason", "named"),
    [
        ("", "read", "by: "),
        (" \n\t", "read", "by: "),
        ("\x00\x1b\u202e\u200b", "read", "by: "),
        ("A" * 101, "read", "by: .*at most 100"),
        ("Ann", "", "reason: "),
        ("Ann", "r" * 1_001, "reason: .*at most 1000"),
    ],
)
def test_a_name_and_a_reason_are_wanted(
    record: ApprovalRecord, by: str, reason: str, named: str
) -> None:
    with pytest.raises(ApprovalError, match=named) as caught:
        record.record_decision(A, "approved", by=by, reason=reason, counts={})
    assert "\n" not in str(caught.value)
    assert record.decisions() == []


def test_what_is_wrong_with_both_is_told_at_once(record: ApprovalRecord) -> None:
    with pytest.raises(ApprovalError, match=r"by: .*; reason: "):
        record.record_decision(A, "approved", by="", reason="", counts={})


def test_control_characters_do_not_reach_the_record(record: ApprovalRecord) -> None:
    reason = " It\nreads\x1b[31m \u202ewell\u2028  \u00e9\u0928\u093f\U0001f44d "
    record.record_decision(A, "approved", by="Ann\u200b Doe", reason=reason, counts={})
    (decision,) = record.decisions()
    assert decision.by == "Ann Doe"
    assert decision.reason == "It reads [31m well \u00e9\u0928\u093f\U0001f44d"


@given(by=st.text(min_size=1, max_size=100), reason=st.text(min_size=1, max_size=200))
def test_any_accepted_text_is_one_printable_line_and_comes_back(by: str, reason: str) -> None:
    try:
        decision = checked_decision(
            version=A, decision="approved", by=by, reason=reason, at=datetime.now(UTC)
        )
    except ApprovalError:
        return
    for text in (decision.by, decision.reason):
        assert text.isprintable()
        assert text == text.strip() != ""
    assert Decision.model_validate_json(decision.model_dump_json()) == decision


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": "a"}', "\ufffd"])
@pytest.mark.fault(
    "A steward's decision is damaged",
    "Nothing passes for approved; one line names the file",
)
def test_a_damaged_decision_is_named(record: ApprovalRecord, content: str) -> None:
    decide(record, A, "approved")
    (path,) = record.folder.glob("*.json")
    path.write_text(content)
    for ask in (record.decisions, lambda: record.require_approved(B)):
        with pytest.raises(StorageError, match=f"{path.name} is damaged"):
            ask()


def test_only_the_latest_version_can_be_decided_on(record: ApprovalRecord) -> None:
    with pytest.raises(StorageError, match="screened_dialogues does not exist yet"):
        record.target()
    first, latest = stored(record, "one"), stored(record, "two")
    for name in ("", latest.sha256, latest.sha256[:12], latest.sha256[:6].upper(), " "):
        assert record.target(name) == latest
    with pytest.raises(
        ApprovalError,
        match=f"{first.sha256[:12]} is not the latest, .* is {latest.sha256[:12]}",
    ):
        record.target(first.sha256[:12])
    for name in ("xyz", latest.sha256 + "0", "\x1b[31m", "../../etc"):
        with pytest.raises(ApprovalError, match="no corpus version begins with") as caught:
            record.target(name)
        assert str(caught.value).isprintable()
    stored(record, "one")
    assert record.target(first.sha256[:12]).sha256 == first.sha256


def test_a_beginning_of_several_versions_is_refused(record: ApprovalRecord) -> None:
    # Seventeen versions: two of them begin with the same of sixteen digits.
    versions = [stored(record, str(number)).sha256 for number in range(17)]
    twice = next(one[0] for one in versions if sum(v[0] == one[0] for v in versions) > 1)
    with pytest.raises(ApprovalError, match=rf"\d+ corpus versions begin with '{twice}'"):
        record.target(twice)


def test_the_last_approved_corpus_is_found_with_its_dialogues(record: ApprovalRecord) -> None:
    first, second, third = (stored(record, word) for word in ("one", "two", "three"))
    assert record.last_approved(besides=third.sha256) is None
    decide(record, first.sha256, "approved")
    decide(record, second.sha256, "approved")
    decide(record, third.sha256, "approved")
    last = record.last_approved(besides=third.sha256)
    assert last is not None
    assert last.decision.version == second.sha256
    assert last.dialogues is not None
    assert last.dialogues["question"].to_list() == ["two"]
    decide(record, second.sha256, "rejected", "found wrong later")
    last = record.last_approved(besides=third.sha256)
    assert last is not None
    assert last.decision.version == first.sha256
    first.path.unlink()
    last = record.last_approved(besides=third.sha256)
    assert last is not None
    assert last.dialogues is None


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_a_decision_of_a_person_counts_in_both_modes(tmp_path: Path, mode: ApprovalMode) -> None:
    record = ApprovalRecord(tmp_path, mode)
    decide(record, A, "approved")
    record.require_approved(A)
    assert "was approved by Ann" in record.standing(A).words

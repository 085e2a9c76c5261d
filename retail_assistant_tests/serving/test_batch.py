"""A file of questions answered: in order, nothing lost, gone on with after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from retail_assistant.serving import batch
from retail_assistant.serving.batch import (
    BatchCounts,
    BatchError,
    OpenAnswering,
    answer_file,
    read_requests,
)
from retail_assistant.serving.options import ServingSettings
from retail_assistant.serving.turns import TurnResult
from retail_assistant_tests.conftest import REPOSITORY
from retail_assistant_tests.serving.recorded_answers import RecordedAnswers

SETTINGS = ServingSettings()


def opening(answers: RecordedAnswers) -> OpenAnswering:
    @asynccontextmanager
    async def opened() -> AsyncIterator[RecordedAnswers]:
        yield answers

    return opened


def written(path: Path, *lines: object) -> Path:
    path.write_text("".join(f"{json.dumps(one)}\n" for one in lines))
    return path


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


def many(path: Path, count: int) -> Path:
    return written(path, *({"id": f"q{i}", "question": f"What about {i}?"} for i in range(count)))


def test_every_line_is_answered_in_order(tmp_path: Path) -> None:
    source, output = many(tmp_path / "in.jsonl", 40), tmp_path / "out.jsonl"
    answers = RecordedAnswers(pause=0.002)
    steps: list[tuple[int, int]] = []
    counts = answer_file(
        opening(answers),
        read_requests(source),
        output,
        settings=SETTINGS,
        concurrency=6,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert counts == BatchCounts(lines=40, kept=0, answered=40, declined=0, errors={})
    found = lines_of(output)
    assert [one["id"] for one in found] == [f"q{i}" for i in range(40)]
    assert [one["row"] for one in found] == list(range(1, 41))
    assert found[7]["answer"] == "You asked: What about 7? (1)"
    assert TurnResult.model_validate(found[7]["result"]).versions.index == "i1"
    assert answers.most_at_once == 6
    assert steps == [(i, 40) for i in range(1, 41)]


def test_a_conversation_is_answered_at_its_end(tmp_path: Path) -> None:
    said = [("user", "A red top?"), ("assistant", "Here."), ("user", "In blue?")]
    messages = [{"role": role, "content": text} for role, text in said]
    source = written(tmp_path / "in.jsonl", {"messages": messages})
    output = tmp_path / "out.jsonl"
    answer_file(opening(RecordedAnswers()), read_requests(source), output, settings=SETTINGS)
    (line,) = lines_of(output)
    assert line["answer"] == "You asked: In blue? (3)"
    assert line["id"] is None


def test_bad_lines_and_turns_have_a_line_with_the_reason(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    bad = [
        "no JSON",
        "[1]",
        '{"id": 7, "text": "?"}',
        '{"id": "both", "question": "a", "messages": [{"role": "user", "content": "a"}]}',
        '{"messages": [{"role": "system", "content": "Obey."}]}',
        '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}',
        '{"question": ""}',
    ]
    good = ['{"question": "fail"}', '{"question": "unknown"}', '{"question": "hang"}', ""]
    source.write_text("\n".join([*bad, *good, '{"question": "A\u2028B?"}']), encoding="utf-8")
    output = tmp_path / "out.jsonl"
    settings = ServingSettings(turn_seconds=0.2)
    counts = answer_file(
        opening(RecordedAnswers()), read_requests(source), output, settings=settings
    )
    errors = {"bad_line": 7, "timeout": 1, "failed": 1}
    assert counts == BatchCounts(lines=11, kept=0, answered=2, declined=1, errors=errors)
    found = lines_of(output)
    reasons = [one["error"]["reason"] if "error" in one else "" for one in found]
    assert reasons == ["bad_line"] * 7 + ["failed", "", "timeout", ""]
    assert found[2]["id"] == 7
    assert found[3]["id"] == "both"
    assert "not JSON" in found[0]["error"]["detail"]
    assert "role" in found[4]["error"]["detail"]
    assert found[7]["error"]["detail"] == "LookupError: the shelf is empty"


def test_tables_are_read_too(tmp_path: Path) -> None:
    frame = pl.DataFrame({"id": ["a", None], "question": ["Red, or\nblue?", None], "more": [1, 2]})
    frame.write_parquet(tmp_path / "in.parquet")
    frame.write_csv(tmp_path / "in.csv")
    for name in ("in.parquet", "in.csv"):
        first, second = read_requests(tmp_path / name)
        assert (first.id, first.messages[0]["content"]) == ("a", "Red, or\nblue?")
        assert second.problem
    frame.drop("question").write_csv(tmp_path / "other.csv")
    with pytest.raises(BatchError, match="no column question; allowed: columns question and id"):
        read_requests(tmp_path / "other.csv")
    (tmp_path / "in.txt").write_text("Red?")
    with pytest.raises(BatchError, match=r"allowed: a file ending in \.jsonl, \.csv"):
        read_requests(tmp_path / "in.txt")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(BatchError, match="no lines"):
        read_requests(tmp_path / "empty.jsonl")


@pytest.mark.fault(
    "a file of questions is cut off anywhere while it is answered",
    "the next run ends as one that never was",
)
def test_what_was_broken_off_anywhere_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    requests = read_requests(many(tmp_path / "in.jsonl", 5))
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    answer_file(opening(RecordedAnswers()), requests, whole, settings=SETTINGS)
    content = whole.read_bytes()
    for length in range(0, len(content) + 1, 97):
        cut.write_bytes(content[:length])
        answers = RecordedAnswers()
        counts = answer_file(opening(answers), requests, cut, settings=SETTINGS, resume=True)
        assert cut.read_bytes() == content
        assert counts.kept == content[:length].count(b"\n")
        assert len(answers.asked) == 5 - counts.kept


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    requests = read_requests(many(tmp_path / "in.jsonl", 3))
    others = read_requests(written(tmp_path / "other.jsonl", {"question": "Another?"}))
    output = tmp_path / "out.jsonl"
    answer_file(opening(RecordedAnswers()), requests, output, settings=SETTINGS)
    before = output.read_bytes()

    def refused(asked: list[batch.Request], to: Path, *, resume: bool, why: str) -> None:
        answers = RecordedAnswers()
        with pytest.raises(ValueError, match=why):
            answer_file(opening(answers), asked, to, settings=SETTINGS, resume=resume)
        assert not answers.asked

    refused(requests, output, resume=False, why="is there already; allowed: --resume")
    refused(others, output, resume=True, why="is of other questions")
    refused(requests[:2], output, resume=True, why="is of other questions")
    refused(requests, tmp_path / "out.csv", resume=False, why=r"a file ending in \.jsonl")
    foreign = tmp_path / "foreign.jsonl"
    foreign.write_bytes(b"\xff\x00 not ours\n")
    refused(requests, foreign, resume=True, why="is of other questions")
    assert foreign.read_bytes() == b"\xff\x00 not ours\n"
    assert output.read_bytes() == before


@pytest.mark.fault(
    "The model goes away in the middle of a file of questions",
    "The run ends with one line; what is answered is kept and gone on with",
)
def test_a_model_that_is_away_ends_the_run_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "AWAY_SECONDS", 0.0)
    source = written(tmp_path / "in.jsonl", *({"question": one} for one in ("a", "away", "c")))
    requests, output = read_requests(source), tmp_path / "out.jsonl"
    with pytest.raises(BatchError, match=r"no model answers.*1 of 3 lines.*--resume goes on"):
        answer_file(opening(RecordedAnswers()), requests, output, settings=SETTINGS)
    assert [one["answer"] for one in lines_of(output)] == ["You asked: a (1)"]


def process(source: Path, output: Path, *more: str, pause: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "retail_assistant_tests.serving.recorded_answers",
         str(source), str(output), *more],
        env={**os.environ, "PAUSE": str(pause)}, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_killed_process_is_gone_on_with(tmp_path: Path) -> None:
    source, output = many(tmp_path / "in.jsonl", 400), tmp_path / "out.jsonl"
    first = process(source, output, pause=0.02)
    while not output.exists() or output.read_bytes().count(b"\n") < 20:
        assert first.poll() is None
        time.sleep(0.02)
    with pytest.raises(ValueError, match="another run is writing to"):
        answer_file(
            opening(RecordedAnswers()),
            read_requests(source),
            output,
            settings=SETTINGS,
            resume=True,
        )
    first.send_signal(signal.SIGKILL)
    first.communicate()
    kept = output.read_bytes().count(b"\n")
    assert 20 <= kept < 400
    second = process(source, output, "--resume", pause=0.0)
    told, _ = second.communicate()
    assert second.returncode == 0
    assert told == f"{kept} 400\n"
    assert [one["id"] for one in lines_of(output)] == [f"q{i}" for i in range(400)]

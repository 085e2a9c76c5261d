"""Generators against a real HTTP server that is slow, overloaded, broken or wrong."""

import re
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from retail_assistant.corpus.generators.model import GenerationError
from retail_assistant.corpus.generators.policy import API_KEY_VARIABLE
from retail_assistant.corpus.knowledge import DocumentBrief
from retail_assistant_tests.chat_server import ChatServer
from retail_assistant_tests.corpus.generators.conftest import (
    ALTERNATIVE,
    FABRIC,
    OVERVIEW,
    UNKNOWN,
    MakeBrief,
    Write,
)

SECRET = "sk-very-secret-0123456789"


def faults(script: Mapping[str, list[str]]) -> Callable[[str, int], str]:
    """By what is asked about: what goes wrong with the first, second, ... request."""

    def fault(subject: str, number: int) -> str:
        planned = script.get(subject, [])
        return planned[number - 1] if number <= len(planned) else ""

    return fault


def always(fault: str) -> Callable[[str, int], str]:
    return lambda _subject, _number: fault


def test_every_question_of_a_brief_becomes_dialogues(brief: MakeBrief, write: Write) -> None:
    one = brief(questions=(FABRIC, OVERVIEW, ALTERNATIVE, UNKNOWN))
    with ChatServer().running() as server:
        written = write(server, [one])
    assert written.unwritten == []
    by_intent = defaultdict(list)
    for dialogue in written.dialogues:
        by_intent[dialogue.intent].append(dialogue)
    fabric = by_intent["attribute"]
    assert [dialogue.subset for dialogue in fabric] == ["train", "train", "recall"]
    assert {dialogue.gold_value for dialogue in fabric} == {"Rayon"}
    assert {dialogue.evidence for dialogue in fabric} == {FABRIC.evidence}
    assert [dialogue.paraphrase_of for dialogue in fabric] == [None] + [fabric[0].dialogue_id] * 2
    assert len({dialogue.question for dialogue in fabric}) == 3
    (overview,) = by_intent["overview"]
    lines = overview.answer.splitlines()
    assert lines[:2] == ["Product Name: Zed Women's Top", "Category: Tops"]
    assert lines[2:] == ["Fabric: Rayon", "Neck: Boat Neck"]
    (declined,) = by_intent["unanswerable"]
    assert declined.subset == "validation"
    assert {dialogue.generator for dialogue in written.dialogues} == {"openai"}
    assert {dialogue.generator_version for dialogue in written.dialogues} == {"1.test"}


def test_questions_about_documents_are_about_the_store(write: Write) -> None:
    text = "Returns are free for 30 days. Gift cards never expire."
    document = DocumentBrief(name="documents/returns.md", text=text)
    with ChatServer().running() as server:
        written = write(server, [], documents=[document])
    assert [dialogue.intent for dialogue in written.dialogues] == ["knowledge", "knowledge"]
    assert written.dialogues[0].evidence.documents == ("documents/returns.md",)
    assert written.dialogues[0].product_id is None
    assert {dialogue.subset for dialogue in written.dialogues} <= {"train", "validation"}
    assert server.bodies[0]["response_format"]["json_schema"]["schema"]["properties"]["items"]


def test_one_request_a_product_with_all_that_the_policy_says(
    brief: MakeBrief, write: Write
) -> None:
    with ChatServer().running() as server:
        write(server, [brief("A"), brief("B"), brief("A")], temperature=0.3, max_tokens=321)
    assert server.requests == {"A": 1, "B": 1}
    body = server.bodies[0]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("test", 0.3, 321)
    form = body["response_format"]["json_schema"]
    assert form["strict"]
    assert form["schema"]["additionalProperties"] is False
    assert server.bodies[0]["seed"] != server.bodies[1]["seed"]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({"output": "json_object"}, {"response_format": {"type": "json_object"}}),
        ({"output": "text"}, {}),
        (
            {
                "output": "text",
                "request_fields": {"max_tokens": None, "max_completion_tokens": 99, "top_k": 4},
            },
            {"max_completion_tokens": 99, "top_k": 4},
        ),
    ],
)
def test_endpoints_that_know_less_or_more(
    brief: MakeBrief, write: Write, policy: dict[str, Any], expected: dict[str, Any]
) -> None:
    with ChatServer().running() as server:
        written = write(server, [brief()], **policy)
    usual = {"model", "messages", "temperature", "top_p", "max_tokens", "seed"}
    assert {k: v for k, v in server.bodies[0].items() if k not in usual} == expected
    assert ("max_tokens" in server.bodies[0]) == ("max_completion_tokens" not in expected)
    assert len(written.dialogues) == 3


@pytest.mark.fault(
    "The generator's endpoint answers 429 with Retry-After",
    "So long is waited, if it is not more than two minutes",
)
def test_retry_after_is_waited_for(brief: MakeBrief, write: Write) -> None:
    script = faults({"A": ["http 429 0.6", "http 429 0.6"]})
    started = time.monotonic()
    with ChatServer(fault=script).running() as server:
        written = write(server, [brief("A")])
    assert time.monotonic() - started > 1.2
    assert server.requests["A"] == 3
    assert written.usage.requests == 3
    assert (written.usage.replies, written.usage.repairs) == (1, 0)
    assert len(written.dialogues) == 3


@pytest.mark.fault(
    "The generator's endpoint answers 429 with Retry-After",
    "So long is waited, if it is not more than two minutes",
)
def test_a_wait_of_more_than_two_minutes_is_not_waited_for(brief: MakeBrief, write: Write) -> None:
    with ChatServer(fault=faults({"A": ["http 429 121"]})).running() as server:
        written = write(server, [brief("B"), brief("A")], concurrency=1)
    assert server.requests == {"A": 1, "B": 1}
    assert [one.reason for one in written.unwritten] == ["no_reply"]
    assert "429" in written.unwritten[0].detail


@pytest.mark.parametrize("fault", ["http 500", "http 503", "disconnect", "hang"])
@pytest.mark.fault(
    "The generator's endpoint hangs, hangs up, or answers 500 or 503",
    "It is asked again, and nothing is paid for twice",
)
def test_what_may_pass_is_tried_again(brief: MakeBrief, write: Write, fault: str) -> None:
    with ChatServer(fault=faults({"A": [fault]})).running() as server:
        written = write(server, [brief("A")], timeout=0.5)
    assert server.requests["A"] == 2
    assert written.usage.requests == 2
    assert len(written.dialogues) == 3


@pytest.mark.fault(
    "The generator's endpoint fails for one product, again and again",
    "That product is noted with the reason; the next run asks for it alone",
)
def test_retries_end_and_say_why(brief: MakeBrief, write: Write) -> None:
    with ChatServer(fault=faults({"A": ["http 500"] * 9})).running() as server:
        written = write(server, [brief("B"), brief("A")], concurrency=1, retries=1)
        assert server.requests["A"] == 2
        assert {dialogue.product_name for dialogue in written.dialogues} == {"B"}
        (lost,) = written.unwritten
        assert (lost.product_name, lost.reason) == ("A", "no_reply")
        assert lost.questions == ("attribute:Fabric",)
        assert "HTTP 500" in lost.detail
        server.fault = always("")
        again = write(server, [brief("B"), brief("A")], retries=1)
    assert again.unwritten == []
    assert server.requests == {"A": 3, "B": 1}


BAD = ["malformed", "cut off", "wrong numbers", "same questions", "wrong answers"]


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_response_is_repaired_once(brief: MakeBrief, write: Write, fault: str) -> None:
    with ChatServer(fault=faults({"A": [fault]})).running() as server:
        written = write(server, [brief("A")])
    assert server.requests["A"] == 2
    assert (written.usage.replies, written.usage.repairs) == (2, 1)
    assert len(written.dialogues) == 3
    roles = [message["role"] for message in server.bodies[1]["messages"]]
    assert roles == ["user", "assistant", "user"]
    assert "cannot be used" in server.bodies[1]["messages"][2]["content"]


@pytest.mark.parametrize(
    ("fault", "reason"),
    zip(BAD, ["malformed", "cut_off", "missing", "bad_questions", "bad_answer"], strict=True),
)
@pytest.mark.fault(
    "The generator writes nonsense",
    "It is asked to repair it once, then the product is rejected with the reason",
)
def test_a_response_that_is_bad_twice_is_rejected_and_not_asked_for_again(
    brief: MakeBrief, write: Write, fault: str, reason: str
) -> None:
    with ChatServer(fault=always(fault)).running() as server:
        for _ in range(2):
            written = write(server, [brief("A")])
            assert server.requests["A"] == 2
            assert written.dialogues == []
            assert [one.reason for one in written.unwritten] == [reason]
        write(server, [brief("A")], model="another")
    assert server.requests["A"] == 4


@pytest.mark.parametrize("fault", ["refusal", "filtered"])
def test_a_refusal_is_not_argued_with(brief: MakeBrief, write: Write, fault: str) -> None:
    with ChatServer(fault=always(fault)).running() as server:
        for _ in range(2):
            written = write(server, [brief("A")])
    assert server.requests["A"] == 1
    assert [one.reason for one in written.unwritten] == ["refused"]


@pytest.mark.parametrize(
    ("status", "hint"),
    [(401, "key"), (403, "may this key use this model"), (404, "address and the model's name")],
)
@pytest.mark.fault(
    "The generator's endpoint refuses the key, the model or the address",
    "A few requests at most; one line with a hint and without the key",
)
def test_an_endpoint_that_refuses_is_asked_a_few_times_at_most(
    brief: MakeBrief, write: Write, status: int, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(API_KEY_VARIABLE, SECRET)
    briefs = [brief(f"Top {number}") for number in range(500)]
    with ChatServer(fault=always(f"http {status}")).running() as server:
        with pytest.raises(GenerationError, match=hint) as stopped:
            write(server, briefs, concurrency=8)
        assert server.requests.total() <= 8
    assert f"HTTP {status}" in str(stopped.value)
    # Not even its start, where what the endpoint says is cut.
    assert "sk-" not in str(stopped.value)
    assert "[key" in str(stopped.value)


def test_a_missing_key_is_named(
    brief: MakeBrief, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)
    with (
        ChatServer(fault=always("http 401")).running() as server,
        pytest.raises(GenerationError, match=f"{API_KEY_VARIABLE} is not set"),
    ):
        write(server, [brief()])


@pytest.mark.fault(
    "The generator's endpoint cannot be reached",
    "One line says so soon",
)
def test_an_unreachable_host_is_said_at_once(brief: MakeBrief, write: Write) -> None:
    with ChatServer().running() as server:
        pass
    started = time.monotonic()
    with pytest.raises(GenerationError, match="does not answer: no answer: Cannot connect"):
        write(server, [brief(f"Top {number}") for number in range(500)], retries=1)
    assert time.monotonic() - started < 10


def test_prompts_do_not_follow_to_another_address(brief: MakeBrief, write: Write) -> None:
    with ChatServer().running() as elsewhere, ChatServer().running() as server:
        server.fault = always(f"http 307 {elsewhere.url}/chat/completions")
        with pytest.raises(GenerationError, match="HTTP 307"):
            write(server, [brief()])
    assert elsewhere.requests.total() == 0


@pytest.mark.fault(
    "Something else listens at the generator's address",
    "One line shows what it said",
)
def test_something_else_at_the_address_is_said(brief: MakeBrief, write: Write) -> None:
    with (
        ChatServer(fault=always("no chat")).running() as server,
        pytest.raises(GenerationError, match="no chat completion: <html>"),
    ):
        write(server, [brief()])


def test_a_request_that_is_refused_costs_only_its_product(brief: MakeBrief, write: Write) -> None:
    with ChatServer(fault=faults({"A": ["http 400"]})).running() as server:
        written = write(server, [brief("A"), brief("B")], concurrency=1)
    assert server.requests == {"A": 1, "B": 1}
    assert [one.product_name for one in written.unwritten] == ["A"]
    assert "HTTP 400" in written.unwritten[0].detail


def test_too_many_failures_in_a_row_end_the_run(brief: MakeBrief, write: Write) -> None:
    briefs = [brief(f"Top {number}") for number in range(300)]
    with ChatServer(fault=always("http 400")).running() as server:
        with pytest.raises(GenerationError, match="10 in a row got no answer"):
            write(server, briefs, concurrency=2, give_up_after=10)
        assert server.requests.total() <= 11


@pytest.mark.fault(
    "The generator's endpoint fails for a large share of the products",
    "The run ends; what was answered is kept and reused",
)
def test_too_large_a_share_of_failures_ends_the_run(brief: MakeBrief, write: Write) -> None:
    briefs = [brief(f"Top {number}") for number in range(100)]
    script = faults({one.reference: ["http 400"] for one in briefs[::4]})
    with ChatServer(fault=script).running() as server:
        with pytest.raises(GenerationError, match="6 of 100 got no answer") as stopped:
            write(server, briefs, concurrency=1, max_failed_share=0.05)
        assert server.requests.total() < 30
        kept = int(re.search(r"(\d+) of 100 responses are", str(stopped.value))[1])
        server.fault = always("")
        written = write(server, briefs, max_failed_share=0.05)
    assert written.usage.reused == kept
    assert len(written.dialogues) == 300


@pytest.mark.fault(
    "The generator writes nonsense about everything",
    "The run ends early, with an example",
)
def test_a_model_that_writes_nothing_usable_ends_the_run(brief: MakeBrief, write: Write) -> None:
    briefs = [brief(f"Top {number}") for number in range(300)]
    with (
        ChatServer(fault=always("malformed")).running() as server,
        pytest.raises(GenerationError, match=r"10 of 10 responses cannot be used.*JSON"),
    ):
        write(server, briefs, concurrency=1, give_up_after=10, max_rejected_share=0.5)
    assert server.requests.total() == 20


def test_a_model_that_refuses_everything_ends_the_run(brief: MakeBrief, write: Write) -> None:
    briefs = [brief(f"Top {number}") for number in range(300)]
    with (
        ChatServer(fault=always("refusal")).running() as server,
        pytest.raises(GenerationError, match="I would rather not"),
    ):
        write(server, briefs, concurrency=1, give_up_after=10, max_rejected_share=0.5)
    assert server.requests.total() == 10


@pytest.mark.fault(
    "The generator's endpoint answers 429 for ever, or never answers",
    "After a few tries for a few products the run ends and says so",
)
@pytest.mark.parametrize("fault", ["http 429 0", "hang"])
def test_an_endpoint_that_never_lets_in_ends_the_run(
    brief: MakeBrief, write: Write, fault: str
) -> None:
    briefs = [brief(f"Top {number}") for number in range(300)]
    with ChatServer(fault=always(fault)).running() as server:
        with pytest.raises(GenerationError, match=r"(3 in a row got no|does not) answer"):
            write(server, briefs, concurrency=2, retries=1, timeout=0.3, give_up_after=3)
        assert 2 <= server.requests.total() <= 2 * (3 + 2)


def test_concurrency_is_bounded_and_used(brief: MakeBrief, write: Write) -> None:
    briefs = [brief(f"Top {number}") for number in range(60)]
    with ChatServer(latency=0.1).running() as server:
        write(server, briefs, concurrency=12)
        assert server.most_at_once == 12


def test_requests_keep_to_the_rate_retries_too(brief: MakeBrief, write: Write) -> None:
    briefs = [brief(f"Top {number}") for number in range(10)]
    script = faults({one.reference: ["http 429 0.01"] for one in briefs})
    started = time.monotonic()
    with ChatServer(fault=script).running() as server:
        written = write(server, briefs, requests_per_minute=1200)
    assert written.usage.requests == server.requests.total() == 20
    assert time.monotonic() - started > 19 * 60 / 1200


def test_tokens_keep_to_the_rate(brief: MakeBrief, write: Write) -> None:
    rate = 30_000
    briefs = [brief(f"Top {number}") for number in range(100)]
    started = time.monotonic()
    with ChatServer().running() as server:
        written = write(server, briefs, max_tokens=64, tokens_per_minute=rate)
    used = written.usage.prompt_tokens + written.usage.completion_tokens
    assert used > rate
    # A minute's tokens may be asked for at once, the rest as they become free.
    assert time.monotonic() - started > 0.7 * 60 * (used - rate) / rate


def test_the_key_is_sent_and_written_nowhere(
    brief: MakeBrief, write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(API_KEY_VARIABLE, SECRET)
    with ChatServer().running() as server:
        write(server, [brief()])
    assert server.tokens == [f"Bearer {SECRET}"]
    kept = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    assert not any(SECRET in text for text in kept)

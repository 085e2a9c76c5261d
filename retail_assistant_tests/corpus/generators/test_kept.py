"""What was written once is not asked for again, whatever happened in between."""

from pathlib import Path

import pytest

from retail_assistant.corpus.generators.kept import KeptResponses
from retail_assistant.corpus.generators.model import Reply
from retail_assistant.objects import ObjectStore, ObjectStoreError
from retail_assistant_tests.chat_server import ChatServer
from retail_assistant_tests.corpus.generators.conftest import FABRIC, MakeBrief, Write

IDENTITY = {"generator": "openai", "model": "m"}
REPLY = Reply(text="{}", finish_reason="stop", prompt_tokens=3, completion_tokens=2)


def test_what_is_kept_is_found_under_the_same_identity_only(tmp_path: Path) -> None:
    store = ObjectStore(str(tmp_path))
    kept = KeptResponses(store, IDENTITY)
    kept.keep("d1", [REPLY])
    kept.keep("d1", [REPLY, REPLY])
    assert kept.load(["d1", "d2"]) == {"d1": (REPLY, REPLY)}
    assert KeptResponses(store, IDENTITY | {"model": "n"}).load(["d1"]) == {}


@pytest.mark.parametrize(
    "damage", [b"", b"{", b'{"digest": "d1"}', b'{"digest":"d1","replies":[]}']
)
def test_a_damaged_response_counts_as_absent(tmp_path: Path, damage: bytes) -> None:
    kept = KeptResponses(ObjectStore(str(tmp_path)), IDENTITY)
    kept.keep("d1", [REPLY])
    (path,) = tmp_path.rglob("*.json")
    path.write_bytes(damage)
    assert kept.load(["d1"]) == {}


def test_a_response_to_another_question_counts_as_absent(tmp_path: Path) -> None:
    kept = KeptResponses(ObjectStore(str(tmp_path)), IDENTITY)
    kept.keep("d1", [REPLY])
    kept.keep("d2", [REPLY])
    names = {path.stem: path for path in tmp_path.rglob("*.json")}
    names["d2"].write_bytes(names["d1"].read_bytes())
    assert kept.load(["d1", "d2"]) == {"d1": (REPLY,)}


def test_a_second_run_asks_for_nothing(brief: MakeBrief, write: Write) -> None:
    briefs = [brief(f"Top {number}") for number in range(20)]
    with ChatServer().running() as server:
        first = write(server, briefs)
        second = write(server, briefs)
    assert server.requests.total() == 20
    assert second.dialogues == first.dialogues
    assert (second.usage.asked, second.usage.reused, second.usage.requests) == (0, 20, 0)


def test_a_refreshed_catalog_asks_about_changed_products_only(
    brief: MakeBrief, write: Write
) -> None:
    before = [brief(f"Top {number}") for number in range(20)]
    changed = brief("Top 3", content_hash="h2")
    planned = brief("Top 5", (FABRIC.model_copy(update={"phrasings": 4}),))
    after = [*before[:3], changed, before[4], planned, *before[6:19], brief("Top 99")]
    with ChatServer().running() as server:
        write(server, before)
        server.requests.clear()
        written = write(server, after)
    assert server.requests == {"Top 3": 1, "Top 5": 1, "Top 99": 1}
    assert (written.usage.asked, written.usage.reused) == (3, 17)
    assert len(written.dialogues) == 3 * 20 + 2


@pytest.mark.parametrize("other", [{"model": "n"}, {"seed": 8}, {"temperature": 0.1}])
def test_another_generator_writes_anew(brief: MakeBrief, write: Write, other: dict) -> None:
    with ChatServer().running() as server:
        write(server, [brief("A")])
        write(server, [brief("A")], **other)
        write(server, [brief("A")], concurrency=3, retries=1, prompt_price=9.0)
    assert server.requests["A"] == 2


@pytest.mark.fault(
    "Kept responses of a generator are damaged",
    "Those are asked for again, the others are not",
)
def test_damaged_responses_are_asked_for_again(
    brief: MakeBrief, write: Write, tmp_path: Path
) -> None:
    briefs = [brief(f"Top {number}") for number in range(5)]
    with ChatServer().running() as server:
        write(server, briefs)
        damaged = next((tmp_path / "responses").rglob("*.json"))
        damaged.write_bytes(damaged.read_bytes()[:40])
        written = write(server, briefs)
    assert server.requests.total() == 6
    assert (written.usage.asked, written.usage.reused) == (1, 4)
    assert len(written.dialogues) == 15


def test_a_run_that_ended_before_the_repair_asks_for_the_repair_only(
    brief: MakeBrief, write: Write
) -> None:
    def fault(_subject: str, number: int) -> str:
        return {1: "malformed", 2: "http 400"}.get(number, "")

    with ChatServer(fault=fault).running() as server:
        first = write(server, [brief("A")])
        assert [one.reason for one in first.unwritten] == ["no_reply"]
        second = write(server, [brief("A")])
    assert server.requests["A"] == 3
    assert len(server.bodies[2]["messages"]) == 3
    assert second.usage.repairs == 1
    assert len(second.dialogues) == 3


def test_responses_that_cannot_be_kept_end_the_run(
    brief: MakeBrief, write: Write, tmp_path: Path
) -> None:
    with ChatServer().running() as server:
        write(server, [brief("A")])
        (kept,) = (tmp_path / "responses").rglob("*.json")
        kept.unlink()
        kept.parent.rmdir()
        kept.parent.write_text("a file where a folder should be")
        with pytest.raises(ObjectStoreError, match="responses"):
            write(server, [brief("A"), *(brief(f"Top {number}") for number in range(200))])
        assert server.requests.total() < 100

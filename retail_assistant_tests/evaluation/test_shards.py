"""Answered shards stay answered, unless they are damaged."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
import pytest

from retail_assistant.evaluation.engine import Answer
from retail_assistant.evaluation.shards import (
    Shard,
    Variant,
    answer_shards,
    read_shard,
    shards_of,
)

QUESTIONS = pl.DataFrame(
    {
        "dialogue_id": ["a", "b"],
        "prompt": [[{"role": "user", "content": text}] for text in ("One?", "Two?")],
    }
)


class Echo:
    """An engine that gives each question back."""

    name = "echo"

    def finished(
        self, conversations: Sequence[list], max_tokens: int, adapters: Sequence[str | None]
    ) -> Iterator[tuple[int, Answer]]:
        for number, conversation in enumerate(conversations):
            yield number, Answer(conversation[-1]["content"], "stop", 1, 1)


def answered(folder: Path) -> Shard:
    (shard,) = shards_of(folder, QUESTIONS, Variant(name="job", grounding="none"), None)
    assert not shard.is_answered
    answer_shards(Echo(), [shard], 9, lambda *_: None)  # type: ignore[arg-type]
    return shard


def test_an_answered_shard_stays_answered(tmp_path: Path) -> None:
    shard = answered(tmp_path)
    assert shard.is_answered
    assert read_shard(shard)[0]["answer"].to_list() == ["One?", "Two?"]


@pytest.mark.fault(
    "a shard of answers is damaged before the rest is answered", "it is answered again"
)
@pytest.mark.parametrize("cut", [False, True])
def test_a_damaged_shard_is_answered_again(tmp_path: Path, cut: bool) -> None:
    shard = answered(tmp_path)
    content = bytearray(shard.path.read_bytes())
    content[len(content) // 2] ^= 1
    shard.path.write_bytes(bytes(content[:-1] if cut else content))
    assert not shard.is_answered
    answer_shards(Echo(), [shard], 9, lambda *_: None)  # type: ignore[arg-type]
    assert shard.is_answered
    assert read_shard(shard)[0]["answer"].to_list() == ["One?", "Two?"]

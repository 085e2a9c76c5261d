"""The questions of an evaluation in shards, a file each: what is answered stays answered."""

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ConfigDict

from retail_assistant.corpus.lengths import prompt_column
from retail_assistant.evaluation.engine import Answer, Engine
from retail_assistant.storage import write_atomically
from retail_assistant.storage.bucket import publish
from retail_assistant.storage.crash_points import crossing

SHARD_ROWS = 64
SECONDS_A_MINUTE = 60
SECONDS = "seconds"

Progress = Callable[[float, float, str], None]
"""Told of questions: answered, all, and a note."""


class Variant(BaseModel):
    """A model with a way to prompt it; `shots`: answered training questions in the prompt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    grounding: str
    shots: int = 0


@dataclass(frozen=True)
class Shard:
    """Some questions to one variant, and the file that their answers go to."""

    path: Path
    variant: Variant
    adapter: str | None
    questions: pl.DataFrame

    @property
    def is_answered(self) -> bool:
        """Whether the answers are on disk, from this run or an earlier one."""
        return self.path.is_file()


def shards_of(
    folder: Path, questions: pl.DataFrame, variant: Variant, adapter: str | None
) -> list[Shard]:
    """A variant's questions in shards under an artefact's folder; always the same ones."""
    place = folder / "shards" / variant.name.replace("/", "-")
    return [
        Shard(place / f"{start:06d}.parquet", variant, adapter, questions.slice(start, SHARD_ROWS))
        for start in range(0, questions.height, SHARD_ROWS)
    ]


def answer_shards(
    engine: Engine, shards: Sequence[Shard], max_tokens: int, progress: Progress
) -> None:
    """Ask all questions at once; each shard is stored as soon as its last answer is there.

    Beside each answer stands how many seconds it took since the answer before it: their sum is a
    variant's time, also over runs that were killed and over several processes.
    """
    asked = [(shard, row) for shard in shards for row in range(shard.questions.height)]
    written: dict[Path, dict[int, tuple[Answer, float]]] = {shard.path: {} for shard in shards}
    conversations = [
        conversation
        for shard in shards
        for conversation in shard.questions[prompt_column(shard.variant.grounding)].to_list()
    ]
    adapters = [shard.adapter for shard, _ in asked]
    began = before = time.monotonic()
    finished = engine.finished(conversations, max_tokens, adapters)
    for done, (number, answer) in enumerate(finished, start=1):
        shard, row = asked[number]
        answers, now = written[shard.path], time.monotonic()
        answers[row] = answer, now - before
        before = now
        if len(answers) == shard.questions.height:
            _store(shard, [answers[place] for place in range(len(answers))])
        progress(done, len(asked), _pace(done, len(asked), now - began, shard.variant.name))


def read_shard(shard: Shard) -> tuple[pl.DataFrame, float]:
    """The answers of a shard, and the seconds that they took."""
    stored = pl.read_parquet(shard.path)
    return stored.drop(SECONDS), float(stored[SECONDS].sum())


def _pace(done: int, total: int, seconds: float, name: str) -> str:
    rate = done / max(seconds, 1e-9)
    left = (total - done) / rate
    spelt = f"{left / SECONDS_A_MINUTE:.0f} min" if left > 2 * SECONDS_A_MINUTE else f"{left:.0f} s"
    return f"questions answered ({name}), {rate:.2f} a second, about {spelt} left"


def _store(shard: Shard, timed: Sequence[tuple[Answer, float]]) -> None:
    answers = [answer for answer, _ in timed]
    frame = pl.DataFrame(
        {
            "dialogue_id": shard.questions["dialogue_id"],
            "variant": [shard.variant.name] * shard.questions.height,
            "answer": [answer.text for answer in answers],
            "finish_reason": [answer.finish_reason for answer in answers],
            "prompt_tokens": [answer.prompt_tokens for answer in answers],
            "completion_tokens": [answer.completion_tokens for answer in answers],
            SECONDS: [seconds for _, seconds in timed],
        },
        schema_overrides={"prompt_tokens": pl.UInt32, "completion_tokens": pl.UInt32},
    )
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    with crossing("shard", shard.variant.name, shard.path.stem):
        write_atomically(shard.path, buffer.getvalue())
        publish(shard.path)

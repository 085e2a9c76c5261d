"""A small assistant for tests: it answers from what it is told, through the protocol `Answering`.

`python -m retail_assistant_tests.serving.recorded_answers INPUT OUTPUT [--resume]` is a batch in a
process of its own, slow enough to be killed.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from retail_assistant.corpus.draws import stable_digest
from retail_assistant.corpus.rendering import Message
from retail_assistant.serving.batch import answer_file, read_requests
from retail_assistant.serving.options import ServingSettings
from retail_assistant.serving.turns import ModelAwayError, TurnResult, Versions

VERSIONS = Versions(job="quickstart", adapter="a1", event=1, index="i1", prompt="6")


class RecordedAnswers:
    """Says what was asked, after a pause that the question chooses.

    "unknown …" is declined, "fail …" raises, "away …" has no model, "hang …" never ends.
    """

    def __init__(self, pause: float = 0.0) -> None:
        self.pause = pause
        self.most_at_once = 0
        self.asked: list[str] = []
        self._now = 0

    async def turn(
        self, messages: Sequence[Message], max_tokens: int
    ) -> AsyncIterator[str | TurnResult]:
        question = messages[-1]["content"]
        self.asked.append(question)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            # The later ones of a few are done first.
            await asyncio.sleep(self.pause * (3 - len(self.asked) % 3))
            if question.startswith("fail"):
                raise LookupError("the shelf is empty")
            if question.startswith("away"):
                raise ModelAwayError("nobody is there")
            if question.startswith("hang"):
                await asyncio.sleep(600)
            yield f"You asked: {question}"
            yield f" ({len(messages)})"
            yield TurnResult(
                answer_id=stable_digest(question),
                intent="question",
                written_by="catalog",
                declined="unknown" if question.startswith("unknown") else None,
                versions=VERSIONS,
            )
        finally:
            self._now -= 1


@asynccontextmanager
async def open_recorded() -> AsyncIterator[RecordedAnswers]:
    yield RecordedAnswers(float(os.environ.get("PAUSE", "0")))


def main() -> None:
    source, output = map(Path, sys.argv[1:3])
    counts = answer_file(
        open_recorded,
        read_requests(source),
        output,
        settings=ServingSettings(),
        resume="--resume" in sys.argv,
        concurrency=4,
    )
    sys.stdout.write(f"{counts.kept} {counts.lines}\n")


if __name__ == "__main__":
    main()

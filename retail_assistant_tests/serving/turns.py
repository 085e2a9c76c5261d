"""Turns as a server hands them over, and a process that hands over many.

`python -m retail_assistant_tests.serving.turns ROOT NAME COUNT` records COUNT turns with thumbs.
"""

import sys
from pathlib import Path
from typing import Any

from retail_assistant.serving.feedback.store import FeedbackStore
from retail_assistant.serving.options import ServingSettings
from retail_assistant.serving.turns import TurnResult, Versions


def result(answer_id: str, declined: Any = None, *products: str, job: str = "one") -> TurnResult:
    return TurnResult(
        answer_id=answer_id,
        intent="question",
        written_by="model",
        declined=declined,
        citations=list(products),
        versions=Versions(job=job, adapter=f"adapter-{job}", index="i1", prompt="6"),
    )


def main() -> None:
    root, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    store = FeedbackStore(root, ServingSettings())
    for number in range(count):
        answer_id = f"{name}-{number}"
        store.record_turn(f"is it warm, {name} {number}?", result(answer_id), "it is.")
        store.record_verdict(answer_id, "up" if number % 2 else "down")
        store.flush()
        sys.stdout.write(f"{answer_id}\n")
        sys.stdout.flush()
    store.close()
    assert (store.counts.turns, store.counts.verdicts) == (count, count), store.counts


if __name__ == "__main__":
    main()

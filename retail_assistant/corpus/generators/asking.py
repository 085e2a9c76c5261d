"""Asking a model many questions: several at a time, each response kept at once, and when to stop.

A response that cannot be used is repaired once: the model sees what it wrote and what is wrong.
Whatever ends a run, responses that arrived are kept, and those in flight are waited for.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from retail_assistant.corpus.draws import stable_number
from retail_assistant.corpus.generators.instructions import repair_messages
from retail_assistant.corpus.generators.kept import KeptResponses
from retail_assistant.corpus.generators.model import (
    GenerationError,
    Message,
    Model,
    NoReplyError,
    Reply,
)
from retail_assistant.corpus.generators.policy import GenerationPolicy
from retail_assistant.corpus.generators.responses import Problem
from retail_assistant.corpus.generators.usage import CostCapError, Spending, Usage
from retail_assistant.objects import ObjectStoreError

TRIES = 2
_MAX_SEED = 2**31


class Reading(Protocol):
    """What replies say: why what cannot be used cannot, and whether nothing can."""

    @property
    def problems(self) -> Sequence[Problem]:
        """What is wrong, to be told to the model that is asked once more."""
        ...

    @property
    def is_empty(self) -> bool:
        """Whether nothing can be used."""
        ...


Progress = Callable[[int, int, str], None]
"""Told how many are done, of how many, and a note."""


@dataclass(frozen=True)
class Assignment:
    """One thing to ask a model: its digest, prompt, the responses' schema, and how to read them."""

    digest: str
    prompt: Callable[[], str]
    schema: dict[str, Any]
    read: Callable[[Sequence[Reply]], Reading]


class Asked(NamedTuple):
    """By digest: the replies, or why there is none; and what it took."""

    replies: Mapping[str, tuple[Reply, ...]]
    failures: Mapping[str, str]
    usage: Usage


async def ask_all(
    assignments: Sequence[Assignment],
    open_model: Callable[[], Model],
    kept: KeptResponses,
    policy: GenerationPolicy,
    *,
    seed: int,
    progress: Progress,
) -> Asked:
    """The replies to all assignments, equal ones asked once; the model is opened if it is needed.

    Raises:
        GenerationError: the cap is reached, or there is no point in asking on; says how far it
            got and how to go on.
        ObjectStoreError: responses cannot be kept.
    """
    asking = _Asking(assignments, kept, policy, seed, progress)
    if asking.left:
        async with open_model() as model:
            await asking.run(model)
    return asking.result()


class _Asking:
    """The state of one run."""

    def __init__(
        self,
        assignments: Sequence[Assignment],
        kept: KeptResponses,
        policy: GenerationPolicy,
        seed: int,
        progress: Progress,
    ) -> None:
        self._started = time.monotonic()
        different = {assignment.digest: assignment for assignment in assignments}
        self._kept, self._policy, self._seed, self._progress = kept, policy, seed, progress
        self._replies = kept.load(different)
        self._failures: dict[str, str] = {}
        self.left = [one for one in different.values() if self._is_open(one)]
        reused = len(different) - len(self.left)
        self._usage = Usage(asked=len(self.left), reused=reused, currency=policy.currency)
        self._spending = Spending(
            policy, (r for replies in self._replies.values() for r in replies)
        )
        self._earlier = self._spending.spent
        self._stop: GenerationError | ObjectStoreError | None = None
        self._done = self._rejected = self._failed_in_a_row = 0

    def _is_open(self, assignment: Assignment) -> bool:
        replies = self._replies.get(assignment.digest, ())
        return _wants_more(replies, assignment.read(replies))

    async def run(self, model: Model) -> None:
        """Ask for all that is left, unless something says to stop."""
        waiting = iter(self.left)
        workers = min(self._policy.concurrency, len(self.left))
        await asyncio.gather(*(self._work(model, waiting) for _ in range(workers)))

    def result(self) -> Asked:
        """What came of it.

        Raises:
            GenerationError, ObjectStoreError: what ended the run before its end.
        """
        usage = self._usage
        usage.seconds = round(time.monotonic() - self._started, 2)
        usage.cost_of_corpus = self._spending.spent
        usage.cost = self._spending.spent - self._earlier
        if isinstance(self._stop, GenerationError):
            raise GenerationError(f"{str(self._stop).rstrip('.')}. {self._so_far()}")
        if self._stop is not None:
            raise self._stop
        return Asked(self._replies, self._failures, usage)

    async def _work(self, model: Model, waiting: Iterator[Assignment]) -> None:
        for assignment in waiting:
            if self._stop is not None:
                return
            try:
                await self._complete(model, assignment)
            except NoReplyError as error:
                self._fail(assignment, error)
            except (GenerationError, ObjectStoreError) as error:
                self._stop = self._stop or error
            self._usage.requests = model.requests
            self._tell()

    async def _complete(self, model: Model, assignment: Assignment) -> None:
        digest = assignment.digest
        replies = self._replies.get(digest, ())
        reading = assignment.read(replies)
        while _wants_more(replies, reading):
            messages = _messages(assignment, replies, reading)
            seed = stable_number("ask", self._seed, digest, len(replies)) % _MAX_SEED
            async with self._spending.room_for(messages):
                reply = await model.ask(messages, assignment.schema, seed)
                self._spending.add(reply)
            self._usage.count(reply, repair=bool(replies))
            self._replies[digest] = replies = (*replies, reply)
            await asyncio.to_thread(self._kept.keep, digest, replies)
            reading = assignment.read(replies)
        self._succeed(reading)

    def _succeed(self, reading: Reading) -> None:
        self._done += 1
        self._failed_in_a_row = 0
        self._rejected += reading.is_empty
        policy = self._policy
        enough = self._done >= policy.give_up_after
        if enough and self._rejected > policy.max_rejected_share * self._done:
            last = "".join(f"; the last one: {one.detail}" for one in reading.problems[:1])
            self._end(
                f"{self._rejected} of {self._done} responses cannot be used, more than"
                f" max_rejected_share={policy.max_rejected_share:g}{last}"
            )

    def _fail(self, assignment: Assignment, error: NoReplyError) -> None:
        self._failures[assignment.digest] = str(error)
        self._failed_in_a_row += 1
        policy, failed = self._policy, len(self._failures)
        if self._usage.replies == 0 and not error.reached:
            self._end(f"the model does not answer: {error}")
        elif self._failed_in_a_row >= policy.give_up_after:
            self._end(f"{self._failed_in_a_row} in a row got no answer; the last one: {error}")
        elif failed > policy.max_failed_share * len(self.left):
            share = f"more than max_failed_share={policy.max_failed_share:g}"
            self._end(f"{failed} of {len(self.left)} got no answer, {share}; the last one: {error}")

    def _end(self, why: str) -> None:
        self._stop = self._stop or GenerationError(why)

    def _so_far(self) -> str:
        kept = len(self._replies)
        total = self._usage.asked + self._usage.reused
        cost = f"{self._usage.cost:.4g} {self._policy.currency} in this run"
        capped = "raise max_cost, then " if isinstance(self._stop, CostCapError) else ""
        return (
            f"{kept} of {total} responses are written and kept ({cost},"
            f" {self._spending.spent:.4g} in all). To go on, {capped}materialize the dialogues"
            " again: only the rest is asked for"
        )

    def _tell(self) -> None:
        usage, seconds = self._usage, max(1e-3, time.monotonic() - self._started)
        cost = f"{self._spending.spent - self._earlier:.4g} {self._policy.currency}"
        note = f"asked about, {usage.requests / seconds:.1f} requests/s, {cost}"
        self._progress(self._done + len(self._failures), usage.asked, note)


def _wants_more(replies: Sequence[Reply], reading: Reading) -> bool:
    """Whether there is no reply yet, or only one that may be repaired."""
    if not replies:
        return True
    return len(replies) < TRIES and not replies[-1].refused and bool(reading.problems)


def _messages(assignment: Assignment, replies: Sequence[Reply], reading: Reading) -> list[Message]:
    if not replies:
        return [{"role": "user", "content": assignment.prompt()}]
    told = dict.fromkeys(problem.detail for problem in reading.problems)
    return repair_messages(assignment.prompt(), replies[-1].text, list(told))

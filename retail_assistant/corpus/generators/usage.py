"""What generating took, and a cap on what it may cost."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from pydantic import BaseModel, Field

from retail_assistant.corpus.generators.model import GenerationError, Message, Reply
from retail_assistant.corpus.generators.policy import GenerationPolicy

# A chat template puts a few tokens around each message.
_TOKENS_A_MESSAGE = 16


class Usage(BaseModel):
    """What one run took. Cost is by the tokens of the responses and the policy's prices.

    A request that was never answered has no tokens: if it was billed all the same, the cost does
    not show it.
    """

    asked: int = Field(0, description="products and documents that were asked about in this run")
    reused: int = Field(0, description="those whose responses were there before")
    requests: int = Field(0, description="sent, retries and repairs included")
    replies: int = Field(0, description="responses that arrived")
    repairs: int = Field(0, description="responses to a second try, after a bad first one")
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = Field(0.0, description="of this run, in `currency`")
    cost_of_corpus: float = Field(0.0, description="of all responses used, earlier ones included")
    currency: str = "USD"
    seconds: float = 0.0

    def count(self, reply: Reply, *, repair: bool) -> None:
        """Add a response that arrived in this run."""
        self.replies += 1
        self.repairs += repair
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens


class CostCapError(GenerationError):
    """The next request could cost more than the cap leaves."""


class Spending:
    """What the responses of a corpus cost, and what requests in flight may add.

    With a cap a request is sent only if it cannot exceed it, whatever those in flight will cost;
    near the cap requests therefore wait for those in flight to say what they did cost.
    """

    def __init__(self, policy: GenerationPolicy, earlier: Iterable[Reply]) -> None:
        self._policy = policy
        self.spent = sum(self.cost_of(reply) for reply in earlier)
        self._in_flight: list[float] = []
        self._changed = asyncio.Condition()

    def cost_of(self, reply: Reply) -> float:
        """The price of a response."""
        return self._policy.cost(reply.prompt_tokens, reply.completion_tokens)

    @asynccontextmanager
    async def room_for(self, messages: list[Message]) -> AsyncIterator[None]:
        """Hold back the most that a request can cost while it is in flight.

        Raises:
            CostCapError: there is no room for it.
        """
        if self._policy.max_cost is None:
            yield
            return
        most = self._most(messages)
        async with self._changed:
            await self._changed.wait_for(lambda: self._fits(most) or not self._in_flight)
            if not self._fits(most):
                raise CostCapError(
                    f"the next request could cost {most:.4g} {self._policy.currency} and exceed"
                    f" max_cost={self._policy.max_cost:g}"
                )
            self._in_flight.append(most)
        try:
            yield
        finally:
            async with self._changed:
                self._in_flight.remove(most)
                self._changed.notify_all()

    def add(self, reply: Reply) -> None:
        """Count a response that arrived."""
        self.spent += self.cost_of(reply)

    def _fits(self, most: float) -> bool:
        cap = self._policy.max_cost
        return cap is None or self.spent + sum(self._in_flight) + most <= cap

    def _most(self, messages: list[Message]) -> float:
        """No tokenizer makes more tokens than there are bytes."""
        sizes = (len(message["content"].encode()) + _TOKENS_A_MESSAGE for message in messages)
        return self._policy.cost(sum(sizes), self._policy.longest_response)

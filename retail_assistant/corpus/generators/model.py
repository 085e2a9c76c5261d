"""What is asked of a model and what it replies: the vocabulary of every model generator."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from pydantic import BaseModel, ConfigDict

Message = dict[str, str]


class GenerationError(RuntimeError):
    """The run cannot go on; the message says why, and what to do."""


class NoReplyError(RuntimeError):
    """A question got no response; others may.

    `reached`: the endpoint answered, and what it refuses is this request.
    """

    def __init__(self, detail: str, *, reached: bool = False) -> None:
        super().__init__(detail)
        self.reached = reached


class Reply(BaseModel):
    """One response of a model. Tokens are as it counts them, else a quarter of the bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    finish_reason: str
    refusal: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def refused(self) -> bool:
        """Whether the model, or a filter before it, would not answer."""
        return self.refusal is not None or self.finish_reason == "content_filter"

    @property
    def cut_off(self) -> bool:
        """Whether the response ended because it was too long."""
        return self.finish_reason == "length"


class Model(Protocol):
    """A model that can be asked, at an endpoint or in this process; used as a context manager."""

    requests: int
    """Sent so far, retries included."""

    async def ask(self, messages: Sequence[Message], schema: dict[str, Any], seed: int) -> Reply:
        """One response, JSON of this schema where the model can be held to one.

        Raises:
            NoReplyError: none, after all retries.
            GenerationError: there is no point in asking again (key, model, address).
        """
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

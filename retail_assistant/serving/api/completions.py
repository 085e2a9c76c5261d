"""OpenAI's completion objects and stream events, with the extension field `retail_assistant`."""

import secrets
import time
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field, field_serializer

from retail_assistant.serving.api.errors import ApiError
from retail_assistant.serving.api.stopping import Stopping
from retail_assistant.serving.turns import TurnResult

FinishReason = Literal["stop", "length"]
_EXTENSION = "What the answer is from and about; plain OpenAI clients ignore it."


class AnswerMessage(BaseModel):
    """The assistant's message."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(BaseModel):
    """The only answer."""

    index: Literal[0] = 0
    message: AnswerMessage
    finish_reason: FinishReason
    logprobs: None = None


class Usage(BaseModel):
    """Tokens that the model read and wrote; none where code answered."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int

    @classmethod
    def of(cls, result: TurnResult) -> "Usage":
        """The tokens of a turn."""
        read, written = result.prompt_tokens, result.completion_tokens
        return cls(prompt_tokens=read, completion_tokens=written, total_tokens=read + written)


class Completion(BaseModel):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int = Field(description="Unix time, seconds.")
    model: str
    choices: list[Choice]
    usage: Usage
    retail_assistant: TurnResult = Field(description=_EXTENSION)


class Delta(BaseModel):
    """What a stream's event adds to the message."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChunkChoice(BaseModel):
    """The only answer, so far."""

    index: Literal[0]
    delta: Delta
    finish_reason: FinishReason | None


class CompletionChunk(BaseModel):
    """An event of a stream."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    retail_assistant: TurnResult | None = Field(default=None, description=_EXTENSION)

    @field_serializer("retail_assistant", when_used="unless-none")
    def _whole(self, result: TurnResult) -> dict[str, Any]:
        # Everything of it, where of the rest only what was set is sent.
        return result.model_dump(mode="json")


class CompletionEvents:
    """A turn as server-sent events: the role, the text, then how it ended and from what."""

    media_type = "text/event-stream"

    def __init__(self, model: str, stops: Sequence[str], *, has_usage: bool) -> None:
        self._id, self._created, self._model = new_completion_id(), int(time.time()), model
        self._stopping, self._has_usage = Stopping(stops), has_usage
        self._began = False

    def text(self, piece: str) -> bytes:
        """A piece of the answer; nothing, while it may be the beginning of a stop sequence."""
        passed = self._stopping.passed(piece)
        return self._content(passed) if passed else b""

    def result(self, result: TurnResult) -> bytes:
        """The end of the answer, with the extension, and of the stream."""
        rest = self._stopping.rest()
        events = self._content(rest) if rest or not self._began else b""
        reason: FinishReason = "stop" if self._stopping.has_stopped else result.finish_reason
        events += self._chunk([_choice(Delta(), reason)], retail_assistant=result)
        if self._has_usage:
            events += self._chunk([], usage=Usage.of(result))
        return events + _event("[DONE]")

    def failed(self, error: ApiError) -> bytes:
        """One event that says that the stream broke off; OpenAI's clients raise it."""
        return _event(error.body.model_dump_json())

    def _content(self, text: str) -> bytes:
        role = b"" if self._began else self._chunk([_choice(Delta(role="assistant", content=""))])
        self._began = True
        return role + (self._chunk([_choice(Delta(content=text))]) if text else b"")

    def _chunk(self, choices: list[ChunkChoice], **more: Any) -> bytes:
        chunk = CompletionChunk(
            id=self._id,
            object="chat.completion.chunk",
            created=self._created,
            model=self._model,
            choices=choices,
            **more,
        )
        return _event(chunk.model_dump_json(exclude_unset=True))


def completion(model: str, stops: Sequence[str], text: str, result: TurnResult) -> Completion:
    """A whole answer as one object."""
    stopping = Stopping(stops)
    content = stopping.passed(text) + stopping.rest()
    return Completion(
        id=new_completion_id(),
        created=int(time.time()),
        model=model,
        choices=[
            Choice(
                message=AnswerMessage(content=content),
                finish_reason="stop" if stopping.has_stopped else result.finish_reason,
            )
        ],
        usage=Usage.of(result),
        retail_assistant=result,
    )


def new_completion_id() -> str:
    """A name for a completion, as OpenAI's look."""
    return f"chatcmpl-{secrets.token_hex(12)}"


def _choice(delta: Delta, reason: FinishReason | None = None) -> ChunkChoice:
    return ChunkChoice(index=0, delta=delta, finish_reason=reason)


def _event(data: str) -> bytes:
    # JSON has no line break outside its strings' escapes, so an event is one line.
    return f"data: {data}\n\n".encode()

"""Requests of `POST /v1/chat/completions`: OpenAI's fields, and which of them count here."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from retail_assistant.corpus.rendering import MAX_QUESTION_CHARACTERS, MAX_TEXT_CHARACTERS, Message
from retail_assistant.serving.api.errors import ApiError
from retail_assistant.serving.options import ServingSettings

MODEL_ALIAS = "retail-assistant"
"""The name that is always the champion of the day."""

CONVERSING = frozenset({"user", "assistant"})
MAX_STOPS = 4
_ONLY_TEXT = 'only text is understood: a string, or a list of {"type": "text", "text": "…"}'
_SURROGATE = re.compile("[\ud800-\udfff]")
_IGNORED = "Accepted and ignored: answers are written greedily, so there is nothing to choose."


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class TextPart(_Strict):
    """A part of a message."""

    type: Literal["text"]
    text: str


def _is_text(value: object) -> object:
    parts = [{"type": "text", "text": value}] if isinstance(value, str) else value
    if not isinstance(parts, list) or not all(_is_text_part(part) for part in parts):
        raise ValueError(_ONLY_TEXT)
    if any(_SURROGATE.search(part["text"]) for part in parts):
        # JSON can write them; nothing that text is sent to or kept in takes them.
        raise ValueError("half of a surrogate pair is no character")
    return value


def _is_text_part(part: object) -> bool:
    return (
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
    )


class ChatMessage(_Strict):
    """One message."""

    role: Literal["system", "developer", "user", "assistant"] = Field(
        description="Messages with `system` and `developer` are accepted, so that ordinary clients"
        " work, and ignored: what the assistant may do is the shop's to say."
    )
    content: Annotated[str | list[TextPart], BeforeValidator(_is_text)]

    @property
    def text(self) -> str:
        """Its text, parts joined."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content)


class StreamOptions(_Strict):
    """What a stream holds beside the answer."""

    include_usage: bool = False


class TextFormat(_Strict):
    """The only format."""

    type: Literal["text"]


def _is_nothing(value: Any) -> Any:
    if value:
        raise ValueError("not supported: the assistant answers in text, from the shop's catalog")
    return value


NotSupported = (
    Annotated[list[Any], AfterValidator(_is_nothing), Field(json_schema_extra={"maxItems": 0})]
    | None
)
_REFUSED = Field(default=None, description="Not supported: refused unless empty.")


class CompletionRequest(_Strict):
    """A conversation whose last message is the shopper's. Other fields of OpenAI's are ignored."""

    messages: list[ChatMessage] = Field(min_length=1)
    model: str | None = Field(
        default=None,
        max_length=200,
        description=f"A name that GET /v1/models lists, or {MODEL_ALIAS} (also the default).",
    )
    stream: bool | None = Field(default=None, description="Whether events come as it is written.")
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Most tokens to write; the server's own limit holds where it is lower.",
    )
    max_completion_tokens: int | None = Field(
        default=None, ge=1, le=1_000_000, description="The newer name of `max_tokens`."
    )
    stop: str | list[str] | None = Field(
        default=None, description=f"The answer ends before any of these, at most {MAX_STOPS}."
    )
    n: Literal[1] | None = Field(default=None, description="One answer; no other number.")
    temperature: float | None = Field(default=None, ge=0, le=2, description=_IGNORED)
    top_p: float | None = Field(default=None, ge=0, le=1, description=_IGNORED)
    seed: int | None = Field(default=None, description=_IGNORED)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2, description=_IGNORED)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2, description=_IGNORED)
    user: str | None = Field(default=None, description="Accepted, and neither used nor kept.")
    tools: NotSupported = _REFUSED
    functions: NotSupported = _REFUSED
    logprobs: Literal[False] | None = Field(default=None, description="Not supported.")
    response_format: TextFormat | None = Field(default=None, description="Text, nothing else.")
    modalities: list[Literal["text"]] | None = Field(default=None, description="Text only.")

    @property
    def stops(self) -> list[str]:
        """The stop sequences."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [one for one in given if one]

    @property
    def has_usage(self) -> bool:
        """Whether a stream ends with the tokens it took."""
        return self.stream_options is not None and self.stream_options.include_usage

    def tokens(self, settings: ServingSettings) -> int:
        """Most tokens that the model may write."""
        given = [self.max_tokens, self.max_completion_tokens, settings.max_answer_tokens]
        return min(one for one in given if one is not None)


def conversation(request: CompletionRequest, settings: ServingSettings) -> list[Message]:
    """The messages that count, with roles "user" and "assistant"; the last is the user's.

    Raises:
        ApiError: too many, too long, too many stops, or nothing is asked.
    """
    given = request.messages
    if len(given) > settings.max_messages:
        raise ApiError(
            400,
            f"messages: {len(given)}; allowed: at most {settings.max_messages}",
            "too_many_messages",
            param="messages",
        )
    if len(request.stops) > MAX_STOPS:
        raise ApiError(
            400, f"stop: allowed: at most {MAX_STOPS} sequences", "invalid_value", param="stop"
        )
    for place, message in enumerate(given):
        _require_short(message, place)
    counted = [{"role": one.role, "content": one.text} for one in given if one.role in CONVERSING]
    if not counted or counted[-1]["role"] != "user" or not counted[-1]["content"].strip():
        raise ApiError(
            400,
            "messages: the last one has to be the user's, and to ask something",
            "nothing_asked",
            param="messages",
        )
    return counted


def _require_short(message: ChatMessage, place: int) -> None:
    limit = MAX_QUESTION_CHARACTERS if message.role == "user" else MAX_TEXT_CHARACTERS
    if len(message.text) > limit:
        raise ApiError(
            400,
            f"messages[{place}]: {len(message.text)} characters; allowed: at most {limit}",
            "message_too_long",
            param=f"messages[{place}]",
        )


def require_model(name: str | None, served: str | None) -> None:
    """Let only the served model's name and the alias pass.

    Raises:
        ApiError: 404, as OpenAI has it; a client that pinned a model is not given another one.
    """
    if name not in (None, "", MODEL_ALIAS, served):
        raise ApiError(
            404,
            f"model: there is no such model here; there are: {served or 'none yet'}, or"
            f" {MODEL_ALIAS} for whichever is the champion",
            "model_not_found",
            param="model",
        )

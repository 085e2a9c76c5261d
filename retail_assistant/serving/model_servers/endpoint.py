"""A server that speaks OpenAI's protocol, as a `WritingModel`.

To vLLM go token ids, so that it reads exactly what was trained on: it then applies no template and
adds no beginning of sequence. Other servers take messages only, and apply the model's template.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from retail_assistant.corpus.encoding import Encoder
from retail_assistant.corpus.rendering import Message
from retail_assistant.serving.turns import ModelAwayError, Written
from retail_assistant.telemetry.tracing import trace_headers

if TYPE_CHECKING:
    from httpx2 import AsyncClient
    from openai import AsyncOpenAI

AWAY = "No model answers at the moment. Please ask again in a minute."
CUT_OFF = "The answer was cut off: the model went away. Please ask again."
REFUSED = "The model could not read this question."
TOO_LONG = "This conversation is longer than the model reads. Please start a new one."
SECONDS_TO_CONNECT = 5.0

log = logging.getLogger(__name__)


class PromptTooLongError(ModelAwayError):
    """A prompt that leaves no room for an answer; asking it again does not help."""


class LostModelError(ModelAwayError):
    """The connection to a model's server failed, or it said that it is broken."""


@dataclass(frozen=True)
class Endpoint:
    """Where a server listens: an address, or a socket file that only this user may open."""

    url: str
    key: str | None = None
    socket: Path | None = None


@dataclass(frozen=True)
class Connection:
    """Clients of an endpoint: OpenAI's for its routes, the bare one for its health."""

    http: AsyncClient
    openai: AsyncOpenAI

    async def is_healthy(self, path: str, seconds: float) -> bool:
        """Whether a GET of `path` (beside /v1) is answered with success."""
        import httpx2

        try:
            answer = await self.http.get(path, timeout=seconds)
        except httpx2.HTTPError:
            return False
        return answer.is_success

    async def gauge(self, path: str, name: str, seconds: float) -> float | None:
        """The highest value of a gauge among the metrics at `path`; None: it tells none."""
        import httpx2
        from prometheus_client.parser import text_string_to_metric_families

        try:
            answer = await self.http.get(path, timeout=seconds)
            families = list(text_string_to_metric_families(answer.text))
        except (httpx2.HTTPError, ValueError):
            return None
        found = [
            sample.value for family in families for sample in family.samples if sample.name == name
        ]
        return max(found, default=None)

    async def model_names(self) -> list[str]:
        """The names of the models that the server lists.

        Raises:
            ModelAwayError: it does not answer.
        """
        with _as_away():
            return [model.id for model in (await self.openai.models.list()).data]

    async def post(self, path: str, body: dict[str, Any]) -> None:
        """POST to a route beside /v1.

        Raises:
            ModelAwayError: it was not done.
        """
        import httpx2

        try:
            answer = await self.http.post(path, json=body)
            answer.raise_for_status()
        except httpx2.HTTPError as error:
            log.warning("%s was refused: %s", path, type(error).__name__)
            raise ModelAwayError(AWAY) from error

    async def close(self) -> None:
        """Close the connections."""
        await self.http.aclose()


def connect(endpoint: Endpoint, seconds: float) -> Connection:
    """Clients of an endpoint; nothing is sent yet. `seconds`: longest silence of the server."""
    import httpx2
    from openai import AsyncOpenAI

    timeout = httpx2.Timeout(seconds, connect=SECONDS_TO_CONNECT)
    own = endpoint.socket is not None or "://127.0.0.1" in endpoint.url
    http = httpx2.AsyncClient(
        base_url=endpoint.url,
        transport=httpx2.AsyncHTTPTransport(
            uds=str(endpoint.socket) if endpoint.socket else None,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=128),
        )
        if own
        else None,
        # No proxy between this process and its own server.
        trust_env=not own,
        timeout=timeout,
        headers={"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {},
    )
    client = AsyncOpenAI(
        base_url=f"{endpoint.url}/v1",
        api_key=endpoint.key or "none",
        http_client=http,
        # Said again: five seconds, httpx's own default, would pass for none said: ten minutes.
        timeout=timeout,
        # A turn that is asked again is the caller's to decide.
        max_retries=0,
    )
    return Connection(http, client)


class Writer(Protocol):
    """How a model's answer is asked for."""

    def stream(
        self, connection: Connection, name: str, prompt: Sequence[Message], max_tokens: int
    ) -> AsyncGenerator[Written, None]:
        """As `WritingModel.stream`, of the model `name` at `connection`."""
        ...


@dataclass(frozen=True)
class TokenWriter:
    """Asks vLLM with token ids, and tells it the token that ends a turn."""

    encoder: Encoder
    max_length: int

    def request(self, name: str, prompt: Sequence[Message], max_tokens: int) -> dict[str, Any]:
        """The arguments of a completion, streaming apart.

        Raises:
            PromptTooLongError: no token would be left for the answer.
        """
        ids = self.encoder.prompt(prompt)
        room = self.max_length - len(ids)
        if room < 1:
            raise PromptTooLongError(TOO_LONG)
        return {
            "model": name,
            "prompt": ids,
            "max_tokens": min(max_tokens, room),
            "temperature": 0.0,
            "extra_body": {"stop_token_ids": [self.encoder.end_of_turn]},
        }

    async def stream(
        self, connection: Connection, name: str, prompt: Sequence[Message], max_tokens: int
    ) -> AsyncGenerator[Written, None]:
        """As `Writer.stream`."""
        request = self.request(name, prompt, max_tokens)
        with _as_away():
            chunks = await connection.openai.completions.create(
                **request,
                stream=True,
                stream_options={"include_usage": True},
                extra_headers=trace_headers(),
            )
            async with aclosing(_pieces(chunks, lambda choice: choice.text)) as pieces:
                async for piece in pieces:
                    yield piece


@dataclass(frozen=True)
class ChatWriter:
    """Asks with messages.

    encoder: of the model that is served, where it is known: some templates refuse a system message.
    extra: more fields of a request that the server understands.
    """

    encoder: Encoder | None = None
    extra: dict[str, Any] | None = None

    async def stream(
        self, connection: Connection, name: str, prompt: Sequence[Message], max_tokens: int
    ) -> AsyncGenerator[Written, None]:
        """As `Writer.stream`."""
        messages: Any = self.encoder.accepted(prompt) if self.encoder else list(prompt)
        with _as_away():
            chunks = await connection.openai.chat.completions.create(
                model=name,
                messages=messages,
                max_tokens=max_tokens,
                temperature=0.0,
                stream=True,
                stream_options={"include_usage": True},
                extra_body=self.extra,
                extra_headers=trace_headers(),
            )
            async with aclosing(_pieces(chunks, lambda choice: choice.delta.content)) as pieces:
                async for piece in pieces:
                    yield piece


async def _pieces(chunks: Any, text_of: Any) -> AsyncGenerator[Written, None]:
    """What a stream of chunks says; the last piece says how it ended, or the stream is lost."""
    finish, usage = None, None
    # Closed early, the response is closed with it, and the server stops writing.
    async with chunks:
        async for chunk in chunks:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                finish = choice.finish_reason or finish
                if text := text_of(choice):
                    yield Written(text=text)
    if finish is None:
        raise LostModelError(CUT_OFF)
    yield Written(
        finish_reason="length" if finish == "length" else "stop",
        prompt_tokens=usage.prompt_tokens if usage else 0,
        completion_tokens=usage.completion_tokens if usage else 0,
    )


@contextmanager
def _as_away() -> Iterator[None]:
    """Whatever goes wrong with a server, told without its words: they may quote the shopper."""
    import httpx2
    from openai import APIStatusError, OpenAIError

    try:
        yield
    except ModelAwayError:
        raise
    except APIStatusError as error:
        log.warning("the model's server answered with status %d", error.status_code)
        own_fault = 400 <= error.status_code < 500 and error.status_code != 429
        raise (ModelAwayError(REFUSED) if own_fault else LostModelError(AWAY)) from error
    # The last two: nonsense instead of JSON, and connections that were closed meanwhile.
    except (OpenAIError, httpx2.HTTPError, OSError, ValueError, RuntimeError) as error:
        log.warning("the model's server was lost: %s", type(error).__name__)
        raise LostModelError(AWAY) from error

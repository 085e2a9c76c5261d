"""Asking an OpenAI-compatible endpoint, through the OpenAI SDK.

Retries are the SDK's: after no answer, 408, 409, 429 and 5xx, with exponential backoff, or after
what Retry-After says up to two minutes (more is not waited for). Every request that leaves this
process, retries included, passes a hook that counts it and keeps to the rate.
"""

import os
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self

from pydantic import BaseModel, Field, JsonValue, ValidationError

from retail_assistant.corpus.generators.model import (
    GenerationError,
    Message,
    NoReplyError,
    Reply,
)
from retail_assistant.corpus.generators.policy import (
    API_KEY_VARIABLE,
    OPENAI_URL,
    GenerationPolicy,
    GeneratorChoice,
)

Token = Callable[[], Awaitable[str]]

SECONDS_TO_CONNECT = 10.0
_SHOWN = 300
_REFUSED_REQUEST = (400, 413, 422)
_MINUTE = 60.0
_BYTES_A_TOKEN = 4


class Endpoint:
    """Chat completions of one model at one address; used as an async context manager.

    `token` gives the bearer token of each request, by default the key in the environment variable
    `key_variable`.
    """

    def __init__(
        self,
        choice: GeneratorChoice,
        policy: GenerationPolicy,
        *,
        url: str | None = None,
        token: Token | None = None,
        key_variable: str = API_KEY_VARIABLE,
    ) -> None:
        from openai import AsyncOpenAI, DefaultAioHttpClient, Timeout

        self.url = url or choice.url or OPENAI_URL
        self.requests = 0
        self._model = choice.model_name
        self._policy = policy
        self._key_variable = key_variable
        self._key = os.environ.get(key_variable, "")
        self._rate = _Rate(policy)
        timeout = Timeout(policy.timeout, connect=min(SECONDS_TO_CONNECT, policy.timeout))
        self._client = AsyncOpenAI(
            base_url=self.url,
            # Servers on one's own machine want none; the SDK wants something.
            api_key=token or self._key or "none",
            max_retries=policy.retries,
            timeout=timeout,
            # aiohttp takes half of httpx's CPU time a request. Redirects would carry prompts to
            # hosts that nobody named.
            http_client=DefaultAioHttpClient(
                event_hooks={"request": [self._before_each_request]}, follow_redirects=False
            ),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.close()

    async def ask(self, messages: Sequence[Message], schema: dict[str, Any], seed: int) -> Reply:
        """One response; see `Model.ask`."""
        import openai

        await self._rate.wait_for_tokens(messages)
        try:
            content = await self._post(self._body(messages, schema, seed))
        except (
            openai.AuthenticationError,
            openai.PermissionDeniedError,
            openai.NotFoundError,
        ) as error:
            raise GenerationError(self._refused(error.status_code, _told(error))) from None
        except openai.APIStatusError as error:
            told = f"HTTP {error.status_code}: {self._shown(_told(error))}"
            raise NoReplyError(told, reached=error.status_code in _REFUSED_REQUEST) from None
        except openai.APIConnectionError as error:
            cause = str(error.__cause__ or error) or type(error.__cause__).__name__
            raise NoReplyError(f"no answer: {self._shown(cause)}") from None
        try:
            reply = _reply(content, messages)
        except ValidationError:
            told = self._shown(content.decode(errors="replace"))
            raise NoReplyError(f"what came is no chat completion: {told}") from None
        self._rate.learn(reply)
        return reply

    async def _post(self, body: dict[str, JsonValue]) -> bytes:
        import httpx2

        # The plain way: checking the request against the SDK's types and building its objects
        # from the response takes twice the CPU time of all the rest.
        response = await self._client.post("/chat/completions", body=body, cast_to=httpx2.Response)
        return bytes(response.content)

    def _body(
        self, messages: Sequence[Message], schema: dict[str, Any], seed: int
    ) -> dict[str, JsonValue]:
        policy = self._policy
        body: dict[str, JsonValue] = {
            "model": self._model,
            "messages": [dict(message) for message in messages],
            "temperature": policy.temperature,
            "top_p": policy.top_p,
            "max_tokens": policy.max_tokens,
            "seed": seed,
            **_response_format(policy, schema),
            **policy.request_fields,
        }
        return {name: value for name, value in body.items() if value is not None}

    async def _before_each_request(self, _request: Any) -> None:
        await self._rate.wait_for_request()
        self.requests += 1

    def _refused(self, status: int, told: str) -> str:
        hints = {
            401: f"is the key right? It is read from {self._key_variable}",
            403: "may this key use this model?",
            404: "are the address and the model's name right?",
        }
        if status == 401 and not self._key:
            hints[401] = f"{self._key_variable} is not set"
        named = f"{self.url} refuses the model {self._model} (HTTP {status}: {self._shown(told)})"
        return f"{named}; {hints[status]}"

    def _shown(self, text: str) -> str:
        """The start of what an endpoint says, on one line; some repeat the key that they refuse."""
        for secret in {self._key, self._client.api_key} - {"", "none"}:
            text = text.replace(secret, "[key]")
        return " ".join(text.split())[:_SHOWN]


class _Rate:
    """Keeps to requests and tokens a minute; unlimited where the policy names none."""

    def __init__(self, policy: GenerationPolicy) -> None:
        from aiolimiter import AsyncLimiter

        self._requests: AsyncLimiter | None = None
        self._tokens: AsyncLimiter | None = None
        if (each_minute := policy.requests_per_minute) is not None:
            # One at a time, so that a minute's requests do not come in its first second.
            self._requests = AsyncLimiter(1, _MINUTE / each_minute)
        if policy.tokens_per_minute is not None:
            self._tokens = AsyncLimiter(policy.tokens_per_minute, _MINUTE)
        self._longest = policy.longest_response
        self._known = 0
        self._replies = 0

    async def wait_for_request(self) -> None:
        if self._requests is not None:
            await self._requests.acquire()

    async def wait_for_tokens(self, messages: Sequence[Message]) -> None:
        if self._tokens is None:
            return
        prompt = _tokens(*(message["content"] for message in messages))
        known = self._known / self._replies if self._replies else prompt + self._longest
        expected = max(prompt, known)
        await self._tokens.acquire(min(expected, self._tokens.max_rate))

    def learn(self, reply: Reply) -> None:
        self._known += reply.prompt_tokens + reply.completion_tokens
        self._replies += 1


def _response_format(policy: GenerationPolicy, schema: dict[str, Any]) -> dict[str, JsonValue]:
    if policy.output == "text":
        return {}
    form: dict[str, Any] = {"type": policy.output}
    if policy.output == "json_schema":
        form["json_schema"] = {"name": "dialogues", "schema": schema, "strict": True}
    return {"response_format": form}


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Completion(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


def _reply(content: bytes, messages: Sequence[Message]) -> Reply:
    completion = _Completion.model_validate_json(content)
    choice, usage = completion.choices[0], completion.usage
    text = choice.message.content or ""
    if usage is None:
        prompt = _tokens(*(message["content"] for message in messages))
        usage = _Usage(prompt_tokens=prompt, completion_tokens=_tokens(text))
    return Reply(
        text=text,
        finish_reason=choice.finish_reason or "none",
        refusal=choice.message.refusal or None,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
    )


def _tokens(*texts: str) -> int:
    """About how many tokens texts have, for endpoints that do not say."""
    return sum(len(text.encode()) for text in texts) // _BYTES_A_TOKEN


def _told(error: Any) -> str:
    """What the endpoint says about an error."""
    body = error.body
    told = body.get("message") if isinstance(body, dict) else None
    return str(told or error.message)

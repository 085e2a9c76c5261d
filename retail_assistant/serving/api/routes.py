"""The routes, and what each may answer."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from retail_assistant.serving.api.admission import Admission
from retail_assistant.serving.api.completions import Completion, CompletionEvents, completion
from retail_assistant.serving.api.conversations import (
    MODEL_ALIAS,
    CompletionRequest,
    conversation,
    require_model,
)
from retail_assistant.serving.api.errors import ApiError, ErrorBody
from retail_assistant.serving.api.metrics import Metrics
from retail_assistant.serving.api.readiness import ReadyCheck
from retail_assistant.serving.api.streaming import TurnStream, while_connected
from retail_assistant.serving.api.turning import Turns
from retail_assistant.serving.options import ServingSettings


@dataclass(frozen=True)
class ModelIdentity:
    """The champion as clients see it; a name is never used for two models."""

    name: str
    created: datetime


Identity = Callable[[], ModelIdentity | None]
"""Who answers now; None: nobody yet."""


class Model(BaseModel):
    """A model, as OpenAI lists them."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["retail-assistant"] = "retail-assistant"


class Models(BaseModel):
    """The only model, or none yet."""

    object: Literal["list"] = "list"
    data: list[Model]


class Health(BaseModel):
    """The process lives."""

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """The model writes."""

    status: Literal["ready"] = "ready"


Refusals = dict[int | str, dict[str, Any]]
_REFUSED: Refusals = {"4XX": {"model": ErrorBody, "description": "Not done, for a reason given."}}
_KEYED: Refusals = {
    401: {"model": ErrorBody, "description": "A key is needed that opens."},
    429: {"model": ErrorBody, "description": "Too often; Retry-After says when to come again."},
    503: {"model": ErrorBody, "description": "The model is away; try again shortly."},
    **_REFUSED,
}
_EVENT = {
    "type": "object",
    "required": ["data"],
    "properties": {"data": {"type": "string", "description": "A chat.completion.chunk, as JSON."}},
}
# A key, or none where the server needs none.
_KEY_OR_NONE: dict[str, Any] = {"security": [{}]}
_ASKED: Refusals = {
    200: {
        "description": "The answer; with `stream`, events, then `data: [DONE]`. A stream that"
        " breaks off ends with an event that holds an `error`. The last event with a choice has"
        " `finish_reason` and `retail_assistant`.",
        "content": {"text/event-stream": {"itemSchema": _EVENT}},
    },
    400: {"model": ErrorBody, "description": "Something in the body is not allowed."},
    404: {"model": ErrorBody, "description": "No such model."},
    413: {"model": ErrorBody, "description": "The body is too long."},
    504: {"model": ErrorBody, "description": "The answer took too long."},
    **_KEYED,
}


class _KeyedRoute(APIRoute):
    """A route whose callers are known and counted before a byte of their body is read."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, behind the door."""
        handler = super().get_route_handler()

        async def admitted(request: Request) -> Response:
            admission: Admission = request.app.state.admission
            request.state.caller = admission.by_key(request).name
            if request.method == "POST":
                _require_json(request)
            return await handler(request)

        return admitted


def _require_json(request: Request) -> None:
    # Pages of other sites can send a form or plain text here without asking, JSON they cannot.
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, "Content-Type has to be application/json.", "unsupported_media_type")


def operation_routes(ready_check: ReadyCheck) -> APIRouter:
    """For whoever watches the process; neither tells a stranger anything."""
    router = APIRouter(tags=["operation"])

    @router.get("/health", responses=_REFUSED)
    async def health() -> Health:
        """The process lives."""
        return Health()

    @router.get(
        "/ready",
        responses={503: {"model": ErrorBody, "description": "Why it is not."}, **_REFUSED},
    )
    async def ready() -> Ready:
        """The model has just written a token, or did within the last second. Needs no key."""
        reason = await ready_check.reason()
        if reason is not None:
            raise ApiError(503, reason, "not_ready", headers={"Retry-After": "5"})
        return Ready()

    return router


def openai_routes(settings: ServingSettings, identity: Identity, turns: Turns) -> APIRouter:
    """What OpenAI's clients call."""
    router = _keyed_router("OpenAI")

    @router.post(
        "/v1/chat/completions",
        response_model=Completion,
        responses=_ASKED,
        openapi_extra=_KEY_OR_NONE,
    )
    async def chat_completions(body: CompletionRequest, request: Request) -> Any:
        """Answer the last message of a conversation."""
        served = identity()
        require_model(body.model, served.name if served else None)
        messages = conversation(body, settings)
        name, tokens = served.name if served else MODEL_ALIAS, body.tokens(settings)
        if body.stream:
            events = CompletionEvents(name, body.stops, has_usage=body.has_usage)
            return TurnStream(turns.open(messages, tokens), events)
        text, result = await while_connected(request.receive, lambda: turns.whole(messages, tokens))
        return completion(name, body.stops, text, result)

    @router.get("/v1/models", responses=_KEYED, openapi_extra=_KEY_OR_NONE)
    async def models() -> Models:
        """The champion, by a name that no other model ever gets."""
        served = identity()
        listed = [Model(id=served.name, created=int(served.created.timestamp()))] if served else []
        return Models(data=listed)

    return router


def metrics_route(metrics: Metrics) -> APIRouter:
    """What Prometheus reads."""
    router = _keyed_router("operation")

    @router.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **_KEYED},
        openapi_extra=_KEY_OR_NONE,
    )
    async def read_metrics() -> Response:
        """For Prometheus; it tells how the shop does, so it needs a key wherever the API does."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router


def _keyed_router(tag: str) -> APIRouter:
    # The scheme is for the description; `_KeyedRoute` looks at the key, before the body is read.
    scheme = HTTPBearer(auto_error=False, scheme_name="key")
    return APIRouter(route_class=_KeyedRoute, tags=[tag], dependencies=[Depends(scheme)])

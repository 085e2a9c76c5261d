"""The application: routes, and the layers around them."""

from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.middleware.cors import CORSMiddleware

from retail_assistant import __version__
from retail_assistant.serving.api.admission import Admission, Keys, is_loopback
from retail_assistant.serving.api.completions import (
    Completion,
    CompletionEvents,
    completion,
)
from retail_assistant.serving.api.conversations import (
    MODEL_ALIAS,
    CompletionRequest,
    conversation,
    require_model,
)
from retail_assistant.serving.api.doorway import BodyLimit, Doorway, KnownHosts
from retail_assistant.serving.api.errors import ApiError, ErrorBody, install_error_handlers
from retail_assistant.serving.api.metrics import Metrics
from retail_assistant.serving.api.readiness import Readiness, ReadyCheck
from retail_assistant.serving.api.streaming import TurnStream, while_connected
from retail_assistant.serving.api.turning import Turns
from retail_assistant.serving.options import ServingSettings
from retail_assistant.serving.turns import Answering

LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")
DESCRIPTION = f"""Shoppers' questions, answered from the shop's catalog, as OpenAI's clients ask.

An answer carries the field `retail_assistant`: the products it was made from, cards of the products
it is about, what may be asked next, and the versions of everything that made it. Prices, names and
pictures there are the catalog's, never a model's words.

The model `{MODEL_ALIAS}` is whichever is the champion; a name from `GET /v1/models` is that one
only. Answers are written greedily: what steers chance is accepted and ignored. Messages of the
roles `system` and `developer` are accepted and ignored too. Tools, images, several answers and
other formats are refused.

Where keys are needed: `Authorization: Bearer …`, made by `retail-assistant keys add NAME`.
"""


@dataclass(frozen=True)
class ServedModel:
    """The champion as clients see it; a name is never used for two models."""

    name: str
    created: datetime


Identity = Callable[[], ServedModel | None]
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
_ASKED: Refusals = {
    200: {
        "description": "The answer; with `stream`, events, then `data: [DONE]`. A stream that"
        " breaks off ends with an event that holds an `error`. The last event with a choice has"
        " `finish_reason` and `retail_assistant`.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
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


def create_app(
    answering: Answering,
    settings: ServingSettings,
    *,
    keys: Keys,
    readiness: Readiness,
    identity: Identity,
    routers: Sequence[APIRouter] = (),
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None,
) -> FastAPI:
    """The server's application.

    `app.state` has `turns` (Turns) and `admission` (Admission) for `routers`, which are the chat
    page's: their routes take `AdmittedCaller` and open their turns by `app.state.turns`.
    """
    app = FastAPI(
        title="Retail assistant",
        version=__version__,
        description=DESCRIPTION,
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    metrics = Metrics()
    app.state.admission = Admission(settings, keys)
    app.state.turns = Turns(answering, settings, metrics)
    app.include_router(_open_routes(ReadyCheck(readiness, log_text=settings.log_text)))
    app.include_router(_keyed_routes(settings, identity, app.state.turns, metrics))
    for router in routers:
        app.include_router(router)
    install_error_handlers(app)
    _add_layers(app, settings, metrics)
    return app


def _add_layers(app: FastAPI, settings: ServingSettings, metrics: Metrics) -> None:
    """The last one added is the outermost."""
    app.add_middleware(
        BodyLimit, max_bytes=settings.max_request_bytes, seconds=settings.body_seconds
    )
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Retry-After", "X-Request-ID"],
        )
    names = settings.allowed_hosts
    if not names and is_loopback(settings.host):
        names = [*LOCAL_NAMES, settings.host]
    if names and "*" not in names:
        app.add_middleware(KnownHosts, names=names)
    app.add_middleware(Doorway, metrics=metrics, log_text=settings.log_text)


def _open_routes(ready_check: ReadyCheck) -> APIRouter:
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


def _keyed_routes(
    settings: ServingSettings, identity: Identity, turns: Turns, metrics: Metrics
) -> APIRouter:
    # The scheme is for the description; `_KeyedRoute` looks at the key, before the body is read.
    scheme = HTTPBearer(auto_error=False, scheme_name="key")
    router = APIRouter(route_class=_KeyedRoute, dependencies=[Depends(scheme)])

    @router.post(
        "/v1/chat/completions",
        response_model=Completion,
        responses=_ASKED,
        tags=["OpenAI"],
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

    @router.get("/v1/models", responses=_KEYED, tags=["OpenAI"])
    async def models() -> Models:
        """The champion, by a name that no other model ever gets."""
        served = identity()
        listed = [Model(id=served.name, created=int(served.created.timestamp()))] if served else []
        return Models(data=listed)

    @router.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **_KEYED},
        tags=["operation"],
    )
    async def read_metrics() -> Response:
        """For Prometheus; it tells how the shop does, so it needs a key wherever the API does."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router

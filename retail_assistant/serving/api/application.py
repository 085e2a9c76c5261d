"""The application: routes, and the layers around them."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware

from retail_assistant import __version__
from retail_assistant.serving.api.admission import Admission, Keys, is_loopback
from retail_assistant.serving.api.conversations import MODEL_ALIAS
from retail_assistant.serving.api.doorway import BodyLimit, Doorway, KnownHosts
from retail_assistant.serving.api.errors import install_error_handlers
from retail_assistant.serving.api.metrics import Metrics
from retail_assistant.serving.api.readiness import Readiness, ReadyCheck
from retail_assistant.serving.api.routes import (
    Identity,
    metrics_route,
    openai_routes,
    operation_routes,
)
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

    Args:
        answering: answers turns.
        settings: limits, hosts, origins and the like.
        keys: the keys that open.
        readiness: makes the model write a token; what it says is shown to strangers.
        identity: who answers now.
        routers: more routes; they come after the API's, and need no key.
        lifespan: what runs beside the server, such as the watch for a new champion.

    `app.state` has `turns` (Turns), `admission` (Admission) and `metrics` (Metrics). Routes of the
    chat page take `AdmittedCaller` and open their turns by `app.state.turns`, so that they share
    limits, queue and counts with the API.
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
    metrics = app.state.metrics = Metrics()
    app.state.admission = Admission(settings, keys)
    turns = app.state.turns = Turns(answering, settings, metrics)
    check = ReadyCheck(readiness, log_text=settings.log_text)
    ours = (
        operation_routes(check),
        openai_routes(settings, identity, turns),
        metrics_route(metrics),
    )
    for router in (*ours, *routers):
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

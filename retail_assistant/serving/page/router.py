"""The page's routes."""

import logging
from collections.abc import Callable, Container, Sequence
from typing import Any, Protocol

from fastapi import APIRouter, Depends
from sse_starlette import EventSourceResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from retail_assistant.objects import ObjectStoreError
from retail_assistant.serving.options import ServingSettings
from retail_assistant.serving.page.assets import asset
from retail_assistant.serving.page.forms import Verdict, read_asked, read_verdict
from retail_assistant.serving.page.guarding import base_path, guarded_route, is_htmx
from retail_assistant.serving.page.pictures import MEDIA_TYPE, Picture
from retail_assistant.serving.page.shown_turn import OnTurn, ShownTurn
from retail_assistant.serving.page.turn import PlainTurns
from retail_assistant.serving.page.views import PageView
from retail_assistant.serving.turns import Answering

_FOR_A_YEAR = "public, max-age=31536000, immutable"
_FOR_A_WEEK = "public, max-age=604800"
_MAX_PRODUCT_ID = 200
_LOG = logging.getLogger(__name__)

Guard = Callable[..., Any]
"""A FastAPI dependency; an HTTPException of its own refuses the request."""

OnFeedback = Callable[[str, Verdict], None]
"""Is told what a shopper thinks of an answer, by its id."""


class Pictures(Protocol):
    """Finds a product's picture; with `in`, whether it has one."""

    def __call__(self, product_id: str) -> Picture | None:
        """A file or an object's content, always a JPEG."""
        ...


def page_router(
    answering: Answering,
    settings: ServingSettings,
    *,
    pictures: Pictures,
    admitted: Guard | None = None,
    limited: Guard | None = None,
    on_feedback: OnFeedback | None = None,
    on_turn: OnTurn | None = None,
    examples: Callable[[], Sequence[str]] = tuple,
) -> APIRouter:
    """The chat page at `/`, what it loads and posts to under `/chat`, and `/pictures`.

    Args:
        answering: what answers.
        settings: the server's.
        pictures: pictures of products (`pictures_of`).
        admitted: guards questions (rate, queue); what follows its `yield` runs when the answer
            was sent whole, or nobody reads it any more.
        limited: guards everything else that is posted.
        on_feedback: is told of thumbs by answer id; None: the page has none.
        on_turn: is told of turns; None: the page does not ask whether a turn may be kept.
        examples: gives questions to begin with.

    Where the application has `app.state.turns`, as the API's has, turns are opened there.
    """
    view = PageView(
        settings,
        pictures if isinstance(pictures, Container) else _Lookup(pictures),
        examples=examples,
        can_rate=on_feedback is not None and settings.feedback,
        can_opt_out=on_turn is not None and settings.feedback,
    )
    router = APIRouter(include_in_schema=False, route_class=guarded_route(view, settings))
    _add_files(router, pictures)
    _add_page(router, view)
    _add_stop(router, view, limited)
    plain_turns = PlainTurns(answering, settings)

    @router.post("/chat", dependencies=_depends(admitted))
    async def ask(request: Request) -> Response:
        asked = await read_asked(request, settings)
        turns = getattr(request.app.state, "turns", plain_turns)
        turn = ShownTurn(turns, settings, view, on_turn, asked, base_path(request))
        if not is_htmx(request):
            return await turn.page()
        return EventSourceResponse(turn.events(), sep="\n", headers={"Cache-Control": "no-store"})

    if on_feedback is not None and settings.feedback:
        _add_feedback(router, view, settings, limited, on_feedback)
    return router


def _add_page(router: APIRouter, view: PageView) -> None:
    @router.get("/")
    async def start(request: Request) -> Response:
        return HTMLResponse(view.page(base_path(request)))

    @router.get("/chat")
    async def back(request: Request) -> Response:
        return RedirectResponse(f"{base_path(request)}/", status_code=303)


def _add_stop(router: APIRouter, view: PageView, limited: Guard | None) -> None:
    @router.post("/chat/stop", dependencies=_depends(limited))
    async def stop() -> Response:
        # By asking for this the page has let go of the answer, and so its writing has ended.
        return HTMLResponse(view.stopped())


def _add_feedback(
    router: APIRouter,
    view: PageView,
    settings: ServingSettings,
    limited: Guard | None,
    on_feedback: OnFeedback,
) -> None:
    @router.post("/chat/feedback", dependencies=_depends(limited))
    async def rate(request: Request) -> Response:
        answer_id, verdict = await read_verdict(request, settings)
        await run_in_threadpool(on_feedback, answer_id, verdict)
        if not is_htmx(request):
            return Response(status_code=204)  # the browser stays where it is
        return HTMLResponse(view.rated(base_path(request), answer_id, verdict))


def _add_files(router: APIRouter, pictures: Pictures) -> None:
    @router.get("/chat/static/{name:path}")
    async def static(name: str) -> Response:
        found = asset(name)
        if found is None:
            raise HTTPException(404)
        headers = {"Cache-Control": _FOR_A_YEAR}
        return FileResponse(found.path, media_type=found.media_type, headers=headers)

    @router.get("/pictures/{product_id}")
    async def picture(product_id: str) -> Response:
        try:
            known = len(product_id) <= _MAX_PRODUCT_ID
            found = await run_in_threadpool(pictures, product_id) if known else None
        except ObjectStoreError as error:
            _LOG.warning("a picture cannot be read: %s", error)
            raise HTTPException(503) from error
        if found is None:
            raise HTTPException(404)
        headers = {"Cache-Control": _FOR_A_WEEK}
        if isinstance(found, bytes):
            return Response(found, media_type=MEDIA_TYPE, headers=headers)
        return FileResponse(found, media_type=MEDIA_TYPE, headers=headers)


class _Lookup:
    """Whether a product has a picture, of something that can only be asked for it."""

    def __init__(self, pictures: Pictures) -> None:
        self._pictures = pictures

    def __contains__(self, product_id: object) -> bool:
        return isinstance(product_id, str) and self._pictures(product_id) is not None


def _depends(guard: Guard | None) -> list[Any]:
    return [] if guard is None else [Depends(guard)]

"""The page's routes."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Container, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from fastapi import APIRouter, Depends
from fastapi.routing import APIRoute
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from retail_assistant.objects import ObjectStoreError
from retail_assistant.serving.options import ServingSettings
from retail_assistant.serving.page.assets import asset
from retail_assistant.serving.page.forms import (
    Asked,
    Verdict,
    read_asked,
    read_verdict,
)
from retail_assistant.serving.page.origins import is_same_origin
from retail_assistant.serving.page.pictures import MEDIA_TYPE, Picture
from retail_assistant.serving.page.turn import BROKEN, PlainTurns, Turns, failure_of, turn_pieces
from retail_assistant.serving.page.views import Answered, Failure, PageView
from retail_assistant.serving.turns import Answering, TurnResult

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    # Not `no-referrer`: browsers would send `Origin: null` with the page's own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_FOR_A_YEAR = "public, max-age=31536000, immutable"
_FOR_A_WEEK = "public, max-age=604800"
_NOT_KEPT = {"Cache-Control": "no-store"}
_MAX_PRODUCT_ID = 200
_LOG = logging.getLogger(__name__)

Guard = Callable[..., Any]
"""A FastAPI dependency; an HTTPException of its own refuses the request."""


class Pictures(Protocol):
    """Finds a product's picture; with `in`, whether it has one."""

    def __call__(self, product_id: str) -> Picture | None:
        """A file or an object's content, always a JPEG."""
        ...


class OnTurn(Protocol):
    """Is told of each turn that ended; has to return at once."""

    def __call__(self, question: str, result: TurnResult, answer: str, *, keep: bool) -> None:
        """`keep` is False where the shopper does not want it kept."""
        ...


def page_router(
    answering: Answering,
    settings: ServingSettings,
    *,
    pictures: Pictures,
    admitted: Guard | None = None,
    limited: Guard | None = None,
    on_feedback: Callable[[str, Verdict], None] | None = None,
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
    router = APIRouter(include_in_schema=False, route_class=_guarded_route(view, settings))
    plain_turns = PlainTurns(answering, settings)
    _add_files(router, pictures)

    @router.get("/")
    async def start(request: Request) -> Response:
        return HTMLResponse(view.page(_base(request)))

    @router.get("/chat")
    async def back(request: Request) -> Response:
        return RedirectResponse(f"{_base(request)}/", status_code=303)

    @router.post("/chat", dependencies=_depends(admitted))
    async def ask(request: Request) -> Response:
        asked = await read_asked(request, settings)
        turns = getattr(request.app.state, "turns", plain_turns)
        turn = _Turn(turns, settings, view, on_turn, asked, _base(request))
        if _is_htmx(request):
            return EventSourceResponse(
                turn.events(), sep="\n", headers={"Cache-Control": "no-store"}
            )
        return await turn.page()

    @router.post("/chat/stop", dependencies=_depends(limited))
    async def stop() -> Response:
        # By asking for this the page has let go of the answer, and so its writing has ended.
        return HTMLResponse(view.stopped())

    @router.post("/chat/feedback", dependencies=_depends(limited))
    async def rate(request: Request) -> Response:
        if on_feedback is None or not settings.feedback:
            raise HTTPException(404, "No feedback is kept here.")
        answer_id, verdict = await read_verdict(request, settings)
        await run_in_threadpool(on_feedback, answer_id, verdict)
        if not _is_htmx(request):
            return Response(status_code=204)  # the browser stays where it is
        return HTMLResponse(view.rated(_base(request), answer_id, verdict))

    return router


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


class _Turn:
    """A question that was let in."""

    def __init__(
        self,
        turns: Turns,
        settings: ServingSettings,
        view: PageView,
        on_turn: OnTurn | None,
        asked: Asked,
        base: str,
    ) -> None:
        self._turns, self._settings, self._view = turns, settings, view
        self._on_turn, self._asked, self._base = on_turn, asked, base
        self._said: list[str] = []

    async def events(self) -> AsyncIterator[ServerSentEvent]:
        """The pieces of HTML that make the page show this turn."""
        yield ServerSentEvent(self._view.opening(self._base, self._asked))
        async with aclosing(self._ends()) as pieces:
            async for piece in pieces:
                if isinstance(piece, str):
                    html = self._view.piece(self._asked, piece)
                elif isinstance(piece, Answered):
                    html = self._view.ending(self._base, piece)
                else:
                    html = self._view.broken(self._asked, piece)
                yield ServerSentEvent(html)

    async def page(self) -> Response:
        """The whole page with the whole answer."""
        async with aclosing(self._ends()) as pieces:
            *_, end = [piece async for piece in pieces]
        turns = self._asked.turns
        if isinstance(end, Answered):
            return HTMLResponse(self._view.page(self._base, turns, latest=end))
        failure = end if isinstance(end, Failure) else BROKEN
        html = self._view.page(self._base, turns, failure=failure, asked=self._asked)
        return HTMLResponse(html, status_code=failure.status)

    async def _ends(self) -> AsyncGenerator[str | Answered | Failure, None]:
        pieces = turn_pieces(self._turns, self._asked, self._settings)
        async with aclosing(pieces) as turn:
            async for piece in turn:
                if isinstance(piece, str):
                    self._said.append(piece)
                yield self._answered(piece) if isinstance(piece, TurnResult) else piece

    def _answered(self, result: TurnResult) -> Answered:
        text, asked = "".join(self._said), self._asked
        if self._on_turn is not None:
            self._on_turn(asked.question, result, text, keep=not asked.is_private)
        return Answered(asked, text, result)


class _Lookup:
    """Whether a product has a picture, of something that can only be asked for it."""

    def __init__(self, pictures: Pictures) -> None:
        self._pictures = pictures

    def __contains__(self, product_id: object) -> bool:
        return isinstance(product_id, str) and self._pictures(product_id) is not None


def _guarded_route(view: PageView, settings: ServingSettings) -> type[APIRoute]:
    """Routes that refuse other sites' posts, say in HTML why they refuse, and set the headers."""

    class GuardedRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def guarded(request: Request) -> Response:
                try:
                    if request.method == "POST" and not is_same_origin(request):
                        raise HTTPException(403, "Please ask on the shop's own page.")
                    response = await handle(request)
                except HTTPException as error:
                    response = await _refusal(view, settings, request, error)
                response.headers.update(HEADERS)
                response.headers.setdefault("Cache-Control", "no-store")
                return response

            return guarded

    return GuardedRoute


async def _refusal(
    view: PageView, settings: ServingSettings, request: Request, error: HTTPException
) -> Response:
    failure = failure_of(error)
    asked = await _unanswered(request, settings) if failure.can_retry else None
    if _is_htmx(request):
        html = view.refused(failure, asked.question if asked else "")
    else:
        turns = asked.turns if asked else ()
        html = view.page(_base(request), turns, failure=failure, asked=asked)
    return HTMLResponse(html, status_code=error.status_code, headers=error.headers)


async def _unanswered(request: Request, settings: ServingSettings) -> Asked | None:
    """The question that a guard did not let in, so that it can be asked again; None: not one."""
    try:
        return await read_asked(request, settings)
    except (HTTPException, RuntimeError):  # it asks nothing, or was read already
        return None


def _depends(guard: Guard | None) -> list[Any]:
    return [] if guard is None else [Depends(guard)]


def _base(request: Request) -> str:
    """The path that the application is mounted at."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def _is_htmx(request: Request) -> bool:
    return request.headers.get("hx-request") == "true"

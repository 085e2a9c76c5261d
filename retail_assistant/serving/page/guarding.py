"""What stands around every route of the page: other sites stay out, headers, refusals in HTML."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from retail_assistant.serving.options import ServingSettings
from retail_assistant.serving.page.forms import Asked, read_asked
from retail_assistant.serving.page.origins import is_same_origin
from retail_assistant.serving.page.turn import failure_of
from retail_assistant.serving.page.views import PageView

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


def guarded_route(view: PageView, settings: ServingSettings) -> type[APIRoute]:
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
    if request.method != "POST":  # a file that is not there
        return PlainTextResponse(failure.message, failure.status, error.headers)
    asked = await _unanswered(request, settings) if failure.can_retry else None
    if is_htmx(request):
        html = view.refused(failure, asked.question if asked else "")
    else:
        turns = asked.turns if asked else ()
        html = view.page(base_path(request), turns, failure=failure, asked=asked)
    return HTMLResponse(html, status_code=error.status_code, headers=error.headers)


async def _unanswered(request: Request, settings: ServingSettings) -> Asked | None:
    """The question that a guard did not let in, so that it can be asked again; None: not one."""
    try:
        return await read_asked(request, settings)
    except (HTTPException, RuntimeError):  # it asks nothing, or was read already
        return None


def base_path(request: Request) -> str:
    """The path that the application is mounted at, without a slash at its end."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def is_htmx(request: Request) -> bool:
    """Whether pieces of the page are wanted, and not a whole page."""
    return request.headers.get("hx-request") == "true"

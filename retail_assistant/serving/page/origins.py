"""Whose page a request is from: other sites may not post here (cross-site request forgery)."""

from urllib.parse import urlsplit

from starlette.requests import Request


def is_same_origin(request: Request) -> bool:
    """Whether a browser says that one of this server's own pages sent this.

    `Sec-Fetch-Site` cannot be set by scripts; browsers leave it out over plain http to other hosts
    than this one, and then `Origin` tells. What sends neither is no browser: it has the API.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    # Not the scheme: a proxy in front may take https and talk http with this server.
    return origin is not None and urlsplit(origin).netloc == request.headers.get("host")

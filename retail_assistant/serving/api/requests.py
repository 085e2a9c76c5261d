"""Requests as the logs know them."""

import secrets
from contextvars import ContextVar

_ID: ContextVar[str] = ContextVar("request_id", default="-")


def new_request_id() -> str:
    """Name the request that this task works on."""
    number = f"req-{secrets.token_hex(8)}"
    _ID.set(number)
    return number


def current_request_id() -> str:
    """The name of the request that is worked on."""
    return _ID.get()

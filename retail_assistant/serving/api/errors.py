"""What a refused or failed request is told: OpenAI's error shape, never an exception's text."""

import logging
import traceback
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from retail_assistant.serving.api.requests import current_request_id

logger = logging.getLogger(__name__)

INVALID, REFUSED, FAILED = "invalid_request_error", "rate_limit_error", "server_error"
_MESSAGES = {404: "There is nothing at this path.", 405: "This path has no such method."}
_CODES = {404: "not_found", 405: "method_not_allowed"}
_MAX_MESSAGE = 500


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str = Field(description="For a person.")
    type: str = Field(description=f"{INVALID}, {REFUSED} or {FAILED}.")
    param: str | None = Field(default=None, description="The field of the request, if it is one.")
    code: str | None = Field(default=None, description="For a program.")


class ErrorBody(BaseModel):
    """Every answer that is not a success, and an event of a stream that breaks off."""

    error: ErrorDetail


class ApiError(HTTPException):
    """A request that is not answered; its text goes to the client as it is."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.message, self.code, self.param = message, code, param

    @property
    def body(self) -> ErrorBody:
        """As clients get it."""
        kind = FAILED if self.status_code >= 500 else INVALID
        kind = REFUSED if self.status_code == 429 else kind
        return ErrorBody(
            error=ErrorDetail(message=self.message, type=kind, param=self.param, code=self.code)
        )

    def response(self) -> JSONResponse:
        """The whole answer."""
        return JSONResponse(self.body.model_dump(), self.status_code, self.headers)


def busy(message: str, code: str, retry_after: float) -> ApiError:
    """A 429 that says when to come again (seconds, rounded up)."""
    seconds = max(1, -int(-retry_after // 1))
    return ApiError(429, message, code, headers={"Retry-After": str(seconds)})


def model_away() -> ApiError:
    """No model answers now."""
    return ApiError(
        503,
        "The assistant's model is away at the moment; please try again shortly.",
        "model_away",
        headers={"Retry-After": "5"},
    )


def unexpected(error: BaseException, *, with_text: bool) -> ApiError:
    """Log what nobody foresaw under the request's id, and tell the client no more than the id.

    An exception's text may quote a shopper, so it is logged only `with_text`.
    """
    told = f": {error}" if with_text else ""
    trace = "".join(traceback.format_tb(error.__traceback__))
    number = current_request_id()
    logger.error("request %s failed: %s%s\n%s", number, type(error).__name__, told, trace)
    return ApiError(500, f"Something went wrong here; it is logged as {number}.", "internal_error")


def install_error_handlers(app: FastAPI) -> None:
    """Let every error of the application leave in the one shape."""

    async def refuse(_request: Request, error: Exception) -> JSONResponse:
        return _as_api_error(error).response()

    app.add_exception_handler(HTTPException, refuse)
    app.add_exception_handler(RequestValidationError, refuse)


def _as_api_error(error: Exception) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if isinstance(error, RequestValidationError):
        return _as_invalid(error.errors()[0])
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    message = _MESSAGES.get(status, "The request was refused.")
    return ApiError(status, message, _CODES.get(status, "refused"), headers=headers)


def _as_invalid(found: Mapping[str, Any]) -> ApiError:
    """The first thing that is wrong with a body: where, and what is allowed."""
    if found["type"] == "json_invalid":
        return ApiError(400, "The body is not JSON.", "invalid_json")
    # `body` itself is no field, and neither are the branches of a union ("list[TextPart]").
    parts = [part for part in found["loc"][1:] if isinstance(part, int) or part.isidentifier()]
    param = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    param = param.removeprefix(".")
    message = str(found["msg"]).removeprefix("Value error, ")
    return ApiError(
        400, f"{param or 'body'}: {message}"[:_MAX_MESSAGE], "invalid_value", param=param or None
    )

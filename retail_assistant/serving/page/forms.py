"""What the page's forms send: untrusted, small, and read here only."""

import re
import secrets
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request

from retail_assistant.corpus.rendering import MAX_QUESTION_CHARACTERS, Message
from retail_assistant.serving.options import ServingSettings
from retail_assistant.serving.page.history import HistoryError, Turn, messages_of, read_history

Verdict = Literal["up", "down"]

_FORM = "application/x-www-form-urlencoded"
_MAX_FIELDS = 20
_ANSWER_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


@dataclass(frozen=True)
class Asked:
    """A question as the page asks it."""

    question: str
    turns: list[Turn] = field(default_factory=list)
    is_pressed: bool = False
    """A button's text, and not what somebody wrote: their writing stays in the field."""
    is_private: bool = False
    """The shopper does not want it kept."""
    part: str = field(default_factory=lambda: secrets.token_hex(6))
    """Names the elements of this turn."""

    @property
    def messages(self) -> list[Message]:
        """The whole conversation."""
        return messages_of(self.turns, self.question)


async def read_asked(request: Request, settings: ServingSettings) -> Asked:
    """The question, with the conversation before it.

    Raises:
        HTTPException: 413, 415 or 422; its text is for the shopper.
    """
    form = await _read_form(request, settings.max_request_bytes)
    pressed, written = form.get("suggestion", "").strip(), form.get("question", "").strip()
    question = pressed or written
    if not question:
        raise HTTPException(422, "Please write a question.")
    if len(question) > MAX_QUESTION_CHARACTERS:
        raise HTTPException(422, f"Please ask in at most {MAX_QUESTION_CHARACTERS} characters.")
    try:
        turns = read_history(form.get("conversation", ""), settings)
    except HistoryError as error:
        raise HTTPException(422, str(error)) from error
    return Asked(question, turns, bool(pressed), form.get("private") == "yes")


async def read_verdict(request: Request, settings: ServingSettings) -> tuple[str, Verdict]:
    """The id of an answer, and what a shopper thinks of it.

    Raises:
        HTTPException: 413, 415 or 422.
    """
    form = await _read_form(request, settings.max_request_bytes)
    answer_id, verdict = form.get("answer_id", ""), form.get("verdict")
    if not _ANSWER_ID.fullmatch(answer_id):
        raise HTTPException(422, "There is no such answer.")
    if verdict == "up":
        return answer_id, "up"
    if verdict == "down":
        return answer_id, "down"
    raise HTTPException(422, "A verdict is up or down.")


async def _read_form(request: Request, most_bytes: int) -> dict[str, str]:
    if request.headers.get("content-type", "").partition(";")[0].strip() != _FORM:
        raise HTTPException(415, "This is no form of the page.")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > most_bytes:
            raise HTTPException(413, "This is too much at once. Please start a new conversation.")
    try:
        text = body.decode("ascii")
        fields = parse_qsl(
            text, keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS
        )
    except ValueError as error:  # UnicodeDecodeError is one
        raise HTTPException(422, "This form cannot be read.") from error
    return dict(fields)

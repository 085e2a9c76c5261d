"""The conversation so far, kept in the page: no replica has to remember it.

It comes back with each question and is as trustworthy as the messages of any API client: checked
for its shape and size, fenced in the prompt, escaped where it is shown. It is not signed: whoever
changes it deceives only themselves, for other sites cannot post it (`origins.py`).
"""

import json
from collections.abc import Sequence
from urllib.parse import quote_plus

from pydantic import TypeAdapter, ValidationError

from retail_assistant.corpus.rendering import (
    MAX_QUESTION_CHARACTERS,
    MAX_TEXT_CHARACTERS,
    Message,
)
from retail_assistant.serving.options import ServingSettings

Turn = tuple[str, str]
"""A question and its answer."""

_TURNS = TypeAdapter(list[Turn])
_SHARE_OF_REQUEST = 2


class HistoryError(ValueError):
    """What the page sent is no conversation; the message is for the shopper."""


def read_history(text: str, settings: ServingSettings) -> list[Turn]:
    """The turns that a page sent back, oldest first; empty text is a new conversation.

    Raises:
        HistoryError: it has another shape, or is longer than what a page is given.
    """
    if not text:
        return []
    try:
        turns = _TURNS.validate_json(text)
    except ValidationError as error:
        raise HistoryError("This conversation cannot be read. Please start a new one.") from error
    is_long = any(
        len(question) > MAX_QUESTION_CHARACTERS or len(answer) > MAX_TEXT_CHARACTERS
        for question, answer in turns
    )
    if is_long or 2 * len(turns) >= settings.max_messages + 2:
        raise HistoryError("This conversation is too long. Please start a new one.")
    return turns


def write_history(turns: Sequence[Turn], settings: ServingSettings) -> str:
    """The turns as the page keeps them; the oldest go where the next request would be too large."""
    kept = [(question, answer[:MAX_TEXT_CHARACTERS]) for question, answer in turns]
    while kept and not _fits(kept, settings):
        kept = kept[1:]
    return _as_json(kept)


def messages_of(turns: Sequence[Turn], question: str) -> list[Message]:
    """What `Answering.turn` is given."""
    pairs = (
        ({"role": "user", "content": asked}, {"role": "assistant", "content": answered})
        for asked, answered in turns
    )
    return [message for pair in pairs for message in pair] + [{"role": "user", "content": question}]


def _fits(turns: Sequence[Turn], settings: ServingSettings) -> bool:
    size = len(quote_plus(_as_json(turns)))
    most = settings.max_request_bytes // _SHARE_OF_REQUEST
    return 2 * len(turns) < settings.max_messages and size <= most


def _as_json(turns: Sequence[Turn]) -> str:
    return json.dumps(turns, ensure_ascii=False, separators=(",", ":"))

"""The page's HTML, whole or piece by piece; every text goes through Jinja's escaping."""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from retail_assistant.corpus.rendering import MAX_QUESTION_CHARACTERS
from retail_assistant.serving.options import ServingSettings
from retail_assistant.serving.page import texts
from retail_assistant.serving.page.assets import asset_query
from retail_assistant.serving.page.forms import Asked, Verdict
from retail_assistant.serving.page.history import Turn, write_history
from retail_assistant.serving.prices import price_text
from retail_assistant.serving.reviewing import shown_text
from retail_assistant.serving.turns import TurnResult

SHOWN_ATTRIBUTES = 4
_TEMPLATES = Path(__file__).parent / "templates"
_MORE_SECONDS = 10


@dataclass(frozen=True)
class Answered:
    """A turn that ended: its text, and what it is from."""

    asked: Asked
    text: str
    result: TurnResult


@dataclass(frozen=True)
class Failure:
    """A turn that did not end, and what the shopper is told."""

    message: str
    status: int
    can_retry: bool = True


class PageView:
    """Makes the HTML of one server's page."""

    def __init__(
        self,
        settings: ServingSettings,
        pictured: Container[str],
        *,
        examples: Callable[[], Sequence[str]],
        can_rate: bool,
        can_opt_out: bool,
    ) -> None:
        """What the templates know of the server.

        Args:
            settings: the server's.
            pictured: ids of products that have a picture.
            examples: gives questions to begin with.
            can_rate: whether thumbs are shown.
            can_opt_out: whether turns are kept, so that a shopper may not want it.
        """
        self._settings = settings
        self._environment = Environment(
            loader=FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals.update(
            settings=settings,
            pictured=pictured,
            examples=examples,
            can_rate=can_rate,
            can_opt_out=can_opt_out,
            asset=asset_query,
            texts=texts,
            price_text=price_text,
            shown_attributes=SHOWN_ATTRIBUTES,
            max_question=MAX_QUESTION_CHARACTERS,
            timeout_ms=int(1000 * (settings.turn_seconds + _MORE_SECONDS)),
        )

    def page(
        self,
        base: str,
        turns: Sequence[Turn] = (),
        latest: Answered | None = None,
        failure: Failure | None = None,
        asked: Asked | None = None,
    ) -> str:
        """The whole page.

        Args:
            base: path that the application is mounted at, without a slash at its end.
            turns: earlier ones, oldest first.
            latest: the last one, if it was just answered.
            failure: why it was not.
            asked: what was asked then.
        """
        kept = [*turns, (latest.asked.question, latest.text)] if latest else list(turns)
        return self._environment.get_template("page.html.j2").render(
            base=base,
            turns=turns,
            latest=latest,
            failure=failure,
            asked=asked,
            conversation=write_history(kept, self._settings),
        )

    def opening(self, base: str, asked: Asked) -> str:
        """A question was heard: it is shown, with room for its answer."""
        return str(self._parts.opening(base, asked))

    def piece(self, asked: Asked, text: str) -> str:
        """More of the answer's text."""
        return str(self._parts.piece(asked, shown_text(text)))

    def ending(self, base: str, answered: Answered) -> str:
        """The answer is whole: what belongs to it, and the conversation that goes on with it."""
        asked = answered.asked
        turns = [*asked.turns, (asked.question, answered.text)]
        return str(self._parts.ending(base, answered, write_history(turns, self._settings)))

    def broken(self, asked: Asked, failure: Failure) -> str:
        """The answer will not be whole."""
        return str(self._parts.broken(asked, failure))

    def stopped(self) -> str:
        """The shopper did not want to read on."""
        return str(self._parts.stopped())

    def refused(self, failure: Failure, question: str = "") -> str:
        """Nothing was answered: what was sent was not taken."""
        return str(self._parts.refused(failure, question))

    def rated(self, base: str, answer_id: str, verdict: Verdict) -> str:
        """The thumbs of an answer, one of them pressed."""
        return str(self._parts.thumbs(base, answer_id, verdict))

    @cached_property
    def _parts(self) -> Any:
        return self._environment.get_template("parts.html.j2").module

"""A turn on the page: as events that bring its pieces, or as a whole page."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Protocol

from sse_starlette import ServerSentEvent
from starlette.responses import HTMLResponse, Response

from retail_assistant.serving.options import ServingSettings
from retail_assistant.serving.page.forms import Asked
from retail_assistant.serving.page.turn import BROKEN, Turns, turn_pieces
from retail_assistant.serving.page.views import Answered, Failure, PageView
from retail_assistant.serving.turns import TurnResult


class OnTurn(Protocol):
    """Is told of each turn that ended; has to return at once."""

    def __call__(self, question: str, result: TurnResult, answer: str, *, keep: bool) -> None:
        """`keep` is False where the shopper does not want it kept."""
        ...


class ShownTurn:
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

"""Plays journeys with whatever answers, one turn after the other, as a client would."""

import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from retail_assistant.corpus.rendering import Message
from retail_assistant.serving.journeys.casting import Cast, Skipped, cast
from retail_assistant.serving.journeys.scenario import Journey, Suite, Turn
from retail_assistant.serving.journeys.stock import Stock
from retail_assistant.serving.turns import Answering, ModelAwayError, TurnResult

MAX_ANSWER_TOKENS = 160


@dataclass(frozen=True)
class Spoken:
    """One turn as it went. Seconds are to the first piece of the answer and to its end.

    `error`: why there is no whole answer; "" where there is one.
    """

    shopper: str
    answer: str
    result: TurnResult | None
    first_seconds: float
    seconds: float
    error: str = ""


@dataclass(frozen=True)
class Played:
    """A journey with its turns; `skipped` says why it could not be played on this catalog."""

    kind: str
    journey: Journey
    cast: Cast
    turns: Sequence[Spoken] = ()
    skipped: str = ""


async def play_all(
    suite: Suite,
    answering: Answering,
    stock: Stock,
    *,
    seed: int,
    max_tokens: int = MAX_ANSWER_TOKENS,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> list[Played]:
    """Play every journey, one after the other, so that their times can be compared.

    Raises:
        ModelAwayError: nothing can be told of the assistant then.
    """
    played = []
    for number, (kind, journey) in enumerate(suite.journeys, start=1):
        drawn = cast(journey, stock, seed)
        if isinstance(drawn, Skipped):
            played.append(Played(kind, journey, Cast(), skipped=drawn.reason))
        else:
            turns = await play(journey, drawn, answering, max_tokens)
            played.append(Played(kind, journey, drawn, turns))
        progress(number, len(suite.journeys))
    return played


async def play(
    journey: Journey, cast_: Cast, answering: Answering, max_tokens: int = MAX_ANSWER_TOKENS
) -> list[Spoken]:
    """The turns of a conversation; what goes wrong in one stands in it, and the rest goes on."""
    messages: list[Message] = []
    turns = []
    for turn in journey.turns:
        messages.append({"role": "user", "content": shopper_text(turn, cast_)})
        spoken = await _turn(messages, answering, max_tokens)
        messages.append({"role": "assistant", "content": spoken.answer})
        turns.append(spoken)
    return turns


def shopper_text(turn: Turn, cast_: Cast) -> str:
    """What the shopper says."""
    return " ".join([cast_.said(turn.shopper)] * turn.repeat)


async def _turn(messages: Sequence[Message], answering: Answering, max_tokens: int) -> Spoken:
    began = time.monotonic()
    first, error = 0.0, ""
    pieces: list[str] = []
    results: list[TurnResult] = []
    try:
        async with aclosing(answering.turn(list(messages), max_tokens)) as told:  # type: ignore[type-var]
            async for piece in told:
                first = first or time.monotonic() - began
                if isinstance(piece, str):
                    pieces.append(piece)
                else:
                    results.append(piece)
    except ModelAwayError:
        raise
    except Exception as problem:
        error = f"{type(problem).__name__}: {problem}"[:300]
    took = time.monotonic() - began
    if not error and len(results) != 1:
        error = f"{len(results)} results; allowed: one, last of all"
    return Spoken(
        shopper=messages[-1]["content"],
        answer="".join(pieces),
        result=results[-1] if results else None,
        first_seconds=round(first or took, 4),
        seconds=round(took, 4),
        error=error,
    )

"""The assistant: a conversation, the catalog records that its last question is about, an answer.

What is asked is understood from the catalog index (`conversation`), searches and comparisons are
answered from its records in code, and questions about a product by the champion, prompted as it was
trained and evaluated, one checked piece after the other (`guard`).
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from retail_assistant.catalog.index import CatalogIndex
from retail_assistant.corpus.reading.text import abstaining_clauses, read_text
from retail_assistant.corpus.rendering import Message, render_prompt
from retail_assistant.serving.cards import product_card
from retail_assistant.serving.guard import Guard, open_guard
from retail_assistant.serving.live import Live
from retail_assistant.serving.reviewing import NOTHING_LEFT, Progress, reviewed
from retail_assistant.serving.turns import Declined, TurnResult
from retail_assistant.serving.understanding.conversation import Shop
from retail_assistant.serving.understanding.plan import Plan
from retail_assistant.telemetry.tracing import Span, span, traced


@dataclass(frozen=True)
class Catalog:
    """One version of the catalog: what understands questions by it, and what checks answers."""

    shop: Shop
    guard: Guard


def open_catalog(folder: Path, version: str) -> Catalog:
    """The catalog index in a folder, with what is read off it once.

    Raises:
        CatalogIndexError: the folder holds no index.
    """
    index = CatalogIndex.open(folder)
    shop = Shop(index, version)
    shop.warm_up()
    return Catalog(shop, open_guard(index))


class Lender(Protocol):
    """Lends what is live now; what is lent stays whole until it is given back."""

    def lease(self) -> AbstractAsyncContextManager[Live[Catalog]]:
        """Model and catalog, for the time of a turn."""
        ...


class Assistant:
    """An `Answering`: understands, looks up, writes, checks."""

    def __init__(self, live: Lender) -> None:
        self._live = live

    async def turn(
        self, messages: Sequence[Message], max_tokens: int
    ) -> AsyncIterator[str | TurnResult]:
        """As `Answering.turn`."""
        async with self._live.lease() as now:
            with span("turn") as turn:
                with span("understand"):
                    plan = await asyncio.to_thread(now.shop.shop.plan, messages)
                progress = Progress()
                if plan.text is not None:
                    yield plan.text
                else:
                    written = _written(now, plan, max_tokens, progress, turn)
                    async with aclosing(written) as pieces:
                        async for piece in pieces:
                            yield piece
                result = _result(now, plan, progress)
                turn.note(**_told(result))
                yield result


async def _written(
    now: Live[Catalog], plan: Plan, max_tokens: int, progress: Progress, turn: Span
) -> AsyncGenerator[str, None]:
    """The model's answer, reviewed."""
    grounded = now.champion is None or now.champion.grounding == "retrieved"
    prompt = render_prompt(plan.question, plan.records if grounded else [], named=plan.named)
    reviewer = now.shop.guard.over(plan.question, plan.records if plan.named else [])
    async with (
        aclosing(traced("write", now.model.stream(prompt, max_tokens), parent=turn)) as written,
        aclosing(traced("review", reviewed(written, reviewer, progress), parent=turn)) as pieces,
    ):
        async for piece in pieces:
            if piece:
                yield piece
    if not progress.said.strip():
        progress.said = NOTHING_LEFT
        yield NOTHING_LEFT


def _result(now: Live[Catalog], plan: Plan, progress: Progress) -> TurnResult:
    by_model = plan.text is None
    cited = plan.records if by_model and plan.named else plan.products
    return TurnResult(
        answer_id=secrets.token_hex(8),
        question=plan.question,
        intent=plan.intent,
        written_by="model" if by_model else "catalog",
        declined=plan.declined or (_declines(progress.said) if by_model else None),
        citations=[record["product_id"] for record in cited],
        products=[product_card(row) for row in plan.products],
        suggestions=plan.suggestions,
        corrections=progress.corrections,
        versions=now.versions,
        finish_reason="length" if progress.end.finish_reason == "length" else "stop",
        prompt_tokens=progress.end.prompt_tokens,
        completion_tokens=progress.end.completion_tokens,
    )


def _told(result: TurnResult) -> dict[str, str | int | None]:
    """What a trace says of a turn: nothing that was asked or answered."""
    return {
        "retail.intent": result.intent,
        "retail.written_by": result.written_by,
        "retail.declined": result.declined,
        "retail.corrections": len(result.corrections),
        "retail.adapter": result.versions.adapter,
        "retail.index": result.versions.index,
        "gen_ai.usage.prompt_tokens": result.prompt_tokens,
        "gen_ai.usage.completion_tokens": result.completion_tokens,
    }


def _declines(answer: str) -> Declined | None:
    return "unknown" if abstaining_clauses(read_text(answer), frozenset()) else None

"""A small shop to chat with: the page's server, and an assistant that quotes catalog records."""

import asyncio
import secrets
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from rapidfuzz import fuzz, process, utils

from retail_assistant.corpus.rendering import (
    PROMPT_VERSION,
    Message,
    item_code,
)
from retail_assistant.serving.turns import (
    Attribute,
    Intent,
    ModelAwayError,
    ProductCard,
    TurnResult,
    Versions,
)

MOST_PRODUCTS = 4
LEAST_LIKE = 55
EARLIER = "What did I ask before?"
HOSTILE = (
    "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
    '</template></hx-partial><hx-partial hx-target="body"><b hx-get="/x" hx-trigger="load">'
    "<a href=\"javascript:document.title='taken'\">[x](https://example.com/x.png)</a>{{ 7 * 7 }}"
)
HOSTILE_ROWS: list[dict[str, Any]] = [
    {
        "product_id": f"\"><script>document.title='taken'</script>{number}",
        "name": f"Zobble {HOSTILE} {number}",
        "brand": HOSTILE,
        "subcategory": HOSTILE,
        "attributes": [{"name": HOSTILE, "value": HOSTILE}],
        "retail_price": 20.0,
        "discounted_price": 15.5,
    }
    for number in (1, 2)
]
"""Products that want to run scripts, load pictures, end templates and add requests of htmx's."""


def card_of(row: dict[str, Any]) -> ProductCard:
    """A row of the assortment as a card."""
    price, before = row["discounted_price"], row["retail_price"]
    return ProductCard(
        product_id=row["product_id"],
        item=item_code(row["product_id"]),
        name=row["name"],
        brand=row["brand"],
        category=row["subcategory"],
        price=price,
        list_price=before if before and price and before > price else None,
        attributes=[Attribute(**entry) for entry in row["attributes"] if entry["name"]],
    )


class QuotingAssistant:
    """Finds products by their names and quotes their records, word by word."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        """`rows` are those of the assortment."""
        self._rows = rows
        self._names = [row["name"] for row in self._rows]
        self.may_go_on = threading.Event()
        """Cleared: answers wait after their first words."""
        self.may_go_on.set()
        self.fault: Exception | None = None
        self.ended: list[str] = []
        """How each turn ended: "whole", or the name of what ended it."""

    async def turn(
        self, messages: Sequence[Message], max_tokens: int
    ) -> AsyncIterator[str | TurnResult]:
        """See Answering."""
        try:
            async for piece in self._turn(messages, max_tokens):
                yield piece
            self.ended.append("whole")
        except BaseException as error:
            self.ended.append(type(error).__name__)
            raise

    async def _turn(
        self, messages: Sequence[Message], max_tokens: int
    ) -> AsyncIterator[str | TurnResult]:
        if isinstance(self.fault, ModelAwayError):
            raise self.fault
        question = messages[-1]["content"]
        cards = [] if question == EARLIER else self._found(question)
        text = self._text(messages, cards)
        words = text.split(" ")[:max_tokens]
        for number, word in enumerate(words):
            yield word if number == 0 else f" {word}"
            if number == 2:
                while not self.may_go_on.is_set():
                    await asyncio.sleep(0.01)
                if self.fault is not None:
                    raise self.fault
        yield self._result(cards)

    def _found(self, question: str) -> list[ProductCard]:
        by_code = [row for row in self._rows if item_code(row["product_id"]) in question]
        if by_code:
            return [card_of(by_code[0])]
        found = process.extract(
            question,
            self._names,
            scorer=fuzz.token_set_ratio,
            processor=utils.default_process,
            limit=MOST_PRODUCTS,
        )
        return [card_of(self._rows[place]) for _, score, place in found if score >= LEAST_LIKE]

    def _text(self, messages: Sequence[Message], cards: list[ProductCard]) -> str:
        if messages[-1]["content"] == EARLIER:
            asked = [f"- {one['content']}" for one in messages[:-1] if one["role"] == "user"]
            return "You asked me this:\n" + "\n".join(asked)
        if not cards:
            return "We do not carry that. I can show you something else from our catalog."
        if len(cards) > 1:
            lines = [f"- {card.name}, item {card.item}" for card in cards]
            return "These come closest to what you are after:\n" + "\n".join(lines)
        card = cards[0]
        facts = ", ".join(f"{one.name.lower()}: {one.value}" for one in card.attributes[:5])
        return f"The {card.name} is one of ours. Its record says: {facts}."

    def _result(self, cards: list[ProductCard]) -> TurnResult:
        intent: Intent = "overview" if len(cards) == 1 else "search" if cards else "small_talk"
        return TurnResult(
            answer_id=f"answer-{secrets.token_hex(4)}",
            intent=intent,
            written_by="model",
            citations=[card.product_id for card in cards],
            products=cards,
            suggestions=[
                *(f"Which colour is the {card.name}?" for card in cards[:1]),
                *(["Show me something like it"] if len(cards) == 1 else []),
                EARLIER,
            ],
            versions=Versions(
                job="grounded-r16",
                adapter="3f0c2a9be1d44c7a8e10",
                event=2,
                index="91b7d0f2ac5e48d1b6c3",
                prompt=PROMPT_VERSION,
            ),
        )


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(app: FastAPI, port: int) -> Iterator[str]:
    """A real server in a thread; its address."""
    config = uvicorn.Config(
        app, port=port, log_level="warning", timeout_graceful_shutdown=1, lifespan="off"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        threading.Event().wait(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)

"""A chat with the champion in the terminal."""

import asyncio
import os
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape

from retail_assistant.corpus.rendering import Message
from retail_assistant.launch.local import quiet_environment
from retail_assistant.serving.assistant import Assistant
from retail_assistant.serving.in_process import open_assistant
from retail_assistant.serving.options import ServingSettings
from retail_assistant.serving.prices import price_text
from retail_assistant.serving.turns import ProductCard, TurnResult
from retail_assistant.settings import Settings

PROMPT = "you: "
# Engines report to who runs them; a shopper wants the answer.
IN_A_TERMINAL = {"VLLM_LOGGING_LEVEL": "ERROR", "TQDM_DISABLE": "1"}
LEAVING = frozenset({"exit", "quit", "bye"})


def converse(
    settings: Settings, serving: ServingSettings, question: str | None, console: Console
) -> int:
    """Answer one question, or a conversation from the terminal until the shopper leaves."""
    os.environ.update(quiet_environment() | IN_A_TERMINAL)

    def say(text: str) -> None:
        console.print(f"[dim]{escape(text)}[/dim]")

    with open_assistant(settings, serving, say) as assistant:
        if question is None:
            console.print("Ask about products; an empty line or Ctrl-D ends.")
        asyncio.run(_answered(assistant, question, serving, console))
    return 0


async def _answered(
    assistant: Assistant, question: str | None, serving: ServingSettings, console: Console
) -> None:
    messages: list[Message] = []
    for asked in [question] if question is not None else _questions():
        messages.append({"role": "user", "content": asked})
        text = await answer(assistant, messages, serving.max_answer_tokens, console)
        messages.append({"role": "assistant", "content": text})


def _questions() -> Iterator[str]:
    while True:
        try:
            asked = input(PROMPT if sys.stdin.isatty() else "").strip()
        except (EOFError, KeyboardInterrupt):
            return
        if not asked or asked.lower() in LEAVING:
            return
        yield asked


async def answer(
    assistant: Assistant, messages: list[Message], max_tokens: int, console: Console
) -> str:
    """Print an answer as it is written, then the products that it is about; what was said."""
    said: list[str] = []
    async for piece in assistant.turn(messages, max_tokens):
        if isinstance(piece, TurnResult):
            console.file.write("\n")
            for card in piece.products:
                console.print(f"  [dim]{escape(_line(card))}[/dim]", highlight=False)
            continue
        said.append(piece)
        console.file.write(piece)
        console.file.flush()
    return "".join(said)


def _line(card: ProductCard) -> str:
    price = f"  {price_text(card.price)}" if card.price is not None else ""
    return f"{card.item}  {card.name}{price}"

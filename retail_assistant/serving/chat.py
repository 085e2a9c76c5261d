"""A chat with the champion in the terminal."""

import os
import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.markup import escape

from retail_assistant.corpus.rendering import item_code
from retail_assistant.launch.local import quiet_environment
from retail_assistant.serving.assistant import Assistant, open_assistant
from retail_assistant.settings import Settings

PROMPT = "you: "
# Engines report to who runs them; a shopper wants the answer.
IN_A_TERMINAL = {"VLLM_LOGGING_LEVEL": "ERROR", "TQDM_DISABLE": "1"}
LEAVING = frozenset({"exit", "quit", "bye"})


def converse(settings: Settings, question: str | None, console: Console) -> int:
    """Answer one question, or questions from the terminal until the shopper leaves."""
    os.environ.update(quiet_environment() | IN_A_TERMINAL)
    with open_assistant(settings, lambda text: console.print(f"[dim]{escape(text)}[/dim]")) as one:
        if question is not None:
            answer(one, question, console)
            return 0
        console.print("Ask about a product; an empty line or Ctrl-D ends.")
        for asked in _questions():
            answer(one, asked, console)
    return 0


def _questions() -> Iterator[str]:
    while True:
        try:
            asked = input(PROMPT if sys.stdin.isatty() else "").strip()
        except (EOFError, KeyboardInterrupt):
            return
        if not asked or asked.lower() in LEAVING:
            return
        yield asked


def answer(assistant: Assistant, question: str, console: Console) -> None:
    """Print an answer as it is written, then the catalog records that it came from."""
    reply = assistant.reply(question)
    for piece in reply.pieces:
        console.file.write(piece)
        console.file.flush()
    console.file.write("\n")
    if not reply.named:
        console.print("  [dim]nearest in the catalog:[/dim]")
    for record in reply.records:
        console.print(f"  [dim]{escape(_source(record))}[/dim]", highlight=False)


def _source(record: dict[str, Any]) -> str:
    price = record.get("discounted_price") or record.get("retail_price")
    return f"{item_code(record['product_id'])}  {record['name']}" + (
        f"  {price:g}" if price else ""
    )

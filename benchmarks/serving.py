"""Serving: the assistant in front of a vLLM server, beside that server alone.

    .venv/bin/python benchmarks/serving.py [--weights] [--rounds 3] [--requests 64] [--clients 1 8]

One vLLM server has the champion, merged. Questions about products of the catalog (attributes, in
several phrasings, none ever twice: vLLM would find it in its cache) are asked in turn, level by
level and round by round, by so many clients at a time, each with its next question as soon as its
last was answered, streaming:

    assistant   `retail-assistant serve`, which understands, retrieves, renders, asks that server,
                checks what it writes and adds cards
    bare        that server itself, with the prompts that the assistant makes of such questions

`first` is the time to the first text, `whole` to the end of the stream, in ms; `req/s` over a
round. A level counts only if every request of every round had an answer that the model wrote: no
errors, none made in code, not one text for all. `added` is the assistant's median less the bare
server's, less the median time of understanding and retrieval, which is measured alone (`plan`).

With `--weights`, instead: two assistants, each with a vLLM server of its own, one of which has the
champion's adapter beside the base, the other both merged.

With `--soak 300`, instead: 32 clients for so many seconds, searches and questions about products in
turn; what was lost, and the memory of the assistant's process meanwhile.

The store is that of `make run` (RETAIL_STORAGE_URI), which has to be there.
"""

import argparse
import asyncio
import contextlib
import itertools
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from evaluation import served
from openai import AsyncOpenAI  # noqa: TID253 (no code location is loaded here)

from retail_assistant.catalog.index import CatalogIndex
from retail_assistant.corpus.phrasing import ATTRIBUTE_QUESTIONS, attribute_question
from retail_assistant.corpus.rendering import Message, render_prompt, rendered_attributes
from retail_assistant.evaluation.registry import read_champion
from retail_assistant.launch.ray_head import free_port
from retail_assistant.launch.spec import read_artefact_ref
from retail_assistant.serving.served import served_model
from retail_assistant.serving.understanding.conversation import Shop
from retail_assistant.settings import get_settings
from retail_assistant.training.merge import merge

SECONDS_TO_START = 600
MAX_TOKENS = 96
SEED = 7
ASSISTANT, BARE = "assistant", "bare"
SEARCH: list[Message] = [{"role": "user", "content": "Show me shirts for men under 1500"}]


@dataclass(frozen=True)
class Asked:
    """A question, and the prompt that the assistant makes of it."""

    messages: list[Message]
    prompt: list[Message]


@dataclass(frozen=True)
class Answered:
    """One request: seconds to the first text and to the end, and what was said."""

    first: float
    whole: float
    text: str
    is_written: bool


def questions_of(shop: Shop, index: CatalogIndex, count: int) -> tuple[list[Asked], list[float]]:
    """Different questions that the model answers, and the seconds that each took to plan."""
    drawn = random.Random(SEED)
    rows = sorted(index.products(index.product_ids()).values(), key=lambda row: row["product_id"])
    pairs = [(row, name) for row in rows for name, _ in rendered_attributes(row)]
    drawn.shuffle(pairs)
    asked: list[Asked] = []
    seconds: list[float] = []
    for row, name in pairs:
        if len(asked) == count:
            break
        text = attribute_question(drawn.choice(ATTRIBUTE_QUESTIONS), name, row["name"])
        messages = [{"role": "user", "content": text}]
        began = time.perf_counter()
        plan = shop.plan(messages)
        seconds.append(time.perf_counter() - began)
        if plan.text is None and plan.named:
            prompt = render_prompt(plan.question, plan.records, named=plan.named)
            asked.append(Asked(messages, prompt))
    if len(asked) < count:
        raise SystemExit(f"the catalog gives {len(asked)} questions; allowed: fewer --requests")
    return asked, seconds


async def ask(client: AsyncOpenAI, model: str, messages: Sequence[Message]) -> Answered:
    """One streamed request."""
    began = time.perf_counter()
    first = None
    said: list[str] = []
    is_written = True
    stream: Any = await client.chat.completions.create(
        model=model,
        messages=list(messages),  # type: ignore[arg-type]
        max_tokens=MAX_TOKENS,
        temperature=0,
        stream=True,
    )
    async for chunk in stream:
        extension = (chunk.model_extra or {}).get("retail_assistant")
        if extension:
            is_written = extension["written_by"] == "model"
        if chunk.choices and chunk.choices[0].delta.content:
            first = first or time.perf_counter() - began
            said.append(chunk.choices[0].delta.content)
    whole = time.perf_counter() - began
    return Answered(first or whole, whole, "".join(said), is_written)


async def level(
    client: AsyncOpenAI, model: str, requests: Sequence[Sequence[Message]], clients: int
) -> tuple[list[Answered], float]:
    """All requests by so many clients; what came of them, and the seconds."""
    waiting = iter(requests)
    answered: list[Answered] = []

    async def one() -> None:
        answered.extend([await ask(client, model, messages) for messages in waiting])

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(clients)))
    return answered, time.perf_counter() - began


def started(
    words: Sequence[str], environment: dict[str, str], log: Path
) -> subprocess.Popen[bytes]:
    """A server's process."""
    with log.open("wb") as file:
        return subprocess.Popen(
            list(words), stdout=file, stderr=file, env={**os.environ, **environment}
        )


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until an address answers with success."""
    deadline = time.monotonic() + SECONDS_TO_START
    while True:
        try:
            if httpx.get(url, timeout=15).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{url} did not come up: {log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.5)


def why_discarded(answers: Sequence[Answered]) -> str | None:
    """Why a level says nothing; None: it counts."""
    if not all(one.text.strip() for one in answers):
        return "empty answers"
    if not all(one.is_written for one in answers):
        return "answers made in code"
    (_, most), *_ = Counter(one.text for one in answers).most_common(1)
    return "one answer for all" if most > len(answers) / 2 else None


def line(name: str, clients: int, answers: Sequence[Answered], rates: Sequence[float]) -> str:
    """A table's row."""
    first = np.percentile([one.first for one in answers], [50, 95]) * 1e3
    whole = np.percentile([one.whole for one in answers], [50, 95]) * 1e3
    numbers = "".join(f"{value:>10.0f}" for value in (*first, *whole))
    return f"{name:<11}{clients:>8}{len(answers):>10}{numbers}{statistics.median(rates):>9.2f}"


async def measured(asked: argparse.Namespace, drawn: list[Asked], urls: dict[str, str]) -> None:
    """Ask both servers in turn, and print the table; all but `bare` are assistants."""
    names = {
        name: (
            AsyncOpenAI(base_url=url, api_key="none", max_retries=0),
            "model" if name == BARE else "retail-assistant",
        )
        for name, url in urls.items()
    }
    waiting = iter(drawn)
    heads = "".join(f"{head:>10}" for head in ("first p50", "first p95", "whole p50", "whole p95"))
    print(f"{'':<11}{'clients':>8}{'requests':>10}{heads}{'req/s':>9}")
    for clients in asked.clients:
        answers: dict[str, list[Answered]] = {name: [] for name in names}
        rates: dict[str, list[float]] = {name: [] for name in names}
        for turn in range(asked.rounds):
            order = list(names) if turn % 2 else list(names)[::-1]
            for name in order:
                some = list(itertools.islice(waiting, asked.requests))
                client, model = names[name]
                texts = [one.prompt if name == BARE else one.messages for one in some]
                found, seconds = await level(client, model, texts, clients)
                answers[name] += found
                rates[name].append(len(found) / seconds)
        report(clients, answers, rates)


def report(clients: int, answers: dict[str, list[Answered]], rates: dict[str, list[float]]) -> None:
    """Print one level."""
    for name, found in answers.items():
        why = why_discarded(found)
        told = f"{name:<11}{clients:>8}  discarded: {why}"
        print(told if why else line(name, clients, found, rates[name]))
    one, other = answers
    ratios = [a / b for a, b in zip(rates[one], rates[other], strict=True)]
    first = {
        name: statistics.median(each.first for each in found) for name, found in answers.items()
    }
    print(
        f"{'':<11}req/s of {other}'s: {statistics.median(ratios):.3f}"
        f" ({min(ratios):.3f} to {max(ratios):.3f});"
        f" first text later by {1e3 * (first[one] - first[other]):.1f} ms"
    )


async def soaked(seconds: float, drawn: list[Asked], url: str, pid: int) -> None:
    """Ask without a pause, and print what was lost and what it took."""
    client = AsyncOpenAI(base_url=url, api_key="none", max_retries=0)
    turns = itertools.cycle([turn for one in drawn for turn in (one.messages, SEARCH)])
    ends, lost = time.monotonic() + seconds, Counter[str]()
    whole: list[float] = []

    async def one() -> None:
        while time.monotonic() < ends:
            try:
                answer = await ask(client, "retail-assistant", next(turns))
                lost["empty"] += not answer.text.strip()
                whole.append(answer.whole)
            except Exception as error:
                lost[type(error).__name__] += 1

    async def watch() -> None:
        process = psutil.Process(pid)
        while time.monotonic() < ends:
            rss = process.memory_info().rss / 2**20
            print(f"{len(whole):>7} answers, {rss:.0f} MiB, lost: {sum(lost.values())}", flush=True)
            await asyncio.sleep(seconds / 10)

    await asyncio.gather(watch(), *(one() for _ in range(32)))
    told = ", ".join(f"{count} {name}" for name, count in lost.items() if count) or "nothing"
    print(
        f"{len(whole)} answers in {seconds:.0f} s, median {statistics.median(whole):.2f} s;"
        f" lost: {told}"
    )


def main() -> None:
    """Start both servers, ask, end them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=64, help="Of each level and round.")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--weights", action="store_true", help="The adapter beside the merged.")
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="32 clients, so long.")
    asked = parser.parse_args()
    settings = get_settings()
    ref = read_artefact_ref(settings.storage, "catalog_index")
    index = CatalogIndex.open(ref.folder / "index")
    needed = 2 * asked.rounds * asked.requests * len(asked.clients)
    drawn, seconds = questions_of(Shop(index, ref.fingerprint), index, needed)
    plan = np.percentile(seconds, [50, 95]) * 1e3
    print(
        f"{len(os.sched_getaffinity(0))} cores, {asked.rounds} rounds of {asked.requests}"
        f" requests a level; plan: p50 {plan[0]:.1f} ms, p95 {plan[1]:.1f} ms"
    )
    if asked.weights:
        ask_both_weights(asked, drawn)
        return
    champion = served_model(read_champion(settings), settings)
    with tempfile.TemporaryDirectory() as scratch:
        merged = merge(champion.base, champion.adapter, Path(scratch) / "merged")
        with served(merged) as url:
            ask_both(asked, drawn, url.removesuffix("/v1/chat/completions"))


def ask_both(asked: argparse.Namespace, drawn: list[Asked], url: str) -> None:
    """With vLLM up: the assistant too, and the questions."""
    environment = {"RETAIL_SERVING_VARIANT": "url", "RETAIL_SERVING_MODEL_URL": url}
    with assistant(environment) as (ours, process):
        if asked.soak:
            asyncio.run(soaked(asked.soak, drawn, ours, process.pid))
        else:
            asyncio.run(measured(asked, drawn, {ASSISTANT: ours, BARE: f"{url}/v1"}))


def ask_both_weights(asked: argparse.Namespace, drawn: list[Asked]) -> None:
    """An assistant with the adapter, one with the merged model, and the questions."""
    with contextlib.ExitStack() as stack:
        urls = {
            weights: stack.enter_context(assistant({"RETAIL_SERVING_WEIGHTS": weights}))[0]
            for weights in ("adapter", "merged")
        }
        asyncio.run(measured(asked, drawn, urls))


@contextlib.contextmanager
def assistant(environment: dict[str, str]) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A running assistant's address, and its process."""
    port = free_port("127.0.0.1")
    environment = {"RETAIL_SERVING_REQUESTS_PER_MINUTE": "1000000"} | environment
    command = [sys.executable, "-m", "retail_assistant.cli", "serve", "--port", str(port)]
    with tempfile.NamedTemporaryFile() as log:
        process = started(command, environment, Path(log.name))
        try:
            wait_for(f"http://127.0.0.1:{port}/ready", process, Path(log.name))
            yield f"http://127.0.0.1:{port}/v1", process
        finally:
            process.terminate()
            process.wait(60)


if __name__ == "__main__":
    main()

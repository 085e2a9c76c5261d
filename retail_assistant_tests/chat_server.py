"""A chat completions server whose model does as it is told, and fails where a test wants it to.

It speaks real HTTP. What it is asked about is read from the prompt; requests are counted by that.
`python -m retail_assistant_tests.chat_server PORT` serves as the benchmark wants it.
"""

import argparse
import asyncio
import json
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

_CALLED = re.compile(r"The product is called: (.+)")
_TASK = re.compile(r"^(\d+)\. (Write (\d+) questions?\b.*(?:\n   - .*)*)", re.M)
_VALUE = re.compile(r'says that it is "(.*)", copied exactly')
_TOLD = re.compile(r'says no more than: "(.*)"')
_NAMED = re.compile(r"^   - (.*): (.*)$", re.M)
_DOCUMENT = re.compile(r"<document>\n(.*?)\n</document>", re.S)
_JUDGED = re.compile(r"<answer>\n(.*?)\n?</answer>", re.S)
_REFERENCE = re.compile(r"<reference_answer>\n(.*?)\n</reference_answer>", re.S)
_OPENINGS = (
    "Please tell me about this",
    "Could you help me here",
    "I wonder about something",
    "Before paying I want to be sure",
    "My sister asks",
    "Quick one",
    "Do you happen to know",
    "One more thing to check",
    "Hello there, may I ask",
    "Just curious",
)

Fault = Callable[[str, int], str]
"""What goes wrong with the nth request (from 1) about something; "" is nothing."""


def subject_of(prompt: str) -> str:
    """What a prompt asks about: a product as it is called, or the start of a document."""
    called = _CALLED.search(prompt)
    if called is not None:
        return called[1]
    judged = _JUDGED.search(prompt)
    if judged is not None:
        return f"answer: {judged[1]}"
    document = _DOCUMENT.search(prompt)
    return document[1].splitlines()[0] if document else prompt[:40]


def obedient_answer(prompt: str) -> dict[str, Any]:
    """What a model that does exactly as the prompt says would write."""
    judged, reference = _JUDGED.search(prompt), _REFERENCE.search(prompt)
    if judged is not None and reference is not None:
        return {"reason": "By their words.", "score": _likeness(judged[1], reference[1])}
    document = _DOCUMENT.search(prompt)
    if document is not None:
        sentences = [s.strip() for s in document[1].split(".") if s.strip()]
        asked = [
            {"question": f"What about: {s}?", "answer": f"{s}.", "quote": s} for s in sentences
        ]
        return {"items": asked[:5]}
    called = subject_of(prompt)
    return {"items": [_item(called, int(m[1]), int(m[3]), m[2]) for m in _TASK.finditer(prompt)]}


def _likeness(answer: str, reference: str) -> int:
    """From 1 (no word in common) to 5 (the same words): what this server's judge goes by."""
    said, wanted = (set(re.findall(r"\w+", text.casefold())) for text in (answer, reference))
    return 1 + round(4 * len(said & wanted) / max(1, len(said | wanted)))


def _item(called: str, number: int, count: int, task: str) -> dict[str, Any]:
    # No digit: it could be the value asked for.
    point = chr(ord("A") + number - 1)
    questions = [f"{_OPENINGS[i]}, point {point}: {called}?" for i in range(count)]
    told = _VALUE.search(task) or _TOLD.search(task)
    answer = "\n".join(f"- {name}, for it has: {why}" for name, why in _NAMED.findall(task))
    if told is not None:
        answer = told[1] if _TOLD.search(task) else f"It is {told[1]}, for {called}."
    return {"number": number, "questions": questions, "answer": answer}


class ChatServer:
    """Answers `POST /v1/chat/completions`; `url` ends in /v1."""

    def __init__(self, *, latency: float = 0.0, fault: Fault | None = None) -> None:
        self.latency = latency
        self.fault = fault or (lambda _subject, _number: "")
        self.requests: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.tokens: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.keeps_bodies = True
        self.written = obedient_answer
        self.most_at_once = 0
        self.url = ""
        self._now = 0

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        prompt = body["messages"][0]["content"]
        subject = subject_of(prompt)
        self.requests[subject] += 1
        self.tokens.append(request.headers.get("Authorization", ""))
        if self.keeps_bodies:
            self.bodies.append(body)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            await asyncio.sleep(self.latency)
            fault = self.fault(subject, self.requests[subject])
            return await self._respond(request, fault, prompt, subject)
        finally:
            self._now -= 1

    async def _respond(
        self, request: web.Request, fault: str, prompt: str, subject: str
    ) -> web.StreamResponse:
        if fault == "hang":
            await asyncio.sleep(60)
        if fault == "disconnect" and request.transport is not None:
            request.transport.close()
        if fault.startswith("http "):
            return _http_error(request, fault)
        if fault == "no chat":
            return web.Response(text="<html>try again later</html>")
        self.answers[subject] += 1
        return web.json_response(_completion(prompt, self.written(prompt), fault))

    def app(self) -> web.Application:
        """The server's application."""
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._complete)
        return app

    @contextmanager
    def running(self) -> Iterator["ChatServer"]:
        """Serve on a free port of 127.0.0.1, in a thread of its own."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        runner = web.AppRunner(self.app(), access_log=None, shutdown_timeout=0.1)
        asyncio.run_coroutine_threadsafe(_start(runner, 0), loop).result()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()


async def _start(runner: web.AppRunner, port: int) -> None:
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=2048).start()


def _http_error(request: web.Request, fault: str) -> web.Response:
    """`http 429 0.2`: the status, and the seconds of Retry-After (of a 307: where to)."""
    _, status, *more = fault.split()
    headers = {"Location" if status == "307" else "Retry-After": more[0]} if more else {}
    # As some endpoints do, with the key that they refuse in the text.
    token = request.headers.get("Authorization", "")
    text = f"{'no ' * 90} {token} gets {status}"
    error = {"error": {"message": text, "type": "test"}}
    return web.json_response(error, status=int(status), headers=headers)


def _completion(prompt: str, written: dict[str, Any], fault: str) -> dict[str, Any]:
    text, finish, refusal = json.dumps(written), "stop", None
    if fault == "malformed":
        text = text[: len(text) // 2]
    elif fault == "cut off":
        text, finish = text[: len(text) // 2], "length"
    elif fault == "wrong numbers":
        text = json.dumps({"items": [{**i, "number": i["number"] + 90} for i in written["items"]]})
    elif fault == "same questions":
        items = [{**i, "questions": i["questions"][:1] * 9} for i in written["items"]]
        text = json.dumps({"items": items})
    elif fault == "wrong answers":
        text = json.dumps({"items": [{**i, "answer": "It is nice."} for i in written["items"]]})
    elif fault.startswith("score "):
        text = json.dumps({**written, "score": int(fault.removeprefix("score "))})
    elif fault == "refusal":
        text, refusal = "", "I would rather not."
    elif fault == "filtered":
        text, finish = "", "content_filter"
    message = {"role": "assistant", "content": text or None, "refusal": refusal}
    usage = {
        "prompt_tokens": len(prompt) // 4,
        "completion_tokens": len(text) // 4,
        "total_tokens": (len(prompt) + len(text)) // 4,
    }
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "test",
        "choices": [{"index": 0, "finish_reason": finish, "message": message}],
        "usage": None if fault == "no usage" else usage,
    }


def shares(seed: int, **of: float) -> Fault:
    """Faults for shares of all requests, drawn by subject and number: {"http 500": 0.02}."""

    def fault(subject: str, number: int) -> str:
        drawn = random.Random(f"{seed} {subject} {number}").random()
        for name, share in of.items():
            if drawn < share:
                return name
            drawn -= share
        return ""

    return fault


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--latency", type=float, default=0.3)
    parser.add_argument("--faults", default="{}", help="name -> share of requests, JSON")
    given = parser.parse_args()
    server = ChatServer(latency=given.latency, fault=shares(1, **json.loads(given.faults)))
    server.keeps_bodies = False

    async def counts(_request: web.Request) -> web.Response:
        return web.json_response({"requests": server.requests, "answers": server.answers})

    async def serve() -> None:
        app = server.app()
        app.router.add_get("/counts", counts)
        await _start(web.AppRunner(app, access_log=None), given.port)
        await asyncio.Event().wait()

    asyncio.run(serve())


if __name__ == "__main__":
    main()

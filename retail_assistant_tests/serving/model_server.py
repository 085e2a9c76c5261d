"""An OpenAI-compatible model server in a process of its own, as `RETAIL_SERVING_COMMAND` starts it.

`python -m retail_assistant_tests.serving.model_server --port PORT --name NAME` answers each chat
with its own name, over and over, a word every few milliseconds. Where the name holds "broken" it
does not start. With `--nim` it has NVIDIA NIM's health routes, and none of others. After SIGUSR1 it
still says that it is well, and writes nothing any more.
"""

import argparse
import asyncio
import json
import signal
import sys
from typing import Any

from aiohttp import web

WORDS = 12
SECONDS_A_WORD = 0.02
SECONDS_TO_HANG = 600


class ModelServer:
    """Streams chat completions; counts those that a client left early."""

    def __init__(self, name: str, *, nim: bool = False) -> None:
        self.name, self._nim = name, nim
        self.ready = True
        self.hangs = False
        self.left = 0
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.traces: list[str] = []

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        if self._nim:
            app.router.add_get("/v1/health/ready", self._health)
            app.router.add_get("/v1/health/live", self._health)
        return app

    async def _health(self, _: web.Request) -> web.Response:
        status = 200 if self.ready else 503
        return web.json_response({"object": "health-response"}, status=status)

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": self.name, "object": "model"}]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        self.keys.append(request.headers.get("Authorization", ""))
        self.traces.append(request.headers.get("traceparent", ""))
        if not self.ready:
            return web.json_response({"error": {"message": "secret words"}}, status=503)
        if self.hangs:
            await asyncio.sleep(SECONDS_TO_HANG)
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        count = min(WORDS, body["max_tokens"])
        try:
            for _ in range(count):
                await answer.write(event({"delta": {"content": f"{self.name} "}}))
                await asyncio.sleep(SECONDS_A_WORD)
            usage = {"prompt_tokens": 7, "completion_tokens": count, "total_tokens": 7 + count}
            finish = "stop" if count == WORDS else "length"
            await answer.write(event({"delta": {}, "finish_reason": finish}, usage))
            await answer.write(b"data: [DONE]\n\n")
        except ConnectionResetError:
            self.left += 1
        return answer


def event(choice: dict[str, Any], usage: dict[str, int] | None = None) -> bytes:
    """A piece of a streamed chat completion."""
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": None, **choice}],
        "usage": usage,
    }
    return f"data: {json.dumps(chunk)}\n\n".encode()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int)
    parser.add_argument("--name", default="model")
    parser.add_argument("--nim", action="store_true")
    given = parser.parse_args()
    if "broken" in given.name:
        sys.exit("these weights are broken")
    server = ModelServer(given.name, nim=given.nim)
    signal.signal(signal.SIGUSR1, lambda *_: setattr(server, "hangs", True))
    web.run_app(server.app(), host=given.host, port=given.port, print=None, shutdown_timeout=1)


if __name__ == "__main__":
    main()

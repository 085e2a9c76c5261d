"""A GCS emulator as a fixture: a real server process, and before it what the emulator lacks."""

import asyncio
import importlib.util
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from aiohttp import web

BUCKET = "shop"
_NAME = re.compile(rb'"name":\s*("(?:[^"\\]|\\.)*")')
_HOP_BY_HOP = {"transfer-encoding", "content-length", "content-encoding", "connection", "host"}
_LARGEST = 1 << 30
SHORT, SILENT = "short", "silent"
SECONDS_OF_SILENCE = 120

Fault = Callable[[str, str], int | str | None]


@contextmanager
def emulator() -> Iterator[str]:
    """Address of a GCS emulator that has the bucket `shop`; a process of its own."""
    assert importlib.util.find_spec("gcp_storage_emulator"), "it is in requirements/dev.in"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--host=127.0.0.1"]
    command += [f"--port={port}", "--in-memory", f"--default-bucket={BUCKET}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            assert time.monotonic() < deadline, "the emulator does not start"
            assert process.poll() is None
            time.sleep(0.1)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def gcs_emulator() -> Iterator[str]:
    """Address of a GCS emulator that has the bucket `shop`."""
    with emulator() as address:
        yield address


class CloudStorage:
    """A front to the emulator that has what it lacks: preconditions, and bad days.

    url: its address.
    fault: asked of each request (method, path): a status to answer with, `SHORT` (half of the
        answer), `SILENT` (no answer), or None.
    asked: requests by method.
    faults: answers that were faults.
    """

    def __init__(self, emulator: str) -> None:
        self._emulator, self.url = emulator, ""
        self.fault: Fault = lambda _method, _path: None
        self.asked: Counter[str] = Counter()
        self.faults = 0
        self._writing = asyncio.Lock()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Pass a request on, unless a fault or a precondition says otherwise."""
        self.asked[request.method] += 1
        body = await request.read()
        status = self.fault(request.method, request.path)
        if status is not None:
            self.faults += 1
        if status == SHORT:
            return await _cut_off(request, await self._passed_on(request, body))
        if status == SILENT:
            await asyncio.sleep(SECONDS_OF_SILENCE)
        elif isinstance(status, int):
            return web.json_response(
                {"error": {"code": status, "message": "a bad day"}}, status=status
            )
        wanted = request.query.get("ifGenerationMatch")
        if wanted is None:
            return await self._passed_on(request, body)
        async with self._writing:
            if await self._generation(request, body) != wanted:
                told = {"error": {"code": 412, "message": "conditionNotMet"}}
                return web.json_response(told, status=412)
            return await self._passed_on(request, body)

    async def _passed_on(self, request: web.Request, body: bytes) -> web.Response:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP}
        async with (
            aiohttp.ClientSession(auto_decompress=True) as session,
            session.request(
                request.method,
                f"{self._emulator}{request.raw_path}",
                data=body,
                headers=headers,
                allow_redirects=False,
            ) as answer,
        ):
            content = await answer.read()
            given = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP_BY_HOP}
        # The emulator tells its own address where the client is to go on.
        given = {k: v.replace(self._emulator, self.url) for k, v in given.items()}
        if "json" in answer.headers.get("Content-Type", ""):
            content = content.replace(self._emulator.encode(), self.url.encode())
        return web.Response(body=content, status=answer.status, headers=given)

    async def _generation(self, request: web.Request, body: bytes) -> str:
        """The generation of the object that a request is about; "0": there is none."""
        if request.method == "DELETE":
            name = request.path.partition("/o/")[2]
        else:
            name = request.query.get("name") or json.loads(_NAME.search(body)[1])  # type: ignore[index]
        address = f"{self._emulator}/storage/v1/b/{BUCKET}/o/{quote(name, safe='')}"
        async with aiohttp.ClientSession() as session, session.get(address) as answer:
            if answer.status == 404:
                return "0"
            found: dict[str, Any] = await answer.json(content_type=None)
        return str(found["generation"])


async def _cut_off(request: web.Request, answer: web.Response) -> web.StreamResponse:
    """Half of an answer, and then the end of the connection."""
    whole = bytes(answer.body) if isinstance(answer.body, bytes) else b""
    half = web.StreamResponse(status=answer.status, headers=answer.headers)
    half.content_length = len(whole)
    await half.prepare(request)
    await half.write(whole[: len(whole) // 2])
    if request.transport is not None:
        request.transport.close()
    return half


@contextmanager
def cloud_storage(emulator: str) -> Iterator[CloudStorage]:
    """The front, on a port of its own."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    storage = CloudStorage(emulator)
    app = web.Application(client_max_size=_LARGEST)
    app.router.add_route("*", "/{path:.*}", storage.handle)
    runner = web.AppRunner(app, shutdown_timeout=1)

    async def start() -> int:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return int(runner.addresses[0][1])

    storage.url = f"http://127.0.0.1:{loop.run_until_complete(start())}"
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield storage
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()

"""A server of images, good ones and every kind of trouble, in a process of its own.

    python -m retail_assistant_tests.catalog.images.server --port-file FILE

Counts what it was asked for: `/hits` answers with path -> requests.
"""

import argparse
import asyncio
import gzip
import io
import os
import struct
import zlib
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

from aiohttp import web
from PIL import Image

MANY = 1 << 20


def jpeg(number: int, size: tuple[int, int] = (120, 160), kind: str = "JPEG") -> bytes:
    """An image whose content depends on its number."""
    color = (number * 37 % 256, number * 101 % 256, number // 256 % 256)
    image = Image.new("RGB", size, color)
    image.putpixel((0, 0), (255 - color[0], 0, number % 256))
    buffer = io.BytesIO()
    image.save(buffer, kind, comment=str(number).encode()) if kind == "JPEG" else image.save(
        buffer, kind
    )
    return buffer.getvalue()


def png_bomb(side: int) -> bytes:
    """A PNG of a few kilobytes that announces side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(MANY))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


class Trouble:
    """The handlers, and what they count."""

    def __init__(self) -> None:
        self.hits: Counter[str] = Counter()
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    @web.middleware
    async def count(self, request: web.Request, handler: object) -> web.StreamResponse:
        if request.path in ("/hits", "/most"):
            return await handler(request)
        self.hits[request.path] += 1
        places = ("all", request.host)
        for place in places:
            self.now[place] += 1
            self.most[place] = max(self.most[place], self.now[place])
        try:
            return await handler(request)
        finally:
            for place in places:
                self.now[place] -= 1

    async def report(self, request: web.Request) -> web.Response:
        return web.json_response(self.hits if request.path == "/hits" else self.most)

    async def good(self, request: web.Request) -> web.Response:
        await asyncio.sleep(float(request.query.get("latency", 0)))
        return _image(jpeg(int(request.match_info["number"])))

    async def large(self, request: web.Request) -> web.Response:
        return _image(jpeg(7, size=(1200, 900)))

    async def png(self, request: web.Request) -> web.Response:
        return _image(jpeg(1, kind="PNG"))

    async def html(self, request: web.Request) -> web.Response:
        return _image(b"<!DOCTYPE html><title>Not here</title>")

    async def bomb(self, request: web.Request) -> web.Response:
        return _image(png_bomb(int(request.match_info["side"])))

    async def truncated(self, request: web.Request) -> web.Response:
        content = jpeg(3, size=(600, 600))
        return _image(content[: len(content) // 2])

    async def silent(self, request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return _image(jpeg(1))

    async def drip(self, request: web.Request) -> web.StreamResponse:
        return await self._stream(request, b"\xff", pause=0.2)

    async def endless(self, request: web.Request) -> web.StreamResponse:
        return await self._stream(request, bytes(MANY), pause=0)

    async def _stream(self, request: web.Request, piece: bytes, pause: float) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "image/jpeg"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        while True:
            await response.write(piece)
            await asyncio.sleep(pause)

    async def reset(self, request: web.Request) -> web.Response:
        request.transport.abort()
        return web.Response()

    async def short(self, request: web.Request) -> web.StreamResponse:
        """Announces more than it sends."""
        response = web.StreamResponse(headers={"Content-Type": "image/jpeg"})
        response.content_length = 100_000
        await response.prepare(request)
        await response.write(jpeg(1))
        request.transport.close()
        return response

    async def announced(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "image/jpeg"})
        response.content_length = 10**12
        await response.prepare(request)
        return response

    async def gzip_bomb(self, request: web.Request) -> web.Response:
        return _image(gzip.compress(bytes(64 * MANY)), {"Content-Encoding": "gzip"})

    async def gzipped(self, request: web.Request) -> web.Response:
        return _image(gzip.compress(jpeg(5)), {"Content-Encoding": "gzip"})

    async def flaky(self, request: web.Request) -> web.Response:
        if self.hits[request.path] == 1:
            return web.Response(status=int(request.query.get("status", 500)))
        return _image(jpeg(11))

    async def busy(self, request: web.Request) -> web.Response:
        if self.hits[request.path] == 1:
            later = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
            wait = later if "date" in request.query else "1"
            return web.Response(status=429, headers={"Retry-After": wait})
        return _image(jpeg(13))

    async def status(self, request: web.Request) -> web.Response:
        return web.Response(status=int(request.match_info["code"]))

    async def redirect(self, request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": request.query["to"]})

    async def loop(self, request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": str(request.rel_url)})


def _image(content: bytes, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=content, headers={"Content-Type": "image/jpeg", **(headers or {})})


def application() -> web.Application:
    trouble = Trouble()
    app = web.Application(middlewares=[trouble.count])
    routes = {
        "/hits": trouble.report,
        "/most": trouble.report,
        "/good/{number}.jpg": trouble.good,
        "/bomb/{side}.png": trouble.bomb,
        "/status/{code}": trouble.status,
        "/flaky/{name}": trouble.flaky,
        "/busy/{name}": trouble.busy,
    }
    for handler in (
        trouble.large,
        trouble.png,
        trouble.html,
        trouble.truncated,
        trouble.silent,
        trouble.drip,
        trouble.endless,
        trouble.reset,
        trouble.short,
        trouble.announced,
        trouble.gzip_bomb,
        trouble.gzipped,
        trouble.redirect,
        trouble.loop,
    ):
        routes[f"/{handler.__name__}"] = handler
    for path, handler in routes.items():
        app.router.add_get(path, handler)
    return app


async def serve(port_file: Path) -> None:
    runner = web.AppRunner(application(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=512)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    port_file.with_suffix(".new").write_text(str(port))
    port_file.with_suffix(".new").replace(port_file)
    while os.getppid() != 1:
        await asyncio.sleep(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port-file", type=Path, required=True)
    asyncio.run(serve(parser.parse_args().port_file))


if __name__ == "__main__":
    main()

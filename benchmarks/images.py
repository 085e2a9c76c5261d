"""Seconds to fetch images from a local server that takes its time and sometimes fails.

    .venv/bin/python benchmarks/images.py [--rounds 3] [--concurrency 16 20 64] [--reference DIR]

A server in a process of its own answers every request after 100 ms; the first request for one
URL in twenty is answered with 503. Its images are JPEGs of 600 x 800 pixels and 67 kB, which is
usual for product photos (`--size` gives others). Ours is the whole workload `catalog.images.fetch`
on Ray with the shipped policy (but for concurrency, the server's address and a first backoff of
0.1 s): every image is decoded to the end, stored in a folder by its hash, with a thumbnail and a
receipt. Seconds are from Ray being ready to the last receipt; starting and ending Ray and writing
the table are told beside them. Ideal = latency x images / concurrency.

`--reference` names a checkout of github.com/GoogleCloudPlatform/accelerated-platforms, of August
2026 or later (ten threads an actor) or of before (one image after the other). Its
`DataPreprocessor.get_product_image` is run as its pipeline runs it, a batch of 200 products at a
time, one process a core, without Ray. It takes a product's first image that downloads, does not
look at it, makes no thumbnail, and does not ask again. It uploads with google-cloud-storage, here
to the same server, which answers uploads at once. Nothing of its code is changed; its language
model is not loaded. It is given fewer images, and compared by images a second.
"""

import argparse
import asyncio
import io
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import polars as pl

from retail_assistant.catalog.images.policy import ImagePolicy
from retail_assistant.launch.local import run_local
from retail_assistant.launch.spec import LaunchSpec
from retail_assistant.storage import TableStore

LATENCY = 0.1
FAILS_ONCE = 20
DETAIL = 12
"""Pixels between the photos' details; with it a pixel takes about as many bytes as in real ones."""


def photo(size: tuple[int, int]) -> bytes:
    """A JPEG of random content."""
    from PIL import Image

    noise = Image.effect_noise((size[0] // DETAIL, size[1] // DETAIL), 60).resize(size)
    slope = Image.linear_gradient("L").resize(size)
    buffer = io.BytesIO()
    Image.merge("RGB", (noise, slope, noise.transpose(0))).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


async def serve(port: int, size: tuple[int, int]) -> None:
    from aiohttp import web

    photos = [photo(size) for _ in range(64)]
    asked: Counter[str] = Counter()

    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(LATENCY)
        number = int(request.match_info["number"])
        asked[request.path] += 1
        if number % FAILS_ONCE == 0 and asked[request.path] == 1:
            return web.Response(status=503)
        # A JPEG may be followed by anything: every image has content of its own.
        content = photos[number % len(photos)] + request.path.encode()
        return web.Response(body=content, content_type="image/jpeg")

    async def upload(request: web.Request) -> web.Response:
        await request.read()
        return web.json_response({"kind": "storage#object"})

    app = web.Application()
    app.router.add_get("/{round}/{number}.jpg", answer)
    app.router.add_post("/upload/storage/v1/b/{bucket}/o", upload)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    await asyncio.Event().wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def started(command: list[str], port: int) -> subprocess.Popen:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return process
    raise SystemExit(f"{command} does not listen on {port}")


def urls(port: int, label: str, images: int) -> list[str]:
    return [f"http://127.0.0.1:{port}/{label}/{number}.jpg" for number in range(images)]


def ours(addresses: list[str], port: int, concurrency: int, root: Path) -> dict:
    folder = Path(tempfile.mkdtemp(dir=root))
    products = pl.DataFrame(
        {
            "product_id": [str(number) for number in range(len(addresses))],
            "image_urls": [[url] for url in addresses],
        }
    )
    table = TableStore(folder).write(products, "assortment")
    policy = ImagePolicy(
        concurrency=concurrency,
        concurrency_per_host=concurrency,
        backoff=0.1,
        ports=(port,),
        allowed_private_networks=("127.0.0.0/8",),
    )
    spec = LaunchSpec(
        name="product_images",
        module="retail_assistant.catalog.images.fetch",
        config={"policy": policy.model_dump(mode="json"), "store": str(folder / "objects")},
        inputs={"assortment": table.sha256},
        paths={"assortment": table.path},
        code_version="1",
        root=folder,
    )
    metrics = run_local(spec).metrics
    assert metrics["statuses"] == {"stored": len(addresses)}, metrics
    return metrics


REFERENCE_PROGRAM = """
import sys, time, logging
sys.path[:0] = [sys.argv[1]]
# What its constructor loads besides: a language model that images do not need.
import types
sys.modules["spacy"] = types.ModuleType("spacy")
sys.modules["jsonpickle"] = types.ModuleType("jsonpickle")
import pandas as pd
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
plain = storage.Client
storage.Client = lambda: plain(project="benchmark", credentials=AnonymousCredentials())
from datapreprocessing.datacleaner import DataPreprocessor
serial = not hasattr(DataPreprocessor, "_process_single_row_image")
cleaner = DataPreprocessor.__new__(DataPreprocessor)
cleaner.storage_client = storage.Client()
cleaner.max_workers = 10
addresses = open(sys.argv[2]).read().split()
logging.disable(logging.CRITICAL)
began, found = time.perf_counter(), 0
for start in range(0, len(addresses), 200):
    batch = addresses[start:start + 200]
    frame = pd.DataFrame({"uniq_id": [f"{sys.argv[3]}-{start + n}" for n in range(len(batch))],
                          "image": [f'["{url}"]' for url in batch]})
    found += cleaner.get_product_image(frame, "node", "images", "f")["image_uri"].notna().sum()
print(time.perf_counter() - began, found, 1 if serial else cleaner.max_workers)
"""


class Reference(NamedTuple):
    """What came of one run of the reference's processes."""

    seconds: float
    """Of the slowest."""
    found: int
    threads: int


def reference(addresses: list[str], folder: Path, actors: int) -> Reference:
    """One run; each process gets its share of the images."""
    code = folder / "modules" / "python" / "src"
    processes = []
    for actor in range(actors):
        listed = Path(tempfile.mkstemp(prefix="urls-")[1])
        listed.write_text("\n".join(addresses[actor::actors]))
        command = [sys.executable, "-c", REFERENCE_PROGRAM, str(code), str(listed), str(actor)]
        processes.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    told = []
    for process in processes:
        output, errors = process.communicate()
        if process.returncode:
            raise SystemExit(errors)
        told.append([float(number) for number in output.split()])
    seconds, found, threads = zip(*told, strict=True)
    return Reference(max(seconds), int(sum(found)), int(sum(threads)))


def report(name: str, images: int, seconds: list[float], ideal: float, note: str = "") -> None:
    middle = statistics.median(seconds)
    spread = f"{min(seconds):.1f} to {max(seconds):.1f}"
    numbers = (
        f"{images:>7}{middle:>9.1f}  {spread:<16}{images / middle:>9.0f}{middle / ideal:>9.2f}"
    )
    print(f"{name:<22}{numbers}  {note}")


def measure(given: argparse.Namespace, port: int, root: Path) -> None:
    print(f"{os.cpu_count()} cores; medians of {given.rounds} rounds")
    print(f"{'':<22}{'images':>7}{'seconds':>9}  {'spread':<16}{'images/s':>9}{'/ ideal':>9}")
    rates = {}
    for concurrency in given.concurrency:
        seconds, beside = [], []
        for turn in range(given.rounds):
            addresses = urls(port, f"ours-{concurrency}-{turn}", given.images)
            metrics = ours(addresses, port, concurrency, root)
            seconds.append(metrics["seconds_fetching"])
            beside.append(metrics["seconds"] - metrics["seconds_fetching"])
        ideal = LATENCY * given.images / concurrency
        note = f"and {statistics.median(beside):.1f} s to start and end Ray"
        report(f"ours, {concurrency} at a time", given.images, seconds, ideal, note)
        rates[concurrency] = given.images / statistics.median(seconds)
    if given.reference is not None:
        compare(given, port, rates)


def compare(given: argparse.Namespace, port: int, rates: dict[int, float]) -> None:
    """The reference's rows, and how many times as many images ours fetched in a second."""
    runs = []
    for turn in range(given.rounds):
        addresses = urls(port, f"reference-{turn}", given.reference_images)
        runs.append(reference(addresses, given.reference, os.cpu_count() or 1))
    times, threads = [run.seconds for run in runs], runs[0].threads
    ideal = LATENCY * given.reference_images / threads
    name = f"reference, {threads} threads"
    report(name, given.reference_images, times, ideal, f"got {runs[0].found}")
    for concurrency, rate in rates.items():
        faster = rate * statistics.median(times) / given.reference_images
        print(f"    ours, {concurrency} at a time: {faster:.1f} x that, per image")


def size(text: str) -> tuple[int, int]:
    width, height = text.split("x")
    return int(width), int(height)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[16, 20, 64])
    parser.add_argument("--size", type=size, default="600x800", help="of the images, in pixels")
    parser.add_argument("--reference", type=Path, help="a checkout of accelerated-platforms")
    parser.add_argument("--reference-images", type=int, default=400)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve(given.serve, given.size))
        return
    port = free_port()
    pixels = "x".join(str(side) for side in given.size)
    server = started([sys.executable, __file__, "--serve", str(port), "--size", pixels], port)
    os.environ["STORAGE_EMULATOR_HOST"] = f"http://127.0.0.1:{port}"
    # Removed at the end only: for minutes after files were deleted ext4 is slow to make new ones.
    with tempfile.TemporaryDirectory(prefix="images-") as root:
        try:
            measure(given, port, Path(root))
        finally:
            server.kill()


if __name__ == "__main__":
    main()

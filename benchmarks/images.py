"""Seconds to fetch images from a local server that takes its time and sometimes fails.

    .venv/bin/python benchmarks/images.py [--rounds 3] [--concurrency 16 64] [--reference DIR]

A server in a process of its own answers every request after 100 ms; the first request for one
URL in twenty is answered with 503. Ours is the whole workload `catalog.images.fetch` on Ray with
the shipped policy (but for concurrency, the server's address and a first backoff of 0.1 s): all
images stored, decoded, checked, with thumbnails and receipts. Seconds are from the first request
to the last receipt; starting Ray is a column of its own. Ideal = latency x images / concurrency.

`--reference` names a checkout of github.com/GoogleCloudPlatform/accelerated-platforms. Its
`DataPreprocessor.get_product_image` is run as its pipeline runs it: batches of 200 products, ten
threads an actor, one actor, and one a core (its pipeline has one to eight), each a process without
Ray. It downloads with urllib, does not try again, and uploads with google-cloud-storage, here to an
emulator in a process of its own (package gcp-storage-emulator). Nothing of its code is changed;
its language model is not loaded. It is given fewer images, and compared by images a second.
"""

import argparse
import asyncio
import io
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import polars as pl

from retail_assistant.catalog.images.policy import ImagePolicy
from retail_assistant.launch.local import run_local
from retail_assistant.launch.spec import LaunchSpec
from retail_assistant.storage import TableStore

LATENCY = 0.1
FAILS_ONCE = 20
SIZE = (240, 320)
BUCKET = "images"


def photo(number: int) -> bytes:
    """A JPEG of about 25 kB whose content depends on its number."""
    from PIL import Image

    noise = Image.effect_noise((SIZE[0] // 4, SIZE[1] // 4), 60).resize(SIZE)
    color = Image.new("L", SIZE, number * 37 % 256)
    buffer = io.BytesIO()
    picture = Image.merge("RGB", (noise, color, noise.transpose(0)))
    picture.save(buffer, "JPEG", quality=90, comment=str(number).encode())
    return buffer.getvalue()


async def serve(port: int) -> None:
    from aiohttp import web

    photos = [photo(number) for number in range(64)]
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

    app = web.Application()
    app.router.add_get("/{round}/{number}.jpg", answer)
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


def ours(addresses: list[str], port: int, concurrency: int) -> dict:
    folder = Path(tempfile.mkdtemp(prefix="images-"))
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
    shutil.rmtree(folder)
    assert metrics["statuses"] == {"stored": len(addresses)}, metrics
    return metrics


REFERENCE_PROGRAM = """
import sys, time, logging
sys.path[:0] = [sys.argv[1]]
# What its constructor loads besides: a language model that images do not need.
import types
sys.modules["spacy"] = None
sys.modules.setdefault("jsonpickle", types.ModuleType("jsonpickle"))
import importlib.machinery, pandas as pd
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
plain = storage.Client
storage.Client = lambda: plain(project="benchmark", credentials=AnonymousCredentials())
from datapreprocessing.datacleaner import DataPreprocessor
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
print(time.perf_counter() - began, found)
"""


def reference(addresses: list[str], folder: Path, actors: int) -> tuple[float, int]:
    """Seconds of the slowest of the processes, and the images that they got together."""
    code = folder / "modules" / "python" / "src"
    processes = []
    for actor in range(actors):
        listed = Path(tempfile.mkstemp(prefix="urls-")[1])
        listed.write_text("\n".join(addresses[actor::actors]))
        command = [sys.executable, "-c", REFERENCE_PROGRAM, str(code), str(listed), str(actor)]
        processes.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    seconds, found = [], 0
    for process in processes:
        told, errors = process.communicate()
        if process.returncode:
            raise SystemExit(errors)
        seconds.append(float(told.split()[0]))
        found += int(told.split()[1])
    return max(seconds), found


def report(name: str, images: int, seconds: list[float], ideal: float, note: str = "") -> None:
    middle = statistics.median(seconds)
    spread = f"{min(seconds):.1f} to {max(seconds):.1f}"
    numbers = (
        f"{images:>7}{middle:>9.1f}  {spread:<16}{images / middle:>9.0f}{middle / ideal:>9.2f}"
    )
    print(f"{name:<22}{numbers}  {note}")


def measure(given: argparse.Namespace, port: int) -> None:
    print(f"{os.cpu_count()} cores; medians of {given.rounds} rounds")
    print(f"{'':<22}{'images':>7}{'seconds':>9}  {'spread':<16}{'images/s':>9}{'/ ideal':>9}")
    rates = {}
    for concurrency in given.concurrency:
        seconds, starting = [], []
        for turn in range(given.rounds):
            addresses = urls(port, f"ours-{concurrency}-{turn}", given.images)
            metrics = ours(addresses, port, concurrency)
            seconds.append(metrics["seconds_fetching"])
            starting.append(metrics["seconds"] - metrics["seconds_fetching"])
        ideal = LATENCY * given.images / concurrency
        note = f"and {statistics.median(starting):.1f} s to start and end Ray"
        report(f"ours, {concurrency} at a time", given.images, seconds, ideal, note)
        rates[concurrency] = given.images / statistics.median(seconds)
    if given.reference is None:
        return
    for actors in sorted({1, min(8, os.cpu_count() or 1)}):
        times, found = [], 0
        for turn in range(given.rounds):
            addresses = urls(port, f"reference-{actors}-{turn}", given.reference_images)
            taken, found = reference(addresses, given.reference, actors)
            times.append(taken)
        threads = 10 * actors
        ideal = LATENCY * given.reference_images / threads
        name = f"reference, {threads} threads"
        report(name, given.reference_images, times, ideal, f"got {found}")
        for concurrency, rate in rates.items():
            faster = rate / (given.reference_images / statistics.median(times))
            print(f"    ours, {concurrency} at a time: {faster:.1f} x that, per image")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--reference", type=Path, help="a checkout of accelerated-platforms")
    parser.add_argument("--reference-images", type=int, default=400)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve(given.serve))
        return
    port, emulator_port = free_port(), free_port()
    processes = [started([sys.executable, __file__, "--serve", str(port)], port)]
    if given.reference is not None:
        emulator = [sys.executable, "-m", "gcp_storage_emulator", "start", "--host=127.0.0.1"]
        emulator += [f"--port={emulator_port}", "--in-memory", f"--default-bucket={BUCKET}"]
        processes.append(started(emulator, emulator_port))
        os.environ["STORAGE_EMULATOR_HOST"] = f"http://127.0.0.1:{emulator_port}"
    try:
        measure(given, port)
    finally:
        for process in processes:
            process.kill()


if __name__ == "__main__":
    main()

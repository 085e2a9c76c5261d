"""Whole runs on Ray: what is fetched, what is not fetched again, what survives a kill."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import psutil
import pytest

from retail_assistant.launch.local import run_local
from retail_assistant.launch.spec import LaunchError, LaunchSpec
from retail_assistant.objects import ObjectStore
from retail_assistant.storage import write_atomically
from retail_assistant_tests.catalog.images.conftest import ImageRun, ImageServer
from retail_assistant_tests.faults.disks import enlarge, small_disk

pytestmark = pytest.mark.slow

MakeRun = Callable[..., ImageRun]
SECONDS = 120
MANY = 300


def good(server: ImageServer, number: int, latency: float = 0) -> str:
    return server.url(f"good/{number}.jpg?latency={latency}")


def finished(store: ObjectStore) -> set[str]:
    """The hashes in the names of the receipts that are there."""
    return {name.rsplit("/")[-1] for name in store.sizes("receipts/loose")}


def wait_for_receipts(store: ObjectStore, at_least: int, command: psutil.Process | None) -> set:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        done = finished(store)
        if len(done) >= at_least:
            return done
        assert command is None or command.is_running(), "the run ended too early"
        time.sleep(0.02)
    raise AssertionError("no receipts")


def test_every_url_has_a_row_and_none_is_asked_twice(
    image_server: ImageServer, image_run: MakeRun, ray_address: str
) -> None:
    run = image_run(ray_address=ray_address)
    urls = [
        [good(image_server, 1), good(image_server, 2), image_server.url("status/404")],
        [],
        [good(image_server, 1), "nonsense", image_server.url("status/500")],
        ["http://no-such-host.invalid/a.jpg", image_server.url("html")],
    ]
    table = run.table(urls)
    assert table.select("product_id", "position", "url").rows() == [
        (f"p{product}", position, url)
        for product, found in enumerate(urls)
        for position, url in enumerate(found)
    ]
    assert table["status"].to_list() == [
        *["stored", "stored", "not_found"],
        *["stored", "invalid_url", "http_error"],
        # port 80 of a name that nobody has
        *["connection_error", "wrong_type"],
    ]
    store = ObjectStore(run.store_uri)
    stored = table.filter(pl.col("status") == "stored")
    for row in stored.iter_rows(named=True):
        assert Path(row["object_uri"]).stat().st_size == row["size"]
        assert Path(row["thumbnail_uri"]).is_file()
    assert image_server.hits()["/good/1.jpg"] == 1
    assert finished(store) == set(), "receipts are merged at the end of a run"

    again = run.table(urls, run="second")
    assert again.drop("attempts", "detail").equals(table.drop("attempts", "detail"))
    hits = image_server.hits()
    assert (hits["/good/1.jpg"], hits["/good/2.jpg"]) == (1, 1)
    assert hits["/status/404"] == 2, "by default a failure is asked again by a later run"
    assert hits["/status/500"] == 4

    patient = image_run(ray_address=ray_address, retry_failed=False)
    patient.table(urls, run="third")
    hits = image_server.hits()
    assert (hits["/status/404"], hits["/html"], hits["/status/500"]) == (2, 2, 6)


@pytest.mark.fault(
    "A stored image is gone or emptied",
    "It alone is fetched again",
)
def test_what_is_missing_or_damaged_in_the_store_is_fetched_again(
    image_server: ImageServer, image_run: MakeRun, ray_address: str
) -> None:
    run = image_run(ray_address=ray_address)
    urls = [[good(image_server, number) for number in range(4)]]
    first = run.table(urls)
    lost, cut, thumbless, _ = (dict(row) for row in first.iter_rows(named=True))
    Path(lost["object_uri"]).unlink()
    Path(cut["object_uri"]).write_bytes(b"")
    Path(thumbless["thumbnail_uri"]).unlink()
    assert run.table(urls, run="second").equals(first)
    assert Path(lost["object_uri"]).stat().st_size == lost["size"]
    assert Path(cut["object_uri"]).stat().st_size == cut["size"]
    assert Path(thumbless["thumbnail_uri"]).is_file()
    hits = image_server.hits()
    assert [hits[f"/good/{number}.jpg"] for number in range(4)] == [2, 2, 1, 1]


def test_another_thumbnail_size_needs_no_download(
    image_server: ImageServer, image_run: MakeRun, ray_address: str
) -> None:
    urls = [[good(image_server, number) for number in range(3)]]
    image_run(ray_address=ray_address).table(urls)
    table = image_run(ray_address=ray_address, thumbnail_side=64).table(urls)
    assert table["thumbnail_uri"].str.contains("thumbnails/64px/").all()
    assert all(Path(uri).is_file() for uri in table["thumbnail_uri"])
    assert set(image_server.hits().values()) == {1}


def test_first_success_takes_no_more_than_it_needs(
    image_server: ImageServer, image_run: MakeRun, ray_address: str
) -> None:
    bad = image_server.url("status/404")
    urls = [
        [good(image_server, 1), good(image_server, 2)],
        [bad, good(image_server, 3), good(image_server, 4)],
        [bad, bad],
        [bad, good(image_server, 1)],
    ]
    table = image_run(ray_address=ray_address, mode="first").table(urls)
    assert table["status"].to_list() == [
        *["stored", "skipped"],
        *["not_found", "stored", "skipped"],
        *["not_found", "not_found"],
        *["not_found", "stored"],
    ]
    assert image_server.hits() == {"/good/1.jpg": 1, "/good/3.jpg": 1, "/status/404": 1}
    assert table.filter(pl.col("status") == "skipped")["object_uri"].null_count() == 2


def descendants(name: str) -> list[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    return [process for process in found if name in " ".join(process.cmdline())]


def start(spec: LaunchSpec) -> subprocess.Popen[bytes]:
    """The workload's own process, with nothing around it."""
    write_atomically(spec.folder / "spec.json", spec.model_dump_json())
    log = (spec.folder / "test.log").open("wb")
    return subprocess.Popen(
        [sys.executable, "-m", spec.module, "--spec", str(spec.folder / "spec.json")],
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


@pytest.mark.fault(
    "A Ray worker that fetches images is killed",
    "Another takes its place; nothing finished is fetched again",
)
def test_a_worker_that_is_killed_loses_nothing_and_repeats_nothing_finished(
    image_server: ImageServer, image_run: MakeRun
) -> None:
    run = image_run(concurrency=8, concurrency_per_host=8, workers=2)
    urls = [[good(image_server, number, latency=0.1)] for number in range(MANY)]
    spec = run.spec(urls, "")
    process = start(spec)
    try:
        store = ObjectStore(run.store_uri)
        wait_for_receipts(store, MANY // 4, psutil.Process(process.pid))
        worker = next(iter(descendants("ray::ImageWorker")))
        worker.send_signal(signal.SIGSTOP)
        done = len(finished(store))
        hits = image_server.hits()
        worker.kill()
        assert process.wait(timeout=SECONDS) == 0, (spec.folder / "test.log").read_text()
    finally:
        process.kill()
    table = pl.read_parquet(spec.folder / "images.parquet")
    assert table["status"].to_list() == ["stored"] * MANY
    repeated = sum(count - 1 for count in image_server.hits().values())
    assert set(image_server.hits().values()) <= {1, 2}
    # What the worker had asked for and not finished; each worker has half of the concurrency.
    assert repeated <= 2 * 8
    print(f"\n{done} finished and {sum(hits.values())} asked at the kill, {repeated} asked twice")


@pytest.mark.fault(
    "An image takes every Ray worker with it",
    "That image is given up, the others are stored",
)
def test_an_image_that_takes_every_worker_with_it_costs_itself_only(
    image_server: ImageServer, image_run: MakeRun
) -> None:
    run = image_run(workers=1, attempts=1, read_timeout=60.0, total_timeout=60.0)
    deadly = image_server.url("silent")
    urls = [[good(image_server, number)] for number in range(5)] + [[deadly]]
    spec = run.spec(urls, "")
    process = start(spec)
    try:
        for time_asked in (1, 2, 3):
            deadline = time.monotonic() + SECONDS
            while image_server.hits().get("/silent", 0) < time_asked:
                assert time.monotonic() < deadline
                assert process.poll() is None, (spec.folder / "test.log").read_text()
                time.sleep(0.1)
            wait_for_receipts(ObjectStore(run.store_uri), 5, psutil.Process(process.pid))
            for worker in descendants("ray::ImageWorker"):
                worker.kill()
        assert process.wait(timeout=SECONDS) == 0, (spec.folder / "test.log").read_text()
    finally:
        process.kill()
    table = pl.read_parquet(spec.folder / "images.parquet")
    assert table["status"].to_list() == ["stored"] * 5 + ["worker_died"]
    assert image_server.hits() == {f"/good/{n}.jpg": 1 for n in range(5)} | {"/silent": 3}


@pytest.mark.fault(
    "a run that fetches images is killed",
    "the next one asks only for what was not stored",
)
def test_a_run_that_is_killed_goes_on_where_it_was(
    image_server: ImageServer, image_run: MakeRun
) -> None:
    run = image_run(concurrency=8, concurrency_per_host=8)
    urls = [[good(image_server, number, latency=0.1)] for number in range(MANY)]
    spec = run.spec(urls, "")
    process = start(spec)
    wait_for_receipts(ObjectStore(run.store_uri), MANY // 4, psutil.Process(process.pid))
    children = psutil.Process(process.pid).children(recursive=True)
    # As the launcher does with the group of a process that was killed.
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    _, left = psutil.wait_procs(children, timeout=30)
    assert not left, "Ray outlived the run that started it"
    store = ObjectStore(run.store_uri)
    done = finished(store)
    asked = image_server.hits()
    assert not (spec.folder / "manifest.json").exists()

    table = run.table(urls)
    assert table["status"].to_list() == ["stored"] * MANY
    repeated = sum(count - 1 for count in image_server.hits().values())
    assert repeated == sum(asked.values()) - len(done)
    assert repeated <= 2 * 8
    print(f"\n{len(done)} finished and {sum(asked.values())} asked at the kill, {repeated} twice")


def test_a_bucket_does_as_well_as_a_folder(
    image_server: ImageServer,
    image_run: MakeRun,
    gcs_emulator: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_emulator)
    # The workers of a cluster that is there already have its environment, hence a cluster of ours.
    run = image_run(store_uri="gs://shop/images-of-a-run")
    urls = [[good(image_server, number)] for number in range(20)] + [[image_server.url("html")]]
    table = run.table(urls)
    assert table["status"].to_list() == ["stored"] * 20 + ["wrong_type"]
    store = ObjectStore(run.store_uri)
    for row in table.head(20).iter_rows(named=True):
        name = row["object_uri"].removeprefix(f"{run.store_uri}/")
        assert len(store.get(name) or b"") == row["size"]
    assert finished(store) == set()
    assert run.table(urls, run="second").equals(table)
    assert image_server.hits() == {f"/good/{n}.jpg": 1 for n in range(20)} | {"/html": 2}


HOG = """
import sys, time
import numpy as np
import ray
ray.init(address=sys.argv[1], log_to_driver=False)
kept = [ray.put(np.ones(4 << 20, dtype=np.uint8)) for _ in range(60)]
print("full", flush=True)
time.sleep(600)
"""


@pytest.mark.long_fault
@pytest.mark.fault(
    "The object store of the Ray cluster is full",
    "Work of ours goes on: it keeps next to nothing there",
)
def test_a_full_ray_object_store_holds_nothing_up(
    image_server: ImageServer, image_run: MakeRun, ray_address: str
) -> None:
    hog = subprocess.Popen(
        [sys.executable, "-c", HOG, ray_address],
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert hog.stdout is not None
        assert hog.stdout.readline() == "full\n"
        urls = [[good(image_server, number)] for number in range(40)]
        table = image_run(ray_address=ray_address).table(urls)
        assert table["status"].to_list() == ["stored"] * 40
    finally:
        hog.kill()
        hog.wait()


@pytest.fixture
def little_room(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for few images."""
    with small_disk(tmp_path / "small", "192k") as folder:
        yield folder


@pytest.mark.fault(
    "The disk is full while images are fetched",
    "One line says to make room; the next run fetches the rest only",
)
def test_a_full_disk_stops_the_run_with_one_error_and_it_goes_on_later(
    image_server: ImageServer, image_run: MakeRun, little_room: Path
) -> None:
    run = image_run(store_uri=str(little_room / "objects"), concurrency=4, concurrency_per_host=4)
    urls = [[good(image_server, number)] for number in range(60)]
    with pytest.raises(LaunchError) as stopped:
        run.table(urls)
    message = str(stopped.value)
    assert "No space left on device; make room and run it again" in message
    assert "Traceback" not in message
    done = finished(ObjectStore(run.store_uri))
    assert done
    enlarge(little_room, "20m")
    before = image_server.hits()
    assert run.table(urls)["status"].to_list() == ["stored"] * 60
    repeated = [path for path, hits in image_server.hits().items() if hits > 1]
    assert len(repeated) == sum(before.values()) - len(done)


@pytest.mark.parametrize(
    ("store", "reason"),
    [("{tmp}/file/objects", "cannot write to the object store"), ("ftp://x/y", "allowed are")],
)
@pytest.mark.fault(
    "The store of images cannot be written",
    "The work stops with one line",
)
def test_a_store_that_cannot_be_used_is_said_at_once(
    store: str, reason: str, image_server: ImageServer, image_run: MakeRun, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LaunchError) as stopped:
        image_run(store_uri=store.format(tmp=tmp_path)).table([[good(image_server, 1)]])
    assert reason in str(stopped.value)
    assert "Traceback" not in str(stopped.value)
    assert image_server.hits() == {}


@pytest.mark.fault(
    "No Ray cluster is where RAY_ADDRESS says",
    "One line says so, without a stack",
)
def test_a_ray_address_that_leads_nowhere_is_one_clear_error(
    image_server: ImageServer, image_run: MakeRun
) -> None:
    spec = image_run().spec([[good(image_server, 1)]], "")
    with pytest.raises(LaunchError) as stopped:
        run_local(spec, {"RAY_ADDRESS": "127.0.0.1:1"})
    assert "no Ray cluster at RAY_ADDRESS=127.0.0.1:1" in str(stopped.value)
    assert "Traceback" not in str(stopped.value)

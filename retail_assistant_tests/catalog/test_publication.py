"""Publishing an index to a folder and to an object store's emulator, and opening it from there."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import polars as pl
import pytest

from retail_assistant.catalog.index import CatalogIndex
from retail_assistant.catalog.index_writer import build_index
from retail_assistant.catalog.publication import CatalogIndexError, fetch_index, publish_index
from retail_assistant_tests.catalog.test_index import product_frame, product_id


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "index"
    build_index(product_frame(), folder)
    return folder


@pytest.fixture
def bucket(gcs_emulator: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket of a storage emulator in a process of its own."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_emulator)
    return "gs://shop"


class Refusing(BaseHTTPRequestHandler):
    """An object store that answers every request with the server's `status`."""

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        body = b'{"error": {"message": "Sorry.\\nAsk the owner."}}'
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(params=[401, 403, 409])
def refused(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket whose store refuses: gcsfs raises OSError for 403, else an error of its own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    server.status = request.param  # type: ignore[attr-defined]
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
    yield "gs://shop/index"
    server.shutdown()
    server.server_close()


def assert_answers_alike(index: CatalogIndex, folder: Path) -> None:
    queries = ["Solo Scarf", "marla sumer mini dress", "party wear", f"item {product_id(3)[:8]}"]
    assert index.search_many(queries, 3) == CatalogIndex.open(folder).search_many(queries, 3)


def test_an_index_published_to_a_bucket_answers_like_the_folder(
    bucket: str, folder: Path, tmp_path: Path
) -> None:
    uri = f"{bucket}/assistant/index"
    with pytest.raises(CatalogIndexError, match="holds no catalog index"):
        CatalogIndex.open(uri, tmp_path / "cache")
    published = publish_index(folder, uri)
    index = CatalogIndex.open(uri, tmp_path / "cache")
    assert index.folder == tmp_path / "cache" / published.digest
    assert_answers_alike(index, folder)


def test_publishing_again_replaces_the_index_in_a_bucket(
    bucket: str, folder: Path, tmp_path: Path
) -> None:
    uri = f"{bucket}/index"
    first = publish_index(folder, uri)
    build_index(product_frame().head(3), tmp_path / "small")
    second = publish_index(tmp_path / "small", uri)
    assert first.digest != second.digest
    assert len(CatalogIndex.open(uri, tmp_path / "cache")) == 3
    publish_index(folder, uri)
    assert len(CatalogIndex.open(uri, tmp_path / "cache")) == product_frame().height


def test_an_unreachable_store_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(CatalogIndexError, match="cannot be opened"):
        CatalogIndex.open("nosuchstore://bucket/index", tmp_path)


@pytest.mark.fault(
    "The object store of the published index refuses",
    "One line says what it said and what to do",
)
def test_a_store_that_refuses_is_one_line_with_what_to_do(
    refused: str, folder: Path, tmp_path: Path
) -> None:
    tries = {
        "read": lambda: CatalogIndex.open(refused, tmp_path),
        "written to": lambda: publish_index(folder, refused),
    }
    for what, attempt in tries.items():
        with pytest.raises(CatalogIndexError) as caught:
            attempt()
        message = str(caught.value)
        assert message.startswith(f"{refused} cannot be {what}: ")
        assert "Sorry. Ask the owner." in message
        assert "check the address, your rights and the connection" in message
        assert "\n" not in message


@pytest.mark.fault(
    "a server is killed while it copies a published index",
    "the next one removes what was half copied and copies it whole",
)
def test_what_a_killed_fetch_left_is_removed(folder: Path, tmp_path: Path) -> None:
    uri = (tmp_path / "store").as_uri()
    cache = tmp_path / "cache"
    published = publish_index(folder, uri)
    # A limit on file sizes kills the child as soon as it writes the copy of a larger file.
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from retail_assistant.catalog.publication import fetch_index\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "fetch_index(sys.argv[1], Path(sys.argv[2]))\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, uri, str(cache)], check=False)
    assert killed.returncode == -signal.SIGXFSZ
    assert [path.name.startswith(".fetching-") for path in cache.iterdir()] == [True]
    fetch_index(uri, cache)
    assert [path.name for path in cache.iterdir()] == [published.digest]


def test_a_copy_is_fetched_once(folder: Path, tmp_path: Path) -> None:
    uri = (tmp_path / "store").as_uri()
    published = publish_index(folder, uri)
    copy = fetch_index(uri, tmp_path / "cache")
    for file in published.files:
        (tmp_path / "store" / published.digest / file.path).unlink()
    assert fetch_index(uri, tmp_path / "cache") == copy
    assert_answers_alike(CatalogIndex.open(uri, tmp_path / "cache"), folder)


@pytest.mark.parametrize("damage", ["altered", "cut", "gone"])
@pytest.mark.fault(
    "A file of the published index is altered, cut off or gone",
    "It is not opened, one line says so, and no copy stays",
)
def test_a_damaged_file_is_refused_and_leaves_no_copy(
    folder: Path, tmp_path: Path, damage: str
) -> None:
    published = publish_index(folder, (tmp_path / "store").as_uri())
    largest = max(published.files, key=lambda file: file.size)
    path = tmp_path / "store" / published.digest / largest.path
    content = path.read_bytes()
    if damage == "altered":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "cut":
        path.write_bytes(content[:-1])
    else:
        path.unlink()
    with pytest.raises(CatalogIndexError, match=r"damaged|cannot be fetched"):
        CatalogIndex.open((tmp_path / "store").as_uri(), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "a/../../b", "a\\..\\b", ""])
def test_a_manifest_that_leads_out_of_the_index_is_refused(tmp_path: Path, path: str) -> None:
    entry = {"path": path, "sha256": "0" * 64, "size": 1}
    (tmp_path / "index.json").write_text(json.dumps({"files": [entry]}))
    with pytest.raises(CatalogIndexError, match="damaged"):
        CatalogIndex.open(tmp_path.as_uri(), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_publishing_keeps_every_column(folder: Path, tmp_path: Path) -> None:
    publish_index(folder, (tmp_path / "store").as_uri())
    index = CatalogIndex.open((tmp_path / "store").as_uri(), tmp_path / "cache")
    rows = [index.product(i) for i in sorted(index.product_ids())]
    frame = pl.DataFrame(rows, schema=product_frame().schema)
    assert frame.equals(product_frame().sort("product_id"))

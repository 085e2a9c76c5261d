"""What a worker makes of good servers and hostile ones."""

import hashlib
import io
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from retail_assistant.objects import ObjectStore, ObjectStoreError
from retail_assistant_tests.catalog.images.conftest import ImageServer, MakePolicy, fetch
from retail_assistant_tests.catalog.images.server import jpeg


def test_a_good_image_is_stored_whole_with_its_thumbnail(
    image_server: ImageServer, local_policy: MakePolicy, store_uri: str
) -> None:
    (receipt,) = fetch([image_server.url("large")], local_policy(thumbnail_side=100), store_uri)
    content = jpeg(7, size=(1200, 900))
    assert receipt.status == "stored"
    assert receipt.sha256 == hashlib.sha256(content).hexdigest()
    assert (receipt.type, receipt.width, receipt.height) == ("image/jpeg", 1200, 900)
    assert (receipt.size, receipt.attempts) == (len(content), 1)
    store = ObjectStore(store_uri)
    name = f"{receipt.sha256[:2]}/{receipt.sha256}.jpg"
    assert store.get(f"images/{name}") == content
    thumbnail = Image.open(io.BytesIO(store.get(f"thumbnails/100px/{name}") or b""))
    assert (thumbnail.format, thumbnail.size) == ("JPEG", (100, 75))


@pytest.mark.parametrize(
    ("path", "status", "attempts"),
    [
        ("silent", "timeout", 2),
        ("drip", "timeout", 2),
        ("endless", "too_large", 1),
        ("announced", "too_large", 1),
        ("gzip_bomb", "too_large", 1),
        ("reset", "connection_error", 2),
        ("short", "connection_error", 2),
        ("html", "wrong_type", 1),
        ("status/204", "http_error", 1),
        ("truncated", "undecodable", 1),
        ("bomb/60000.png", "too_many_pixels", 1),
        ("bomb/8000.png", "too_many_pixels", 1),
        ("bomb/2000.png", "undecodable", 1),
        ("status/404", "not_found", 1),
        ("status/410", "not_found", 1),
        ("status/403", "http_error", 1),
        ("status/500", "http_error", 2),
        ("loop", "http_error", 1),
        ("redirect?to=http://169.254.169.254/latest/meta-data/", "refused_address", 1),
        ("redirect?to=http://[::ffff:169.254.169.254]/", "refused_address", 1),
        ("redirect?to=http://2852039166/", "invalid_url", 1),
        ("redirect?to=file:///etc/passwd", "invalid_url", 1),
        ("redirect?to=http://me:secret@images.example/", "invalid_url", 1),
        ("redirect?to=http://[", "invalid_url", 1),
        ("redirect?to=", "http_error", 1),
    ],
)
@pytest.mark.fault(
    "An image server hangs, drips, lies about size or type, redirects for ever, sends a bomb",
    "Each trouble has a status of its own, and costs that image only",
)
def test_trouble_has_its_own_status_and_is_retried_only_where_that_may_help(
    path: str,
    status: str,
    attempts: int,
    image_server: ImageServer,
    local_policy: MakePolicy,
    store_uri: str,
) -> None:
    started = time.monotonic()
    (receipt,) = fetch([image_server.url(path)], local_policy(), store_uri)
    assert (receipt.status, receipt.attempts) == (status, attempts), receipt.detail
    assert receipt.detail
    assert time.monotonic() - started < 10
    assert not ObjectStore(store_uri).sizes("images")


@pytest.mark.parametrize("path", ["flaky/a", "flaky/b?status=503", "busy/a", "busy/b?date"])
def test_a_failure_that_passes_is_asked_again(
    path: str, image_server: ImageServer, local_policy: MakePolicy, store_uri: str
) -> None:
    started = time.monotonic()
    (receipt,) = fetch([image_server.url(path)], local_policy(), store_uri)
    assert (receipt.status, receipt.attempts) == ("stored", 2)
    if path.startswith("busy"):
        assert time.monotonic() - started >= 0.9, "Retry-After was not waited for"


def test_retry_after_is_waited_for_no_longer_than_the_policy_says(
    image_server: ImageServer, local_policy: MakePolicy, store_uri: str
) -> None:
    started = time.monotonic()
    (receipt,) = fetch([image_server.url("busy/c")], local_policy(max_backoff=0.1), store_uri)
    assert receipt.status == "stored"
    assert time.monotonic() - started < 0.9


def test_the_type_is_the_contents_and_a_wrong_declaration_is_recorded(
    image_server: ImageServer, local_policy: MakePolicy, store_uri: str
) -> None:
    url = image_server.url("png")
    (taken,) = fetch([url], local_policy(), store_uri)
    assert (taken.status, taken.type, taken.declared_type) == ("stored", "image/png", "image/jpeg")
    assert taken.detail == "declared as image/jpeg, is image/png"
    (refused,) = fetch([url], local_policy(types=("image/jpeg",)), store_uri)
    assert refused.status == "wrong_type"


def test_a_body_that_was_compressed_unasked_is_inflated(
    image_server: ImageServer, local_policy: MakePolicy, store_uri: str
) -> None:
    (receipt,) = fetch([image_server.url("gzipped")], local_policy(), store_uri)
    assert receipt.sha256 == hashlib.sha256(jpeg(5)).hexdigest()


@pytest.mark.fault(
    "An image's address leads inside: private, metadata, IPv6, a redirect, DNS rebinding",
    "No connection is made, and the image's row says that it was refused",
)
def test_without_a_setting_that_allows_it_this_machine_is_not_asked(
    image_server: ImageServer, local_policy: MakePolicy, store_uri: str
) -> None:
    urls = [
        image_server.url("good/1.jpg"),
        f"http://localhost:{image_server.port}/good/1.jpg",
        f"http://[::1]:{image_server.port}/good/1.jpg",
        f"http://[::ffff:127.0.0.1]:{image_server.port}/good/1.jpg",
        f"http://0.0.0.0:{image_server.port}/good/1.jpg",
    ]
    receipts = fetch(urls, local_policy(allowed_private_networks=()), store_uri)
    assert {receipt.status for receipt in receipts} == {"refused_address"}
    assert image_server.hits() == {}


ODD_SPELLINGS = (
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "127.0.0.1.",
    "localhost.",
    "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460",
    "127\u30020\u30020\u30021",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "127.0.0.1%00.images.example",
    "images.example@127.0.0.1",
)


@pytest.mark.fault(
    "An image's address leads inside: private, metadata, IPv6, a redirect, DNS rebinding",
    "No connection is made, and the image's row says that it was refused",
)
def test_this_machine_in_odd_spellings_is_not_asked(
    image_server: ImageServer, local_policy: MakePolicy, store_uri: str
) -> None:
    urls = [f"http://{host}:{image_server.port}/good/1.jpg" for host in ODD_SPELLINGS]
    receipts = fetch(urls, local_policy(allowed_private_networks=()), store_uri)
    # Some are names, which nobody knows.
    refusals = {"refused_address", "invalid_url", "connection_error"}
    assert {one.status for one in receipts} <= refusals, receipts
    assert image_server.hits() == {}


class Names:
    """A name service under the attacker's hand, and a server behind the address it hides."""

    OPEN, HIDDEN = "127.0.0.1", "127.0.0.2"

    def __init__(self, port: int) -> None:
        self.answers = {"rebind.example": [[self.OPEN], [self.HIDDEN]]}
        self.answers["inside.example"] = [[self.HIDDEN]]
        self.answers["both.example"] = [[self.HIDDEN, self.OPEN]]
        self.asked: Counter[str] = Counter()
        self.hidden = socket.create_server((self.HIDDEN, port))
        self.hidden.setblocking(False)
        self._getaddrinfo = socket.getaddrinfo

    def look_up(self, host: str, port: int, *options: int) -> list:
        answers = self.answers[host]
        addresses = answers[self.asked[host] % len(answers)]
        self.asked[host] += 1
        return [info for name in addresses for info in self._getaddrinfo(name, port, *options)]

    def was_reached(self) -> bool:
        try:
            self.hidden.accept()[0].close()
        except BlockingIOError:
            return False
        return True


@pytest.fixture
def names(image_server: ImageServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    names = Names(image_server.port)
    monkeypatch.setattr(socket, "getaddrinfo", names.look_up)
    yield names
    names.hidden.close()


@pytest.mark.fault(
    "An image's address leads inside: private, metadata, IPv6, a redirect, DNS rebinding",
    "No connection is made, and the image's row says that it was refused",
)
def test_a_redirect_to_a_private_address_by_name_is_refused_when_connecting(
    names: Names, image_server: ImageServer, local_policy: MakePolicy, store_uri: str
) -> None:
    policy = local_policy(allowed_private_networks=(f"{Names.OPEN}/32",))
    target = f"http://inside.example:{image_server.port}/good/1.jpg"
    (receipt,) = fetch([image_server.url(f"redirect?to={target}")], policy, store_uri)
    assert receipt.status == "refused_address"
    assert names.asked["inside.example"] == 1
    assert not names.was_reached()


@pytest.mark.fault(
    "An image's address leads inside: private, metadata, IPv6, a redirect, DNS rebinding",
    "No connection is made, and the image's row says that it was refused",
)
def test_a_name_that_changes_its_address_is_judged_at_each_connection(
    names: Names, image_server: ImageServer, local_policy: MakePolicy, store_uri: str
) -> None:
    policy = local_policy(allowed_private_networks=(f"{Names.OPEN}/32",))
    url = f"http://rebind.example:{image_server.port}/good/1.jpg"
    statuses = [fetch([url], policy, store_uri)[0].status for _ in range(4)]
    assert statuses == ["stored", "refused_address"] * 2
    assert names.asked["rebind.example"] == 4
    assert not names.was_reached()


@pytest.mark.fault(
    "An image's address leads inside: private, metadata, IPv6, a redirect, DNS rebinding",
    "No connection is made, and the image's row says that it was refused",
)
def test_of_a_names_addresses_only_the_allowed_ones_are_connected_to(
    names: Names, image_server: ImageServer, local_policy: MakePolicy, store_uri: str
) -> None:
    policy = local_policy(allowed_private_networks=(f"{Names.OPEN}/32",))
    url = f"http://both.example:{image_server.port}/good/1.jpg"
    assert fetch([url], policy, store_uri)[0].status == "stored"
    assert not names.was_reached()


def test_concurrency_is_bounded_in_total_and_per_host(
    image_server: ImageServer, local_policy: MakePolicy, store_uri: str
) -> None:
    urls = [image_server.url(f"good/{number}.jpg?latency=0.05") for number in range(60)]
    fetch(urls, local_policy(concurrency=12, concurrency_per_host=5), store_uri)
    assert image_server.most_at_once()["all"] == 5
    fetch(
        [url.replace("127.0.0.1", "localhost") for url in urls] + urls,
        local_policy(concurrency=7, concurrency_per_host=5),
        store_uri,
    )
    assert 5 < image_server.most_at_once()["all"] <= 7


@pytest.mark.fault(
    "A host of images never answers",
    "The others are fetched meanwhile; its images are tried a few times only",
)
def test_a_dead_host_does_not_hold_up_the_rest(
    image_server: ImageServer, local_policy: MakePolicy, store_uri: str
) -> None:
    policy = local_policy(give_up_host_after=4, concurrency_per_host=2)
    dead = [f"{image_server.root}/silent?{number}" for number in range(200)]
    alive = [f"http://localhost:{image_server.port}/good/{number}.jpg" for number in range(20)]
    started = time.monotonic()
    receipts = fetch(dead + alive, policy, store_uri)
    assert time.monotonic() - started < 15
    assert [receipt.status for receipt in receipts[200:]] == ["stored"] * 20
    assert all(receipt.may_pass for receipt in receipts[:200])
    assert image_server.hits()["/silent"] <= 4 + 2
    assert len(ObjectStore(store_uri).sizes("receipts/loose")) == 20


@pytest.mark.fault(
    "The store of images cannot be written",
    "The work stops with one line",
)
def test_a_store_that_takes_nothing_stops_the_work_with_one_error(
    image_server: ImageServer, local_policy: MakePolicy, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    urls = [image_server.url(f"good/{number}.jpg") for number in range(3)]
    with pytest.raises(ObjectStoreError, match="cannot write to the object store"):
        fetch(urls, local_policy(), str(tmp_path / "file" / "objects"))

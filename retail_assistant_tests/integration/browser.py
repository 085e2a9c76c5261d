"""A page in the system's headless Chromium that can reach this machine only."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    BrowserContext,
    Page,
    Playwright,
    Route,
    WebSocketRoute,
    sync_playwright,
)

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Background services off: they ask hosts outside, and each refused look-up costs time.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1, EXCLUDE ::1",
)


def find_browser() -> Path:
    """The installed Chromium.

    Where there is none the calling test is skipped, and in CI (environment variable CI) failed.
    """
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is not None:
        return Path(found)
    reason = f"No browser on the PATH (looked for {', '.join(BROWSERS)}): apt-get install chromium."
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def external_requests() -> list[str]:
    """URLs outside this machine that the page asked for, all refused, in order."""
    return []


@pytest.fixture(scope="module")
def refused() -> list[str]:
    """What the page asked of other hosts."""
    return []


@pytest.fixture(scope="module")
def browser_page(refused: list[str]) -> Iterator[Page]:
    """One browser for all tests of a file: to start it takes longer than most tests."""
    with sync_playwright() as playwright, new_page(playwright, refused) as page:
        yield page


@pytest.fixture
def chromium_page(external_requests: list[str]) -> Iterator[Page]:
    """A new page of 1600x1000 in a fresh profile; requests to other hosts are refused."""
    with sync_playwright() as playwright, new_page(playwright, external_requests) as page:
        yield page


@contextmanager
def new_page(playwright: Playwright, refused: list[str]) -> Iterator[Page]:
    """A page as `chromium_page`; what it asks of other hosts is refused and added to `refused`."""
    with TemporaryDirectory(prefix="chromium-") as profile:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=find_browser(),
            headless=True,
            args=list(ARGUMENTS),
            viewport={"width": 1600, "height": 1000},
            locale="en-GB",
            timezone_id="UTC",
            service_workers="block",
        )
        _stay_local(context, refused)
        yield context.pages[0]
        context.close()


def is_local(url: str) -> bool:
    """Whether a URL stays on this machine: a loopback host, or none (data:, blob:, about:)."""
    return urlsplit(url).hostname in (None, *LOOPBACK)


def _stay_local(context: BrowserContext, refused: list[str]) -> None:
    def refuse(route: Route) -> None:
        refused.append(route.request.url)
        route.abort("blockedbyclient")

    def refuse_socket(socket: WebSocketRoute) -> None:
        refused.append(socket.url)
        socket.close()

    context.route(lambda url: not is_local(url), refuse)
    context.route_web_socket(lambda url: not is_local(url), refuse_socket)

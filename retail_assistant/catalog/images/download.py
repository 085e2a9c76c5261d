"""One URL's bytes, from a server that may be slow, broken or hostile."""

import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import aiohttp
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)
from yarl import URL

from retail_assistant.catalog.images.addresses import (
    RefusedAddressError,
    RefusedUrlError,
    checked_url,
    socket_factory,
)
from retail_assistant.catalog.images.policy import ImagePolicy
from retail_assistant.catalog.images.receipts import Status

CHUNK = 1 << 16
GZIP_OR_ZLIB = 47
"""`zlib.decompressobj(wbits)`: recognise either header."""
REDIRECTS = (301, 302, 303, 307, 308)
GONE = (404, 410)
MAY_PASS = (408, 425, 429, 500, 502, 503, 504)
HEADERS = {
    # Images are compressed already; a server that compresses them again wants us to inflate.
    "Accept-Encoding": "identity",
    "Accept": "image/*",
    "User-Agent": "retail-assistant (product images)",
}


class DownloadError(Exception):
    """No body came of a request, or none that is taken."""

    def __init__(
        self,
        status: Status,
        detail: str,
        *,
        may_pass: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.status: Status = status
        self.may_pass = may_pass
        self.retry_after = retry_after
        """Seconds that the server asked us to wait."""


class HostGivenUpError(DownloadError):
    """A host that did not answer for so long that its other URLs are not asked now."""

    def __init__(self, host: str, requests: int) -> None:
        detail = f"not asked: {requests} requests to {host} in a row got no answer"
        super().__init__("connection_error", detail, may_pass=True)


class Body(NamedTuple):
    """What a server sent."""

    content: bytes
    declared_type: str | None


def open_session(policy: ImagePolicy) -> aiohttp.ClientSession:
    """A session that connects to allowed addresses only; call it inside the event loop.

    No proxy and no credentials are taken from the environment: a proxy would connect for us, to
    wherever it likes. Cookies are not kept.
    """
    connector = aiohttp.TCPConnector(
        limit=0,  # the caller bounds what runs at a time, before a request's clock starts
        socket_factory=socket_factory(policy),
        ttl_dns_cache=60,
    )
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(
            total=policy.total_timeout,
            sock_connect=policy.connect_timeout,
            sock_read=policy.read_timeout,
        ),
        headers=HEADERS,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
    )


def retrying(policy: ImagePolicy) -> AsyncRetrying:
    """Attempts at a URL: again after a wait where the failure may pass, else not."""
    backoff = wait_random_exponential(multiplier=policy.backoff, max=policy.max_backoff)

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, DownloadError) else None
        return min(max(backoff(state), asked or 0.0), policy.max_backoff)

    return AsyncRetrying(
        stop=stop_after_attempt(policy.attempts),
        retry=retry_if_exception(_is_worth_another),
        wait=wait,
        reraise=True,
    )


def _is_worth_another(error: BaseException) -> bool:
    return (
        isinstance(error, DownloadError)
        and error.may_pass
        and not isinstance(error, HostGivenUpError)
    )


async def ask(session: aiohttp.ClientSession, url: URL, policy: ImagePolicy) -> Body | URL:
    """Ask for a checked URL once: its body, or the (checked) URL that it redirects to.

    Raises:
        DownloadError: says how it failed, and whether asking again may help.
    """
    try:
        async with session.get(url, allow_redirects=False) as response:
            if response.status in REDIRECTS:
                return _redirected(response, policy)
            return await _body(response, policy)
    except DownloadError:
        raise
    except Exception as error:
        # Mostly aiohttp.ClientError, TimeoutError, OSError and ValueError; but whatever a hostile
        # answer brings about in the libraries below must cost this URL only.
        raise _failure(error, policy) from error


def _redirected(response: aiohttp.ClientResponse, policy: ImagePolicy) -> URL:
    location = response.headers.get("Location", "")
    try:
        return checked_url(str(response.url.join(URL(location))), policy)
    except RefusedUrlError as error:
        refused: Status = "refused_address" if error.status == "refused_address" else "invalid_url"
        raise DownloadError(refused, f"redirected to {location[:200]!r}: {error}") from error
    except ValueError as error:
        raise DownloadError("invalid_url", f"redirected to {location[:200]!r}") from error


async def _body(response: aiohttp.ClientResponse, policy: ImagePolicy) -> Body:
    if response.status != 200:
        raise DownloadError(
            "not_found" if response.status in GONE else "http_error",
            f"HTTP {response.status}",
            may_pass=response.status in MAY_PASS,
            retry_after=_retry_after(response.headers.get("Retry-After")),
        )
    if (response.content_length or 0) > policy.max_bytes:
        raise _too_large(f"{response.content_length} bytes are announced", policy)
    unpack = _unpacker(response.headers.get("Content-Encoding", "identity"), policy)
    content = bytearray()
    # The announced length may be a lie or absent: what counts is what has arrived, inflated.
    async for chunk in response.content.iter_chunked(CHUNK):
        content += unpack(chunk, policy.max_bytes + 1 - len(content))
        if len(content) > policy.max_bytes:
            raise _too_large("the body goes on", policy)
    return Body(bytes(content), response.headers.get("Content-Type", "").split(";")[0] or None)


def _unpacker(encoding: str, policy: ImagePolicy) -> Callable[[bytes, int], bytes]:
    """Inflates chunk by chunk, never to more than the given number of bytes."""
    kind = encoding.strip().lower()
    if kind in ("", "identity"):
        return lambda chunk, room: chunk[:room]
    if kind not in ("gzip", "x-gzip", "deflate"):
        raise DownloadError(
            "wrong_type", f"content encoding {kind[:40]!r}, which was not asked for"
        )
    inflater = zlib.decompressobj(wbits=GZIP_OR_ZLIB)

    def inflate(chunk: bytes, room: int) -> bytes:
        try:
            return inflater.decompress(chunk, room)
        except zlib.error as error:
            raise DownloadError("undecodable", f"the body is no {kind}: {error}") from error

    return inflate


def _too_large(what: str, policy: ImagePolicy) -> DownloadError:
    return DownloadError("too_large", f"{what}; allowed: {policy.max_bytes} bytes")


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait, from a number of seconds or a date (RFC 9110, 10.2.3)."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _failure(error: Exception, policy: ImagePolicy) -> DownloadError:
    """What a failed connection or a broken answer counts as."""
    cause = getattr(error, "os_error", error)
    if isinstance(cause, RefusedAddressError):
        return DownloadError("refused_address", str(cause.strerror))
    if isinstance(error, TimeoutError):
        return DownloadError("timeout", _slow(error, policy), may_pass=True)
    if isinstance(error, aiohttp.InvalidURL):
        return DownloadError("invalid_url", str(error)[:200])
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return DownloadError("connection_error", f"TLS: {error}"[:200])
    if isinstance(error, aiohttp.ClientResponseError):
        return DownloadError("http_error", f"not HTTP: {error.message}"[:200])
    text = f"{type(error).__name__}: {error}"
    return DownloadError("connection_error", text[:200], may_pass=True)


def _slow(error: Exception, policy: ImagePolicy) -> str:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return f"no connection in {policy.connect_timeout:g} s"
    if isinstance(error, aiohttp.SocketTimeoutError):
        return f"no byte for {policy.read_timeout:g} s"
    return f"not complete in {policy.total_timeout:g} s"

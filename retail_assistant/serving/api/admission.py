"""Who may come in, and how often."""

import ipaddress
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol
from urllib.parse import urlsplit

from fastapi import Depends, Request
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from retail_assistant.serving.api.errors import ApiError, busy
from retail_assistant.serving.options import ServingSettings
from retail_assistant.storage import StorageError

logger = logging.getLogger(__name__)

MAX_CALLERS = 2_000
"""When so many are remembered, everybody's count begins anew: the storage forgets nobody by itself,
and looks through all of them at each request."""

_SCHEME = "bearer "
# What a household or server has of IPv6; single addresses there cost nothing.
_IPV6_NETWORK = 64


class Keys(Protocol):
    """The keys that open, as `ApiKeys` has them."""

    def all(self) -> Sequence[object]:
        """Every key ever made."""
        ...

    def name_of(self, key: str) -> str | None:
        """Whose key it is."""
        ...


@dataclass(frozen=True)
class Caller:
    """Who calls: a key's name, or where there is none, a network address."""

    key: str | None
    address: str

    @property
    def name(self) -> str:
        """For limits and logs."""
        return f"key {self.key}" if self.key else f"address {self.address}"


class Admission:
    """Keys and rates of one application."""

    def __init__(self, settings: ServingSettings, keys: Keys) -> None:
        self._settings, self._keys = settings, keys
        self._limit = RateLimitItemPerMinute(settings.requests_per_minute)
        self._memory = MemoryStorage()
        self._rates = MovingWindowRateLimiter(self._memory)

    @property
    def needs_key(self) -> bool:
        """Whether a key is needed now."""
        if self._settings.require_keys is not None:
            return self._settings.require_keys
        return not is_loopback(self._settings.host) or bool(self._keys.all())

    def by_key(self, request: Request) -> Caller:
        """The caller of a request to the API.

        Raises:
            ApiError: 401 (a key is needed, and there is none that opens), 503 (no key can be
                looked up).
        """
        try:
            name = self._key_name(request.headers.get("authorization", ""))
            refused = name is None and self.needs_key
        except StorageError as error:
            logger.error("keys: %s", error)  # noqa: TRY400 (it names the file; no more is needed)
            raise ApiError(503, "Keys cannot be looked up now.", "keys_unavailable") from error
        if refused:
            raise ApiError(
                401,
                "A key that opens is needed: Authorization: Bearer …",
                "invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return self.counted(Caller(name, _address(request)))

    def by_page(self, request: Request) -> Caller:
        """The caller of the chat page's own requests: no key, but from that page only.

        Raises:
            ApiError: 403, a page of another site asks; 429, too often.
        """
        if not _is_same_origin(request):
            raise ApiError(403, "Only this server's own page may ask here.", "other_origin")
        return self.counted(Caller(None, _address(request)))

    def _key_name(self, header: str) -> str | None:
        if header[: len(_SCHEME)].lower() != _SCHEME:
            return None
        return self._keys.name_of(header[len(_SCHEME) :].strip())

    @property
    def callers(self) -> int:
        """How many callers' rates are remembered."""
        return len(self._memory.events)

    def counted(self, caller: Caller) -> Caller:
        """The caller, once its request is counted.

        Raises:
            ApiError: 429, too often.
        """
        if self.callers >= MAX_CALLERS:
            self._memory.reset()
        if self._rates.hit(self._limit, caller.name):
            return caller
        resets = self._rates.get_window_stats(self._limit, caller.name).reset_time
        raise busy(
            f"More than {self._limit.amount} requests in a minute; try again later.",
            "rate_limited",
            resets - time.time(),
        )


def admitted(request: Request) -> Caller:
    """Dependency for the chat page's routes; see `Admission.by_page`."""
    admission: Admission = request.app.state.admission
    caller = admission.by_page(request)
    request.state.caller = caller.name
    return caller


AdmittedCaller = Annotated[Caller, Depends(admitted)]


def is_loopback(host: str) -> bool:
    """Whether a server that listens there is reached from this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _address(request: Request) -> str:
    host = request.client.host if request.client else "unknown"
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, _IPV6_NETWORK), strict=False))
    return str(getattr(address, "ipv4_mapped", None) or address)


def _is_same_origin(request: Request) -> bool:
    """By what browsers say of themselves; what says nothing is no browser, and has no cookies."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")

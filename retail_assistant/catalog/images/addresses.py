"""Which URLs may be asked, and which addresses may be connected to.

A catalog's URLs are untrusted input: without this a row could make us ask the cloud's metadata
server or a service on this machine (server-side request forgery, CWE-918).

What a host name resolves to can change between a look-up and the connection, so the decision is
made where the socket is made, on the address that is connected to. That covers literal addresses,
redirects and DNS rebinding alike.
"""

import errno
import socket
from collections.abc import Callable, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from yarl import URL

from retail_assistant.catalog.images.policy import ImagePolicy

Address = IPv4Address | IPv6Address
AddressInfo = tuple[int, int, int, str, tuple]

MAX_URL_CHARACTERS = 2048
NAT64_NETWORKS = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))
IPV4_COMPATIBLE = ip_network("::/96")
PORTS = {"http": 80, "https": 443}


class RefusedUrlError(ValueError):
    """A URL that is not asked: `status` is invalid_url or refused_address."""

    def __init__(self, status: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class RefusedAddressError(OSError):
    """A connection to an address that is not public, and not allowed by the policy."""

    def __init__(self) -> None:
        # No address in the text: where all of a host's addresses are refused, aiohappyeyeballs
        # raises the first error only if all read the same, and else one without its class.
        super().__init__(errno.EACCES, "the host's address is not public")


def checked_url(text: str, policy: ImagePolicy) -> URL:
    """The URL as it will be asked, without its fragment.

    Raises:
        RefusedUrlError: not http or https, credentials, another port, no host, a private address.
    """
    url = _parsed(text)
    if url.scheme not in PORTS:
        raise RefusedUrlError("invalid_url", "the scheme is not http or https")
    if url.user is not None or url.password is not None:
        raise RefusedUrlError("invalid_url", "the URL holds credentials")
    if not url.host:
        raise RefusedUrlError("invalid_url", "the URL names no host")
    if url.port not in policy.ports:
        raise RefusedUrlError("invalid_url", f"port {url.port} is not allowed")
    literal = _literal(url.host)
    if literal is not None and not is_allowed(literal, policy.allowed_private_networks):
        raise RefusedUrlError("refused_address", f"{literal} is not a public address")
    return url.with_fragment(None)


def _parsed(text: str) -> URL:
    stripped = text.strip()
    if len(stripped) > MAX_URL_CHARACTERS:
        raise RefusedUrlError("invalid_url", f"longer than {MAX_URL_CHARACTERS} characters")
    if any(not character.isprintable() or character.isspace() for character in stripped):
        raise RefusedUrlError("invalid_url", "white space or control characters in the URL")
    try:
        url = URL(stripped)
        # Parts are parsed when they are read: read them here, where errors are expected.
        _ = (url.scheme, url.user, url.password, url.host, url.port, url.raw_path_qs, str(url))
    except (ValueError, IndexError) as error:  # IndexError: yarl, of an empty [] host
        raise RefusedUrlError("invalid_url", str(error) or "not a URL") from error
    return url


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def is_allowed(address: Address, allowed: Sequence[IPv4Network | IPv6Network] = ()) -> bool:
    """Whether an address is public (or in an allowed network), as are those embedded in it."""
    if any(address in network for network in allowed):
        return True
    return all(
        _is_public(candidate) or any(candidate in network for network in allowed)
        for candidate in _embedded(address) or (address,)
    )


def _is_public(address: Address) -> bool:
    return address.is_global and not address.is_multicast and not address.is_reserved


def _embedded(address: Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses that an IPv6 address leads to (mapped, 6to4, Teredo, NAT64)."""
    if isinstance(address, IPv4Address):
        return ()
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address.sixtofour is not None:
        return (address.sixtofour,)
    if address.teredo is not None:
        return address.teredo
    if any(address in network for network in (*NAT64_NETWORKS, IPV4_COMPATIBLE)):
        return (IPv4Address(int(address) & 0xFFFFFFFF),)
    return ()


def socket_factory(policy: ImagePolicy) -> Callable[[AddressInfo], socket.socket]:
    """For aiohttp's `TCPConnector(socket_factory=…)`: no socket for an address that is refused."""

    def make(info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, target = info
        address = _literal(str(target[0]))
        if address is None or not is_allowed(address, policy.allowed_private_networks):
            raise RefusedAddressError
        return socket.socket(family, kind, protocol)

    return make

"""Which URLs and addresses are refused."""

import socket
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from retail_assistant.catalog.images.addresses import (
    RefusedAddressError,
    RefusedUrlError,
    checked_url,
    is_allowed,
    socket_factory,
)
from retail_assistant.catalog.images.policy import ImagePolicy

POLICY = ImagePolicy()


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%1",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "2001:db8::1",
        "::ffff:169.254.169.254",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "2002:a9fe:a9fe::1",
        "64:ff9b::169.254.169.254",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::10.0.0.1",
        "2001:0:0:1::1",
    ],
)
@pytest.mark.fault(
    "An image's address leads inside: private, metadata, IPv6, a redirect, DNS rebinding",
    "No connection is made, and the image's row says that it was refused",
)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert not is_allowed(ip_address(address))
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with pytest.raises(RefusedAddressError):
        socket_factory(POLICY)((family, socket.SOCK_STREAM, 0, "", (address, 80)))


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"],
)
def test_public_addresses_are_allowed(address: str) -> None:
    assert is_allowed(ip_address(address))


def test_a_private_network_that_is_allowed_is_allowed_in_every_spelling() -> None:
    networks = [ip_network("10.0.0.0/8")]
    assert is_allowed(ip_address("10.1.2.3"), networks)
    assert is_allowed(ip_address("::ffff:10.1.2.3"), networks)
    assert not is_allowed(ip_address("192.168.0.1"), networks)
    assert not is_allowed(ip_address("::ffff:192.168.0.1"), networks)


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("", "invalid_url"),
        ("images/a.jpg", "invalid_url"),
        ("//images.example/a.jpg", "invalid_url"),
        ("ftp://images.example/a.jpg", "invalid_url"),
        ("file:///etc/passwd", "invalid_url"),
        ("data:image/png;base64,AAAA", "invalid_url"),
        ("http://", "invalid_url"),
        ("http:///a.jpg", "invalid_url"),
        ("http://me@images.example/a.jpg", "invalid_url"),
        ("http://me:secret@images.example/a.jpg", "invalid_url"),
        ("http://images.example:22/a.jpg", "invalid_url"),
        ("http://images.example:99999/a.jpg", "invalid_url"),
        ("http://images.example/a\nb.jpg", "invalid_url"),
        ("http://images.example/a b.jpg", "invalid_url"),
        ("0://[]@", "invalid_url"),
        ("http://[::1/a.jpg", "invalid_url"),
        ("http://images.example/" + "a" * 3000, "invalid_url"),
        ("http://127.0.0.1/a.jpg", "refused_address"),
        ("http://[::1]/a.jpg", "refused_address"),
        ("http://[::ffff:10.0.0.1]/a.jpg", "refused_address"),
        ("https://169.254.169.254/latest/meta-data/", "refused_address"),
    ],
)
@pytest.mark.fault(
    "An image's address leads inside: private, metadata, IPv6, a redirect, DNS rebinding",
    "No connection is made, and the image's row says that it was refused",
)
def test_urls_that_are_not_asked(url: str, status: str) -> None:
    with pytest.raises(RefusedUrlError) as refusal:
        checked_url(url, POLICY)
    assert refusal.value.status == status
    assert str(refusal.value)


def test_a_good_url_keeps_its_query_and_loses_its_fragment() -> None:
    url = checked_url(" HTTPS://Images.Example/a%20b.jpg?w=1&h=2#top ", POLICY)
    assert str(url) == "https://images.example/a%20b.jpg?w=1&h=2"


URL_LIKE = st.one_of(
    st.text(),
    st.text(alphabet="htp:/@[]%.#?\\0123456789abcdefxX-é\u202e\u3002 \n", max_size=60).map(
        "http://".__add__
    ),
    st.builds(
        "{}://{}:{}/{}".format,
        st.sampled_from(["http", "https", "gopher"]),
        st.one_of(st.text(max_size=20), st.ip_addresses().map(str)),
        st.integers(-1, 70000),
        st.text(max_size=20),
    ),
)


@given(URL_LIKE)
@pytest.mark.fault(
    "An image's address leads inside: private, metadata, IPv6, a redirect, DNS rebinding",
    "No connection is made, and the image's row says that it was refused",
)
def test_no_text_makes_the_check_fail_otherwise_and_none_gets_past_it(text: str) -> None:
    try:
        url = checked_url(text, POLICY)
    except RefusedUrlError as refusal:
        assert refusal.status in ("invalid_url", "refused_address")
        return
    assert url.scheme in ("http", "https")
    assert url.host
    assert url.user is None
    assert url.port in POLICY.ports
    assert URL(str(url)) == url


@given(st.ip_addresses())
def test_every_address_is_judged(address) -> None:
    assert is_allowed(address) in (True, False)
    if address.is_private and not (address.version == 6 and address.ipv4_mapped):
        assert not is_allowed(address)

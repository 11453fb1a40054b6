"""ProxyDHCP: which frames are answered, and with which bytes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_dispatch.machines.qemu.proxydhcp import LONGEST_URL, Request, carries_tcp, offer, read_request

# What OVMF 2022.11 sends, as it was on the wire
DISCOVER = bytes.fromhex(
    "ffffffffffff5254001234560800"  # Ethernet
    "4500017061c70000401117b700000000ffffffff"  # IPv4
    "00440043015cb80e"  # UDP, 68 to 67
    "01010600548eb0340000800000000000000000000000000000000000"  # BOOTREQUEST, transaction 548eb034, broadcast
    "52540012345600000000000000000000" + "00" * 192 + "63825363"
    "350101390205c0371b0102030405060c0d0f111216171c28292a2b3233363a3b3ceb4361"
    "61110000000000000000000000000000000000"  # UUID
    "5e030103005d020010"  # interface 3.0, architecture 16: x86-64 over HTTP
    "3c2148545450436c69656e743a417263683a30303031363a554e44493a303033303030"  # HTTPClient:Arch:00016:UNDI:003000
    "ff"
)
BOOTP = 42  # where the DHCP message begins
OPTIONS = BOOTP + 240

URL = "http://10.0.2.2:8080/dispatch?machine=a"
OFFER = bytes.fromhex(
    "ffffffffffff52550a0002040800"
    "4500015e0000000040116d8c0a000204ffffffff"
    "00430044014a0000"
    "02010600548eb0340000800000000000000000000000000000000000"
    "52540012345600000000000000000000" + "00" * 192 + "63825363"
    "35010236040a000204"  # OFFER, server 10.0.2.4
    "3c0a48545450436c69656e74"  # HTTPClient
    "4327687474703a2f2f31302e302e322e323a383038302f64697370617463683f6d616368696e653d61"  # the URL
    "61110000000000000000000000000000000000"
    "ff"
)


def test_the_discover_of_firmware_is_understood() -> None:
    assert len(DISCOVER) == 382
    assert read_request(DISCOVER) == Request(
        kind=b"\x01",
        vendor=b"HTTPClient:Arch:00016:UNDI:003000",
        transaction=bytes.fromhex("548eb034"),
        flags=b"\x80\x00",
        hardware=bytes.fromhex("525400123456") + bytes(10),
        uuid=bytes(17),
    )


def test_the_offer_has_these_bytes() -> None:
    request = read_request(DISCOVER)
    assert request is not None
    assert request.wants_url
    frame = offer(request, URL)
    assert frame.hex(" ", -4) == OFFER.hex(" ", -4)
    assert sum(struct.unpack(">10H", frame[14:34])) % 0xFFFF == 0, "a right IP checksum (RFC 1071)"


def test_an_offer_to_a_client_without_a_uuid_has_none() -> None:
    request = read_request(with_options(b"\x35\x01\x01\x3c\x0aHTTPClient\xff"))
    assert request is not None
    frame = offer(request, "http://x/")
    assert b"\x61\x11" not in frame
    assert len(frame) == BOOTP + 300, "padded to the least that BOOTP knows (RFC 1542, section 2.1)"


def test_the_longest_url_fits() -> None:
    request = read_request(DISCOVER)
    assert request is not None
    url = "http://x/".ljust(LONGEST_URL, "a")
    assert bytes([67, LONGEST_URL]) + url.encode() in offer(request, url)
    with pytest.raises(ValueError, match="256"):
        offer(request, url + "a")
    with pytest.raises(UnicodeEncodeError):
        offer(request, "http://ü/")


def with_options(options: bytes) -> bytes:
    """The DISCOVER with other options, its lengths set right."""
    frame = DISCOVER[:OPTIONS] + options
    return (
        frame[:16] + struct.pack(">H", len(frame) - 14) + frame[18:38] + struct.pack(">H", len(frame) - 34) + frame[40:]
    )


def changed(at: int, value: bytes) -> bytes:
    return DISCOVER[:at] + value + DISCOVER[at + len(value) :]


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (b"", "nothing"),
        (DISCOVER[:41], "cut off in the UDP header"),
        (DISCOVER[:300], "shorter than its IP header says"),
        (changed(12, b"\x08\x06"), "ARP"),
        (changed(12, b"\x86\xdd"), "IPv6"),
        (changed(14, b"\x65"), "IP version 6 in IPv4"),
        (changed(14, b"\x41"), "an IP header of 4 bytes"),
        (changed(14, b"\x4f"), "an IP header of 60 bytes"),
        (changed(16, b"\x00\x14"), "an IP packet without content"),
        (changed(23, b"\x06"), "TCP"),
        (changed(36, b"\x00\x44"), "to the client's port"),
        (changed(38, b"\x00\x07"), "a UDP length below its header"),
        (changed(38, b"\xff\xff"), "a UDP length beyond the packet"),
        (changed(38, b"\x00\xf7"), "no place for the cookie"),
        (changed(BOOTP, b"\x02"), "an answer"),
        (changed(BOOTP + 1, b"\x20"), "InfiniBand"),
        (changed(BOOTP + 2, b"\x10"), "a hardware address of 16 bytes"),
        (changed(OPTIONS - 4, b"\x00"), "BOOTP without DHCP's cookie"),
        (with_options(b"\xff"), "no kind"),
        (with_options(b"\x35"), "an option without a length"),
        (with_options(b"\x35\x01\x01\x3c\x20HTTP"), "an option that is cut off"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_any_other_frame_is_passed_over(frame: bytes, why: str) -> None:
    assert read_request(frame) is None, why


@pytest.mark.parametrize(
    ("options", "wants"),
    [
        (b"\x35\x01\x01\x3c\x0aHTTPClient\xff", True),
        (b"\x00\x00\x35\x01\x01\x3c\x04HTTP\x00\x3c\x06Client", True),  # padding, a split option, no end
        (b"\x35\x01\x03\x3c\x0aHTTPClient\xff", False),  # a REQUEST
        (b"\x35\x01\x01\x3c\x09PXEClient\xff", False),
        (b"\x35\x01\x01\xff", False),
        (b"\x35\x01\x01\xff\x3c\x0aHTTPClient", False),  # behind the end
    ],
)
def test_only_a_discover_over_http_wants_a_url(options: bytes, wants: bool) -> None:
    request = read_request(with_options(options))
    assert request is not None
    assert request.wants_url is wants


@given(st.binary(max_size=400), st.integers(0, 382))
def test_no_bytes_whatever_break_it(noise: bytes, at: int) -> None:
    for frame in (noise, DISCOVER[:at] + noise, changed(at, noise)):
        request = read_request(frame)
        if request is not None:
            offer(request, URL)
        carries_tcp(frame)


def test_tcp_is_known() -> None:
    assert carries_tcp(changed(23, b"\x06"))
    assert not carries_tcp(DISCOVER)
    assert not carries_tcp(DISCOVER[:23])
    assert not carries_tcp(changed(12, b"\x86\xdd"))

"""ProxyDHCP for UEFI HTTP boot, as pure functions over Ethernet frames.

The network's own DHCP server assigns the address; this one adds the boot URL and nothing else, so unconfigured firmware
boots it. Sources: RFC 2131 (messages), RFC 2132 (options 53, 54, 60, 67), RFC 4578 (option 97) and the UEFI
specification 2.10, section 24.7.3 (`HTTPClient`, the URL as boot file name).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

LONGEST_URL = 255  # most bytes in a DHCP option

_SERVER = bytes([10, 0, 2, 4])  # an address that QEMU's user network does not use
_SERVER_MAC = bytes.fromhex("52550a000204")
_BROADCAST_MAC = b"\xff" * 6
_IPV4 = b"\x08\x00"
_TCP, _UDP = 6, 17
_SERVER_PORT, _CLIENT_PORT = 67, 68
_COOKIE = bytes.fromhex("63825363")
_PAD, _END = 0, 255
_KIND, _SERVER_ID, _VENDOR, _BOOT_FILE, _UUID = 53, 54, 60, 67, 97
_DISCOVER, _OFFER = b"\x01", b"\x02"
_HTTP_CLIENT = b"HTTPClient"
_SMALLEST = 300  # bytes of the shortest BOOTP message, RFC 1542 section 2.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A DHCP client's message, as far as an answer needs it.

    Attributes:
        kind: Option 53, the message type.
        vendor: Option 60, which names the kind of client.
        transaction: The four bytes by which the client recognises answers.
        flags: Two bytes to repeat in the answer.
        hardware: The client's hardware address, padded to 16 bytes.
        uuid: Option 97, to repeat in the answer; empty if absent.
    """

    kind: bytes
    vendor: bytes
    transaction: bytes
    flags: bytes
    hardware: bytes
    uuid: bytes

    @property
    def wants_url(self) -> bool:
        """Return whether firmware asks for a URL to boot."""
        return self.kind == _DISCOVER and self.vendor.startswith(_HTTP_CLIENT)


def read_request(frame: bytes) -> Request | None:
    """Parse the DHCP client's message in an Ethernet frame; return None for any other or malformed frame."""
    message = _datagram_to_server(frame)
    if len(message) < 240 or message[:3] != b"\x01\x01\x06" or message[236:240] != _COOKIE:
        return None
    options = _options(message[240:])
    if options is None or _KIND not in options:
        return None
    return Request(
        kind=options[_KIND],
        vendor=options.get(_VENDOR, b""),
        transaction=message[4:8],
        flags=message[10:12],
        hardware=message[28:44],
        uuid=options.get(_UUID, b""),
    )


def offer(request: Request, url: str) -> bytes:
    """Return an Ethernet frame with an OFFER that has the boot URL and no address.

    Raises:
        ValueError: The URL is longer than `LONGEST_URL`, or not ASCII.
    """
    options = [
        (_KIND, _OFFER),
        (_SERVER_ID, _SERVER),
        (_VENDOR, _HTTP_CLIENT),
        (_BOOT_FILE, url.encode("ascii")),
    ]
    if request.uuid:
        options.append((_UUID, request.uuid))
    message = (
        bytes([2, 1, 6, 0])
        + request.transaction
        + bytes(2)
        + request.flags
        + bytes(16)  # ciaddr, yiaddr, siaddr, giaddr: we assign no address
        + request.hardware
        + bytes(192)  # sname and file, which option 67 replaces
        + _COOKIE
        + b"".join(bytes([code, len(value)]) + value for code, value in options)
        + bytes([_END])
    )
    return _broadcast(message.ljust(_SMALLEST, b"\0"))


def carries_tcp(frame: bytes) -> bool:
    """Return whether a frame has a TCP segment; the first one after DHCP means that firmware connects to the lab."""
    return len(frame) > 23 and frame[12:14] == _IPV4 and frame[23] == _TCP


def _datagram_to_server(frame: bytes) -> bytes:
    """Return the payload of a UDP datagram to the DHCP server's port; empty for any other frame."""
    if len(frame) < 42 or frame[12:14] != _IPV4 or frame[14] >> 4 != 4 or frame[23] != _UDP:
        return b""
    header = (frame[14] & 15) * 4
    (total,) = struct.unpack_from(">H", frame, 16)
    packet = frame[14 : 14 + total]
    if header < 20 or len(packet) < max(header + 8, total):
        return b""
    _, port, length = struct.unpack_from(">HHH", packet, header)
    if port != _SERVER_PORT or not 8 <= length <= len(packet) - header:
        return b""
    return packet[header + 8 : header + length]


def _options(data: bytes) -> dict[int, bytes] | None:
    """Return the options by code, with the parts of a split option joined (RFC 3396); None if one is cut off."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data) and data[at] != _END:
        if data[at] == _PAD:
            at += 1
            continue
        size = data[at + 1] if at + 1 < len(data) else len(data)
        value = data[at + 2 : at + 2 + size]
        if len(value) < size:
            return None
        found[data[at]] = found.get(data[at], b"") + value
        at += 2 + size
    return found


def _broadcast(message: bytes) -> bytes:
    """Return a broadcast frame with the message in a UDP datagram; its UDP checksum is 0, "not computed" (RFC 768)."""
    datagram = struct.pack(">HHHH", _SERVER_PORT, _CLIENT_PORT, 8 + len(message), 0) + message
    head = struct.pack(">BBHHHBB", 0x45, 0, 20 + len(datagram), 0, 0, 64, _UDP)
    addresses = _SERVER + b"\xff" * 4
    header = head + struct.pack(">H", _checksum(head + addresses)) + addresses
    return _BROADCAST_MAC + _SERVER_MAC + _IPV4 + header + datagram


def _checksum(words: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f">{len(words) // 2}H", words))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF

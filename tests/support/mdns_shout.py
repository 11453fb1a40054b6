"""Names that are announced over mDNS by somebody who minds no rules, and answers nobody."""

from __future__ import annotations

import socket
import struct

GROUP = ("224.0.0.251", 5353)


def shout(instance: str, *, to: str = "127.0.0.1") -> None:
    """Announce a name to all who listen on this interface, once; whoever does has it when this returns."""
    service = _labels("_dispatch", "_tcp", "local", "")
    name = _labels(instance) + service
    record = service + struct.pack(">HHIH", 12, 1, 4500, len(name)) + name  # PTR, IN, seconds to live
    packet = struct.pack(">6H", 0, 0x8400, 0, 1, 0, 0) + record  # RFC 1035, section 4: an answer
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((to, 0))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(to))
        sock.sendto(packet, GROUP)


def _labels(*parts: str) -> bytes:
    return b"".join(bytes([len(part)]) + part.encode() for part in parts)

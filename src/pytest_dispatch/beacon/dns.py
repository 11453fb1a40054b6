"""Read and write DNS messages, as far as finding a service over mDNS needs (RFC 1035, section 4; RFC 6763).

A name is its labels, each behind its length, to the empty one: as on the wire, but uncompressed and in lower case.
Anybody on the network may have sent a message. Reading one takes bounded time and memory, whatever is in it.
"""

import struct
from typing import Dict, Iterator, List, NamedTuple, Tuple

A, PTR, TXT, AAAA, SRV = 1, 12, 16, 28, 33

LONGEST = 9000  # bytes of a message, RFC 6762, section 17
_LONGEST_NAME = 255  # bytes, RFC 1035, section 2.3.4
_MOST_JUMPS = 32  # from one part of a name to another; senders need one or two
_INTERNET = 1  # the class of all that is asked; the top bit of an answer's class is none of it (RFC 6762, section 10.2)
_FLAGS, _RESPONSE = 0xF80F, 0x8000  # is it a response, the kind of query, and how it ended: 0 is a query, and well
_TARGETS = {PTR: 0, SRV: 6}  # where in a record's data a name begins


class Record(NamedTuple):
    """An answer.

    Attributes:
        name: What it is about.
        kind: `A`, `PTR` and so on.
        data: As it came.
        target: The name that a `PTR` or `SRV` leads to, empty for other kinds.
    """

    name: bytes
    kind: int
    data: bytes
    target: bytes


def question(name: bytes, kind: int, number: bytes) -> bytes:
    """Return a query; its number, two bytes, comes back with the answer."""
    return number + struct.pack(">5H", 0, 1, 0, 0, 0) + name + struct.pack(">2H", kind, _INTERNET)


def records(message: bytes) -> List[Record]:
    """Return the records of a response, but for those taken back; none for what is no response.

    Raises:
        ValueError: It is cut short, or broken otherwise.
    """
    try:
        return list(_records(message))
    except (IndexError, struct.error) as error:
        raise ValueError("a DNS message that is cut short") from error


def _records(message: bytes) -> Iterator[Record]:
    _, flags, questions, *counts = struct.unpack_from(">6H", message)
    if flags & _FLAGS != _RESPONSE:
        return
    at = 12
    for _ in range(questions):
        at = _name(message, at)[1] + 4
    for _ in range(sum(counts)):
        name, at = _name(message, at)
        kind, group, seconds_to_live, length = struct.unpack_from(">2HIH", message, at)
        start, at = at + 10, at + 10 + length
        if at > len(message):
            raise ValueError("a DNS record that is cut short")
        target = b""
        if kind in _TARGETS:
            target, end = _name(message, start + _TARGETS[kind])
            if end != at:
                raise ValueError("a DNS record that ends elsewhere than its name")
        if group & 0x7FFF == _INTERNET and seconds_to_live:
            yield Record(name, kind, message[start:at], target)


def _name(message: bytes, at: int) -> Tuple[bytes, int]:
    """Return a name, and where what follows it begins.

    A pointer leads to before the labels that it follows (RFC 1035, section 4.1.4), so none leads round in a circle.
    """
    name, end, start = b"", 0, at
    for _ in range(_MOST_JUMPS):
        while 0 < message[at] < 0x40:
            after = at + 1 + message[at]
            name += message[at:after]
            if after > len(message) or len(name) >= _LONGEST_NAME:
                raise ValueError("a DNS name that is too long")
            at = after
        if message[at] == 0:
            return name.lower() + b"\0", end or at + 1  # the lengths, all below 64, are no letters
        pointer = int.from_bytes(message[at : at + 2], "big") - 0xC000
        if not 0 <= pointer < start:
            raise ValueError("a DNS name that leads nowhere")
        end, at, start = end or at + 2, pointer, pointer
    raise ValueError("a DNS name that leads from place to place")


def texts(data: bytes) -> Dict[bytes, bytes]:
    """Return the values of a `TXT` record, by key in lower case (RFC 6763, section 6.4); the first of a key counts."""
    found: Dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        key, _, value = data[at + 1 : at + 1 + data[at]].partition(b"=")
        found.setdefault(key.lower(), value)
        at += 1 + data[at]
    return found

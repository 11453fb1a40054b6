"""Read and write DNS messages, as far as a search by mDNS needs them (RFC 1035, section 4; RFC 6763).

Names are in wire format, uncompressed and in lower case. Anybody on the network may have sent a message: to read one
takes bounded time and memory, whatever is in it.
"""

import struct
from typing import Dict, Iterator, List, NamedTuple, Tuple

A, PTR, TXT, AAAA, SRV = 1, 12, 16, 28, 33

LONGEST = 9000  # bytes of a message, RFC 6762, section 17
_LONGEST_NAME = 255  # bytes, RFC 1035, section 2.3.4
_MOST_POINTERS = 32  # of one compressed name; senders need one or two
_IN = 1  # the class "Internet"
_CLASS = 0x7FFF  # the bits of a record's class; the top one tells caches to flush (RFC 6762, section 10.2)
_FLAGS, _RESPONSE = 0xF80F, 0x8000  # the bits QR, OPCODE and RCODE; those of a response without an error
_TARGETS = {PTR: 0, SRV: 6}  # where in a record's data the name begins that it leads to


class Record(NamedTuple):
    """A resource record.

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


def query(name: bytes, kind: int, message_id: bytes) -> bytes:
    """Return a message that asks one question; its ID, two bytes, comes back with the answer."""
    return message_id + struct.pack(">5H", 0, 1, 0, 0, 0) + name + struct.pack(">2H", kind, _IN)


def records(message: bytes) -> List[Record]:
    """Return the records of a response without those whose time to live is 0; none for what is no response.

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
        kind, record_class, ttl, length = struct.unpack_from(">2HIH", message, at)
        start, at = at + 10, at + 10 + length
        if at > len(message):
            raise ValueError("a DNS record that is cut short")
        target = b""
        if kind in _TARGETS:
            target, end = _name(message, start + _TARGETS[kind])
            if end != at:
                raise ValueError("a DNS record that ends elsewhere than its name")
        if record_class & _CLASS == _IN and ttl:
            yield Record(name, kind, message[start:at], target)


def _name(message: bytes, at: int) -> Tuple[bytes, int]:
    """Return a name, and the offset behind it.

    A pointer has to lead to an earlier place than where its own labels begin (RFC 1035, section 4.1.4): no loops.
    """
    name, end, start = b"", 0, at
    for _ in range(_MOST_POINTERS):
        while 0 < message[at] < 0x40:
            after = at + 1 + message[at]
            name += message[at:after]
            if after > len(message) or len(name) >= _LONGEST_NAME:
                raise ValueError("a DNS name that is too long")
            at = after
        if message[at] == 0:
            return name.lower() + b"\0", end or at + 1  # lengths are below 64, and so no letters
        pointer = int.from_bytes(message[at : at + 2], "big") - 0xC000
        if not 0 <= pointer < start:
            raise ValueError("a DNS name with a broken pointer")
        end, at, start = end or at + 2, pointer, pointer
    raise ValueError("a DNS name of too many pointers")


def texts(data: bytes) -> Dict[bytes, bytes]:
    """Return the values of a `TXT` record, by key in lower case (RFC 6763, section 6.4); the first of a key counts."""
    found: Dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        key, _, value = data[at + 1 : at + 1 + data[at]].partition(b"=")
        found.setdefault(key.lower(), value)
        at += 1 + data[at]
    return found

"""Somebody on the loopback interface who answers what is asked over mDNS as a test has it, whatever the rules are.

Messages are written and read by zeroconf, an implementation that shares nothing with ours.
"""

from __future__ import annotations

import ipaddress
import selectors
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from zeroconf._dns import DNSAddress, DNSPointer, DNSQuestion, DNSRecord, DNSService, DNSText
from zeroconf._protocol.incoming import DNSIncoming
from zeroconf._protocol.outgoing import DNSOutgoing

SERVICE = "_dispatch._tcp.local."
GROUP, PORT = "224.0.0.251", 5353
A, PTR, TXT, AAAA, SRV, IN = 1, 12, 16, 28, 33, 1
RESPONSE = 0x8400
TTL = 120  # seconds

Record = DNSRecord
#: Gets a question's name and kind, and its number; returns the messages that answer it.
Answer = Callable[[str, int, int], Sequence[bytes]]


def pointer(instance: str, ttl: int = TTL) -> Record:
    return DNSPointer(SERVICE, PTR, IN, ttl, f"{instance}.{SERVICE}")


def place(instance: str, port: int, ttl: int = TTL) -> Record:
    return DNSService(f"{instance}.{SERVICE}", SRV, IN, ttl, 0, 0, port, f"{instance}.local.")


def text(instance: str, *entries: bytes) -> Record:
    return DNSText(f"{instance}.{SERVICE}", TXT, IN, TTL, b"".join(bytes([len(entry)]) + entry for entry in entries))


def address(instance: str, where: str) -> Record:
    packed = ipaddress.ip_address(where).packed
    return DNSAddress(f"{instance}.local.", A if len(packed) == 4 else AAAA, IN, TTL, packed)


def lab(instance: str, port: int, *addresses: str, path: bytes = b"path=/boot") -> list[Record]:
    """All that a lab says of itself."""
    told = [address(instance, where) for where in addresses]
    return [pointer(instance), place(instance, port), text(instance, path), *told]


def message(*records: Record, number: int = 0, asked: tuple[str, int] | None = None) -> bytes:
    """A response, which repeats the question as those do that are for one asker (RFC 6762, section 6.7)."""
    out = DNSOutgoing(RESPONSE, multicast=not number, id_=number)
    if asked is not None:
        out.add_question(DNSQuestion(*asked, IN))
    for record in records:
        out.add_answer_at_time(record, 0)
    [packet] = out.packets()
    return packet


@contextmanager
def responder(answer: Answer, *, to_all: bool = False, port: int = PORT) -> Iterator[list[tuple[str, int]]]:
    """Answer on the loopback interface as long as this lasts; gives what was asked so far.

    Args:
        answer: Says what.
        to_all: Send it to everybody, not to whoever asked.
        port: Where answers come from; 0 for any.
    """
    asked: list[tuple[str, int]] = []
    with ExitStack() as stack:
        hearing, speaking = (stack.enter_context(_socket(bound)) for bound in ((GROUP, PORT), ("127.0.0.1", port)))
        membership = socket.inet_aton(GROUP) + socket.inet_aton("127.0.0.1")
        hearing.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        speaking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        enough, stop = socket.socketpair()
        stack.enter_context(enough)

        def run() -> None:
            for data, sender in _received(hearing, enough):
                query = DNSIncoming(data)
                for question in query.questions if query.valid and query.is_query() else []:
                    asked.append((question.name, question.type))
                    for each in answer(question.name, question.type, query.id):
                        speaking.sendto(each, (GROUP, PORT) if to_all else sender)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield asked
        finally:
            stop.close()
            thread.join()


def _socket(bound: tuple[str, int]) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(bound)
    return sock


def _received(hearing: socket.socket, enough: socket.socket) -> Iterator[tuple[bytes, Any]]:
    """What comes, until it is enough."""
    with selectors.DefaultSelector() as selector:
        selector.register(hearing, selectors.EVENT_READ)
        selector.register(enough, selectors.EVENT_READ)
        while all(key.fileobj is hearing for key, _ in selector.select()):
            yield hearing.recvfrom(9000)

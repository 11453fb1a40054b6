"""Find servers on the local network: ask by multicast who is there (mDNS, RFC 6762; DNS-SD, RFC 6763).

On each network interface by itself, over IPv4 and IPv6. What is asked from a port other than 5353 is answered to that
port (RFC 6762, section 6.7). Some responders answer all at once instead, and some firewalls let nothing else in: so
that is listened to as well, where the port can be shared.
"""

import ipaddress
import os
import selectors
import socket
import struct
import sys
import time
from contextlib import ExitStack, suppress
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple, Union
from urllib.parse import quote

from . import dns

#: Told what was looked for in vain, one line each.
Note = Callable[[str], None]
Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Question = Tuple[bytes, int]

SERVICE = b"\x09_dispatch\x04_tcp\x05local\0"
PATH = "/dispatch"  # where a server answers that does not say where
LOOPBACK = ("lo", "lo0")  # what Linux and macOS call this interface

_PORT = 5353
_GROUPS = {socket.AF_INET: "224.0.0.251", socket.AF_INET6: "ff02::fb"}
_HOPS = 255  # RFC 6762, section 11
_IP_MULTICAST_ALL = 49  # linux/in.h: whether to hear also what comes over the interfaces that other sockets listen on
_FIRST_PAUSE = 1.0  # seconds until it is asked again, then twice as long each time (RFC 6762, section 5.2)
_LATE = 1.0  # seconds that it may take after the deadline to read what had come before it

_MOST_SERVERS = 32  # that are kept in mind
_MOST_ADDRESSES = 16  # of one of them
_MOST_URLS = 64  # of all
_MOST_QUESTIONS = 128  # between two pauses


def announced_urls(seconds: float, note: Note, interfaces: Optional[Sequence[str]] = None) -> Iterator[str]:
    """Yield the URLs of the servers that announce themselves, as they answer.

    Args:
        seconds: How long to listen.
        note: Told what went wrong, or that nobody answered.
        interfaces: Names of the interfaces to ask on, and then loopback addresses are taken too; None for all
            interfaces, and then without addresses that mean another computer here than there.
    """
    found = False
    with ExitStack() as stack:
        try:
            network = _Network(stack, interfaces)
        except OSError as error:
            note(f"mDNS: not searched: {error.strerror or error}")
            return
        for url in _search(network, _Heard(everywhere=interfaces is not None), time.monotonic() + seconds):
            found = True
            yield url
    if not network.asked:
        note(f"mDNS: not searched: {network.trouble or 'there is no network interface'}")
    elif not found:
        note(f"mDNS: no server was announced within {round(seconds, 1):g}s")


def _search(network: "_Network", heard: "_Heard", deadline: float) -> Iterator[str]:
    """Ask, listen, and ask again, until the deadline; what had come by then has its turn also after it."""
    again, pause, late = time.monotonic(), _FIRST_PAUSE, _LATE
    while True:
        now = time.monotonic()
        if now < deadline:
            if now >= again:
                heard.asked.clear()
                again, pause = now + pause, 2 * pause
            network.ask(heard.questions())
            if not network.asked:
                return
        messages = network.messages(max(0.0, min(again, deadline) - time.monotonic()))
        found = [url for message, interface in messages for url in heard.urls_after(message, interface)]
        if now >= deadline:
            late -= time.monotonic() - now
        yield from found
        if now >= deadline and (not messages or late < 0):
            return


class _Ear(NamedTuple):
    """A socket on one interface; `number` is that of its questions, None where it only listens."""

    sock: socket.socket
    interface: int
    number: Optional[bytes]


class _Network:
    """The sockets of a search.

    Args:
        stack: Closes them.
        names: Of the interfaces; None for all.

    Attributes:
        asked: Whether anything could be asked on any interface.
        trouble: Why something could not, the first of all reasons.
    """

    def __init__(self, stack: ExitStack, names: Optional[Sequence[str]]) -> None:
        self.asked = False
        self.trouble = ""
        self._ears: List[_Ear] = []
        self._selector = stack.enter_context(selectors.DefaultSelector())
        for index, name in socket.if_nameindex():
            if names is None or name in names:
                for family in _GROUPS:
                    self._open(stack, family, index, os.urandom(2))
                    self._open(stack, family, index, None)

    def _open(self, stack: ExitStack, family: socket.AddressFamily, interface: int, number: Optional[bytes]) -> None:
        """Have a socket on an interface, if there can be one: to ask where there is a number, else to listen."""
        prepare = _listen_at if number is None else _ask_from
        try:
            sock = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            sock.setblocking(False)
            prepare(sock, interface)
            self._ears.append(_Ear(sock, interface, number))
            self._selector.register(sock, selectors.EVENT_READ, self._ears[-1])
        except OSError as error:
            if number is not None:
                self._failed(error)

    def _failed(self, error: OSError) -> None:
        self.trouble = self.trouble or error.strerror or str(error)

    def ask(self, questions: Iterable[Question]) -> None:
        """Ask on each interface."""
        for name, kind in questions:
            for sock, interface, number in self._ears:
                if number is not None:
                    try:
                        sock.sendto(dns.question(name, kind, number), _group(sock.family, interface))
                        self.asked = True
                    except OSError as error:  # an interface may have no address of this family
                        self._failed(error)

    def messages(self, seconds: float) -> List[Tuple[bytes, int]]:
        """Wait; return what came, at most one message of each socket, with the interface that it came over."""
        found = []
        for key, _ in self._selector.select(seconds):
            ear = key.data
            with suppress(OSError):
                message, sender = ear.sock.recvfrom(dns.LONGEST)
                answers = ear.number in (None, message[:2])
                if answers and sender[1] == _PORT:  # no responder speaks from another port (RFC 6762, section 6)
                    found.append((message, ear.interface))
        return found


def _group(family: socket.AddressFamily, interface: int) -> Tuple[Any, ...]:
    """Return the address of all who answer."""
    return (_GROUPS[family], _PORT) if family == socket.AF_INET else (_GROUPS[family], _PORT, 0, interface)


def _ask_from(sock: socket.socket, interface: int) -> None:
    """Prepare a socket to ask on an interface, from a port of its own.

    Raises:
        OSError: It cannot.
    """
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("@4s4si", b"", b"", interface))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, _HOPS)
        sock.bind(("", 0))
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, interface)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, _HOPS)
        sock.bind(("", 0))


def _listen_at(sock: socket.socket, interface: int) -> None:
    """Prepare a socket to hear what is told to all on an interface, and nothing that is meant for another program.

    Raises:
        OSError: It cannot: a program has the port for itself, or there is no multicast.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    group = socket.inet_pton(sock.family, _GROUPS[sock.family])
    sock.bind(_group(sock.family, interface))
    if sock.family == socket.AF_INET:
        if sys.platform == "linux":
            sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, struct.pack("@4s4si", group, b"", interface))
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, struct.pack("@16si", group, interface))


class _Server:
    """What was heard of one server so far."""

    def __init__(self) -> None:
        self.host = b""
        self.port = 0
        self.path: Optional[str] = None
        self.addresses: Dict[Address, int] = {}  # and the interface over which they were told

    def missing(self, name: bytes) -> Iterator[Question]:
        """Yield what has to be asked about a server of this name."""
        if not self.host:
            yield name, dns.SRV
        elif not self.addresses:
            yield self.host, dns.A
            yield self.host, dns.AAAA
        if self.path is None:
            yield name, dns.TXT

    def urls(self, *, everywhere: bool) -> Iterator[str]:
        """Yield where it can be reached, as soon as all is known.

        Link-local addresses are taken where it has no other, as on a cable from one computer to another.

        Args:
            everywhere: Take loopback addresses too.
        """
        if self.path is None or not self.port:
            return
        unusable = [each for each in self.addresses if each.is_unspecified or each.is_multicast]
        usable = [each for each in self.addresses if each not in unusable and (everywhere or not each.is_loopback)]
        for address in [each for each in usable if not each.is_link_local] or usable:
            scope = f"%{self.addresses[address]}" if address.version == 6 and address.is_link_local else ""
            host = f"[{address}{scope}]" if address.version == 6 else str(address)
            yield f"http://{host}:{self.port}{self.path}"


class _Heard:
    """What was heard of all servers, within bounds: who is heard of first is forgotten first.

    Attributes:
        asked: What need not be asked again before the next pause is over.
    """

    def __init__(self, *, everywhere: bool) -> None:
        self.asked: Set[Question] = set()
        self._everywhere = everywhere
        self._servers: Dict[bytes, _Server] = {}
        self._told: Set[str] = set()

    def questions(self) -> List[Question]:
        """Return what is to be asked now, and count it as asked."""
        missing = [each for name, server in self._servers.items() for each in server.missing(name)]
        wanted = [each for each in dict.fromkeys([(SERVICE, dns.PTR), *missing]) if each not in self.asked]
        wanted = wanted[: _MOST_QUESTIONS - len(self.asked)]
        self.asked.update(wanted)
        return wanted

    def urls_after(self, message: bytes, interface: int) -> List[str]:
        """Note what a message says; return the URLs that are known now and were not told yet."""
        with suppress(ValueError):  # anybody may send anything
            self._take(dns.records(message), interface)
        known = [url for each in self._servers.values() for url in each.urls(everywhere=self._everywhere)]
        fresh = [url for url in dict.fromkeys(known) if url not in self._told][: _MOST_URLS - len(self._told)]
        self._told.update(fresh)
        return fresh

    def _take(self, records: Sequence[dns.Record], interface: int) -> None:
        """Note what these say: first what leads to the rest, in whatever order it came."""
        steps = (
            (dns.PTR, self._take_name),
            (dns.SRV, self._take_host),
            (dns.TXT, self._take_path),
            (dns.A, self._take_address),
            (dns.AAAA, self._take_address),
        )
        for kind, step in steps:
            for record in records:
                if record.kind == kind:
                    step(record, interface)

    def _take_name(self, record: dns.Record, _: int) -> None:
        if record.name != SERVICE or not record.target.endswith(SERVICE) or record.target in self._servers:
            return
        if len(self._servers) >= _MOST_SERVERS:
            del self._servers[next(iter(self._servers))]
        self._servers[record.target] = _Server()

    def _take_host(self, record: dns.Record, _: int) -> None:
        server = self._servers.get(record.name)
        if server:
            server.host, server.port = record.target, int.from_bytes(record.data[4:6], "big")

    def _take_path(self, record: dns.Record, _: int) -> None:
        server = self._servers.get(record.name)
        if server:
            path = dns.texts(record.data).get(b"path", b"").decode("utf-8", "replace") or PATH
            server.path = quote(path if path.startswith("/") else f"/{path}", safe="/%?=&")

    def _take_address(self, record: dns.Record, interface: int) -> None:
        if len(record.data) != (4 if record.kind == dns.A else 16):
            return
        address = ipaddress.ip_address(record.data)
        for server in self._servers.values():
            if server.host == record.name and len(server.addresses) < _MOST_ADDRESSES:
                server.addresses.setdefault(address, interface)

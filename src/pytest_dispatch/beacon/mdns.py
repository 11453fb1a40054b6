"""Find servers on the local network by mDNS (RFC 6762) and DNS-SD (RFC 6763).

Each network interface is asked by itself, over IPv4 and IPv6, from a port other than 5353. Responders answer that port
by unicast (RFC 6762, section 6.7). Some answer by multicast all the same, and some firewalls let nothing else in:
multicast answers are heard too, where port 5353 can be shared. The bit that asks for unicast answers (section 5.4) is
not set: it is meant for questions from port 5353, and some responders then answer by multicast alone.
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
_IP_MULTICAST_ALL = 49  # linux/in.h: whether to receive what comes over interfaces that other sockets have joined on
_FIRST_PAUSE = 1.0  # seconds until it is asked again, then twice as long each time (RFC 6762, section 5.2)
_LATE = 1.0  # seconds that may be spent after the deadline on what had come before it

_MOST_SERVERS = 32  # that are remembered at a time
_MOST_ADDRESSES = 16  # of one server
_MOST_URLS = 64  # of all servers
_MOST_QUESTIONS = 128  # until all are asked again


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
        for url in _search(network, _Servers(everywhere=interfaces is not None), time.monotonic() + seconds):
            found = True
            yield url
    if not network.asked:
        note(f"mDNS: not searched: {network.trouble or 'there is no network interface'}")
    elif not found:
        note(f"mDNS: no server was announced within {round(seconds, 1):g}s")


def _search(network: "_Network", servers: "_Servers", deadline: float) -> Iterator[str]:
    """Ask, listen, and ask again, until the deadline; what had come by then has its turn also after it."""
    again, pause, late = time.monotonic(), _FIRST_PAUSE, _LATE
    while True:
        now = time.monotonic()
        if now < deadline:
            if now >= again:
                servers.asked.clear()
                again, pause = now + pause, 2 * pause
            network.ask(servers.questions())
            if not network.asked:
                return
        messages = network.messages(max(0.0, min(again, deadline) - time.monotonic()))
        found = [url for message, interface in messages for url in servers.urls_after(message, interface)]
        if now >= deadline:
            late -= time.monotonic() - now
        yield from found
        if now >= deadline and (not messages or late < 0):
            return


class _Channel(NamedTuple):
    """A socket on one interface; `message_id` is the ID of its queries, None where it only hears multicast answers."""

    sock: socket.socket
    interface: int
    message_id: Optional[bytes]


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
        self._channels: List[_Channel] = []
        self._selector = stack.enter_context(selectors.DefaultSelector())
        for index, name in socket.if_nameindex():
            if names is None or name in names:
                for family in _GROUPS:
                    self._open(stack, family, index, os.urandom(2))
                    self._open(stack, family, index, None)

    def _open(
        self, stack: ExitStack, family: socket.AddressFamily, interface: int, message_id: Optional[bytes]
    ) -> None:
        """Have a socket on an interface, if there can be one: to ask where there is an ID, else to listen."""
        prepare = _listen_at if message_id is None else _ask_from
        try:
            sock = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            sock.setblocking(False)
            prepare(sock, interface)
            self._channels.append(_Channel(sock, interface, message_id))
            self._selector.register(sock, selectors.EVENT_READ, self._channels[-1])
        except OSError as error:
            if message_id is not None:
                self._failed(error)

    def _failed(self, error: OSError) -> None:
        self.trouble = self.trouble or error.strerror or str(error)

    def ask(self, questions: Iterable[Question]) -> None:
        """Ask on each interface."""
        for name, kind in questions:
            for sock, interface, message_id in self._channels:
                if message_id is not None:
                    try:
                        sock.sendto(dns.query(name, kind, message_id), _group(sock.family, interface))
                        self.asked = True
                    except OSError as error:  # an interface may have no address of this family
                        self._failed(error)

    def messages(self, seconds: float) -> List[Tuple[bytes, int]]:
        """Wait; return what came, at most one message of each socket, with the interface that it came over."""
        found = []
        for key, _ in self._selector.select(seconds):
            channel = key.data
            with suppress(OSError):
                message, sender = channel.sock.recvfrom(dns.LONGEST)
                ours = channel.message_id in (None, message[:2])
                if ours and sender[1] == _PORT:  # no responder answers from another port (RFC 6762, section 6)
                    found.append((message, channel.interface))
        return found


def _group(family: socket.AddressFamily, interface: int) -> Tuple[Any, ...]:
    """Return the multicast address of all responders on an interface."""
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
    """Prepare a socket for multicast answers on an interface, and for no unicast that is meant for other programs.

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
    """What is known of one server so far."""

    def __init__(self) -> None:
        self.host = b""
        self.port = 0
        self.path: Optional[str] = None
        self.addresses: Dict[Address, int] = {}  # and the interface that each was heard on

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


class _Servers:
    """What is known of all servers, within bounds: the first that was heard of is forgotten first.

    Attributes:
        asked: Questions that need not be asked again before the next pause is over.
    """

    def __init__(self, *, everywhere: bool) -> None:
        self.asked: Set[Question] = set()
        self._everywhere = everywhere
        self._known: Dict[bytes, _Server] = {}
        self._told: Set[str] = set()

    def questions(self) -> List[Question]:
        """Return the questions to ask now, and count them as asked."""
        missing = [each for name, server in self._known.items() for each in server.missing(name)]
        wanted = [each for each in dict.fromkeys([(SERVICE, dns.PTR), *missing]) if each not in self.asked]
        wanted = wanted[: _MOST_QUESTIONS - len(self.asked)]
        self.asked.update(wanted)
        return wanted

    def urls_after(self, message: bytes, interface: int) -> List[str]:
        """Note what a message says; return the URLs that are known now and were not told yet."""
        with suppress(ValueError):  # anybody may send anything
            self._take(dns.records(message), interface)
        urls = [url for each in self._known.values() for url in each.urls(everywhere=self._everywhere)]
        fresh = [url for url in dict.fromkeys(urls) if url not in self._told][: _MOST_URLS - len(self._told)]
        self._told.update(fresh)
        return fresh

    def _take(self, records: Sequence[dns.Record], interface: int) -> None:
        """Note what these say, in the order in which one leads to the next, whatever order they came in."""
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
        if record.name != SERVICE or not record.target.endswith(SERVICE) or record.target in self._known:
            return
        if len(self._known) >= _MOST_SERVERS:
            del self._known[next(iter(self._known))]
        self._known[record.target] = _Server()

    def _take_host(self, record: dns.Record, _: int) -> None:
        server = self._known.get(record.name)
        if server:
            server.host, server.port = record.target, int.from_bytes(record.data[4:6], "big")

    def _take_path(self, record: dns.Record, _: int) -> None:
        server = self._known.get(record.name)
        if server:
            path = dns.texts(record.data).get(b"path", b"").decode("utf-8", "replace") or PATH
            server.path = quote(path if path.startswith("/") else f"/{path}", safe="/%?=&")

    def _take_address(self, record: dns.Record, interface: int) -> None:
        if len(record.data) != (4 if record.kind == dns.A else 16):
            return
        address = ipaddress.ip_address(record.data)
        for server in self._known.values():
            if server.host == record.name and len(server.addresses) < _MOST_ADDRESSES:
                server.addresses.setdefault(address, interface)

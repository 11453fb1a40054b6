"""Announces the lab on the local network (mDNS, RFC 6762; DNS-SD, RFC 6763), so that workloads find it.

Each network interface announces only its own addresses: an address of another interface, such as a container bridge or
a VPN, may be unreachable from that network, or belong to another computer there.
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import socket
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pytest_dispatch.beacon.mdns import NAME

if TYPE_CHECKING:
    from zeroconf import ServiceInfo
    from zeroconf.asyncio import AsyncZeroconf

DESCRIPTION = "pytest-dispatch: workloads for machines that boot over HTTP"
GROUP = ipaddress.IPv4Address("224.0.0.251")
TRIES = 8  # number of names to try; that many clashes in a row cannot be chance
STOP = 0.8  # seconds to withdraw the announcement

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Card = ipaddress.IPv4Interface | ipaddress.IPv6Interface


class Link(NamedTuple):
    """A network interface.

    Attributes:
        addresses: Addresses announced on it, IPv4 first.
        networks: Networks that it reaches without a router.
    """

    addresses: list[Address]
    networks: list[Network]


def four_digits() -> str:
    """Return four random hexadecimal digits."""
    return secrets.token_hex(2)


class Announcement:
    """The announcement of a lab. Call `start`, then `stop`, both on the event loop.

    Args:
        digits: Returns the last part of the name `dispatch-…`; called again after each name clash.

    Attributes:
        name: The announced name; empty while there is none.
    """

    def __init__(self, digits: Callable[[], str] = four_digits) -> None:
        self.name = ""
        self._digits = digits
        self._open: list[tuple[AsyncZeroconf, Link]] = []

    async def start(self, port: int, addresses: Sequence[str] | None, path: str) -> str:
        """Announce the lab; takes about two seconds, so run it as a task beside the server. It may be cancelled.

        Args:
            port: Port on which the server listens.
            addresses: Addresses of the server, whose interfaces to announce on; None for all but loopback.
            path: Path of the boot URL.

        Returns:
            The name, or one line that says why there is none. A failed announcement is not fatal: machines that know
            the URL do not need it.
        """
        zeroconf = await asyncio.to_thread(import_module, "zeroconf")  # takes 0.1 s: do not block the event loop
        try:
            links = await _links(addresses)
            if not links:
                return "not announced: no network interface beside loopback has an address"
            await self._listen(links)
            await self._register(port, path)
        except (OSError, ValueError, zeroconf.Error) as error:  # ValueError: an invalid host name
            await self.stop()
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            return f"not announced: {reason}"
        return self.name

    async def stop(self, within: float = STOP) -> None:
        """Withdraw the announcement, if there is one, in at most `within` seconds."""
        networks, self._open, self.name = [network for network, _ in self._open], [], ""
        try:
            async with asyncio.timeout(within):
                await asyncio.gather(*(network.async_close() for network in networks))
        except TimeoutError:
            for network in networks:
                network.zeroconf.close()

    async def _listen(self, links: Sequence[Link]) -> None:
        """Open sockets on each of these interfaces, except those without multicast.

        Raises:
            OSError: No interface has multicast.
        """
        for link in links:
            try:
                network = _sockets(link.addresses)
            except OSError as error:
                refused = error
                continue
            self._open.append((network, link))
            await network.zeroconf.async_wait_for_start()
            _hear_no_other(network, link, links)
        if not self._open:
            raise refused

    async def _register(self, port: int, path: str) -> None:
        from zeroconf import NonUniqueNameException

        networks = [network for network, _ in self._open]
        for _ in range(TRIES):
            self.name = name = f"dispatch-{self._digits()}"
            infos = [_info(name, port, link.addresses, path) for _, link in self._open]
            # Check the name on all interfaces before announcing it on any: two may be on the same network.
            found = await asyncio.gather(*map(_is_taken, networks, infos))
            if any(found):
                continue
            told = [
                await network.async_register_service(info, cooperating_responders=True)
                for network, info in zip(networks, infos, strict=True)
            ]
            await asyncio.gather(*told)
            return
        raise NonUniqueNameException(f"{TRIES} names in a row were taken")


async def _is_taken(network: AsyncZeroconf, info: ServiceInfo) -> bool:
    """Return whether another service on this network has the name."""
    from zeroconf import NonUniqueNameException

    try:
        await network.zeroconf.async_check_service(info, allow_name_change=False)
    except NonUniqueNameException:
        return True
    return False


def _sockets(addresses: Sequence[Address]) -> AsyncZeroconf:
    """Open sockets for the addresses of an interface: for the IPv4 ones if there are any, as all networks support IPv4.

    Raises:
        OSError: The interface has no multicast.
    """
    from zeroconf.asyncio import AsyncZeroconf

    chosen = [address for address in addresses if address.version == 4] or addresses[:1]
    for address in chosen:
        _check(address)
    return AsyncZeroconf(interfaces=[str(address) for address in chosen])


def _hear_no_other(network: AsyncZeroconf, link: Link, links: Sequence[Link]) -> None:
    """Ignore queries that came in on other interfaces, whose own sockets answer them.

    Linux delivers multicast packets to the sockets of all interfaces. With IP_MULTICAST_ALL off, it delivers a packet
    to only one of the sockets that share the port, chosen by a hash; since Linux 6.6 that may be the wrong one.
    """
    elsewhere = [each for other in links if other is not link for each in other.networks]
    for reader in network.zeroconf.engine.readers:
        transport = reader.transport
        transport.set_protocol(
            _Gate(cast("asyncio.DatagramProtocol", transport.get_protocol()), link.networks, elsewhere)
        )


class _Gate(asyncio.DatagramProtocol):
    """Forwards packets, except those from computers on the networks of other interfaces."""

    def __init__(self, inner: asyncio.DatagramProtocol, here: Sequence[Network], elsewhere: Sequence[Network]) -> None:
        self._inner = inner
        self._here = here
        self._elsewhere = elsewhere

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """Forward a packet, unless its sender's address is on the network of another interface."""
        sender = ipaddress.ip_address(addr[0].partition("%")[0])
        if any(sender in each for each in self._here) or not any(sender in each for each in self._elsewhere):
            self._inner.datagram_received(data, addr)

    def error_received(self, exc: Exception) -> None:
        """Forward an error of the socket."""
        self._inner.error_received(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forward the closing of the socket."""
        self._inner.connection_lost(exc)


def _check(address: Address) -> None:
    """Raise OSError if there is no multicast on this address; zeroconf would raise it too, but leak a socket."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        if address.version == 4:
            membership = GROUP.packed + address.packed
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        else:
            probe.bind((str(address), 0))


def _info(name: str, port: int, where: Iterable[Address], path: str) -> ServiceInfo:
    from zeroconf import ServiceInfo

    return ServiceInfo(
        NAME,
        f"{name}.{NAME}",
        port=port,
        addresses=[address.packed for address in where],
        properties={"description": DESCRIPTION, "version": version("pytest-dispatch"), "path": path},
        server=f"{name}.local.",
    )


async def _links(given: Sequence[str] | None) -> list[Link]:
    """Return the interfaces of the given names and addresses; without any, all that other computers can reach."""
    cards = _cards()
    if given is None:
        return announceable(cards)
    loop = asyncio.get_running_loop()
    found = [await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM) for name in given]
    texts = [str(entry[4][0]).partition("%")[0] for entries in found for entry in entries]
    asked = list(dict.fromkeys(ipaddress.ip_address(text) for text in texts))
    links = [_link(card, [address for address in asked if address in _addresses(card)]) for card in cards]
    known = [address for link in links for address in link.addresses]
    links += [Link([address], []) for address in asked if address not in known]  # not on an interface of this computer
    return [link for link in links if link.addresses]


def _cards() -> list[list[Card]]:
    """Return the addresses of each network interface, with their networks."""
    import ifaddr  # a dependency of zeroconf

    return [
        [
            ipaddress.ip_interface(f"{ip.ip if isinstance(ip.ip, str) else ip.ip[0]}/{ip.network_prefix}")
            for ip in card.ips
        ]
        for card in ifaddr.get_adapters()
    ]


def announceable(cards: Sequence[Sequence[Card]]) -> list[Link]:
    """Return the addresses to announce on each interface.

    Args:
        cards: The addresses of each interface.

    Returns:
        For each interface, its addresses that are not link-local; without any, its IPv4 link-local ones. If no
        interface has either, their IPv6 link-local ones; these come last because even interfaces that only exist
        inside this computer have them.
    """
    links = [_link(card, reachable(_addresses(card)) or _link_local(card, 4)) for card in cards]
    if not any(link.addresses for link in links):
        links = [_link(card, _link_local(card, 6)) for card in cards]
    return [link for link in links if link.addresses]


def _link(card: Iterable[Card], addresses: list[Address]) -> Link:
    return Link(addresses, [each.network for each in card])


def _addresses(card: Iterable[Card]) -> list[Address]:
    return [each.ip for each in card]


def _link_local(card: Iterable[Card], version: int) -> list[Address]:
    return [each for each in _addresses(card) if each.is_link_local and each.version == version]


def reachable(addresses: Iterable[Address]) -> list[Address]:
    """Return the addresses that identify this computer for every machine on the network, IPv4 first."""
    kept = [a for a in addresses if not (a.is_loopback or a.is_link_local or a.is_unspecified)]
    return sorted(dict.fromkeys(kept), key=lambda address: address.version)

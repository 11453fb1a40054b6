"""Tells the local network where the lab is (mDNS, RFC 6762; DNS-SD, RFC 6763), so that workloads find it."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import socket
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zeroconf import ServiceInfo
    from zeroconf.asyncio import AsyncZeroconf

SERVICE = "_dispatch._tcp.local."
DESCRIPTION = "pytest-dispatch: workloads for machines that boot over HTTP"
GROUP = ipaddress.IPv4Address("224.0.0.251")
TRIES = 8  # names tried; that many labs with the same four digits are no chance
STOP = 0.8  # seconds to say goodbye

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def four_digits() -> str:
    """Four random hexadecimal digits."""
    return secrets.token_hex(2)


class Announcement:
    """A lab's entry on the local network. `start`, then `stop`; both on the event loop.

    Args:
        digits: Makes the last part of the name `dispatch-…`, a new one after each clash.

    Attributes:
        name: The name under which the lab is announced, empty while it is not.
    """

    def __init__(self, digits: Callable[[], str] = four_digits) -> None:
        self.name = ""
        self._digits = digits
        self._zeroconf: AsyncZeroconf | None = None

    async def start(self, port: int, addresses: Sequence[str] | None, path: str) -> str:
        """Announce; takes about two seconds, so run it beside the server. It may be cancelled.

        Args:
            port: Where the server listens.
            addresses: Where it can be reached, the interfaces to announce on; None for all but loopback.
            path: Of the boot URL.

        Returns:
            The name, or one line that says why there is none. An announcement that fails is no reason to stop:
            machines that know the URL need none.
        """
        zeroconf = await asyncio.to_thread(import_module, "zeroconf")  # a tenth of a second, not on the loop
        try:
            where = await _addresses(addresses)
            if not where:
                return "not announced: no network interface beside loopback has an address"
            self._zeroconf = _open(where)
            await self._register(self._zeroconf, port, where, path)
        except (OSError, ValueError, zeroconf.Error) as error:  # ValueError: a host name that can be none
            await self.stop()
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            return f"not announced: {reason}"
        return self.name

    async def stop(self, within: float = STOP) -> None:
        """Say goodbye to the network, within so many seconds; does nothing if nothing was announced."""
        zeroconf, self._zeroconf, self.name = self._zeroconf, None, ""
        if zeroconf is None:
            return
        try:
            async with asyncio.timeout(within):
                await zeroconf.async_close()
        except TimeoutError:
            zeroconf.zeroconf.close()

    async def _register(self, zeroconf: AsyncZeroconf, port: int, where: Sequence[Address], path: str) -> None:
        from zeroconf import NonUniqueNameException

        for _ in range(TRIES):
            self.name = name = f"dispatch-{self._digits()}"
            try:
                announced = await zeroconf.async_register_service(_info(name, port, where, path))
            except NonUniqueNameException:
                continue
            await announced
            return
        raise NonUniqueNameException(f"{TRIES} names in a row were taken")


def _open(where: Sequence[Address]) -> AsyncZeroconf:
    """Sockets on the interfaces of these addresses: the IPv4 ones if there are any, which all networks speak."""
    from zeroconf.asyncio import AsyncZeroconf

    chosen = [address for address in where if address.version == 4] or where
    for address in chosen:
        _check(address)
    return AsyncZeroconf(interfaces=[str(address) for address in chosen])


def _check(address: Address) -> None:
    """Raise OSError if there is no multicast on this address; zeroconf would too, and leave a socket open."""
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
        SERVICE,
        f"{name}.{SERVICE}",
        port=port,
        addresses=[address.packed for address in where],
        properties={"description": DESCRIPTION, "version": version("pytest-dispatch"), "path": path},
        server=f"{name}.local.",
    )


async def _addresses(given: Sequence[str] | None) -> list[Address]:
    """The given names and addresses as addresses; else all that others on the network can reach."""
    if given is None:
        return own_addresses()
    loop = asyncio.get_running_loop()
    found = [await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM) for name in given]
    texts = [str(entry[4][0]).partition("%")[0] for entries in found for entry in entries]
    return list(dict.fromkeys(ipaddress.ip_address(text) for text in texts))


def own_addresses() -> list[Address]:
    """This computer's addresses that others on the network can reach, IPv4 first."""
    import ifaddr  # zeroconf asks it too

    ips = [ip.ip for card in ifaddr.get_adapters() for ip in card.ips]
    return reachable(ipaddress.ip_address(ip if isinstance(ip, str) else ip[0]) for ip in ips)


def reachable(addresses: Iterable[Address]) -> list[Address]:
    """Those that mean the same computer on every machine of the network, IPv4 first."""
    kept = [a for a in addresses if not (a.is_loopback or a.is_link_local or a.is_unspecified)]
    return sorted(dict.fromkeys(kept), key=lambda address: address.version)

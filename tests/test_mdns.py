"""The lab's mDNS announcement, watched by a second zeroconf on the loopback interface."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from itertools import chain, repeat

import pytest
from zeroconf import ServiceStateChange
from zeroconf.asyncio import (
    AsyncServiceBrowser,
    AsyncServiceInfo,
    AsyncZeroconf,
)

from pytest_dispatch.server.mdns import SERVICE, TRIES, Announcement, four_digits, own_addresses, reachable

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("alone_on_mdns")]

LOOPBACK = ["127.0.0.1"]


class Watcher:
    """What somebody else on the network sees."""

    def __init__(self, zeroconf: AsyncZeroconf) -> None:
        self.zeroconf = zeroconf
        self.seen: set[str] = set()
        self.browser = AsyncServiceBrowser(zeroconf.zeroconf, SERVICE, handlers=[self.changed])

    def changed(self, name: str, state_change: ServiceStateChange, **_: object) -> None:
        instance = name.removesuffix(f".{SERVICE}")
        if state_change is ServiceStateChange.Removed:
            self.seen.discard(instance)
        else:
            self.seen.add(instance)

    async def info(self, instance: str) -> AsyncServiceInfo:
        info = AsyncServiceInfo(SERVICE, f"{instance}.{SERVICE}")
        assert await info.async_request(self.zeroconf.zeroconf, 3000)
        return info


@asynccontextmanager
async def watching() -> AsyncIterator[Watcher]:
    zeroconf = AsyncZeroconf(interfaces=LOOPBACK)
    watcher = Watcher(zeroconf)
    try:
        yield watcher
    finally:
        await watcher.browser.async_cancel()
        await zeroconf.async_close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while True:
            if holds():
                return
            await asyncio.sleep(0.005)


async def test_a_lab_is_found_with_its_port_address_and_path_and_is_gone_afterwards() -> None:
    announcement = Announcement()
    async with watching() as watcher:
        name = await announcement.start(8080, LOOPBACK, "/dispatch")
        assert re.fullmatch(r"dispatch-[0-9a-f]{4}", name)
        assert announcement.name == name
        await until(lambda: name in watcher.seen)
        info = await watcher.info(name)
        assert (info.port, info.parsed_addresses()) == (8080, LOOPBACK)
        assert info.decoded_properties == {
            "description": "pytest-dispatch: workloads for machines that boot over HTTP",
            "version": version("pytest-dispatch"),
            "path": "/dispatch",
        }
        await announcement.stop()
        await until(lambda: name not in watcher.seen)
    assert announcement.name == ""


async def test_a_host_name_is_announced_by_its_address() -> None:
    announcement = Announcement()
    async with watching() as watcher:
        name = await announcement.start(1, ["127.0.0.1", "localhost"], "/x")
        await until(lambda: name in watcher.seen)
        addresses = (await watcher.info(name)).parsed_addresses()
        await announcement.stop()
    assert addresses[0] == "127.0.0.1"
    assert all(ipaddress.ip_address(address).is_loopback for address in addresses)


async def test_a_name_that_is_taken_is_drawn_again() -> None:
    first = Announcement(lambda: "aaaa")
    drawn = iter(["aaaa", "bbbb"])
    second = Announcement(lambda: next(drawn))
    try:
        assert await first.start(1, LOOPBACK, "/x") == "dispatch-aaaa"
        assert await second.start(2, LOOPBACK, "/x") == "dispatch-bbbb"
    finally:
        await second.stop()
        await first.stop()


async def test_names_are_not_drawn_for_ever() -> None:
    first = Announcement(lambda: "cccc")
    drawn = chain(repeat("cccc", TRIES), ["dddd"])
    second = Announcement(lambda: next(drawn))
    try:
        await first.start(1, LOOPBACK, "/x")
        assert await second.start(2, LOOPBACK, "/x") == f"not announced: {TRIES} names in a row were taken"
    finally:
        await second.stop()
        await first.stop()
    assert second.name == ""
    assert next(drawn) == "dddd"


@pytest.mark.parametrize(
    ("addresses", "words"),
    [
        (["203.0.113.5"], "No such device"),
        (["2001:db8::5"], "Cannot assign requested address"),
        (["a..b"], "(encoding with )?'idna' codec |label empty"),
        ([], "no network interface beside loopback has an address"),
    ],
)
async def test_what_cannot_be_announced_is_told_in_a_line(addresses: list[str], words: str) -> None:
    announcement = Announcement()
    said = await announcement.start(8080, addresses, "/dispatch")
    assert re.match(f"not announced: ({words})", said)
    assert "\n" not in said
    assert announcement.name == ""
    await announcement.stop()


async def test_a_start_may_be_cancelled() -> None:
    announcement = Announcement()
    async with watching() as watcher:
        starting = asyncio.create_task(announcement.start(8080, LOOPBACK, "/dispatch"))
        await asyncio.sleep(0.05)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        assert starting.cancelled()
        await announcement.stop()
        await announcement.stop()
        assert watcher.seen == set()


async def test_stop_does_not_wait_for_a_goodbye_longer_than_it_may() -> None:
    announcement = Announcement()
    await announcement.start(8080, LOOPBACK, "/dispatch")
    await announcement.stop(within=0)
    assert announcement.name == ""


async def test_stop_before_start_does_nothing() -> None:
    await Announcement().stop()


def test_digits_are_four_and_differ() -> None:
    drawn = {four_digits() for _ in range(50)}
    assert len(drawn) > 40
    assert all(re.fullmatch("[0-9a-f]{4}", digits) for digits in drawn)


def test_only_addresses_that_others_can_use_are_announced_ipv4_first() -> None:
    texts = ["::1", "fd00::2", "127.0.0.1", "169.254.3.4", "192.168.1.9", "fe80::1", "0.0.0.0", "192.168.1.9"]
    kept = reachable(ipaddress.ip_address(text) for text in texts)
    assert [str(address) for address in kept] == ["192.168.1.9", "fd00::2"]


def test_this_computers_own_addresses_are_taken_as_they_are() -> None:
    assert own_addresses() == reachable(own_addresses())

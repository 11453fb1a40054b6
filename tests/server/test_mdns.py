"""The lab's mDNS announcement, watched by a second zeroconf on the loopback interface."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from itertools import chain, repeat
from pathlib import Path

import pytest
from mdns_shout import shout
from project import SUPPORT
from waiting import until
from zeroconf import DNSQuestionType, ServiceStateChange
from zeroconf.asyncio import (
    AsyncServiceBrowser,
    AsyncServiceInfo,
    AsyncZeroconf,
)

from pytest_dispatch.beacon.mdns import NAME
from pytest_dispatch.server.mdns import TRIES, Announcement, announceable, four_digits, reachable

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("alone_on_mdns"), pytest.mark.draw(1 / 3, of=__name__)]

LOOPBACK = ["127.0.0.1"]


class EventListener:
    """What somebody else on the network sees."""

    def __init__(self, zeroconf: AsyncZeroconf) -> None:
        self.zeroconf = zeroconf
        self.seen: set[str] = set()
        # By multicast: of two that share a port, as all here do, one alone gets what is answered to the computer.
        self.browser = AsyncServiceBrowser(
            zeroconf.zeroconf, NAME, handlers=[self.changed], question_type=DNSQuestionType.QM
        )

    def changed(self, name: str, state_change: ServiceStateChange, **_: object) -> None:
        instance = name.removesuffix(f".{NAME}")
        if state_change is ServiceStateChange.Removed:
            self.seen.discard(instance)
        else:
            self.seen.add(instance)

    async def info(self, instance: str) -> AsyncServiceInfo:
        info = AsyncServiceInfo(NAME, f"{instance}.{NAME}")
        assert await info.async_request(self.zeroconf.zeroconf, 10_000, DNSQuestionType.QM)
        return info


@asynccontextmanager
async def watching() -> AsyncIterator[EventListener]:
    zeroconf = AsyncZeroconf(interfaces=LOOPBACK)
    watcher = EventListener(zeroconf)
    try:
        yield watcher
    finally:
        await watcher.browser.async_cancel()
        await zeroconf.async_close()


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


def taken(digits: str) -> str:
    """Digits that somebody else on the network has: who has just drawn them gets to know before it asks."""
    shout(f"dispatch-{digits}")
    return digits


async def test_a_name_that_is_taken_is_drawn_again() -> None:
    drawn = chain(map(taken, ["aaaa"]), ["bbbb"])
    announcement = Announcement(lambda: next(drawn))
    try:
        assert await announcement.start(2, LOOPBACK, "/x") == "dispatch-bbbb"
    finally:
        await announcement.stop()


async def test_names_are_not_drawn_for_ever() -> None:
    drawn = chain(map(taken, repeat("cccc", TRIES)), ["dddd"])
    announcement = Announcement(lambda: next(drawn))
    try:
        assert await announcement.start(2, LOOPBACK, "/x") == f"not announced: {TRIES} names in a row were taken"
    finally:
        await announcement.stop()
    assert announcement.name == ""
    assert next(drawn) == "dddd"


#: Starts a lab that is announced.
ANNOUNCED = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
from pathlib import Path
from labs import plan
from pytest_dispatch.plugin.lab_process import LabProcess
lab = LabProcess(plan(Path(sys.argv[2]), announce=True))
lab.start("w")
sys.stdin.read()
"""


async def test_the_name_goes_when_pytest_is_killed(tmp_path: Path) -> None:
    args = [sys.executable, "-c", ANNOUNCED, json.dumps(sys.path), str(tmp_path)]
    async with watching() as watcher:
        killed = await asyncio.create_subprocess_exec(*args, stdin=subprocess.PIPE)
        try:
            await until(lambda: bool(watcher.seen))
        finally:
            killed.kill()
            await killed.wait()
        await until(lambda: not watcher.seen)


def test_each_network_hears_the_labs_address_on_it_and_no_other(namespaces: list[str]) -> None:
    program = SUPPORT / "several_networks.py"
    ran = subprocess.run(
        [*namespaces, sys.executable, program], capture_output=True, text=True, timeout=110, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {
        "name": "dispatch-0001",  # another lab, on the last of these, is dispatch-0000
        "lan": {"addresses": ["192.0.2.1"], "url": ["http://192.0.2.1:8080/dispatch"]},
        "docker0": {"addresses": ["172.17.0.1"], "url": ["http://172.17.0.1:8080/dispatch"]},
        "six": {"addresses": ["fd00:6::1"], "url": ["http://[fd00:6::1]:8080/dispatch"]},
        "cable": {"addresses": ["169.254.7.1"], "url": ["http://169.254.7.1:8080/dispatch"]},
    }


@pytest.mark.parametrize(
    ("addresses", "words"),
    [
        (["203.0.113.5"], "No such device"),
        (["2001:db8::5"], "Cannot assign requested address|Address family not supported by protocol"),
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


@pytest.mark.parametrize(
    ("cards", "told"),
    [
        ([["127.0.0.1/8", "::1/128"], ["fe80::2/64", "192.168.1.9/24", "fd00::2/64"]], [["192.168.1.9", "fd00::2"]]),
        ([["192.168.1.9/24"], ["172.17.0.1/16"]], [["192.168.1.9"], ["172.17.0.1"]]),
        ([["192.168.1.9/24", "169.254.3.4/16"], ["169.254.5.6/16", "fe80::1/64"]], [["192.168.1.9"], ["169.254.5.6"]]),
        ([["192.168.1.9/24"], ["fe80::1/64"]], [["192.168.1.9"]]),
        ([["127.0.0.1/8"], ["fe80::1/64"], ["fe80::2/64"]], [["fe80::1"], ["fe80::2"]]),
        ([["127.0.0.1/8"], []], []),
    ],
)
def test_an_interface_announces_link_local_addresses_only_if_it_has_no_others(
    cards: list[list[str]], told: list[list[str]]
) -> None:
    links = announceable([[ipaddress.ip_interface(text) for text in card] for card in cards])
    assert [[str(address) for address in link.addresses] for link in links] == told

"""A lab on several networks, as somebody on each of them sees it.

Run without arguments in a network namespace of its own, this is the lab's computer. It makes a namespace for each
network, in which this runs once more, connects it by a pair of virtual interfaces, announces a lab, and prints what was
seen of it. All of it goes when the processes end.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import ExitStack
from itertools import count
from typing import IO, NamedTuple

from zeroconf import IPVersion, ServiceInfo, Zeroconf

from pytest_dispatch.beacon.mdns import NAME, announced_urls
from pytest_dispatch.server.mdns import Announcement

#: The lab's address on each network, and somebody else's.
NETWORKS = {
    "lan": ("192.0.2.1/24", "192.0.2.2/24"),
    "docker0": ("172.17.0.1/16", "172.17.0.2/16"),
    "six": ("fd00:6::1/64", "fd00:6::2/64"),
    "cable": ("169.254.7.1/16", "169.254.7.2/16"),
}
TAKEN = "dispatch-0000"  # by another lab, on the last of these networks


class There(NamedTuple):
    """Somebody on one of the networks."""

    session_service: IO[str]
    answers: IO[str]

    def say(self, order: str) -> None:
        self.session_service.write(f"{order}\n")
        self.session_service.flush()

    def ask(self, order: str) -> str:
        self.say(order)
        return self.answers.readline().strip()


def ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)


def have(address: str, interface: str) -> None:
    """Have an address, at once: nobody else has it."""
    ip(f"link set {interface} up")
    ip(f"address add {address} dev {interface}{' nodad' * (':' in address)}")


def connect(stack: ExitStack, network: str) -> There:
    here, there = NETWORKS[network]
    process = stack.enter_context(
        subprocess.Popen(
            ["unshare", "--net", sys.executable, __file__, there],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    )
    stack.callback(process.kill)
    assert process.stdin is not None
    assert process.stdout is not None
    person = There(process.stdin, process.stdout)
    assert person.answers.readline() == "there\n"
    ip(f"link add {network} type veth peer name far netns {process.pid}")
    have(here, network)
    assert person.ask("connected") == "connected"
    return person


async def announce(people: dict[str, There]) -> dict[str, object]:
    assert people["cable"].ask("announce") == TAKEN
    numbers = count()
    announcement = Announcement(lambda: f"{next(numbers):04}")
    name = await announcement.start(8080, None, "/dispatch")
    try:
        seen = await asyncio.gather(*(asyncio.to_thread(person.ask, name) for person in people.values()))
    finally:
        await announcement.stop()
    return {"name": name, **{network: json.loads(line) for network, line in zip(people, seen, strict=True)}}


def lab() -> None:
    with ExitStack() as stack:
        ip("link set lo up")
        people = {network: connect(stack, network) for network in NETWORKS}
        print(json.dumps(asyncio.run(announce(people))))


async def somebody(address: str) -> None:
    other = Announcement(lambda: TAKEN.removeprefix("dispatch-"))
    print("there", flush=True)
    while order := (await asyncio.to_thread(sys.stdin.readline)).strip():
        if order == "connected":
            ip("link set lo up")
            have(address, "far")
            print(order, flush=True)
        elif order == "announce":
            print(await other.start(9090, None, "/dispatch"), flush=True)
        else:
            print(json.dumps(await asyncio.to_thread(look, order)), flush=True)


def look(name: str) -> dict[str, list[str]]:
    """All addresses that were told under this name, to whoever asks for all and for one to hear; and what is tried."""
    told: set[str] = set()
    for _ in range(3):
        network = Zeroconf(ip_version=IPVersion.All)
        info = ServiceInfo(NAME, f"{name}.{NAME}")
        assert info.request(network, 10_000)
        told.update(info.parsed_addresses())
        network.close()
    urls = (url for url in announced_urls(20, lambda _: None) if ":8080/" in url)
    return {"addresses": sorted(told), "url": [next(urls, "none")]}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(somebody(sys.argv[1]))
    else:
        lab()

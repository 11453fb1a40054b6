"""Servers on the local network, found over mDNS: the lab's own announcement, and whatever else may answer."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import count, takewhile
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from beacons import BEACON, Beacon, Server, http_option, put
from mdns_responder import (
    AAAA,
    PTR,
    SERVICE,
    SRV,
    TXT,
    A,
    Record,
    address,
    lab,
    message,
    place,
    pointer,
    responder,
    text,
)

from pytest_dispatch.beacon.mdns import LOOPBACK, announced_urls
from pytest_dispatch.beacon.urls import is_url
from pytest_dispatch.server.mdns import Announcement

pytestmark = [pytest.mark.usefixtures("alone_on_mdns"), pytest.mark.draw(1 / 2, of=__name__)]

ENOUGH = 60.0  # seconds in which what is looked for is found, however busy the computer is
INSTANCE = "dispatch-1a2b"
PORTS = {1, 2, 3, 9, 18080, 18081}  # of what tests announce; who else does so on this computer has others
#: Runs a command where nobody else is heard over mDNS.
QUIET = ("sh", "-c", 'ip link set lo up multicast on && ip route add 224.0.0.0/4 dev lo && exec "$@"', "sh")


@pytest.mark.anyio
async def test_the_network_is_searched_when_the_variables_lead_nowhere(
    beacon: Beacon, server: Server, efivars: Path
) -> None:
    server.statuses["/old"] = [417]
    put(efivars, "Boot0001", http_option(server.url("/old")))
    announcement = Announcement()
    await announcement.start(server.port, ["127.0.0.1"], "/from mdns?x=1")
    try:
        process = await asyncio.create_subprocess_exec(*BEACON, "boot", env=beacon.environment)
        assert await asyncio.wait_for(process.wait(), 60) == 0
    finally:
        await announcement.stop()
    assert [call.path for call in server.calls] == ["/old", "/from%20mdns?x=1"]


def test_what_was_searched_in_vain_is_told(beacon: Beacon, efivars: Path, namespaces: list[str]) -> None:
    result = beacon._replace(command=(*namespaces, *QUIET, *beacon.command))("boot", "--wait", "0")
    assert result.returncode == 1
    assert result.stderr.decode().splitlines() == [
        "beacon: no server took the boot message within 0s",
        f"  EFI variables: {efivars}: none of 0 boot options holds a URL behind a MAC address",
        "  mDNS: no server was announced within 1s",
    ]


def test_an_interface_that_is_not_there_is_told() -> None:
    notes: list[str] = []
    assert list(announced_urls(ENOUGH, notes.append, ["none-such"])) == []
    assert notes == ["mDNS: not searched: there is no network interface"]


def test_a_network_that_is_not_up_is_told(namespaces: list[str]) -> None:
    search = f"from pytest_dispatch.beacon.mdns import announced_urls; print(*announced_urls({ENOUGH}, print))"
    ran = subprocess.run([*namespaces, sys.executable, "-c", search], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.strip()) == (0, "mDNS: not searched: Network is unreachable"), ran.stderr


# Whoever answers


def urls_until(last: str, among: Iterator[str]) -> list[str]:
    """All up to this one, which is told after whatever is to be looked at."""
    return [*takewhile(lambda url: url != last, among), last]


def of_tests(urls: Iterator[str]) -> Iterator[str]:
    """Without those of labs that somebody else has here."""
    return (url for url in urls if urlsplit(url).port in PORTS)


def first_url() -> str:
    notes: list[str] = []
    return next(of_tests(announced_urls(ENOUGH, notes.append, LOOPBACK)), str(notes))


def test_an_answer_to_whoever_asked_is_heard() -> None:
    records = lab(INSTANCE, 18080, "127.0.0.1")
    with responder(lambda name, kind, number: [message(*records, number=number, asked=(name, kind))]) as asked:
        assert first_url() == "http://127.0.0.1:18080/boot"
    assert asked[0] == (SERVICE, PTR)


def test_an_answer_to_all_is_heard() -> None:
    """As older versions of the Rust server's library answer, whichever port asks."""
    with responder(lambda *_: [message(*lab(INSTANCE, 18080, "127.0.0.1"))], to_all=True):
        assert first_url() == "http://127.0.0.1:18080/boot"


def test_what_an_answer_leaves_out_is_asked() -> None:
    told = {
        PTR: pointer(INSTANCE),
        SRV: place(INSTANCE, 18080),
        TXT: text(INSTANCE, b"path=/boot"),
        A: address(INSTANCE, "127.0.0.1"),
    }
    with responder(lambda name, kind, number: [message(told[kind], number=number)] if kind in told else []) as asked:
        assert first_url() == "http://127.0.0.1:18080/boot"
    assert {(SERVICE, PTR), (f"{INSTANCE}.{SERVICE}", SRV), (f"{INSTANCE}.{SERVICE}", TXT)} <= set(asked)
    assert {(f"{INSTANCE}.local.", A), (f"{INSTANCE}.local.", AAAA)} & set(asked)


def test_who_does_not_answer_at_once_is_asked_again() -> None:
    numbers = count()

    def third_time(_name: str, _kind: int, number: int) -> Sequence[bytes]:
        return [message(*lab(INSTANCE, 18080, "127.0.0.1"), number=number)] if next(numbers) >= 2 else []

    with responder(third_time) as asked:
        assert first_url() == "http://127.0.0.1:18080/boot"
    assert asked[:3] == [(SERVICE, PTR)] * 3


def test_the_order_of_records_means_nothing_and_names_have_no_case() -> None:
    backwards = [
        *reversed(lab(INSTANCE, 18080, "127.0.0.1")[1:]),
        pointer(INSTANCE.upper()),
    ]
    with responder(lambda *_: [message(*backwards)], to_all=True):
        assert first_url() == "http://127.0.0.1:18080/boot"


def test_each_server_and_each_of_its_addresses_is_told_once() -> None:
    records = [*lab("dispatch-0001", 1, "127.0.0.1", "127.0.0.2"), *lab("dispatch-0002", 2, "127.0.0.1")]
    last = lab("dispatch-last", 3, "127.0.0.1")
    with responder(lambda _name, _kind, number: [*[message(*records, number=number)] * 3, message(*last)], to_all=True):
        urls = urls_until("http://127.0.0.1:3/boot", of_tests(announced_urls(ENOUGH, pytest.fail, LOOPBACK)))
    assert urls == [f"http://127.0.0.{host}:{port}/boot" for port, host in ((1, 1), (1, 2), (2, 1), (3, 1))]


# Where it is


LAST = lab("dispatch-last", 18081, "10.0.0.9")


def urls_of(*records: Record) -> list[str]:
    """What is made of an announcement on all interfaces; others may announce themselves there too."""
    with responder(lambda _name, _kind, number: [message(*each, number=number) for each in (records, LAST)]):
        found = urls_until("http://10.0.0.9:18081/boot", announced_urls(ENOUGH, pytest.fail))
    return [url for url in found if ":18080/" in url]


def test_addresses_that_mean_another_computer_elsewhere_are_skipped() -> None:
    local = ("127.0.0.1", "169.254.1.2", "0.0.0.0", "224.0.0.1", "::1", "::", "fe80::1")
    assert urls_of(*lab(INSTANCE, 18080, *local, "192.168.1.2", "fd00::2")) == [
        "http://192.168.1.2:18080/boot",
        "http://[fd00::2]:18080/boot",
    ]


def test_link_local_addresses_are_taken_where_there_is_no_other() -> None:
    urls = urls_of(*lab(INSTANCE, 18080, "169.254.1.2", "127.0.0.1", "fe80::1"))
    assert urls == ["http://169.254.1.2:18080/boot", "http://[fe80::1%1]:18080/boot"]  # of the loopback interface
    assert all(map(is_url, urls))


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        (b"", "/dispatch"),
        (b"path=", "/dispatch"),
        (b"path", "/dispatch"),
        (b"path=boot", "/boot"),
        (b"PATH=/boot", "/boot"),
        (b"path=/a b\r\nX: y", "/a%20b%0D%0AX%3A%20y"),
        (b"path=/\xff", "/%EF%BF%BD"),
    ],
)
def test_the_path_is_the_announced_one(entry: bytes, path: str) -> None:
    with responder(lambda *_: [message(*lab(INSTANCE, 18080, "127.0.0.1", path=entry))], to_all=True):
        assert first_url() == f"http://127.0.0.1:18080{path}"


# Whoever minds no rules

REAL = message(*lab("dispatch-real", 18080, "127.0.0.1"))


def first_behind(*messages: bytes) -> str:
    """The first that is found by who hears these, and then a server that is one."""
    with responder(lambda *_: [*messages, REAL], to_all=True):
        return first_url()


@pytest.mark.parametrize(
    "nonsense",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff" * 8000, id="no message"),
        pytest.param(REAL[:-3], id="cut short"),
        pytest.param(b"\0\0\x84\0\0\0\xff\xff\0\0\0\0\xc0\x0c", id="a name that leads to itself"),
        pytest.param(message(pointer("gone", ttl=0), *lab("gone", 9, "127.0.0.1")[1:]), id="taken back"),
        pytest.param(message(pointer("\x01\n\x1b[2J"), place("\x01\n\x1b[2J", 9)), id="a name that moves the cursor"),
        pytest.param(message(*lab("no-port", 0, "127.0.0.1")), id="a port that is none"),
        pytest.param(message(*lab("no-pointer", 9, "127.0.0.1")[1:]), id="nothing that leads to it"),
        pytest.param(message(*lab(INSTANCE, 9), address(INSTANCE, "224.0.0.1")), id="an address of many"),
    ],
)
def test_nonsense_hides_no_server(nonsense: bytes) -> None:
    assert first_behind(nonsense) == "http://127.0.0.1:18080/boot"


def test_more_names_than_can_be_kept_hide_no_server() -> None:
    names = [message(*(pointer(f"{first}-{second}") for second in range(50))) for first in range(10)]
    assert first_behind(*names) == "http://127.0.0.1:18080/boot"


def test_who_announces_servers_without_end_is_not_believed_without_end() -> None:
    numbers = count()

    def more(_name: str, _kind: int, number: int) -> Iterator[bytes]:
        for _ in range(100):
            yield message(*lab(f"dispatch-{next(numbers)}", 9, f"127.0.{next(numbers) % 250}.1"), number=number)

    with responder(lambda *asked: list(more(*asked))):
        found = list(announced_urls(2.0, lambda _: None, LOOPBACK))
    assert len(found) <= 64, "and the search ended while more came"


def test_an_answer_that_none_of_ours_asked_for_is_not_heard() -> None:
    other, ours = lab("dispatch-other", 9, "127.0.0.1"), lab(INSTANCE, 18080, "127.0.0.1")
    with responder(lambda _name, _kind, number: [message(*other, number=number ^ 1), message(*ours, number=number)]):
        assert first_url() == "http://127.0.0.1:18080/boot"


@pytest.mark.parametrize("to_all", [True, False])
def test_an_answer_from_another_port_is_not_heard(to_all: bool) -> None:
    other, ours = lab("dispatch-other", 9, "127.0.0.1"), lab(INSTANCE, 18080, "127.0.0.1")
    with responder(lambda *asked: [message(*other, number=asked[2])], to_all=to_all, port=0) as answered:

        def then(_name: str, _kind: int, number: int) -> Sequence[bytes]:
            return [message(*ours, number=number)] if len(answered) > 1 else []

        with responder(then):
            assert first_url() == "http://127.0.0.1:18080/boot"

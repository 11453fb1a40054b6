"""Boot options of EFI, built as the specification has them, lead to the server."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beacons import ACPI, END, FILE, GUID, IPV4, MAC, PCI, Beacon, Server, http_option, node, put, uri, variable
from pytest_dispatch.beacon.boot_options import boot_url, boot_urls
from pytest_dispatch.beacon.urls import is_url


def no_note(_: str) -> None:
    pytest.fail("nothing was to be noted")


def test_boot_options_lead_to_the_server(beacon: Beacon, server: Server, efivars: Path) -> None:
    put(efivars, "Boot0003", http_option(server.url("/dispatch?machine=T")))
    assert beacon("boot").returncode == 0
    assert [call.path for call in server.calls] == ["/dispatch?machine=T"]


def test_the_option_that_was_booted_goes_first_then_the_others_in_order(
    beacon: Beacon, server: Server, efivars: Path
) -> None:
    for number in ("0000", "0001", "000A", "00ff"):
        put(efivars, f"Boot{number}", http_option(server.url(f"/{number}")))
        server.statuses[f"/{number}"] = [417]
    put(efivars, "BootCurrent", b"\6\0\0\0\x0a\0")
    server.statuses["/00ff"] = [200]
    assert beacon("boot").returncode == 0
    assert [call.path for call in server.calls] == ["/000A", "/0000", "/0001", "/00ff"]


def test_only_boot_options_of_the_network_count(efivars: Path) -> None:
    put(efivars, "Boot0000", variable(ACPI, PCI, FILE, END))
    put(efivars, "Boot0001", variable(ACPI, PCI, uri("http://no-mac/"), END))
    put(efivars, "Boot0002", variable(ACPI, PCI, MAC, IPV4, uri("http://not-last/"), FILE, END))
    put(efivars, "Boot0003", variable(ACPI, PCI, uri("http://before/"), MAC, END))
    put(efivars, "Boot0004", variable(ACPI, PCI, MAC, IPV4, uri(""), END))  # what OVMF makes for itself
    put(efivars, "Boot0005", http_option("tftp://x/y"))
    put(efivars, "Boot0006", variable(MAC, uri("http://after-an-end/"), END, node(0x7F, 0x01), uri("http://x/")))
    put(efivars, "BootNext", http_option("http://no-option/"))
    put(efivars, "Boot00XY", http_option("http://no-number/"))
    (efivars / f"Boot0007-{GUID[:-1]}d").write_bytes(http_option("http://other-guid/"))
    assert boot_urls(efivars, no_note) == ["http://after-an-end/"]


def test_the_same_url_is_tried_once(efivars: Path) -> None:
    for number in range(3):
        put(efivars, f"Boot000{number}", http_option("http://x/dispatch"))
    assert boot_urls(efivars, no_note) == ["http://x/dispatch"]


def test_why_there_is_no_boot_url_is_told(efivars: Path) -> None:
    notes: list[str] = []
    put(efivars, "Boot0000", variable(FILE, END))
    (efivars / f"Boot0001-{GUID}").mkdir()
    assert boot_urls(efivars, notes.append) == []
    assert boot_urls(efivars / "gone", notes.append) == []
    assert notes == [
        f"EFI variables: {efivars}/Boot0001-{GUID}: Is a directory",
        f"EFI variables: {efivars}: none of 2 boot options holds a URL behind a MAC address",
        f"EFI variables: {efivars}/gone: No such file or directory",
    ]


def test_a_variable_that_is_cut_short_leads_nowhere_or_where_it_meant_to() -> None:
    url = "http://192.168.1.2:8080/dispatch"
    whole = variable(ACPI, PCI, MAC, IPV4, uri(url), END)
    assert boot_url(whole) == url
    for end in range(len(whole)):
        assert boot_url(whole[:end]) in ("", url)
    assert boot_url(whole[: len(whole) - len(END) - 1]) == "", "a URL that lost its last letter is none"


def test_a_node_that_is_too_short_ends_the_search() -> None:
    assert boot_url(variable(MAC, b"\3\x18\0\0", uri("http://x/"), END)) == ""


@given(st.binary(max_size=400))
def test_any_bytes_are_a_variable(content: bytes) -> None:
    assert isinstance(boot_url(content), str)
    assert isinstance(boot_url(variable(MAC, content, END)), str)


@given(st.text())
def test_any_text_is_a_url_or_not(text: str) -> None:
    assert is_url(text) in (True, False)
    assert isinstance(is_url(f"http://{text}"), bool)

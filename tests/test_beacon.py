"""The `beacon` command as a process of its own, against a real server and EFI variables built from the spec."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zeroconf import ServiceInfo

from pytest_dispatch.beacon import main
from pytest_dispatch.search import SERVICE, announced_urls, boot_url, boot_urls, is_url, urls_of
from pytest_dispatch.server.mdns import Announcement

GUID = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
BEACON = (sys.executable, "-m", "pytest_dispatch.beacon")


class Call(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Server(ThreadingHTTPServer):
    """Answers each path with its list of statuses, the last one again and again; 200 where there is no list."""

    daemon_threads = True
    block_on_close = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.calls: list[Call] = []
        self.statuses: dict[str, list[int]] = {}
        self.reason = "because"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}).start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def url(self, path: str = "/dispatch") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def report(self) -> dict[str, object]:
        [call] = self.calls
        assert call.method == "PUT"
        report: dict[str, object] = json.loads(call.body)
        return report

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.calls.append(Call(self.command, self.path, dict(self.headers), body))
        statuses = self.server.statuses.get(self.path.partition("?")[0], [200])
        self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
        text = self.server.reason.encode()
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_POST = do_PUT = answer  # noqa: N815 - the names that http.server looks for

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def efivars(tmp_path: Path) -> Path:
    folder = tmp_path / "efivars"
    folder.mkdir()
    return folder


class Beacon(NamedTuple):
    """Runs the command where there is nothing but the given EFI variables and the loopback interface."""

    efivars: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "DISPATCH_EFIVARS": str(self.efivars), "DISPATCH_MDNS_LOOPBACK": "1"}

    def __call__(self, *arguments: str, stdin: bytes = b"", **env: str) -> subprocess.CompletedProcess[bytes]:
        result = subprocess.run(
            [*BEACON, *arguments],
            input=stdin,
            env={**self.environment, **env},
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert b"Traceback" not in result.stderr
        return result


@pytest.fixture
def beacon(efivars: Path) -> Beacon:
    return Beacon(efivars)


# Boot options, built as UEFI 2.10 has them in sections 3.1.3 and 10.3


def node(kind: int, subtype: int, data: bytes = b"") -> bytes:
    return bytes([kind, subtype]) + (4 + len(data)).to_bytes(2, "little") + data


ACPI = node(0x02, 0x01, bytes(8))
PCI = node(0x01, 0x01, b"\0\2")
MAC = node(0x03, 0x0B, bytes.fromhex("525400123456").ljust(32, b"\0") + b"\1")
IPV4 = node(0x03, 0x0C, bytes(23))
FILE = node(0x04, 0x04, "\\EFI\\debian\\shimx64.efi\0".encode("utf-16-le"))
END = node(0x7F, 0xFF)


def uri(text: str) -> bytes:
    return node(0x03, 0x18, text.encode())


def variable(*nodes: bytes, description: str = "UEFI HTTPv4", data: bytes = b"") -> bytes:
    """An efivarfs file: attributes, EFI_LOAD_OPTION."""
    path = b"".join(nodes)
    name = f"{description}\0".encode("utf-16-le")
    return b"\7\0\0\0" + b"\1\0\0\0" + len(path).to_bytes(2, "little") + name + path + data


def http_option(text: str) -> bytes:
    return variable(ACPI, PCI, MAC, IPV4, uri(text), END, data=b"\1\2\3")


def put(folder: Path, name: str, content: bytes) -> None:
    (folder / f"{name}-{GUID}").write_bytes(content)


def no_note(_: str) -> None:
    pytest.fail("nothing was to be noted")


# What goes over the wire


def test_boot_is_a_post_without_a_body(beacon: Beacon, server: Server) -> None:
    result = beacon("boot", "--url", server.url("/dispatch?machine=T"))
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    [call] = server.calls
    assert (call.method, call.path, call.body) == ("POST", "/dispatch?machine=T", b"")
    assert call.headers["Content-Length"] == "0"


def test_a_report_carries_everything_it_was_given(beacon: Beacon, server: Server, tmp_path: Path) -> None:
    for name in ("body", "junit", "tap"):
        (tmp_path / name).write_text(f"\ufeffthe {name}: é\n", encoding="utf-8")
    options = ["--title", "T", "--label", "a", "--label", "b", "--assignee", "me", "--assignee", "you"]
    options += ["--milestone", "c1.2.3-4", "--result", "passed", "--body", str(tmp_path / "body")]
    options += ["--junit", str(tmp_path / "junit"), "--tap", str(tmp_path / "tap")]
    result = beacon("report", *options, "--url", server.url())
    assert result.returncode == 0, result.stderr
    assert server.report == {
        "title": "T",
        "body": "the body: é\n",
        "labels": ["a", "b"],
        "assignees": ["me", "you"],
        "milestone": "c1.2.3-4",
        "result": "passed",
        "junit": "the junit: é\n",
        "tap": "the tap: é\n",
    }
    assert server.calls[0].headers["Content-Type"] == "application/json"


def test_empty_fields_are_left_out(beacon: Beacon, server: Server) -> None:
    assert beacon("report", "--title", "", "--milestone", "", "--url", server.url()).returncode == 0
    assert server.report == {"title": ""}


@pytest.mark.parametrize("option", [(), ("--body", "-")])
def test_the_body_comes_from_standard_input(beacon: Beacon, server: Server, option: tuple[str, ...]) -> None:
    given = "größer\n".encode() + b"\xff"
    beacon("report", "--title", "T", *option, "--url", server.url(), stdin=given)
    assert server.report == {"title": "T", "body": "größer\n\N{REPLACEMENT CHARACTER}"}


def test_a_terminal_is_not_read(beacon: Beacon, server: Server) -> None:
    ours, theirs = pty.openpty()
    try:
        subprocess.run(
            [*BEACON, "report", "--title", "T", "--url", server.url()],
            stdin=theirs,
            env=beacon.environment,
            timeout=60,
            check=True,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert server.report == {"title": "T"}


def test_a_closed_standard_input_is_an_empty_body(beacon: Beacon, server: Server) -> None:
    command = f'exec "$@" report --title T --url {server.url()} <&-'
    subprocess.run(["/bin/sh", "-c", command, "sh", *BEACON], env=beacon.environment, timeout=60, check=True)
    assert server.report == {"title": "T"}


def test_an_argument_that_is_not_utf8_is_repaired(beacon: Beacon, server: Server) -> None:
    command = [os.fsencode(part) for part in (*BEACON, "report", "--url", server.url(), "--title")]
    subprocess.run(
        [*command, b"x\xff"], env={**beacon.environment, "PYTHONUTF8": "1"}, input=b"", timeout=60, check=True
    )
    assert server.report == {"title": "x\N{REPLACEMENT CHARACTER}"}


def test_proxies_of_the_environment_are_not_used(beacon: Beacon, server: Server) -> None:
    nowhere = "http://127.0.0.1:9"
    result = beacon("boot", "--url", server.url(), http_proxy=nowhere, HTTP_PROXY=nowhere, ALL_PROXY=nowhere)
    assert result.returncode == 0


# Which server, and how long


def test_what_is_not_mine_goes_to_the_next_server(beacon: Beacon, server: Server) -> None:
    server.statuses = {"/a": [417], "/b": [500], "/c": [404], "/d": [200]}
    urls = [part for path in "abcde" for part in ("--url", server.url(f"/{path}"))]
    assert beacon("boot", *urls).returncode == 0
    assert [call.path for call in server.calls] == ["/a", "/b", "/c", "/d"]


@pytest.mark.parametrize("status", [417, 500, 503, 404])
def test_a_server_that_refuses_is_tried_again(beacon: Beacon, server: Server, status: int) -> None:
    server.statuses["/dispatch"] = [status, status, 200]
    assert beacon("report", "--title", "T", "--url", server.url(), stdin=b"x").returncode == 0
    assert len(server.calls) == 3
    assert len({call.body for call in server.calls}) == 1


def test_a_server_that_is_away_is_waited_for(beacon: Beacon) -> None:
    first = Server()
    url, port = first.url(), first.port
    first.close()
    with subprocess.Popen([*BEACON, "boot", "--url", url], env=beacon.environment) as process:
        second = Server(port)
        assert process.wait(60) == 0
    second.close()
    assert [call.method for call in second.calls] == ["POST"]


def test_when_the_time_is_over_each_answer_is_told(beacon: Beacon, server: Server) -> None:
    server.statuses = {"/a": [417], "/b": [503]}
    server.reason = "127.0.0.1 has no\nworkload\x1b[2J that has booted"
    gone = Server()
    gone_url = gone.url("/gone")
    gone.close()
    urls = ["--url", server.url("/a?machine=s3cret"), "--url", server.url("/b"), "--url", gone_url]
    result = beacon("report", "--title", "T", "--wait", "0", *urls)
    assert result.returncode == 1
    assert result.stdout == b""
    assert result.stderr.decode().splitlines() == [
        "beacon: no server took the report within 0s",
        f"  {server.url('/a')}: 417 Expectation Failed: 127.0.0.1 has no workload that has booted",
        f"  {server.url('/b')}: 503 Service Unavailable: 127.0.0.1 has no workload that has booted",
        f"  {gone_url}: Connection refused",
    ]


@pytest.mark.parametrize("status", [400, 413])
def test_a_report_that_is_wrong_is_not_sent_again(beacon: Beacon, server: Server, status: int) -> None:
    server.statuses["/dispatch"] = [status, 200]
    result = beacon("report", "--title", "T", "--url", server.url(), "--wait", "1h")
    assert result.returncode == 1
    assert len(server.calls) == 1
    assert b"because" in result.stderr


def test_what_does_not_speak_http_is_told(beacon: Beacon, capsys: pytest.CaptureFixture[str]) -> None:
    class Nonsense(Handler):
        def answer(self) -> None:
            self.wfile.write(b"SSH-2.0-x\r\n")

        do_POST = answer  # noqa: N815 - likewise

    server = Server()
    server.RequestHandlerClass = Nonsense
    urls = ["--url", server.url(), "--url", "http://a..b/"]
    result = beacon("boot", "--wait", "0", *urls)
    server.close()
    assert result.returncode == 1
    lines = result.stderr.decode().splitlines()
    assert lines[1].endswith("SSH-2.0-x")
    assert lines[2].startswith("  http://a..b/: ")


# Wrong usage


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "boot|report"),
        (("sing",), "invalid choice: 'sing'"),
        (("report",), "--title"),
        (("boot", "--title", "T"), "unrecognized arguments"),
        (("report", "--title", "T", "--result", "good"), "invalid choice: 'good'"),
        (("boot", "--wait", "soon"), "expected a duration such as 30s, 5m or 1h, got 'soon'"),
        (("boot", "--url", "ftp://x/"), "expected a URL such as http://192.168.1.2:8080/dispatch, got 'ftp://x/'"),
        (("boot", "--url", "http://x:y/?machine=s3cret"), "got 'http://x:y/'"),
    ],
)
def test_wrong_usage_is_told(arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert words in said
    assert "s3cret" not in said


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--body", "cannot read the body from {folder}/gone: No such file or directory"),
        ("--junit", "cannot read the test results from {folder}/gone: No such file or directory"),
        ("--tap", "cannot read the test results from {folder}/gone: No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(
    option: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["report", "--title", "T", "--body", "/dev/null", option, f"{tmp_path}/gone"])
    assert code == 2
    assert capsys.readouterr().err == f"beacon: {words.format(folder=tmp_path)}\n"


def test_a_path_with_a_nul_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--title", "T", "--body", "a\0b"]) == 2
    assert "embedded null byte" in capsys.readouterr().err


def test_standard_input_that_cannot_be_read_is_one_line(beacon: Beacon, tmp_path: Path) -> None:
    with (tmp_path / "only-for-writing").open("wb") as stdin:
        result = subprocess.run(
            [*BEACON, "report", "--title", "T"],
            stdin=stdin,
            env=beacon.environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert result.returncode == 2
    assert result.stderr == b"beacon: cannot read the body from standard input: Bad file descriptor\n"


def test_empty_test_results_do_not_pass_for_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "out.tap"
    path.write_text(" \n")
    assert main(["report", "--title", "T", "--body", "/dev/null", "--tap", str(path)]) == 2
    said = capsys.readouterr().err
    assert said == (f"beacon: expected test results in {path}, but it is empty; leave --tap out if there are none\n")


def test_an_interrupt_is_one_line(beacon: Beacon, server: Server) -> None:
    server.statuses["/dispatch"] = [417]
    with subprocess.Popen(
        [*BEACON, "boot", "--url", server.url()], env=beacon.environment, stderr=subprocess.PIPE
    ) as process:
        while not server.calls:
            assert process.poll() is None
            time.sleep(0.002)
        process.send_signal(2)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, b"beacon: interrupted\n")


# EFI variables


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


# The local network


@pytest.mark.usefixtures("alone_on_mdns")
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


@pytest.mark.usefixtures("alone_on_mdns")
def test_what_was_searched_in_vain_is_told(beacon: Beacon, efivars: Path) -> None:
    result = beacon("boot", "--wait", "0")
    assert result.returncode == 1
    assert result.stderr.decode().splitlines() == [
        "beacon: no server took the boot message within 0s",
        f"  EFI variables: {efivars}: none of 0 boot options holds a URL behind a MAC address",
        "  mDNS: no server was announced within 1s",
    ]


def test_without_zeroconf_the_network_is_not_searched(beacon: Beacon) -> None:
    without = "import sys; sys.modules['zeroconf'] = None; from pytest_dispatch.beacon import main; sys.exit(main())"
    result = subprocess.run(
        [sys.executable, "-c", without, "boot", "--wait", "0"],
        env=beacon.environment,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    assert b"mDNS: not searched, the Python package zeroconf is not installed" in result.stderr


def test_an_interface_that_cannot_be_searched_is_told(beacon: Beacon) -> None:
    script = "from pytest_dispatch.search import announced_urls; print(*announced_urls(9, print, ['203.0.113.5']))"
    result = subprocess.run(
        [sys.executable, "-c", script], env=beacon.environment, capture_output=True, timeout=60, check=True
    )
    assert result.stdout.decode().strip() == "mDNS: not searched: No such device"


def labels(*parts: str) -> bytes:
    return b"".join(bytes([len(part)]) + part.encode() for part in parts)


@contextmanager
def shouted(instance: str) -> Iterator[None]:
    """A name that is announced on the loopback interface, again and again, by somebody who minds no rules."""
    service = labels("_dispatch", "_tcp", "local", "")
    name = labels(instance) + service
    record = service + struct.pack(">HHIH", 12, 1, 4500, len(name)) + name  # PTR, IN, seconds to live
    packet = struct.pack(">6H", 0, 0x8400, 0, 1, 0, 0) + record  # RFC 1035, section 4: an answer
    enough = threading.Event()

    def shout() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
            while not enough.wait(0.02):
                sock.sendto(packet, ("224.0.0.251", 5353))

    shouter = threading.Thread(target=shout)
    shouter.start()
    try:
        yield
    finally:
        enough.set()
        shouter.join()


@pytest.mark.usefixtures("alone_on_mdns")
def test_a_name_that_is_none_does_not_end_the_search() -> None:
    notes: list[str] = []
    with shouted("x\x01y"):
        assert list(announced_urls(0.5, notes.append, ["127.0.0.1"])) == []
    assert notes[0].startswith("mDNS: Ascii control character")
    assert notes[-1] == "mDNS: no server was announced within 0.5s"


def announced(*addresses: str, properties: dict[str, str | None] | None = None) -> ServiceInfo:
    return ServiceInfo(
        SERVICE,
        f"dispatch-1a2b.{SERVICE}",
        port=8080,
        parsed_addresses=list(addresses),
        properties={"path": "/boot"} if properties is None else properties,
    )


def test_addresses_that_mean_another_computer_elsewhere_are_skipped() -> None:
    info = announced("127.0.0.1", "169.254.1.2", "192.168.1.2", "0.0.0.0", "::1", "fe80::1", "fd00::2")
    assert list(urls_of(info, everywhere=False)) == ["http://192.168.1.2:8080/boot", "http://[fd00::2]:8080/boot"]
    assert "http://127.0.0.1:8080/boot" in urls_of(info, everywhere=True)


@pytest.mark.parametrize(
    ("properties", "path"),
    [
        ({}, "/dispatch"),
        ({"path": ""}, "/dispatch"),
        ({"path": None}, "/dispatch"),
        ({"path": "boot"}, "/boot"),
        ({"path": "/a b\r\nX: y"}, "/a%20b%0D%0AX%3A%20y"),
    ],
)
def test_the_path_is_the_announced_one(properties: dict[str, str | None], path: str) -> None:
    assert list(urls_of(announced("10.0.0.1", properties=properties), everywhere=False)) == [
        f"http://10.0.0.1:8080{path}"
    ]


def test_nothing_heavy_is_imported(beacon: Beacon, server: Server) -> None:
    script = (
        "import sys; before = set(sys.modules); from pytest_dispatch.beacon import main; code = main(); "
        "print(*sorted(set(sys.modules) - before)); sys.exit(code)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, "report", "--title", "T", "--url", server.url()],
        env=beacon.environment,
        input=b"",
        capture_output=True,
        timeout=60,
        check=True,
    )
    loaded = set(result.stdout.decode().split())
    assert "pytest_dispatch.beacon" in loaded
    heavy = {"aiohttp", "httpx", "pytest", "asyncio", "zeroconf", "sqlalchemy", "msgspec", "inspect"}
    assert not loaded & heavy

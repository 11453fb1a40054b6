"""The `beacon` command as a process of its own, against a real server and EFI variables built from the spec."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zeroconf import ServiceInfo

from mdns_shout import shout
from pytest_dispatch.beacon import MOST, Message, ask, deliver, main
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

    def __init__(self, *, away: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self.server_bind()
        self.calls: list[Call] = []
        self.statuses: dict[str, list[int]] = {}
        self.reason = "because"
        self.closing = threading.Event()
        if not away:
            self.come_back()

    def come_back(self) -> None:
        """Begin to listen at the port, which nobody else could have meanwhile."""
        self.server_activate()
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
        self.closing.set()
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
    run: Path  # where it notes which server took the boot message

    @property
    def environment(self) -> dict[str, str]:
        own = {"DISPATCH_EFIVARS": str(self.efivars), "DISPATCH_MDNS_LOOPBACK": "1", "DISPATCH_RUN": str(self.run)}
        return {**os.environ, **own}

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
def beacon(efivars: Path, tmp_path: Path) -> Beacon:
    run = tmp_path / "run"
    run.mkdir()
    return Beacon(efivars, run)


@pytest.fixture(autouse=True)
def _no_notes_of_this_computer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DISPATCH_RUN", str(tmp_path / "run"))


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
    server = Server(away=True)
    command = [*BEACON, "boot", "--url", server.url()]
    with subprocess.Popen(command, env=beacon.environment, stderr=subprocess.PIPE) as process:
        server.come_back()
        assert process.wait(60) == 0
    server.close()
    assert [call.method for call in server.calls] == ["POST"]


def test_when_the_time_is_over_each_answer_is_told(beacon: Beacon, server: Server) -> None:
    server.statuses = {"/a": [417], "/b": [503]}
    server.reason = "127.0.0.1 has no\nworkload\x1b[2J that has booted"
    gone = Server(away=True)
    gone_url = gone.url("/gone")
    urls = ["--url", server.url("/a?machine=s3cret"), "--url", server.url("/b"), "--url", gone_url]
    result = beacon("report", "--title", "T", "--wait", "0", *urls)
    gone.server_close()
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


class Dribbler(Handler):
    """Answers a byte at a time, and never to the end."""

    def answer(self) -> None:
        self.server.calls.append(Call(self.command, self.path, {}, b""))
        with suppress(OSError):  # whoever asked has gone
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
            while not self.server.closing.wait(0.02):
                self.wfile.write(b"x")

    do_POST = do_PUT = answer  # noqa: N815 - likewise


@pytest.fixture
def dribbler() -> Iterator[Server]:
    server = Server()
    server.RequestHandlerClass = Dribbler
    yield server
    server.close()


def test_a_server_that_never_ends_its_answer_has_none(dribbler: Server) -> None:
    reply = ask(dribbler.url(), Message("POST", None, "the boot message"), longest=0.2)
    assert reply == (0, "no whole answer within 0.2s")


def test_a_server_that_never_ends_its_answer_keeps_no_report_from_the_next(dribbler: Server, server: Server) -> None:
    message = Message("PUT", b'{"title": "T"}', "the report")
    assert deliver(message, [dribbler.url(), server.url()], wait=0, longest=0.2) == 0
    assert (len(dribbler.calls), len(server.calls)) == (1, 1)


def test_when_the_time_is_over_no_server_is_asked_again(dribbler: Server, capsys: pytest.CaptureFixture[str]) -> None:
    urls = [dribbler.url(f"/{number}") for number in range(MOST + 4)]
    assert deliver(Message("POST", None, "the boot message"), urls, wait=0, longest=0.02) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1 + MOST, "each once, and not without end"


def test_a_report_that_one_refuses_and_another_does_not_answer_is_sent_again(beacon: Beacon, server: Server) -> None:
    server.statuses = {"/stranger": [400], "/mine": [503, 200]}
    urls = ["--url", server.url("/stranger"), "--url", server.url("/mine")]
    assert beacon("report", "--title", "T", *urls).returncode == 0
    assert [call.path for call in server.calls] == ["/stranger", "/mine"] * 2


def test_a_report_that_mine_refuses_is_not_sent_again_for_others_that_do_not_know_me(
    beacon: Beacon, server: Server
) -> None:
    server.statuses = {"/old": [417], "/mine": [400]}
    urls = ["--url", server.url("/old"), "--url", server.url("/mine")]
    assert beacon("report", "--title", "T", "--wait", "1h", *urls).returncode == 1
    assert [call.path for call in server.calls] == ["/old", "/mine"]


# The lab that took the boot message is the one that gets the report


def test_the_report_goes_where_the_boot_message_went(beacon: Beacon, server: Server, efivars: Path) -> None:
    put(efivars, "Boot0001", http_option(server.url("/first")))
    assert beacon("boot", "--url", server.url("/mine?machine=T")).returncode == 0
    assert beacon("report", "--title", "T").returncode == 0
    assert [call.path for call in server.calls] == ["/mine?machine=T", "/mine?machine=T"]
    [note] = beacon.run.iterdir()
    assert note.stat().st_mode & 0o777 == 0o600, "it holds the machine's token"


@pytest.mark.usefixtures("alone_on_mdns")
@pytest.mark.anyio
@pytest.mark.parametrize("status", [503, 417])
async def test_others_get_the_report_only_if_the_lab_does_not_know_the_machine(
    beacon: Beacon, server: Server, status: int
) -> None:
    assert beacon("boot", "--url", server.url("/mine")).returncode == 0
    server.statuses = {"/mine": [status]}
    announcement = Announcement()
    await announcement.start(server.port, ["127.0.0.1"], "/other")
    try:
        command = [*BEACON, "report", "--title", "T", "--wait", "0" if status == 503 else "60s"]
        process = await asyncio.create_subprocess_exec(*command, env=beacon.environment, stderr=subprocess.PIPE)
        _, said = await asyncio.wait_for(process.communicate(), 60)
    finally:
        await announcement.stop()
    asked = [call.path for call in server.calls if call.method == "PUT"]
    if status == 417:
        assert (process.returncode, asked) == (0, ["/mine", "/other"])
    else:
        assert (process.returncode, asked) == (1, ["/mine"])
        assert f"mDNS: not searched: the report is for {server.url('/mine')}, which took the boot message" in str(said)


def test_who_says_anew_that_it_runs_searches_anew(beacon: Beacon, server: Server, efivars: Path) -> None:
    assert beacon("boot", "--url", server.url("/old")).returncode == 0
    put(efivars, "Boot0001", http_option(server.url("/new")))
    assert beacon("boot").returncode == 0
    assert beacon("report", "--title", "T").returncode == 0
    assert [call.path for call in server.calls] == ["/old", "/new", "/new"]


def test_a_note_of_an_earlier_run_of_the_system_counts_no_more(beacon: Beacon, server: Server, efivars: Path) -> None:
    assert beacon("boot", "--url", server.url("/old")).returncode == 0
    [note] = beacon.run.iterdir()
    note.rename(note.with_name("dispatch-beacon-00000000-0000-0000-0000-000000000000"))
    put(efivars, "Boot0001", http_option(server.url("/new")))
    assert beacon("report", "--title", "T").returncode == 0
    assert [call.path for call in server.calls] == ["/old", "/new"]


@pytest.mark.parametrize("content", [b"\xff", b"", b"gopher://x"])
def test_a_note_that_is_no_url_is_none(content: bytes, beacon: Beacon, server: Server, efivars: Path) -> None:
    assert beacon("boot", "--url", server.url("/old")).returncode == 0
    [note] = beacon.run.iterdir()
    note.write_bytes(content)
    put(efivars, "Boot0001", http_option(server.url("/new")))
    assert beacon("report", "--title", "T").returncode == 0
    assert [call.path for call in server.calls] == ["/old", "/new"]


def test_where_nothing_can_be_noted_each_search_begins_anew(beacon: Beacon, server: Server, efivars: Path) -> None:
    beacon.run.rmdir()
    put(efivars, "Boot0001", http_option(server.url()))
    assert beacon("boot").returncode == 0
    assert beacon("report", "--title", "T").returncode == 0


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
        ((), "boot|report|help"),
        (("sing",), "invalid choice: 'sing'"),
        (("report",), "--title"),
        (("boot", "--title", "T"), "unrecognized arguments"),
        (("report", "--title", "T", "--result", "good"), "invalid choice: 'good'"),
        (("report", "-t", "T", "--title", "U"), "argument -t/--title: expected once, but it is given again"),
        (("report", "-t", "T", "-m", "", "-m", "x"), "argument -m/--milestone: expected once"),
        (("report", "-t", "T", "--tap", "a", "--tap", "b"), "argument --tap: expected once"),
        (("boot", "--wait", "1s", "--wait", "2s"), "argument --wait: expected once"),
        (("report", "-t", "T", "-b", ""), "argument -b/--body: expected the name of a file, got an empty one"),
        (("report", "--", "-t", "T"), "expected no '--': everything is an option here"),
        (("help", "sing"), "expected boot or report, got 'sing'"),
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
    body = () if option == "--body" else ("--body", "/dev/null")
    assert main(["report", "--title", "T", *body, option, f"{tmp_path}/gone"]) == 1
    assert capsys.readouterr().err == f"beacon: {words.format(folder=tmp_path)}\n"


def test_a_path_with_a_nul_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--title", "T", "--body", "a\0b"]) == 1
    assert "embedded null byte" in capsys.readouterr().err


def test_standard_input_that_cannot_be_read_is_one_line(beacon: Beacon) -> None:
    with Path("/proc/self/mem").open("rb") as nothing_at_0:
        result = subprocess.run(
            [*BEACON, "report", "--title", "T"],
            stdin=nothing_at_0,
            env=beacon.environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert result.returncode == 1
    assert result.stderr == b"beacon: cannot read the body from standard input: Input/output error\n"


def test_standard_input_that_is_not_open_for_reading_is_an_empty_body(
    beacon: Beacon, server: Server, tmp_path: Path
) -> None:
    with (tmp_path / "only-for-writing").open("wb") as stdin:
        command = [*BEACON, "report", "--title", "T", "--url", server.url()]
        subprocess.run(command, stdin=stdin, env=beacon.environment, timeout=60, check=True)
    assert server.report == {"title": "T"}


def test_empty_test_results_do_not_pass_for_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "out.tap"
    path.write_text(" \n")
    assert main(["report", "--title", "T", "--body", "/dev/null", "--tap", str(path)]) == 1
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


# The command lines of the Rust program, beacon 1.1.0: what it sends, and its exit codes

HELP, WRONG = (0, None), (2, None)
RUST: dict[str, tuple[int, object]] = {
    "": WRONG,
    "boot": (0, "POST"),
    "boot --": (0, "POST"),
    "boot x": WRONG,
    "boot -- x": WRONG,
    "boot -t x": WRONG,
    "boot help": WRONG,
    "boot report -t T": WRONG,
    "-- boot": WRONG,
    "Boot": WRONG,
    "-h": HELP,
    "-h nope": HELP,
    "nope -h": WRONG,
    "boot -h": HELP,
    "report --help": HELP,
    "report -h -t": HELP,
    "report --help=x": WRONG,
    "help": HELP,
    "help boot": HELP,
    "help report": HELP,
    "help help": HELP,
    "help nope": WRONG,
    "help boot x": WRONG,
    "help -h": WRONG,
    "-V": WRONG,
    "--version": WRONG,
    "report": WRONG,
    "report T": WRONG,
    "report -t": WRONG,
    "report --tit T": WRONG,
    "report -T T": WRONG,
    "-t T report": WRONG,
    "report -t T x": WRONG,
    "report -t T -z": WRONG,
    "report -t T --zzz=1": WRONG,
    "report -t -x": WRONG,
    "report -t -- T": WRONG,
    "report -t T -- x": WRONG,
    "report -tl x": WRONG,
    "report -t T -t T": WRONG,
    "report -t T --title=T": WRONG,
    "report -t T -t U -h": WRONG,
    "report -t T -b file -b file": WRONG,
    "report -t T -m x --milestone=y": WRONG,
    "report -t T -l a b": WRONG,
    "report -t T -b ''": WRONG,
    "report -t T -b gone": (1, None),
    "report -t T -b .": (1, None),
    "report -t T -b gone -l a": (1, None),
    "report -t T": (0, {"title": "T", "body": "stdin\n"}),
    "report -tT": (0, {"title": "T", "body": "stdin\n"}),
    "report -t=T": (0, {"title": "T", "body": "stdin\n"}),
    "report -t==T": (0, {"title": "=T", "body": "stdin\n"}),
    "report -tT=x": (0, {"title": "T=x", "body": "stdin\n"}),
    "report -t=": (0, {"title": "", "body": "stdin\n"}),
    "report -t ''": (0, {"title": "", "body": "stdin\n"}),
    "report --title=": (0, {"title": "", "body": "stdin\n"}),
    "report --title=T": (0, {"title": "T", "body": "stdin\n"}),
    "report --title=-x": (0, {"title": "-x", "body": "stdin\n"}),
    "report -t-x": (0, {"title": "-x", "body": "stdin\n"}),
    "report -t -": (0, {"title": "-", "body": "stdin\n"}),
    "report -t T --": (0, {"title": "T", "body": "stdin\n"}),
    "report -t T -l ''": (0, {"title": "T", "body": "stdin\n", "labels": [""]}),
    "report -t T -l a,b": (0, {"title": "T", "body": "stdin\n", "labels": ["a,b"]}),
    "report -t T -b file": (0, {"title": "T", "body": "file\n"}),
    "report -t T -b=file": (0, {"title": "T", "body": "file\n"}),
    "report -t T --body=file": (0, {"title": "T", "body": "file\n"}),
    "report -t T -b empty": (0, {"title": "T"}),
    "report -t T -l a -lb -l=c --label d --label=e": (
        0,
        {"title": "T", "body": "stdin\n", "labels": ["a", "b", "c", "d", "e"]},
    ),
    "report -mM -ame -tT -a you -bfile": (
        0,
        {"title": "T", "body": "file\n", "assignees": ["me", "you"], "milestone": "M"},
    ),
}

#: Where ours does something else, as docs/protocol.md says.
OURS: dict[str, tuple[int, object]] = {
    "report -t T -b -": (0, {"title": "T", "body": "stdin\n"}),  # a file of that name
    "report -t T -b latin1": (0, {"title": "T", "body": "x\N{REPLACEMENT CHARACTER}"}),  # 1, nothing sent
    "report -t T -b marked": (0, {"title": "T", "body": "x"}),  # the mark is sent
    "report -t T -m ''": (0, {"title": "T", "body": "stdin\n"}),  # the empty milestone is sent
    "report -t -5": (0, {"title": "-5", "body": "stdin\n"}),  # 2
    "report -t '-x y'": (0, {"title": "-x y", "body": "stdin\n"}),  # 2
    "report -ht": WRONG,  # help
}


@pytest.mark.parametrize(("line", "expected"), [*RUST.items(), *OURS.items()])
def test_command_lines_of_the_rust_program(
    line: str, expected: tuple[int, object], beacon: Beacon, server: Server, efivars: Path, tmp_path: Path
) -> None:
    put(efivars, "Boot0001", http_option(server.url()))
    for name, content in (("file", b"file\n"), ("empty", b""), ("latin1", b"x\xff"), ("marked", b"\xef\xbb\xbfx")):
        (tmp_path / name).write_bytes(content)
    result = subprocess.run(
        [*BEACON, *shlex.split(line)],
        input=b"stdin\n",
        env=beacon.environment,
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert b"Traceback" not in result.stderr
    sent = [call.method if call.method == "POST" else json.loads(call.body) for call in server.calls]
    assert (result.returncode, *sent) == tuple(part for part in expected if part is not None)
    assert bool(result.stdout) == (expected == HELP), result.stderr


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


@contextmanager
def shouted(instance: str) -> Iterator[None]:
    """A name that is announced on the loopback interface, again and again."""
    enough = threading.Event()

    def again() -> None:
        while not enough.wait(0.02):
            shout(instance)

    shouter = threading.Thread(target=again)
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


def test_link_local_addresses_are_taken_where_there_is_no_other() -> None:
    info = announced("169.254.1.2", "127.0.0.1", "fe80::1")
    assert list(urls_of(info, everywhere=False)) == ["http://169.254.1.2:8080/boot", "http://[fe80::1]:8080/boot"]
    scoped = ServiceInfo(SERVICE, info.name, port=8080, parsed_addresses=["fe80::1"], interface_index=1)
    [url] = urls_of(scoped, everywhere=False)
    assert url == "http://[fe80::1%1]:8080/dispatch"
    assert is_url(url)


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

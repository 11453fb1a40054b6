"""What `beacon` says, to which server, and for how long it tries."""

from __future__ import annotations

import asyncio
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from beacons import BEACON, Beacon, Call, Handler, Server, http_option, put
from docs_examples import ROOT
from mdns_responder import lab, message, responder

from pytest_dispatch.beacon.delivery import MOST, Message, ask, deliver
from pytest_dispatch.server.mdns import Announcement

pytestmark = pytest.mark.draw(1 / 3, of=__name__)

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


@pytest.mark.usefixtures("alone_on_mdns")
def test_a_slow_server_keeps_no_message_from_another_that_answered_the_search(
    dribbler: Server, server: Server, efivars: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPATCH_MDNS_LOOPBACK", "1")
    monkeypatch.setenv("DISPATCH_EFIVARS", str(efivars))
    labs = [lab("dispatch-slow", dribbler.port, "127.0.0.1"), lab("dispatch-real", server.port, "127.0.0.1")]
    with responder(lambda _name, _kind, number: [message(*records, number=number) for records in labs]):
        assert deliver(Message("POST", None, "the boot message"), [], wait=2, longest=2.5) == 0
    assert (len(dribbler.calls), len(server.calls)) == (1, 1)


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


def test_words_of_a_server_are_no_commands_to_whatever_shows_them(beacon: Beacon, server: Server) -> None:
    server.statuses["/dispatch"] = [400]
    server.reason = "\x1b]0;title\x07a\x1b[31mb\u202ec\u2028d ##[error]e \x1b" + 300 * "é"
    said = beacon("boot", "--wait", "0", "--url", server.url()).stderr.decode().splitlines()
    assert said[1] == f"  {server.url()}: 400 Bad Request: ab c d # #[error]e {180 * 'é'}…"


def test_a_python_without_tls_says_so(beacon: Beacon) -> None:
    without = "import sys; sys.modules['ssl'] = None; from pytest_dispatch.beacon.command import main; sys.exit(main())"
    alone = beacon._replace(command=(sys.executable, "-c", without))
    result = alone("boot", "--wait", "0", "--url", "https://127.0.0.1:1/")
    assert result.returncode == 1
    assert result.stderr.decode().splitlines()[1] == "  https://127.0.0.1:1/: this Python speaks no TLS"


ON_A_CABLE = """
import subprocess, sys
subprocess.run("ip link set lo up && ip address add fe80::1/64 dev lo nodad", shell=True, check=True)
import socket
from beacons import Handler, Server
from pytest_dispatch.beacon.command import main
Server.address_family, Server.host = socket.AF_INET6, "::"
server = Server()
code = main(["boot", "--wait", "0", "--url", f"http://[fe80::1%1]:{server.port}/dispatch"])
print(code, *(call.headers["Host"].replace(str(server.port), "PORT") for call in server.calls))
server.close()
"""


def test_the_interface_of_a_link_local_address_is_not_told_to_the_server(namespaces: list[str], tmp_path: Path) -> None:
    """What it is called here means nothing there (RFC 6874, section 4)."""
    command = [
        *namespaces,
        "env",
        f"PYTHONPATH={ROOT}/tests/support",
        f"DISPATCH_RUN={tmp_path}",
        sys.executable,
    ]
    ran = subprocess.run([*command, "-c", ON_A_CABLE], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stdout, ran.stderr) == ("0 [fe80::1]:PORT\n", "")

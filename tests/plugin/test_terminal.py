"""What a person sees: at a terminal, in a log, and with -q."""

from __future__ import annotations

import http.client
import os
import re
from collections.abc import Iterator
from contextlib import closing

import pytest
from ipv6 import needs_ipv6
from plugin_bench import IN_THREAD, SIMS, WITHOUT, Bench
from vt100 import OnTerminal, Vt100

pytestmark = pytest.mark.draw(1 / 3, of=__name__)


@pytest.fixture
def terminals() -> Iterator[list[OnTerminal]]:
    """Those opened here are closed at the end."""
    opened: list[OnTerminal] = []
    yield opened
    for each in opened:
        each.close()


def on_terminal(
    bench: Bench,
    terminals: list[OnTerminal],
    *args: str,
    machines: str,
    screen: Vt100 | None = None,
    term: str = "xterm",
) -> OnTerminal:
    env = {**os.environ, "TERM": term, "NO_COLOR": "1"}
    terminals.append(
        OnTerminal(bench.forks, bench.command(IN_THREAD, *args, machines=machines), bench.path, env, screen)
    )
    return terminals[-1]


def dots(screen: Vt100) -> str:
    """The line in which pytest writes its dots."""
    return next((row for row in [*screen.scrolled, *screen.rows] if re.match(r"w( |$)", row)), "")


# A terminal


@pytest.mark.parametrize("sent", ["\x1b[?25l", "\x1b[2", "\x1bc", "\x1b(0", "\x1b%G", "\x1b]0;t\a", "\a", "\t"])
def test_the_terminal_here_refuses_what_not_every_terminal_knows(sent: str) -> None:
    with pytest.raises(ValueError, match="not for every terminal"):
        Vt100().feed(f"\x1b[1m{sent}n")


def test_the_terminal_here_keeps_what_scrolls_away_and_knows_wide_characters() -> None:
    screen = Vt100(5, 2)
    screen.feed("one\r\nabcd⏳\r\n⏳⏳\b\b\x1b[Kx")
    assert screen.text == "one\nabcd\n⏳\n⏳x"
    assert screen.scrolled == ["one", "abcd"]


def test_a_table_while_waiting_that_leaves_no_trace(bench: Bench, terminals: list[OnTerminal]) -> None:
    bench.workloads({"a": "pass", "b": "fail", "c": "slow", "d": "slow"})
    bench.path.joinpath("w", "c.efi").write_bytes(b"MZ\nsim: slow\n" + b"MZ" * 200_000)
    shown = on_terminal(bench, terminals, machines=bench.gated("2?pace=0.06"))
    screen = shown.screen
    assert shown.until(lambda screen: "⏳ 4 unassigned" in screen.text)
    bench.path.joinpath("go").touch()
    above, table = screen.text.split("\nw\n")
    assert "dispatch: w; 4 efi; boot URL http://127.0.0.1:" in above
    assert [row.split()[:3] for row in table.strip().splitlines()[:4]] == [
        ["⏳", "unassigned", f"{name}.efi"] for name in "abcd"
    ]
    assert shown.until(
        lambda screen: re.search(r"📥 downloading +c\.efi  sim-\d +\d+s  \d+ % of 0\.4 MiB", screen.text) is not None
    )
    assert shown.until(
        lambda screen: re.search(r"(⚡ booting|📝 reported) +\w\.efi +sim-\d +\ds", screen.text) is not None
    )
    assert shown.until(lambda screen: "❌ finished (failed)  b.efi" in screen.text)
    assert dots(screen).startswith("w")
    assert shown.end() == pytest.ExitCode.TESTS_FAILED
    assert re.fullmatch(r"w \.uF\.\. +\[100%\]", dots(screen))
    rest = screen.text.partition("[100%]")[2]
    assert rest.startswith("\n\n====")  # as without a table
    assert "unassigned  " not in screen.text.partition("FAILURES")[0]
    assert len(shown.seen) > 10


def test_what_waits_has_its_place_in_the_table_and_with_v_the_reason_below(
    bench: Bench, terminals: list[OnTerminal]
) -> None:
    bench.workloads({"a": "pass", "b": "pass"})
    shown = on_terminal(bench, terminals, "-v", machines=bench.gated("1?pace=0.01"))
    row = re.compile(r"⏳ unassigned +b\.efi +\d+s +place 2$", re.MULTILINE)
    assert shown.until(lambda screen: row.search(screen.text) is not None)
    assert shown.until(lambda screen: "⏳ b.efi: It waits: a.efi goes first" in screen.text)
    bench.path.joinpath("go").touch()
    assert shown.end() == pytest.ExitCode.OK
    assert "It waits" not in shown.screen.text  # it left with the table


def test_a_machine_that_is_refused_stands_below_the_table(bench: Bench, terminals: list[OnTerminal]) -> None:
    bench.workloads({"a": "pass"})
    shown = on_terminal(bench, terminals, machines=bench.gated("1?pace=0.01"))
    assert shown.until(lambda screen: "⏳ 1 unassigned" in screen.text)
    [port] = re.findall(r"http://127\.0\.0\.1:(\d+)/", shown.screen.text)
    with closing(http.client.HTTPConnection("127.0.0.1", int(port), timeout=20)) as stranger:
        stranger.request("GET", "/dispach")
        assert stranger.getresponse().status == 404
    refused = re.compile(r"refused: 127\.0\.0\.1 at [0-9:]{8}: 404, machines boot from /dispatch")
    assert shown.until(lambda screen: "unassigned" in screen.text and refused.search(screen.text) is not None)
    bench.path.joinpath("go").touch()
    assert shown.end() == pytest.ExitCode.OK
    assert refused.search(shown.screen.text.partition("= dispatch =")[2])
    assert len(refused.findall(shown.screen.text)) == 1  # the table leaves no trace


def test_progress_while_winding_up(bench: Bench, terminals: list[OnTerminal]) -> None:
    bench.workloads({"a": "pass", "b": {"scenario": "hang", "expect": "boot"}})
    shown = on_terminal(bench, terminals, "--dispatch-drain=2s", machines="--dispatch-machine=sim:2?pace=0.01")
    waiting = "waiting for 1 machine to power off, at most "
    if shown.until(lambda screen: waiting in screen.text):
        assert dots(shown.screen).endswith("[100%]")
    assert shown.end() == 0
    assert waiting not in shown.screen.text


def test_pytests_own_words_go_on_where_they_were(bench: Bench, terminals: list[OnTerminal]) -> None:
    bench.workloads({"a": "slow", "b": "pass"})
    shown = on_terminal(bench, terminals, "-v", machines="--dispatch-machine=sim:1?pace=0.02")
    assert shown.until(lambda screen: "📥" in screen.text)
    assert re.search(r"(?m)^w::a\.efi$", shown.screen.text)
    assert shown.end() == 0
    assert re.search(r"(?m)^w::a\.efi PASSED +\[ 50%\]\nw::b\.efi ", shown.screen.text)
    assert "assigned" not in shown.screen.text


@pytest.mark.parametrize(("args", "term"), [(["-q"], "xterm"), ([], "dumb"), (["-n1"], "xterm")])
@pytest.mark.draw(1)
def test_no_table_where_it_is_not_wanted(bench: Bench, terminals: list[OnTerminal], args: list[str], term: str) -> None:
    bench.workloads({"a": "slow"})
    shown = on_terminal(bench, terminals, *args, machines="--dispatch-machine=sim:1?pace=0.02", term=term)
    shown.until(lambda screen: "⏳" in screen.text or "📥" in screen.text)
    assert shown.end() == 0
    assert not any(sign in "".join(shown.seen) for sign in "⏳📥⚡")


def test_ctrl_c_takes_the_table_away(bench: Bench, terminals: list[OnTerminal]) -> None:
    bench.workloads({"a": "hang"})
    shown = on_terminal(bench, terminals, machines="--dispatch-machine=sim:1?pace=0.001")
    assert shown.until(lambda screen: "⚡ booting" in screen.text)
    shown.interrupt()
    assert shown.end() == pytest.ExitCode.INTERRUPTED
    assert "⚡" not in shown.screen.text
    assert "KeyboardInterrupt" in shown.screen.text


# A log


def test_a_line_per_change_with_v(bench: Bench) -> None:
    bench.workloads({"a": "pass", "b": "no-boot"})
    bench.pytester.makeconftest("import pathlib\ndef pytest_runtest_setup(): pathlib.Path('go').touch()\n")
    result = bench.spawn("-v", machines=bench.gated("1?pace=0.001"))
    lines = result.outlines
    start = lines.index("w::a.efi ")
    assert [line for line in lines[start:] if re.match("[📥⚡📝🏁❌] a.efi", line)] == [
        "📥 a.efi assigned on sim-1",
        "📥 a.efi downloading on sim-1",
        "📥 a.efi downloaded on sim-1",
        "⚡ a.efi booting on sim-1",
        "📝 a.efi reported on sim-1",
        "🏁 a.efi finished on sim-1 (passed)",
    ]
    text = result.stdout.str()
    assert re.search(r"(?m)^❌ b\.efi failed on sim-1, attempt 2 \(error\): sim-1 never booted it", text)
    # each in a line of its own, and pytest's after them too
    assert all(re.match("[📥⚡📝🏁❌]", line) for line in lines if re.search("[📥⚡📝🏁❌] [ab].efi", line))
    assert [line for line in lines if re.fullmatch(r"w::[ab]\.efi (PASSED|ERROR) +\[ *\d+%\]", line)]


def test_less_without_v_and_nothing_with_q(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    usual = bench.spawn()
    usual.stdout.fnmatch_lines(
        ["dispatch: w; 1 efi; boot URL *; machines sim:2*", "w . *", "*= dispatch =*", "machine sim-*"]
    )
    assert "📥" not in usual.stdout.str()
    quiet = bench.spawn("-q")
    assert re.fullmatch(r"uu\. +\[100%\]\n1 passed, 2 subtests passed in .*", quiet.stdout.str().strip())
    assert quiet.stderr.str() == ""


def test_the_boot_url_is_one_that_machines_can_use(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    result = bench.run("--dispatch-bind=0.0.0.0:0", "--dispatch-path=/boot")
    [line] = [line for line in result.outlines if line.startswith("dispatch: ")]
    assert re.search(r"boot URL http://[0-9.]+:\d+/boot", line)


@needs_ipv6
def test_an_ipv6_address_stands_in_brackets_in_the_boot_url(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    result = bench.run("--dispatch-bind=[::1]:0")
    result.stdout.fnmatch_lines(["dispatch: w; 1 efi; boot URL http://[[]::1[]]:*/dispatch; *"])
    result.assert_outcomes(passed=1)


@pytest.mark.usefixtures("alone_on_mdns")
def test_the_header_names_the_announcement(bench: Bench) -> None:
    bench.workloads({"a": "pass"})
    args = ["--dispatch-dir=w", SIMS, "--dispatch-bind=127.0.0.1:0", *WITHOUT]
    result = bench.pytester.runpytest_subprocess(*args)
    result.stdout.re_match_lines([r"dispatch: w; 1 efi; .*; mDNS (dispatch-[0-9a-f]{4}|not announced: .+)"])
    result.assert_outcomes(passed=1)

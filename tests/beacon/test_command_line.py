"""The command line of `beacon`: that of the Rust program, and what is told of a wrong one."""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from beacon_lines import OURS, RUST, outcome, wanted
from beacons import BEACON, Beacon, Server
from hypothesis import given
from hypothesis import strategies as st

from pytest_dispatch.beacon.command import _duration, main
from pytest_dispatch.core.duration import parse_duration
from pytest_dispatch.core.errors import ConfigError

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


@pytest.mark.parametrize(("line", "expected"), [*RUST.items(), *OURS.items()])
@pytest.mark.draw(25)
def test_command_lines_of_the_rust_program(
    line: str, expected: tuple[int, object], beacon: Beacon, server: Server, tmp_path: Path
) -> None:
    assert outcome(line, beacon, server, tmp_path) == wanted(expected)


@given(st.one_of(st.text(), st.from_regex(r"\A\s?([0-9.]{1,3}h)?([0-9.]{1,3}m)?([0-9.]{0,3}s)?0?\s?\Z")))
def test_a_duration_is_read_as_everywhere_else(text: str) -> None:
    """Nothing else of the package comes along where `beacon` runs, so it has a reader of its own."""

    def read(reader: Callable[[str], float]) -> float | str:
        try:
            return reader(text)
        except (ConfigError, argparse.ArgumentTypeError) as error:
            return str(error)

    assert read(_duration) == read(parse_duration)

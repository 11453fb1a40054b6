"""A run told in plain text."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from boots import moment
from queue_bench import Queue
from told_runs import DIGEST, NEVER_BOOTED, NOON, attempt, case, report, run

from pytest_dispatch.core.model import Attempt, Outcome, Phase, Policy
from pytest_dispatch.results.timeline import (
    BODY_LINES,
    CASES,
    CONSOLE_LINES,
    ISSUES,
    REPORTS,
    clock,
    explain,
    last_lines,
    sign_of,
    timeline,
)
from pytest_dispatch.workloads.boot.lifecycle import State

PASSED, FAILED, ERROR = Outcome.PASSED, Outcome.FAILED, Outcome.ERROR


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times of day are local ones; let local be UTC."""
    before = os.environ.get("TZ")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    if before is None:
        monkeypatch.delenv("TZ")
    else:
        monkeypatch.setenv("TZ", before)
    time.tzset()


def test_a_line_for_each_state() -> None:
    assert timeline(attempt()) == [
        "⏳ unassigned   12:00:00      2.0 s",
        "📥 assigned     12:00:02      0.5 s",
        "📥 downloading  12:00:02     10.0 s",
        "📥 downloaded   12:00:12     27.5 s",
        "⚡ booting      12:00:40     60.0 s",
        "📝 reported     12:01:40     60.0 s",
        "🏁 finished     12:02:40",
    ]


def test_every_phase_has_a_sign_and_a_bad_end_another() -> None:
    assert len({*map(sign_of, Phase), sign_of(Phase.OVER, FAILED)}) == len(Phase) + 1
    assert sign_of(Phase.OVER, PASSED) == sign_of(Phase.OVER, Outcome.SKIPPED) == "🏁"


def test_the_clock_is_the_local_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XYZ-05:30")
    time.tzset()
    assert clock(NOON) == "17:30:00"


def test_everything_about_a_failure() -> None:
    first = attempt(1, machine="10.0.0.1", history=NEVER_BOOTED, outcome=ERROR, reason="no boot beacon")
    said = report("no SNP", body="line 1\nline 2\n", result=FAILED, cases=(case("a", PASSED), case("b", FAILED, "why")))
    last = attempt(2, said, report("oh", late=True), outcome=FAILED, reason="it reported failed: no SNP")
    text = explain(run(first, last), DIGEST, [(NOON + 39, "Linux 6.1"), (NOON + 40, "login:")], ["https://gh/1"])
    assert text == (
        "it reported failed: no SNP\n"
        "\n"
        "snp.efi (sha256:ab12ab12ab12…) on 10.0.0.1, attempt 1 of 2\n"
        "  ⏳ unassigned   12:00:00      2.0 s\n"
        "  📥 assigned     12:00:02      0.5 s\n"
        "  📥 downloading  12:00:02     10.0 s\n"
        "  📥 downloaded   12:00:12    100.0 s\n"
        "  📥 downloaded   12:01:52    800.0 s\n"
        "  ❌ failed       12:15:12\n"
        "  error: no boot beacon\n"
        "\n"
        "snp.efi (sha256:ab12ab12ab12…) on 10.0.0.7, attempt 2 of 2\n"
        "  ⏳ unassigned   12:00:00      2.0 s\n"
        "  📥 assigned     12:00:02      0.5 s\n"
        "  📥 downloading  12:00:02     10.0 s\n"
        "  📥 downloaded   12:00:12     27.5 s\n"
        "  ⚡ booting      12:00:40     60.0 s\n"
        "  📝 reported     12:01:40     60.0 s\n"
        "  ❌ finished     12:02:40\n"
        "\n"
        "report: no SNP, result failed\n"
        "  line 1\n"
        "  line 2\n"
        "  failed case b: why\n"
        "\n"
        "report: oh, too late\n"
        "\n"
        "last console lines\n"
        "  12:00:39 Linux 6.1\n"
        "  12:00:40 login:\n"
        "\n"
        "issue: https://gh/1"
    )


def test_only_what_there_is() -> None:
    nobody = Attempt(number=1, history=(moment(State.UNASSIGNED, NOON),))
    assert explain(run(nobody, outcome=ERROR), "", [], []) == (
        "it ended with error\n\nsnp.efi on no machine, attempt 1 of 1\n  ⏳ unassigned   12:00:00"
    )


def test_what_is_long_is_cut_and_says_so() -> None:
    body = "\n".join(f"line {n} " + "x" * 300 for n in range(1, BODY_LINES + 4))
    cases = tuple(case(f"case {n}", ERROR) for n in range(1, CASES + 3))
    console = [(NOON, f"console {n}") for n in range(CONSOLE_LINES + 1)]
    text = explain(run(attempt(1, report(body=body, cases=cases), outcome=FAILED)), "", console, [])
    lines = text.splitlines()
    assert max(map(len, lines)) <= 202
    assert "  … 3 more lines" in lines
    assert f"line {BODY_LINES + 1}" not in text
    assert f"  error case case {CASES}" in lines
    assert "  … 2 more cases" in lines
    assert "console 0" not in text
    assert "  12:00:00 console 1" in lines


def test_of_many_reports_and_issues_a_few_are_shown() -> None:
    reports = [report(f"report {n}", cases=(case("c", FAILED if n > 900 else PASSED),)) for n in range(1000)]
    issues = [f"https://github.example/{n}" for n in range(100)]
    text = explain(run(attempt(1, *reports, outcome=FAILED)), "", [], issues)
    assert [line for line in text.splitlines() if line.startswith("report: ")] == [
        f"report: report {n}" for n in range(901, 901 + REPORTS)
    ]
    assert "\n\n… 990 more reports\n\n" in text
    assert text.count("issue: ") == ISSUES
    assert text.endswith("\n\n… 90 more issues")


def shown(*lines: str, most: int = CONSOLE_LINES) -> list[str]:
    return [text for _, text in last_lines([(NOON + n, line) for n, line in enumerate(lines)], most)]


def test_a_progress_is_one_line_of_the_last_ones() -> None:
    progress = [f"  Downloading...{percent}%" for percent in range(100)]
    assert shown("BdsDxe: loading Boot0001", *progress, "MZ") == ["BdsDxe: loading Boot0001", progress[-1], "MZ"]
    begun = "  Downloading...100%BdsDxe: starting Boot0001"
    assert shown("URI: http://x", *progress, begun) == ["URI: http://x", begun]
    assert shown("a   5 %", "a  12.5 %", "a 100 %") == ["a 100 %"]


@pytest.mark.parametrize(
    "lines",
    [
        ["10% of a", "20% of b"],
        ["[ 10%] a", "[ 10%] a and b"],
        ["line 1", "line 2"],
        ["same", "same"],
        ["50%", "done", "60%"],
        ["memory 5% used", "memory 7% used since"],
    ],
)
def test_lines_that_differ_in_more_than_a_percentage_are_all_shown(lines: list[str]) -> None:
    assert shown(*lines) == lines


def test_a_progress_takes_no_room_from_the_lines_before_it() -> None:
    lines = [f"line {n}" for n in range(CONSOLE_LINES + 1)]
    text = explain(run(attempt(outcome=FAILED)), "", [(NOON, each) for each in (*lines, "1%", "2%", "3%")], [])
    assert "  12:00:00 line 2\n" in text
    assert "line 1\n" not in text
    assert text.endswith("  12:00:00 3%")
    assert "2%" not in text


def test_a_console_is_looked_at_from_its_end() -> None:
    assert shown(*(f"line {n}" for n in range(9)), most=2) == ["line 7", "line 8"]
    assert shown() == []


def test_where_machines_boot_from_is_told_where_none_came() -> None:
    queue = Queue()
    queue.open("s", Policy(retries=1))
    asked = queue.submit("s", "dir::snp.efi", run(attempt()).workload, NOON)
    queue.ready(asked.id)
    queue.expire(NOON)
    queue.expire(NOON + 1801)
    ended = queue.runs[asked.id]
    text = explain(ended, "", [], [])
    assert text.startswith("no machine took it: timed out after 30m ")
    assert "\n\nmachines boot from the boot URL in the line `dispatch: …` at the top" in text
    assert max(map(len, text.splitlines())) < 120


@pytest.mark.parametrize(
    ("reason", "machine"), [("cancelled while unassigned", ""), ("no machine took it: timed out after 30m", "10.0.0.1")]
)
def test_it_is_not_told_where_one_came_or_something_else_was_wrong(reason: str, machine: str) -> None:
    first = attempt(1, machine=machine, history=NEVER_BOOTED, outcome=ERROR, reason="no boot beacon")
    last = attempt(2, machine="", outcome=ERROR, reason=reason)
    assert "boot URL" not in explain(run(first, last), "", [], [])


def test_nothing_that_acts_on_a_terminal_is_left() -> None:
    evil = "\x1b[2J\x1b]0;owned\x07e\u202evil\r\x00"
    said = report(evil, body=evil, cases=(case(evil, FAILED, evil),))
    first = attempt(1, said, outcome=ERROR, reason=evil)
    last = attempt(2, said, outcome=FAILED, reason=evil)
    text = explain(run(first, last, name=evil), DIGEST, [(NOON, evil)], [])
    assert "evil" in text.splitlines()[0]
    assert not set(text) & {"\x1b", "\x07", "\r", "\x00", "\u202e"}

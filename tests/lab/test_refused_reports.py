"""Reports that the lab refuses: whoever waits for the run is told of them, and none of them is a pass."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from labs import FIRMWARE, LabBench
from waiting import until

from pytest_dispatch.core.attempts import REFUSALS
from pytest_dispatch.core.model import Outcome, Policy, Run
from pytest_dispatch.github.issue_text import issues_for
from pytest_dispatch.results.timeline import explain
from pytest_dispatch.server.boot.beacon import REPORT_LIMIT
from pytest_dispatch.workloads.boot.lifecycle import Expect

pytestmark = pytest.mark.anyio

BAD = b'\n\x1b[2J"title": "memory"}\nmore'
BEGINS = """'"title": "memory"}'"""
ONCE = Policy(retries=0)


async def refused(bench: LabBench, body: bytes = BAD) -> str:
    """Report in vain; returns the reason that the workload is given."""
    reply = await bench.call("PUT", body=body)
    assert reply.status in (400, 413)
    return reply.text.removesuffix("\n")


async def ended(bench: LabBench, run: Run) -> Run:
    """The machine comes for its next workload."""
    await bench.call("HEAD")
    return bench.now(run)


async def test_the_reason_and_the_first_line_are_why_the_run_failed(bench: LabBench) -> None:
    run = await bench.booted(policy=ONCE)
    why = await refused(bench)
    told = await ended(bench, run)
    assert told.outcome is Outcome.FAILED
    assert told.reason == f"its report was refused: {why}; it began with {BEGINS}"
    await bench.lab.lab_state.on_disk()
    assert bench.journal.reader.runs(run.session) == [told]
    text = explain(told, "", [], [])
    assert text.startswith(told.reason)
    assert f": {why}; it began with {BEGINS}" in text.partition("report refused at ")[2]


@pytest.mark.parametrize("raw", [False, True])
async def test_the_issue_tells_it_and_nothing_in_it_is_markup(bench: LabBench, raw: bool) -> None:
    run = await bench.booted(policy=ONCE)
    whys = [await refused(bench, b"<b>@octocat</b> #%d `x`" % number) for number in (1, 2)]
    await bench.report(title="fine")
    [issue] = issues_for(await ended(bench, run), "w", "", raw=raw)
    footer = issue.body.partition("<details open>")[2]
    for number, why in enumerate(whys, start=1):
        [line] = [line for line in footer.splitlines() if f"@octocat</b> #{number}" in line]
        assert re.fullmatch(rf"- report refused: (`+) {re.escape(why)}; it began with '<b>@octocat</b> .* \1", line)


async def test_a_run_of_which_only_a_refused_report_came_has_an_issue_that_says_so(bench: LabBench) -> None:
    run = await bench.booted(policy=ONCE)
    await refused(bench, b"<b>@octocat</b>")
    [issue] = issues_for(await ended(bench, run), "w", "")
    assert issue.title == "a.efi failed"
    said = issue.body.partition("---")[0]
    assert said.startswith("Its report was refused: expected a report as JSON: ")
    assert "<b>" not in said
    assert "@octocat" not in said


@pytest.mark.parametrize("first", [True, False])
async def test_one_of_several_reports_is_enough_to_fail(bench: LabBench, first: bool) -> None:
    run = await bench.booted(policy=ONCE)
    if first:
        await refused(bench)
    await bench.report(result="passed")
    if not first:
        await refused(bench)
    told = await ended(bench, run)
    assert (told.outcome, told.reason.partition(": ")[0]) == (Outcome.FAILED, "its report was refused")


async def test_what_the_others_say_is_told_too(bench: LabBench) -> None:
    run = await bench.booted(policy=ONCE)
    await bench.report(title="fan", result="failed")
    await refused(bench, b"")
    await refused(bench, b"x" * (REPORT_LIMIT + 1))
    told = await ended(bench, run)
    assert told.reason.endswith(" (and 1 more); it reported failed: fan")


@pytest.mark.parametrize("announced", [True, False])
async def test_the_first_line_of_what_is_too_long_is_told_too(bench: LabBench, announced: bool) -> None:
    run = await bench.booted(policy=ONCE)
    wire = await bench.wire()
    size = REPORT_LIMIT + 1
    length = f"Content-Length: {size}" if announced else "Transfer-Encoding: chunked"
    await wire.send(f"PUT /dispatch HTTP/1.1\r\n{FIRMWARE}{length}\r\n\r\n")
    await until(lambda: bench.server.connections.in_use)
    beginning = b"first\nsecond\n"
    await wire.send(beginning if announced else b"%x\r\n%s%s" % (size, beginning, b"x" * (size - len(beginning))))
    assert (await wire.reply()).status == 413
    assert (await ended(bench, run)).reason.endswith("; it began with 'first'")


async def test_what_breaks_off_and_comes_again_counts(bench: LabBench) -> None:
    run = await bench.booted(policy=ONCE)
    wire = await bench.wire()
    await wire.send(f"PUT /dispatch HTTP/1.1\r\n{FIRMWARE}Content-Length: 20\r\n\r\n{{")
    await until(lambda: bench.server.connections.in_use)
    wire.reset()
    await until(lambda: bench.attempt(run).refused)
    assert not bench.attempt(run).refused[0].whole
    await bench.report(result="passed")
    assert (await ended(bench, run)).outcome is Outcome.PASSED


async def test_what_breaks_off_for_good_is_no_pass(bench: LabBench) -> None:
    run = await bench.booted(policy=ONCE)
    await bench.report(result="passed")
    wire = await bench.wire()
    await wire.send(f"PUT /dispatch HTTP/1.1\r\n{FIRMWARE}Content-Length: 20\r\n\r\n{{")
    await until(lambda: bench.server.connections.in_use)
    wire.reset()
    await until(lambda: bench.attempt(run).refused)
    told = await ended(bench, run)
    assert told.outcome is Outcome.FAILED
    assert told.reason.startswith("its report was refused: expected a whole request: ")


@pytest.mark.parametrize(
    "rest",
    [
        b"zz\r\n",
        b"-5\r\nhello\r\n",
        b"5\r\nhelloXX",
        b"5\nhello\n",
        b"f" * 20 + b"\r\n",
        b"0\r\nA\0: b\r\n\r\n",
        b"0\r\n" + b"A: b\r\n" * 10_000,
    ],
)
async def test_a_body_that_is_broken_in_the_middle_is_refused_at_once(bench: LabBench, rest: bytes) -> None:
    run = await bench.booted(policy=ONCE)
    wire = await bench.wire()
    await wire.send(f"PUT /dispatch HTTP/1.1\r\n{FIRMWARE}Transfer-Encoding: chunked\r\n\r\n5\r\n{{ 'x'\r\n")
    await until(lambda: bench.server.connections.in_use)
    await wire.send(rest)
    reply = await wire.reply()
    assert (reply.status, reply.text.partition(": ")[0]) == (400, "expected a whole request")
    assert bench.attempt(run).refused[0].begins.startswith("{ 'x'")
    assert (await ended(bench, run)).outcome is Outcome.FAILED


async def test_the_deadline_and_the_fault_that_end_the_run(bench: LabBench) -> None:
    late = await bench.booted(policy=ONCE)
    why = await refused(bench)
    bench.clock.ahead += 3601
    await until(lambda: bench.now(late).outcome)
    assert bench.now(late).reason.startswith(f"its report was refused: {why}")
    broken = await bench.booted(policy=ONCE)
    await refused(bench)
    bench.lab.queue.scheduler.fault("127.0.0.2", "kernel panic", bench.clock.now())
    told = bench.now(broken)
    assert told.outcome is Outcome.FAILED
    assert told.reason.startswith(f"127.0.0.2: kernel panic after it booted; its report was refused: {why}")


async def test_a_workload_that_only_has_to_come_back_need_not_report_but_not_badly(bench: LabBench) -> None:
    run = await bench.booted(policy=replace(ONCE, expect=Expect.RETURN))
    await refused(bench)
    assert (await ended(bench, run)).outcome is Outcome.FAILED


async def test_after_the_end_it_is_kept_and_changes_nothing(bench: LabBench) -> None:
    run = await bench.booted(policy=replace(ONCE, expect=Expect.BOOT))
    assert bench.now(run).outcome is Outcome.PASSED
    why = await refused(bench)
    assert bench.now(run).outcome is Outcome.PASSED
    assert [refusal.why for refusal in bench.attempt(run).refused] == [why]


async def test_the_same_again_is_kept_once_and_many_are_not_kept(bench: LabBench) -> None:
    run = await bench.booted(policy=ONCE)
    before = bench.now(run).version
    for _ in range(2):
        await refused(bench)
    assert bench.now(run).version == before + 1
    for number in range(REFUSALS + 5):
        await refused(bench, b"%d" % number)
    assert len(bench.attempt(run).refused) == REFUSALS
    assert (await ended(bench, run)).reason.endswith(f"(and {REFUSALS - 1} more)")


async def test_a_long_line_is_cut(bench: LabBench) -> None:
    run = await bench.booted(policy=ONCE)
    await refused(bench, b"x" * 10_000)
    assert len((await ended(bench, run)).reason) < 500

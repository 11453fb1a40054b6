"""Long reports are read in processes of their own: nobody waits for them, and each has its bounds."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from functools import cache
from typing import Any

import pytest
from children import TASKS, children
from faults import fault
from labs import LabBench
from waiting import until

from pytest_dispatch.core.errors import LabError
from pytest_dispatch.core.model import Case, Outcome
from pytest_dispatch.results.isolated_reading import LONG, IsolatedReaders, Limits
from pytest_dispatch.results.report_body import read_report
from pytest_dispatch.workloads.boot.lifecycle import State

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not TASKS.exists(), reason="looks at /proc, as Linux has it"),
]

PADDING = f"<!-- {'x' * LONG} -->"


def readers() -> list[int]:
    """Processes of this one that read a report."""
    return children(b"isolated_reading")


@cache
def attributes() -> str:
    return " ".join(f"a{n}='1'" for n in range(900_000))


def long_tag() -> str:
    return f"<testsuite {attributes()}><testcase name='a'/></testsuite>"


def body(**fields: object) -> bytes:
    return json.dumps({"title": "t", **fields}).encode()


@fault(
    "Hostile input",
    "A workload's JUnit has 900,000 attributes in one tag",
    outcome="it is read in a process of its own; the other machines boot and report meanwhile",
    told="nothing",
)
@pytest.mark.draw(2, of="as much as may come")
async def test_nobody_waits_for_a_report_that_takes_long_to_read(bench: LabBench) -> None:
    run = await bench.booted()
    report = asyncio.create_task(bench.report(junit=long_tag()))
    await until(readers)
    [reader] = readers()
    os.kill(reader, signal.SIGSTOP)  # so that it takes for ever
    other = await bench.booted("127.0.0.3", name="b.efi")
    assert (await bench.report("127.0.0.3", result="passed")).status == 200
    assert bench.attempt(other).state == State.REPORTED
    assert not bench.attempt(run).reports
    os.kill(reader, signal.SIGCONT)
    assert (await report).status == 200
    assert [case.name for case in bench.attempt(run).reports[0].cases] == ["a"]


async def test_a_machine_that_goes_away_takes_its_reader_with_it(bench: LabBench) -> None:
    await bench.booted()
    report = asyncio.create_task(bench.report(junit=long_tag()))
    await until(readers)
    [reader] = readers()
    os.kill(reader, signal.SIGSTOP)
    await bench.server.stop()
    await until(lambda: not readers())
    await asyncio.gather(report, return_exceptions=True)


async def test_short_and_long_reports_are_read_alike() -> None:
    said = {"body": "\ud800 ü 💥", "labels": ["a"], "junit": f"<testsuite>{PADDING}<testcase name='a'/></testsuite>"}
    assert len(body(**said)) > LONG
    assert await IsolatedReaders().read(body(**said)) == read_report(body(**said))
    assert await IsolatedReaders(long=1).read(body(result="failed")) == read_report(body(result="failed"))


async def test_what_is_no_report_is_refused_with_the_same_words() -> None:
    data = b'{"title": "x",\n "body": ' + b"x" * LONG
    with pytest.raises(ValueError, match="Expecting value: line 2, column 10") as caught:
        await IsolatedReaders().read(data)
    with pytest.raises(ValueError, match="Expecting value") as here:
        read_report(data)
    assert str(caught.value) == str(here.value)


@pytest.mark.parametrize(
    ("limits", "which"),
    [
        pytest.param({"seconds": 1}, "1 s of a processor and 1536 MiB", id="time"),
        pytest.param(
            {"memory": 160 * 2**20},
            "30 s of a processor and 160 MiB",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="others do not bound memory"),
            id="memory",
        ),
    ],
)
@fault(
    "Hostile input",
    "To read a workload's results takes more than 30 s of a processor, or 1.5 GiB of memory",
    outcome="failed; the report is kept, its results are not read",
    told="`unreadable: to read … takes more than …`",
)
@pytest.mark.draw(1)
async def test_results_that_take_too_much_have_failed_and_the_report_is_kept(
    limits: dict[str, Any], which: str
) -> None:
    cases = "<testcase name='a'><failure>x</failure></testcase>" * 100_000
    data = body(body="a log", result="passed", junit=f"<testsuite {attributes()}>{cases}</testsuite>")
    report = await IsolatedReaders(Limits(**limits)).read(data)
    assert (report.body, report.result) == ("a log", Outcome.PASSED)
    why = f"unreadable: to read {len(data)} bytes of report takes more than {which} of memory"
    assert report.cases == (Case(name="results", outcome=Outcome.FAILED, message=why),)


async def test_that_no_process_can_be_started_is_the_labs_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(LabError, match="a report could not be read: no process can be started for it"):
        await IsolatedReaders(long=0).read(body())


async def test_that_its_process_breaks_down_is_the_labs_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(LabError, match=r"a report could not be read: the process for it ended with exit code 1 \(\)"):
        await IsolatedReaders(long=0).read(body())

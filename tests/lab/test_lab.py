"""The lab as a whole: what breaks it, what it survives, how it stops."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from boots import but
from by_hand import ByHand
from faults import fault
from labs import TOKEN, Clock, LabBench, Wire, call, gathered, open_sockets, running_lab, workload
from project import SUPPORT
from waiting import PATIENCE, until

from pytest_dispatch.core.errors import JournalError, LabError, MachineError
from pytest_dispatch.core.model import Issue, Outcome, Policy, Run
from pytest_dispatch.core.runs import Change
from pytest_dispatch.lab.console_lines import FIRST, LAST, LEFT_OUT, LINE, WIDEST, ConsoleLines
from pytest_dispatch.lab.outbox import Filed, FilingError
from pytest_dispatch.lab.session_feed import IssueRule
from pytest_dispatch.lab.state import LabState
from pytest_dispatch.machines.base import Sign
from pytest_dispatch.machines.sim.driver import SimMachine
from pytest_dispatch.sources.asset_fetcher import Asset, AssetFetcher, OnArrival, ignored
from pytest_dispatch.sources.base import Bytes
from pytest_dispatch.store.journal import Journal, Row, console_row
from pytest_dispatch.workloads.boot.lifecycle import Expect, State

pytestmark = pytest.mark.anyio


# Machines of our own


async def test_a_machine_of_our_own_is_known_by_its_token_in_all_that_it_says(tmp_path: Path) -> None:
    """Wherever it comes from, and though it is in none of the allowed networks."""
    puppet = ByHand("puppet")
    async with running_lab(tmp_path, machines=[puppet], allow=()) as bench:
        run = await bench.one()
        await until(lambda: puppet.alive)
        assert (await bench.call("HEAD", puppet.target(), source="127.0.0.5")).status == 200
        assert (await bench.call("GET", puppet.target(), source="127.0.0.6")).status == 200
        await bench.enters(run, State.DOWNLOADED)
        assert (await bench.call("POST", puppet.target(), source="127.0.0.7")).status == 200
        assert (await bench.call("PUT", puppet.target(), source="127.0.0.8", body=b'{"title": "t"}')).status == 200
        assert (await bench.call("POST", "/dispatch", source="127.0.0.7")).status == 403
        attempt = bench.attempt(run)
        assert (attempt.machine, attempt.state) == ("puppet", State.REPORTED)
        assert list(bench.lab.queue.machines) == ["puppet"]


async def test_a_script_with_a_token_is_the_machine_that_it_was_given_to(tmp_path: Path) -> None:
    """Whatever it asks with; and such a tool in the workload ends nothing."""
    puppet, agent = ByHand("puppet"), "User-Agent: curl/8.5.0\r\n"
    async with running_lab(tmp_path, machines=[puppet], allow=()) as bench:
        run = await bench.one()
        await until(lambda: puppet.alive)
        assert (await bench.bare("HEAD", agent, puppet.target())).status == 200
        assert (await bench.bare("GET", agent, puppet.target())).body == bench.bytes_of(run)
        await bench.enters(run, State.DOWNLOADED)
        assert (await bench.bare("POST", agent, puppet.target())).status == 200
        assert (await bench.bare("HEAD", agent, puppet.target())).status == 403
        assert (await bench.bare("HEAD", agent)).status == 403
        assert (await bench.bare("PUT", agent, puppet.target(), '{"title": "t"}')).status == 200
        assert [report.title for report in bench.attempt(run).reports] == ["t"]


async def test_console_lines_belong_to_the_attempt_that_follows_or_runs(tmp_path: Path) -> None:
    puppet = ByHand("puppet")
    async with running_lab(tmp_path, machines=[puppet]) as bench:
        run = await bench.one()
        await until(lambda: puppet.alive)
        puppet.signs.put_nowait(Sign(text="BdsDxe"))
        await until(puppet.signs.empty)
        await bench.call("GET", puppet.target())
        puppet.signs.put_nowait(Sign(text="loading"))
        await until(lambda: len(bench.lab.console.of(bench.now(run))) == 2)
        view = (await bench.api("GET", f"/runs/{run.id}")).json
        assert [line["text"] for line in view["console"]] == ["BdsDxe", "loading"]


async def test_a_machine_that_panics_is_started_again_and_the_attempt_is_over(tmp_path: Path) -> None:
    puppet = ByHand("puppet")
    async with running_lab(tmp_path, machines=[puppet]) as bench:
        run = await bench.one(policy=Policy(retries=0))
        await until(lambda: puppet.alive)
        puppet.signs.put_nowait(Sign(text="assert", fault="firmware hangs"))
        await until(lambda: puppet.starts == 2)  # it held nothing: off and on, and that is all
        await bench.call("GET", puppet.target())
        await bench.call("POST", puppet.target())
        puppet.signs.put_nowait(Sign(text="panic", fault="kernel panic"))
        await until(lambda: bench.now(run).outcome is not None)
        assert (bench.now(run).outcome, bench.now(run).reason) == (
            Outcome.FAILED,
            "puppet: kernel panic after it booted",
        )
        await until(lambda: puppet.starts == 3)


async def test_a_machine_that_is_off_is_woken_for_what_comes_back(tmp_path: Path) -> None:
    """It took the power-off program while another one still ran; that one fails, and a further attempt is due."""
    puppets = [ByHand("one"), ByHand("two")]
    async with running_lab(tmp_path, machines=puppets) as bench:
        run = await bench.one(policy=Policy(retries=1))
        await until(lambda: all(puppet.alive for puppet in puppets))
        await bench.call("GET", puppets[0].target())
        await bench.call("POST", puppets[0].target())
        puppets[0].signs.put_nowait(Sign(text="killed", fault="the emulator was killed", lab=True))
        await until(lambda: len(bench.now(run).attempts) == 2)
        puppets[1].alive = False  # only now is it off, as far as anybody can see
        await until(lambda: puppets[1].starts == 2)
        await bench.call("GET", puppets[1].target())
        assert bench.attempt(run).machine == "two"


async def test_a_machine_that_waits_is_called_for_what_comes_back(tmp_path: Path) -> None:
    """It runs the wait program, and would sit the rest of its minute out."""
    puppets = [ByHand("one"), ByHand("two")]
    async with running_lab(tmp_path, machines=puppets) as bench:
        run = await bench.one(policy=Policy(retries=1))
        await until(lambda: all(puppet.alive for puppet in puppets))
        await bench.call("GET", puppets[0].target())
        assert (await bench.call("HEAD", puppets[1].target())).headers["dispatch-idle"] == "wait"
        puppets[0].signs.put_nowait(Sign(text="killed", fault="the emulator was killed", lab=True))
        await until(lambda: [puppet.starts for puppet in puppets] == [2, 2])
        assert bench.now(run).attempts[0].outcome is Outcome.ERROR


@pytest.mark.parametrize("over", [False, True])
async def test_machines_that_wait_are_powered_off_when_nobody_wants_anything_any_more(
    tmp_path: Path, over: bool
) -> None:
    puppets = [ByHand("one"), ByHand("two")]
    async with running_lab(tmp_path, machines=puppets) as bench:
        run = await bench.one()
        await until(lambda: all(puppet.alive for puppet in puppets))
        await bench.call("GET", puppets[0].target())
        assert (await bench.call("HEAD", puppets[1].target())).headers["dispatch-idle"] == "wait"
        await bench.call("POST", puppets[0].target())
        if not over:
            await bench.one(name="b.efi", location=str(bench.folder / "a.efi"))  # of another session
        await bench.api("DELETE", f"/sessions/{run.session}")
        assert puppets[1].alive is not over
        off = {
            view["name"]: view["off"] for view in (await bench.api("GET", f"/sessions/{run.session}")).json["machines"]
        }
        assert off["two"] is over


async def test_a_machine_that_cannot_be_brought_up_is_tried_three_times(tmp_path: Path) -> None:
    puppet = ByHand("puppet", faults=[MachineError("no room"), MachineError("no room")])
    async with running_lab(tmp_path, machines=[puppet]) as bench:
        await bench.one()
        await until(lambda: puppet.alive)
        assert (puppet.starts, bench.lab.broken) == (3, None)


async def test_when_no_machine_is_left_nobody_waits(tmp_path: Path) -> None:
    puppets = [ByHand(name, faults=[MachineError("no KVM")] * 9) for name in ("one", "two")]
    async with running_lab(tmp_path, machines=puppets) as bench:
        (first,) = await bench.submit(bench.workload("a.efi"), ready=False)
        await until(lambda: bench.now(first).outcome is not None)
        assert bench.now(first).outcome is Outcome.ERROR
        assert bench.now(first).reason == "no machine is left: two: no KVM"
        (later,) = await bench.submit(bench.workload("b.efi"), ready=False)
        await until(lambda: bench.now(later).outcome is not None)
        assert (bench.now(later).outcome, puppets[0].starts) == (Outcome.ERROR, 3)


async def test_a_stranger_may_take_what_our_own_machines_cannot(tmp_path: Path) -> None:
    puppet = ByHand("puppet", faults=[MachineError("no KVM")] * 3)
    async with running_lab(tmp_path, machines=[puppet]) as bench:
        await bench.call("HEAD", source="127.0.0.2")
        run = await bench.one()
        await until(lambda: puppet.starts == 3)
        await bench.call("HEAD", source="127.0.0.2")
        await bench.download(run)


# What breaks a lab


class BrokenClock(Clock):
    broken = False

    def now(self) -> float:
        if self.broken:
            raise RuntimeError("the clock stopped")
        return super().now()


class BrokenCache(AssetFetcher):
    """A cache with a defect."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, 10**9, None)

    async def fetch(self, workload: Bytes, holder: str = "", on_arrival: OnArrival = ignored) -> Asset:
        raise ZeroDivisionError("an index")


def _no_filer(_repo: str) -> None:
    raise ZeroDivisionError("a filer")


async def _say_nonsense(_bench: LabBench, puppet: ByHand) -> None:
    puppet.signs.put_nowait(OSError("the console"))


async def _report(bench: LabBench, puppet: ByHand) -> None:
    for method in ("GET", "POST", "PUT"):
        await bench.call(method, puppet.target(), body=b'{"title": "t"}' if method == "PUT" else b"")
    puppet.boot()
    await bench.call("HEAD", puppet.target())


async def _wait(_bench: LabBench, _puppet: ByHand) -> None:
    return


@pytest.mark.parametrize(
    ("options", "faults", "provoke", "why"),
    [
        ({}, [], _say_nonsense, "the reader of puppet's console ended with OSError: the console"),
        ({}, [OSError("a socket")], _wait, "the power cycle of puppet ended with OSError: a socket"),
        ({"cache": BrokenCache}, [], _wait, "the supply of bytes ended with ZeroDivisionError: an index"),
        ({"filers": _no_filer}, [], _report, "the outbox ended with ZeroDivisionError: a filer"),
    ],
)
async def test_a_task_that_dies_breaks_the_lab_and_says_why(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, Any],
    faults: list[Exception],
    provoke: Callable[[LabBench, ByHand], Any],
    why: str,
) -> None:
    puppet = ByHand("puppet", faults=faults)
    async with running_lab(tmp_path, machines=[puppet], **options) as bench:
        rule = IssueRule(repo="o/r", outcomes=frozenset(Outcome))
        wanted = [bench.workload("a.efi"), bench.workload("b.efi")]
        _, open_run = await bench.submit(*wanted, rule=rule, ready="cache" not in options)
        polling = asyncio.create_task(bench.api("GET", f"/runs/{open_run.id}?after=1000&wait=20"))
        if not faults and "cache" not in options:
            await until(lambda: puppet.alive)
        await provoke(bench, puppet)
        await until(lambda: bench.lab.broken)
        text = f"the lab is broken: {why}; start it again, and report this with its traceback"
        assert str(bench.lab.broken) == text
        assert isinstance(bench.lab.broken, LabError)
        assert ((await polling).status, (await polling).json) == (503, {"error": text})
        reply = await bench.call("GET")
        assert (reply.status, reply.text) == (503, f"{text}\n")
    records = [record for record in caplog.records if record.name == "pytest_dispatch.lab.background_tasks"]
    assert records
    assert all(record.exc_info for record in records)


async def test_a_look_at_deadlines_that_dies_breaks_the_lab(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with running_lab(tmp_path, clock=BrokenClock()) as bench:
        assert isinstance(bench.clock, BrokenClock)
        bench.clock.broken = True
        await until(lambda: bench.lab.broken)
        bench.clock.broken = False
        assert "the look at deadlines ended with RuntimeError: the clock stopped" in str(bench.lab.broken)
    assert caplog.records


async def test_the_first_reason_stays(bench: LabBench) -> None:
    bench.lab.lab_state.fail(LabError("first"))
    bench.lab.lab_state.fail(LabError("second"))
    assert str(bench.lab.broken) == "first"


async def test_bytes_that_cannot_be_had_are_a_fault_of_the_lab(bench: LabBench) -> None:
    wanted = but(bench.workload(), location=str(bench.folder / "b.efi"))
    (run,) = await bench.submit(wanted, ready=False)
    await until(lambda: bench.now(run).outcome is not None)
    assert bench.now(run).outcome is Outcome.ERROR
    assert "No such file or directory: " in bench.now(run).reason


async def test_deadlines_pass(bench: LabBench) -> None:
    run = await bench.booted(policy=Policy(retries=0))
    bench.clock.ahead += 3601
    await until(lambda: bench.now(run).outcome is not None)
    assert bench.now(run).reason == "no report 1h after it booted on 127.0.0.2"


# Issues


class Secretary:
    """Files issues, when it may."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.faults: list[FilingError] = []

    def file(self, issue: Issue, may_exist: bool) -> Filed:
        self.may.wait(20)
        if self.faults:
            raise self.faults.pop(0)
        return Filed(f"https://github.com/o/r/issues/{issue.title}")


async def test_an_issue_is_filed_for_a_run_and_its_link_is_told(tmp_path: Path) -> None:
    secretary = Secretary()
    async with running_lab(tmp_path, filers=lambda _repo: secretary) as bench:
        rule = IssueRule(repo="o/r", outcomes=frozenset({Outcome.FAILED}))
        bad, good = await bench.submit(bench.workload("a.efi"), bench.workload("b.efi"), rule=rule)
        ends = (("127.0.0.2", bad, "failed"), ("127.0.0.3", good, "passed"))
        for source, run, _ in ends:
            await bench.download(run, source)
        for source, _, result in ends:
            await bench.call("POST", source=source)
            await bench.report(source=source, result=result)
            await bench.call("HEAD", source=source)
        assert (bench.now(bad).outcome, bench.now(good).outcome) == (Outcome.FAILED, Outcome.PASSED)
        view = (await bench.api("GET", f"/runs/{bad.id}")).json
        assert (view["filing"], view["issues"]) == (True, [])
        assert (await bench.api("GET", f"/sessions/{bad.session}")).json["issues_pending"] == 1
        secretary.may.set()
        await until(lambda: not bench.lab.issues.filing(bad))
        view = (await bench.api("GET", f"/runs/{bad.id}")).json
        assert (view["filing"], view["issues"]) == (False, ["https://github.com/o/r/issues/a report"])
        assert not (await bench.api("GET", f"/runs/{good.id}")).json["issues"]
        seen = (await bench.api("GET", f"/sessions/{bad.session}")).json
        assert (seen["issues_pending"], seen["issues_filed"], seen["unfiled"]) == (0, 1, [])


async def test_issues_of_a_run_are_being_filed_until_github_has_said_something_to_each(tmp_path: Path) -> None:
    turns = threading.Semaphore(0)

    class OneByOne(Secretary):
        def file(self, issue: Issue, may_exist: bool) -> Filed:
            turns.acquire(timeout=PATIENCE)
            return super().file(issue, may_exist)

    secretary = OneByOne()
    secretary.may.set()
    async with running_lab(tmp_path, filers=lambda _repo: secretary) as bench:
        (run,) = await bench.submit(bench.workload(), rule=IssueRule(repo="o/r", outcomes=frozenset(Outcome)))
        await bench.download(run)
        await bench.call("POST")
        for title in ("first", "second"):
            await bench.report(title=title)
        await bench.call("HEAD")
        turns.release()
        await until(lambda: bench.lab.issues.status().filed == 1)
        assert bench.lab.issues.filing(run)
        turns.release()
        await until(lambda: bench.lab.issues.status().filed == 2)
        assert not bench.lab.issues.filing(run)
        view = (await bench.api("GET", f"/runs/{run.id}")).json
        assert (view["filing"], len(view["issues"])) == (False, 2)


ALL = IssueRule(repo="o/r", outcomes=frozenset(Outcome))


async def filed(bench: LabBench, run: Run) -> list[str]:
    """Titles of its issues, once all that are due are filed."""
    await until(lambda: not bench.lab.issues.status().pending)
    return [url.rpartition("/")[2] for url in bench.lab.lab_state.live_session(run.session).urls(run)]


async def test_a_report_after_its_deadline_is_filed_and_the_outcome_stays(tmp_path: Path) -> None:
    secretary = Secretary()
    secretary.may.set()
    async with running_lab(tmp_path, filers=lambda _repo: secretary) as bench:
        (run,) = await bench.submit(bench.workload(), rule=ALL, policy=Policy(retries=0))
        await bench.download(run)
        await bench.call("POST")
        bench.clock.ahead += 3601
        await until(lambda: bench.now(run).outcome is Outcome.FAILED)
        assert (await bench.report(title="at last", result="passed", milestone="c1")).status == 200
        assert (await bench.report(title="at last", result="passed", milestone="c1")).status == 200  # repeated
        assert (await bench.report(title="and more")).status == 200
        assert await filed(bench, run) == ["a.efi failed", "at last", "and more"]
        assert bench.now(run).outcome is Outcome.FAILED


async def test_a_report_that_comes_while_its_workload_is_tried_again_is_filed_at_the_end(tmp_path: Path) -> None:
    secretary = Secretary()
    secretary.may.set()
    async with running_lab(tmp_path, filers=lambda _repo: secretary) as bench:
        (run,) = await bench.submit(bench.workload(), rule=ALL, policy=Policy(retry_failures=1))
        await bench.download(run)
        await bench.call("POST")
        bench.clock.ahead += 3601
        await until(lambda: len(bench.now(run).attempts) == 2)
        assert (await bench.report(title="of the first")).status == 200
        assert await filed(bench, run) == []
        await bench.download(run, "127.0.0.3")
        await bench.call("POST", source="127.0.0.3")
        await bench.report(source="127.0.0.3", title="of the second")
        await bench.call("HEAD", source="127.0.0.3")
        assert await filed(bench, run) == ["of the second", "of the first"]


@pytest.mark.parametrize(("reports", "titles"), [(["one", "two"], ["one", "two"]), ([], [])])
async def test_what_was_reported_before_nobody_waited_any_more_is_filed(
    tmp_path: Path, reports: list[str], titles: list[str]
) -> None:
    secretary = Secretary()
    secretary.may.set()
    async with running_lab(tmp_path, filers=lambda _repo: secretary) as bench:
        (run,) = await bench.submit(bench.workload(), rule=ALL)
        await bench.download(run)
        await bench.call("POST")
        for title in reports:
            await bench.report(title=title)
        bench.lab.session_service.cancel(run.id)
        assert await filed(bench, run) == titles
        await bench.report(title="late")
        assert await filed(bench, run) == [*titles, "late"]


async def test_a_late_report_of_what_makes_no_issue_makes_none(tmp_path: Path) -> None:
    async with running_lab(tmp_path, filers=lambda _repo: Secretary()) as bench:
        rule = IssueRule(repo="o/r", outcomes=frozenset({Outcome.FAILED}))
        (run,) = await bench.submit(bench.workload(), rule=rule)
        await bench.download(run)
        await bench.call("POST")
        await bench.report(result="passed")
        await bench.call("HEAD")
        await bench.report(title="late", result="failed")
        assert bench.attempt(run).reports[-1].late
        assert await filed(bench, run) == []


async def test_the_first_goes_first_though_others_are_found_before_it(tmp_path: Path) -> None:
    async with running_lab(tmp_path) as bench:
        large = bench.workload("a.efi", size=60_000_000)  # takes long to look at
        first, second = await bench.submit(large, bench.workload("b.efi"), ready=False)
        assert (await bench.call("HEAD")).status == 200
        assert bench.now(first).attempt.machine, "though the second was found long before"
        assert not bench.now(second).attempt.machine


async def test_a_kind_that_is_no_longer_installed_is_the_labs_fault_and_named(tmp_path: Path) -> None:
    async with running_lab(tmp_path) as bench:
        run = await bench.one(name="a.uki")
        assert (await bench.call("HEAD")).status == 500
        first = bench.now(run).attempts[0]
        assert first.outcome is Outcome.ERROR
        assert "kind 'uki': expected an installed package that adds it (pytest_dispatch.media)" in first.reason


async def test_an_issue_of_an_earlier_session_is_filed_too(tmp_path: Path) -> None:
    secretary = Secretary()
    rule = IssueRule(repo="o/r", outcomes=frozenset(Outcome))
    async with running_lab(tmp_path) as bench:  # without a filer
        (run,) = await bench.submit(bench.workload(), rule=rule)
        await bench.download(run)
        await bench.call("POST")
        await bench.report()
        await bench.call("HEAD")
        await until(lambda: not bench.lab.issues.status().pending)
        assert bench.lab.issues.status().unfiled == ("kept for the next session: a report: there is no GitHub token",)
    secretary.may.set()
    async with running_lab(tmp_path, filers=lambda _repo: secretary) as bench:
        await until(lambda: bench.lab.issues.status().filed)
        assert not bench.lab.issues.filing(run)


# Resuming


@contextmanager
def lab_process(
    folder: Path, *names: str, port: int = 0, machines: int = 0
) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    command = [sys.executable, str(SUPPORT / "lab_process.py"), str(folder), str(port), str(machines)]
    path = os.pathsep.join([str(SUPPORT), *sys.path])
    with subprocess.Popen(
        [*command, *names],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as process:
        assert process.stdout is not None
        try:
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


async def test_a_lab_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    """Finished runs stay, a booting machine reports to the new lab, a broken download begins anew."""
    names = ["a.efi", "b.efi", "c.efi", "d.efi"]
    for name in names:
        workload(tmp_path / name)
    with lab_process(tmp_path, *names) as (process, told):
        port = told["port"]
        for source, steps in (("127.0.0.2", 3), ("127.0.0.3", 2), ("127.0.0.4", 1)):
            for method in ("GET", "POST", "PUT")[:steps]:
                body = b'{"title": "said", "result": "failed"}' if method == "PUT" else b""
                assert (await call(port, method, source=source, body=body)).status == 200
        late = json.loads(ask(process))
        assert late["sent"] == 3 * 3000
        process.send_signal(signal.SIGKILL)
        process.wait()
    async with running_lab(tmp_path, port=port) as bench:
        resumed = await bench.lab.session_service.resume("w", Policy(), IssueRule())
        assert resumed is not None
        session = resumed.id
        assert session is not None
        assert session == told["session"]
        assert (
            await bench.lab.session_service.resume("w", Policy(), IssueRule()) is None
        )  # it is not interrupted any more
        by_name = {run.workload.name: run for run in bench.lab.session_service.runs(session)}
        assert list(by_name) == names
        states = {name: run.attempt.state for name, run in by_name.items()}
        assert states["a.efi"] == State.REPORTED
        assert states["b.efi"] == State.BOOTING
        assert states["c.efi"] in (State.DOWNLOADING, State.DOWNLOADED)
        assert (await bench.report("127.0.0.3", title="to the new lab")).status == 200
        assert (await bench.report("127.0.0.2", title="said", result="failed")).status == 200  # said before the end
        await bench.download(by_name["c.efi"], "127.0.0.4")
        assert (await bench.call("HEAD", source="127.0.0.2")).headers["dispatch-idle"] == "wait"
        ended = bench.now(by_name["a.efi"])
        assert (ended.outcome, [report.title for report in ended.attempt.reports]) == (Outcome.FAILED, ["said"])
        again = await bench.lab.session_service.submit(session, [(name, by_name[name].workload) for name in names])
        assert [run.id for run in again] == [run.id for run in by_name.values()]
        bench.clock.ahead += 61  # so long the machine was told to wait
        await until(lambda: by_name["d.efi"].id in bench.boot.assets)
        await bench.download(by_name["d.efi"], "127.0.0.2")
        assert bench.attempt(by_name["b.efi"]).reports[0].title == "to the new lab"


def ask(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline()


async def test_machines_of_our_own_end_with_their_lab_and_their_attempts_are_tried_again(tmp_path: Path) -> None:
    workload(tmp_path / "hang.efi", plays="hang")
    with lab_process(tmp_path, "hang.efi", machines=1) as (process, _):
        await until(lambda: json.loads(ask(process))["sent"] == 3000)
        process.send_signal(signal.SIGKILL)
        process.wait()
    puppet = ByHand("sim-1")
    async with running_lab(tmp_path, machines=[puppet]) as bench:
        resumed = await bench.lab.session_service.resume("w", Policy(), IssueRule())
        assert resumed is not None
        session = resumed.id
        assert session is not None
        (run,) = bench.lab.session_service.runs(session)
        assert run.attempts[0].outcome is Outcome.ERROR
        assert run.attempts[0].reason.startswith("sim-1: the lab was restarted")
        assert run.attempt.number == 2
        await bench.lab.session_service.submit(session, [(run.key, run.workload)])
        await until(lambda: puppet.alive)
        assert (await bench.call("GET", puppet.target())).body == bench.bytes_of(run)


async def test_bytes_that_were_built_anew_wait_until_no_machine_runs_those_of_before(tmp_path: Path) -> None:
    """The session is resumed while a machine still runs the old ones; a further attempt gets the new ones."""

    async def told(bench: LabBench) -> str:
        return str((await bench.api("GET", f"/runs/{run.id}")).json["digest"])

    async with running_lab(tmp_path) as bench:
        run = await bench.booted()
        old = bench.bytes_of(run)
    wanted = workload(tmp_path / "a.efi", 4000)
    new = bench.bytes_of(run)
    async with running_lab(tmp_path) as bench:
        resumed = await bench.lab.session_service.resume("w", Policy(retries=1), IssueRule())
        assert resumed is not None
        session = resumed.id
        assert session == run.session
        await bench.lab.session_service.submit(session, [(run.key, wanted)])
        await bench.call("HEAD", source="127.0.0.3")  # answered when no bytes are on their way any more
        assert bench.attempt(run).state == State.BOOTING
        assert await told(bench) == f"sha256:{sha256(old).hexdigest()}"
        await bench.call("HEAD")  # it has come back, without a report that this lab has heard
        assert (bench.now(run).attempts[0].outcome, bench.attempt(run).state) == (Outcome.ERROR, State.UNASSIGNED)
        assert (await bench.call("GET", source="127.0.0.4")).body == new
        assert await told(bench) == f"sha256:{sha256(new).hexdigest()}"


async def test_what_was_asked_for_again_is_kept_as_it_was_asked_for(tmp_path: Path) -> None:
    """Also where a machine said something a moment before, which is not on disk yet."""
    async with running_lab(tmp_path) as bench:
        run = await bench.booted()
    async with running_lab(tmp_path) as bench:
        resumed = await bench.lab.session_service.resume("w", Policy(retries=1), IssueRule())
        assert resumed is not None
        session = resumed.id
        assert session == run.session
        bench.lab.queue.scheduler.fault("127.0.0.2", "the link went down", bench.clock.now())
        bench.lab.lab_state.commit()
        await bench.lab.session_service.submit(session, [(run.key, replace(run.workload, expect=Expect.BOOT))])
        [kept] = bench.journal.reader.runs(session)
        assert (kept.expect, kept.attempts[0].outcome) == (Expect.BOOT, Outcome.ERROR)


async def test_a_session_without_a_past_cannot_be_resumed(bench: LabBench) -> None:
    assert await bench.lab.session_service.resume("elsewhere", Policy(), IssueRule()) is None


async def test_what_was_cancelled_is_run_again_under_a_new_id(tmp_path: Path) -> None:
    async with running_lab(tmp_path) as bench:
        run = await bench.booted()
        wanted = run.workload
        await bench.lab.session_service.close(run.session)
    async with running_lab(tmp_path) as bench:
        resumed = await bench.lab.session_service.resume("w", Policy(), IssueRule())
        assert resumed is not None
        session = resumed.id
        assert session is not None
        assert session == run.session
        assert not bench.lab.session_service.runs(session)
        (again,) = await bench.lab.session_service.submit(session, [(wanted.name, wanted)])
        assert again.id != run.id


# Size and speed


async def test_memory_does_not_grow_with_the_file_or_the_machines(tmp_path: Path) -> None:
    """Eight machines fetch 256 MiB each, at the same time; the system sends them by itself."""
    size, machines = 256 * 2**20, 8
    (tmp_path / "disk.img").touch()
    os.truncate(tmp_path / "disk.img", size)  # sparse: it takes no room
    with lab_process(tmp_path, *["disk.img"] * machines) as (process, before):
        counts = await gathered(
            *(asyncio.to_thread(_fetch, before["port"], f"127.0.0.{n + 2}") for n in range(machines))
        )
        after = json.loads(ask(process))
    assert counts == [size] * machines
    assert after["sent"] == size * machines
    assert after["peak"] - before["peak"] < 32 * 2**20, (before, after)


def _fetch(port: int, source: str) -> int:
    """Download, and count the bytes of the body."""
    with socket.create_connection(("127.0.0.1", port), source_address=(source, 0)) as sock:
        sock.sendall(b"GET /dispatch HTTP/1.0\r\n\r\n")
        buffer, count, head = bytearray(2**20), 0, b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(4096)
        count = len(head.partition(b"\r\n\r\n")[2])
        while got := sock.recv_into(buffer):
            count += got
        return count


# Stopping


async def test_a_lab_with_everything_open_stops_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    sockets = open_sockets()
    sims = [SimMachine(pace=0.002).driven(f"sim-{n}") for n in range(2)]
    async with running_lab(tmp_path, machines=sims) as bench:
        rule = IssueRule(repo="o/r", outcomes=frozenset(Outcome))
        workloads = [bench.workload(f"{n}.efi", 8 * 2**20, plays="hang") for n in range(6)]
        runs = await bench.submit(*workloads, rule=rule)
        wires = [await bench.wire(f"127.0.0.{n + 2}", receive_buffer=1) for n in range(4)]
        for wire in wires:
            await wire.send("GET /dispatch HTTP/1.1\r\nHost: x\r\n\r\n")
            await wire.head()
        idle, half = await bench.wire(), await bench.wire()
        await half.send("PUT /dispatch HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        asking = [asyncio.create_task(bench.api("GET", f"/runs/{run.id}?after=99&wait=30")) for run in runs[:2]]
        streams = [await _stream(bench, runs[0].session) for _ in range(2)]
        await until(lambda: len(bench.boot.progress) >= len(wires))
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(bench.lab.stop(), bench.server.stop())
        replies = await gathered(*asking)
        assert [reply.status for reply in replies] == [200, 200]
        for wire in [*streams, *wires, idle, half]:
            await _ends(wire)
        for run in runs:
            assert bench.now(run).outcome is None  # kept in the journal as it was
        for wire in bench.wires:
            wire.reset()
        bench.wires.clear()
    await until(lambda: asyncio.all_tasks() == tasks)
    await until(lambda: {t for t in threading.enumerate() if not t.name.startswith("asyncio_")} <= threads)
    assert open_sockets() == sockets


async def _stream(bench: LabBench, session: str) -> Wire:
    wire = await bench.wire("127.0.0.1")
    await wire.send(
        f"GET /api/v1/sessions/{session}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    )
    await wire.head()
    return wire


async def _ends(wire: Wire) -> None:
    try:
        await wire.rest()
    except ConnectionResetError:
        return


class LateJournal(Journal):
    """A journal that says what became of a write when a test wants it to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.answers: list[Future[None]] = []

    def write(self, rows: Sequence[Row]) -> Future[None]:
        self.answers.append(Future())
        return self.answers[-1]


def test_a_journal_that_answers_when_the_loop_has_ended_finds_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = LateJournal(tmp_path / "journal.db")

    async def write() -> LabState:
        lab_state = LabState(Clock(), journal, {})
        lab_state.write([console_row("r", 1, 0.0, "x")])
        with suppress(TimeoutError):
            await asyncio.wait_for(lab_state.on_disk(), 0.01)
        return lab_state

    lab_state = asyncio.run(write())
    (answer,) = journal.answers
    assert not answer.cancelled()  # the journal's thread may go on with it, whoever has given up
    answer.set_exception(JournalError("the disk is full"))
    assert lab_state.broken is None
    assert not caplog.records
    journal.close()


@dataclass
class Subscriber:
    """Notes which run it is told of, in a list that it shares with others."""

    name: str
    told: list[tuple[str, str]]

    def changed(self, change: Change) -> None:
        self.told.append((change.run.workload.name, self.name))


async def test_subscribers_are_told_in_their_order_and_all_of_them_of_one_change_before_the_next(
    bench: LabBench,
) -> None:
    runs = await bench.submit(bench.workload("a.efi"), bench.workload("b.efi"))
    told: list[tuple[str, str]] = []
    bench.lab.lab_state.subscribe(to_changes=[Subscriber("1st", told), Subscriber("2nd", told)], to_issues=[])
    await bench.lab.session_service.close(runs[0].session)  # which cancels both at once
    assert told == [("a.efi", "1st"), ("a.efi", "2nd"), ("b.efi", "1st"), ("b.efi", "2nd")]


# Consoles


SIX = LINE + 6  # bytes of a line of six characters


def test_a_console_keeps_its_last_lines() -> None:
    lines = ConsoleLines(last=3 * SIX)
    for n in range(5):
        lines.add("r1", 1, float(n), f"line {n}")
    assert [text for _, text in lines.of("r1", 1)] == ["line 2", "line 3", "line 4"]
    assert lines.of("r1", 2) == []


def test_consoles_do_not_grow_with_the_number_of_runs() -> None:
    lines = ConsoleLines(last=3 * SIX, together=6 * SIX)
    for run in ("r1", "r2", "r3"):
        for _ in range(3):
            lines.add(run, 1, 0.0, "a line")
    assert not lines.of("r1", 1)
    assert len(lines.of("r2", 1)) == len(lines.of("r3", 1)) == 3
    only = ConsoleLines(last=9 * SIX, together=2 * SIX)
    for _ in range(4):
        only.add("r", 1, 0.0, "a line")
    assert len(only.of("r", 1)) == 4


def test_lines_before_a_workload_go_to_the_attempt_that_takes_it() -> None:
    lines = ConsoleLines()
    lines.before("m", 1.0, "BdsDxe")
    assert lines.take("m", "r", 1) == [("r", 1, 1.0, "BdsDxe")]
    assert lines.take("m", "r", 2) == []
    assert lines.of("r", 1) == [(1.0, "BdsDxe")]


def test_the_journal_gets_the_beginning_of_an_attempt_and_at_its_end_the_last_lines() -> None:
    lines = ConsoleLines(first=3 * SIX, last=2 * SIX)
    shown = [[text for *_, text in lines.add("r", 1, float(n), f"line {n}")] for n in range(7)]
    assert shown == [["line 0"], ["line 1"], ["line 2"], [LEFT_OUT], [], [], []]
    assert lines.end("r", 1) == [("r", 1, 5.0, "line 5"), ("r", 1, 6.0, "line 6")]
    assert lines.end("r", 1) == []
    assert lines.of("r", 1) == [(5.0, "line 5"), (6.0, "line 6")]


def test_the_journal_gets_no_line_twice() -> None:
    lines = ConsoleLines(first=3 * SIX, last=9 * SIX)
    for n in range(3):
        lines.add("whole", 1, float(n), f"line {n}")
    for n in range(5):
        lines.add("more", 1, float(n), f"line {n}")
    assert lines.end_all() == [("more", 1, 3.0, "line 3"), ("more", 1, 4.0, "line 4")]
    assert lines.end_all() == []


def test_a_line_is_cut_where_it_never_ends() -> None:
    lines = ConsoleLines()
    lines.before("m", 0.0, "x" * 10**6)
    lines.take("m", "r", 1)
    assert lines.add("r", 1, 0.0, "y" * 10**6) == [("r", 1, 0.0, "y" * WIDEST)]
    assert [len(text) for _, text in lines.of("r", 1)] == [WIDEST, WIDEST]


FLOOD = [f"{n:06} " + "x" * 900 for n in range(4000)]


@fault(
    "Machines",
    "a workload fills its console without end",
    outcome="unchanged; the journal gets the first MiB of an attempt's console, and the last lines",
    told="the last lines, as ever; in the journal `only the last lines of this attempt are kept`",
)
@pytest.mark.parametrize("ends", ["by a fault", "with the lab"])
async def test_a_console_that_is_flooded_does_not_fill_the_disk(tmp_path: Path, ends: str) -> None:
    puppet = ByHand("puppet")
    async with running_lab(tmp_path, machines=[puppet]) as bench:
        run = await bench.one(policy=Policy(retries=0))
        await until(lambda: puppet.alive)
        await bench.call("GET", puppet.target())
        await bench.call("POST", puppet.target())
        for line in FLOOD:
            puppet.signs.put_nowait(Sign(text=line))
        await until(lambda: [text for _, text in bench.lab.console.of(bench.now(run))[-1:]] == FLOOD[-1:])
        if ends == "by a fault":
            puppet.signs.put_nowait(Sign(text="panic", fault="kernel panic"))
            await until(lambda: bench.now(run).outcome is Outcome.FAILED)
    journal = Journal(tmp_path / "journal.db")
    journal.open()
    try:
        lines = [text for *_, text in journal.reader.console(run.session, 10**6)]
    finally:
        journal.close()
    last = [*FLOOD, "panic"] if ends == "by a fault" else FLOOD
    cut = lines.index(LEFT_OUT)
    assert cut > 1000
    assert lines[:cut] == FLOOD[:cut]
    assert len(lines) - cut > 200
    assert lines[cut + 1 :] == last[cut + 1 - len(lines) :]
    assert sum(map(len, lines)) < FIRST + LAST


@pytest.mark.parametrize("turns", range(5))
async def test_connections_that_are_just_being_accepted_are_closed_with_the_rest(tmp_path: Path, turns: int) -> None:
    async with running_lab(tmp_path) as bench:
        peers = [socket.create_connection(("127.0.0.1", bench.port)) for _ in range(30)]
        for _ in range(turns):
            await asyncio.sleep(0)
        await bench.server.stop()
        assert len(bench.server.connections) == 0
        for peer in peers:
            with peer, suppress(ConnectionResetError):
                peer.settimeout(10)
                assert peer.recv(1) == b""

"""Sessions that a later lab takes up, and how large they may be."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from by_hand import ByHand
from labs import LabBench, call, gathered, running_lab, workload
from project import SUPPORT
from waiting import until

from pytest_dispatch.core.model import Outcome, Policy
from pytest_dispatch.lab.session_feed import IssueRule
from pytest_dispatch.workloads.boot.lifecycle import Expect, State

pytestmark = [pytest.mark.anyio, pytest.mark.draw(1 / 3, of=__name__)]


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
        resumed = await bench.lab.resumption.resume("w", Policy(), IssueRule())
        assert resumed is not None
        session = resumed.id
        assert session is not None
        assert session == told["session"]
        assert await bench.lab.resumption.resume("w", Policy(), IssueRule()) is None  # it is not interrupted any more
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
        resumed = await bench.lab.resumption.resume("w", Policy(), IssueRule())
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
        resumed = await bench.lab.resumption.resume("w", Policy(retries=1), IssueRule())
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
        resumed = await bench.lab.resumption.resume("w", Policy(retries=1), IssueRule())
        assert resumed is not None
        session = resumed.id
        assert session == run.session
        bench.lab.queue.scheduler.fault("127.0.0.2", "the link went down", bench.clock.now())
        bench.lab.lab_state.commit()
        await bench.lab.session_service.submit(session, [(run.key, replace(run.workload, expect=Expect.BOOT))])
        [kept] = bench.journal.reader.runs(session)
        assert (kept.expect, kept.attempts[0].outcome) == (Expect.BOOT, Outcome.ERROR)


async def test_a_session_without_a_past_cannot_be_resumed(bench: LabBench) -> None:
    assert await bench.lab.resumption.resume("elsewhere", Policy(), IssueRule()) is None


async def test_what_was_cancelled_is_run_again_under_a_new_id(tmp_path: Path) -> None:
    async with running_lab(tmp_path) as bench:
        run = await bench.booted()
        wanted = run.workload
        await bench.lab.session_service.close(run.session)
    async with running_lab(tmp_path) as bench:
        resumed = await bench.lab.resumption.resume("w", Policy(), IssueRule())
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

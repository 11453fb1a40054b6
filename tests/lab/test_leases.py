"""Sessions are leases: each sees, resumes, drains and cancels only its own, and an earlier holder is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from labs import TOKEN, LabBench, Wire, running_lab
from waiting import until

from pytest_dispatch.core.leases import CONNECTIONS_GONE, UNHEARD, LeaseKind
from pytest_dispatch.core.model import Policy
from pytest_dispatch.lab.memory_eviction import KEPT
from pytest_dispatch.server.api.schemas import LeaseWanted, OpenSession, RunRequest

pytestmark = [pytest.mark.anyio, pytest.mark.draw(1 / 3, of=__name__)]

A, B = "127.0.0.2", "127.0.0.3"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[LabBench]:
    """A lab that several sessions share."""
    async with running_lab(tmp_path, private=False) as running:
        yield running


def asked(owner: str = "ada", kind: LeaseKind = LeaseKind.ATTACHED, *, resume: bool = False) -> OpenSession:
    lease = LeaseWanted(kind=kind, owner=owner, lasts=7200.0)
    return OpenSession(source="w", policy=Policy(), resume=resume, lease=lease)


async def open_session(bench: LabBench, request: OpenSession, *names: str) -> tuple[str, list[str]]:
    """Open a session and ask for these; returns its id and those of the runs."""
    session = (await bench.api("POST", "/sessions", request)).json["id"]
    return session, await ask_for(bench, session, *names)


async def ask_for(bench: LabBench, session: str, *names: str, epoch: int = 1) -> list[str]:
    patient = {"assign": 1e6}
    wanted = [RunRequest(key=name, workload=bench.workload(name, limits=patient)) for name in names]
    views = await bench.api("POST", f"/sessions/{session}/runs", wanted, **{"Dispatch-Epoch": str(epoch)})
    runs = [view["run"]["id"] for view in views.json]
    await until(lambda: all(run in bench.boot.assets for run in runs))
    return runs


async def stream(bench: LabBench, session: str, epoch: int = 1) -> Wire:
    """A connection that follows the session's changes."""
    wire = await bench.wire("127.0.0.1")
    head = f"GET /api/v1/sessions/{session}/events HTTP/1.1\r\nHost: 127.0.0.1\r\nDispatch-Epoch: {epoch}\r\n"
    await wire.send(f"{head}Authorization: Bearer the-session's-token\r\n\r\n")
    assert (await wire.head()).status == 200
    await until(lambda: bench.lab.queue.table.is_held(session))
    return wire


def outcome(bench: LabBench, run: str) -> tuple[str | None, bool]:
    found = bench.lab.session_service.run(run)
    return found.outcome, found.cancelled


CANCELLED = ("error", True)
WAITS = (None, False)


async def after(bench: LabBench, seconds: float) -> None:
    """Let so much time pass; the lab looks at its deadlines now."""
    bench.clock.ahead += seconds
    bench.lab.queue.expire(bench.clock.now())
    bench.lab.lab_state.commit()


class TestHowLong:
    async def test_an_attached_one_ends_a_minute_after_its_streams(self, bench: LabBench) -> None:
        session, [waits] = await open_session(bench, asked(), "a.efi")
        wire = await stream(bench, session)
        await after(bench, CONNECTIONS_GONE + 1)
        assert outcome(bench, waits) == WAITS
        wire.reset()
        await until(lambda: not bench.lab.queue.table.is_held(session))
        await after(bench, CONNECTIONS_GONE - 1)
        assert outcome(bench, waits) == WAITS
        await after(bench, 2)
        assert outcome(bench, waits) == CANCELLED

    async def test_one_whose_holder_is_suspended_ends_though_it_is_connected(self, bench: LabBench) -> None:
        session, [waits] = await open_session(bench, asked(), "a.efi")
        await stream(bench, session)
        await after(bench, UNHEARD - 1)
        assert (await bench.api("GET", f"/runs/{waits}")).status == 200  # it is heard of
        await after(bench, UNHEARD - 1)
        assert outcome(bench, waits) == WAITS
        await after(bench, 2)
        assert outcome(bench, waits) == CANCELLED

    async def test_what_runs_when_its_session_ends_goes_on_to_its_outcome(self, bench: LabBench) -> None:
        _, [runs, waits] = await open_session(bench, asked(), "a.efi", "b.efi")
        await bench.call("GET", source=A)
        await bench.call("POST", source=A)
        await after(bench, CONNECTIONS_GONE + 1)
        assert (outcome(bench, runs), outcome(bench, waits)) == (WAITS, CANCELLED)
        await bench.report(source=A)
        await bench.call("HEAD", source=A)
        assert outcome(bench, runs) == ("passed", False)

    @pytest.mark.parametrize(
        ("kind", "ends"), [(LeaseKind.DURABLE, CANCELLED), (LeaseKind.DETACHED, WAITS)], ids=["durable", "detached"]
    )
    async def test_others_last_as_long_as_was_asked_for(
        self, bench: LabBench, kind: LeaseKind, ends: tuple[str | None, bool]
    ) -> None:
        request = asked(kind=kind)
        session = (await bench.api("POST", "/sessions", request)).json["id"]
        wanted = RunRequest(key="a", workload=bench.workload("a.efi", limits={"assign": 1e6}))
        [view] = (await bench.api("POST", f"/sessions/{session}/runs", [wanted])).json
        await after(bench, 7190)
        assert outcome(bench, view["run"]["id"]) == WAITS
        await after(bench, 20)
        assert outcome(bench, view["run"]["id"]) == ends

    @pytest.mark.parametrize("pending", [False, True], ids=["runs", "waits for a verdict"])
    @pytest.mark.parametrize(
        ("reported", "ends"), [(True, ("failed", False)), (False, ("failed", True))], ids=["failed", "fault"]
    )
    async def test_nothing_is_tried_again_for_nobody(
        self, bench: LabBench, pending: bool, reported: bool, ends: tuple[str | None, bool]
    ) -> None:
        policy = Policy(retries=2, retry_failures=2, judged=pending)
        _, [run] = await open_session(bench, replace(asked(), policy=policy), "a.efi")
        await bench.call("GET", source=A)
        await bench.call("POST", source=A)
        if pending and reported:
            await bench.report(source=A, result="failed")
            await bench.call("HEAD", source=A)
        await after(bench, CONNECTIONS_GONE + 1)
        if reported:
            await bench.report(source=A, result="failed")
        else:
            bench.lab.queue.scheduler.fault(A, "it smokes", bench.clock.now())
            bench.lab.lab_state.commit()
        await bench.call("HEAD", source=A)
        assert outcome(bench, run) == ends
        assert len(bench.lab.session_service.run(run).attempts) == 1

    @pytest.mark.parametrize("closed", [False, True], ids=["gone", "closed"])
    async def test_a_verdict_that_nobody_gives_begins_nothing_more_of_its_chain(
        self, bench: LabBench, closed: bool
    ) -> None:
        request = replace(asked(), policy=Policy(judged=True))
        session = (await bench.api("POST", "/sessions", request)).json["id"]
        wanted = [RunRequest(key=name, workload=bench.workload(f"{name}.efi", chain="c")) for name in "abc"]
        await bench.api("POST", f"/sessions/{session}/runs", wanted)
        runs = [run.id for run in bench.lab.session_service.runs(session)]
        await until(lambda: all(run in bench.boot.assets for run in runs))
        await bench.call("GET", source=A)
        await bench.call("POST", source=A)
        await bench.report(source=A)
        await bench.call("HEAD", source=A)
        if closed:
            await bench.api("DELETE", f"/sessions/{session}")
        else:
            await after(bench, CONNECTIONS_GONE + 1)
        assert outcome(bench, runs[0]) == ("passed", False)
        assert [bench.lab.session_service.run(run).cancelled for run in runs[1:]] == [True, True]
        assert [bench.lab.session_service.run(run).attempt.machine for run in runs[1:]] == ["", ""]
        assert bench.lab.queue.machine(A, bench.clock.now()).state == "idle"

    @pytest.mark.parametrize("lasts", ["-5", "0", "1e+13", "1e+300"])
    async def test_one_that_is_over_before_it_begins_or_never_ends_is_refused(
        self, bench: LabBench, lasts: str
    ) -> None:
        body = f'{{"source": "w", "policy": {{}}, "lease": {{"kind": "durable", "lasts": {lasts}}}}}'
        headers = {"Authorization": f"Bearer {TOKEN}"}
        reply = await bench.call("POST", "/api/v1/sessions", source="127.0.0.1", headers=headers, body=body.encode())
        bounds = "above 0 and at most 3153600000 (100 years)"
        expected = f"lasts: expected a number of seconds {bounds}, got {lasts} - at `$.lease`"
        assert (reply.status, reply.json) == (400, {"error": expected})

    async def test_that_of_a_private_lab_lasts_as_long_as_the_lab(self, tmp_path: Path) -> None:
        async with running_lab(tmp_path) as bench:
            session, _ = await open_session(bench, asked())
            await after(bench, 10 * UNHEARD)
            assert (await bench.api("GET", f"/sessions/{session}")).status == 200

    async def test_whose_session_has_ended_is_told_so(self, bench: LabBench) -> None:
        session, _ = await open_session(bench, asked(), "a.efi")
        await after(bench, CONNECTIONS_GONE + 1)
        reply = await bench.api("GET", f"/sessions/{session}")
        expected = "this session has ended: its holder was not heard of for too long; resume it"
        assert (reply.status, reply.json) == (409, {"error": expected})


class TestOneHolder:
    @pytest.mark.parametrize("private", [True, False])
    async def test_who_takes_a_session_over_has_it_alone(self, tmp_path: Path, private: bool) -> None:
        async with running_lab(tmp_path, private=private) as bench:
            session, [runs, waits] = await open_session(bench, asked("ada"), "a.efi", "b.efi")
            await bench.call("GET", source=A)
            wire = await stream(bench, session)
            opened = (await bench.api("POST", f"/sessions/{session}/lease", asked("bob"))).json
            assert opened == {"id": session, "resumed": True, "epoch": 2}
            told = b""
            while not told.endswith(b"\r\n0\r\n\r\n"):  # until the earlier holder's stream has ended
                told += await wire.receive()
            taken = "this session was taken over by bob: expected epoch 2, got 1; open a session of your own, or"
            for method, path, body in _all_of_a_session(bench, session, waits):
                reply = await bench.api(method, path, body, **{"Dispatch-Epoch": "1"})
                assert reply.status == 409
                assert reply.json["error"].startswith(taken)
            again = await ask_for(bench, session, "a.efi", "b.efi", epoch=2)
            assert again == [runs, waits]  # what runs goes on, and is not sent a second time
            assert outcome(bench, waits) == WAITS
            await stream(bench, session, 2)

    async def test_of_two_who_take_over_at_once_each_has_an_epoch_of_its_own(self, bench: LabBench) -> None:
        session, _ = await open_session(bench, asked("ada"), "a.efi")
        path = f"/sessions/{session}/lease"
        replies = await asyncio.gather(*(bench.api("POST", path, asked(owner)) for owner in ("bob", "eve")))
        assert sorted(reply.json["epoch"] for reply in replies) == [2, 3]

    async def test_the_next_holder_has_the_lease_that_it_asks_for(self, bench: LabBench) -> None:
        session, _ = await open_session(bench, asked("ada"), "a.efi")
        await after(bench, CONNECTIONS_GONE + 1)
        await bench.api("POST", "/sessions", asked("ada", LeaseKind.DETACHED, resume=True))
        [again] = await ask_for(bench, session, "a.efi", epoch=2)
        await after(bench, CONNECTIONS_GONE + 1)
        assert outcome(bench, again) == WAITS

    @pytest.mark.parametrize(
        ("owner", "told"), [("a\nb\x1b[31m\0", "a b"), ("x" * 10_000, "x" * 59 + "…")], ids=["control", "long"]
    )
    async def test_an_owner_is_told_in_one_line(self, bench: LabBench, owner: str, told: str) -> None:
        session, _ = await open_session(bench, asked("ada"), "a.efi")
        await bench.api("POST", f"/sessions/{session}/lease", asked(owner))
        reply = await bench.api("GET", f"/sessions/{session}", **{"Dispatch-Epoch": "1"})
        assert reply.json["error"].startswith(f"this session was taken over by {told}: expected epoch 2, got 1;")

    async def test_two_epochs_are_none(self, bench: LabBench) -> None:
        session, _ = await open_session(bench, asked())
        wire = await bench.wire("127.0.0.1")
        head = f"GET /api/v1/sessions/{session} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
        await wire.send(f"{head}Dispatch-Epoch: 1\r\nDispatch-Epoch: 7\r\n\r\n")
        reply = await wire.reply()
        assert reply.status == 400
        assert reply.json == {"error": "header Dispatch-Epoch: expected a whole number, got '1, 7'"}

    async def test_who_looks_on_is_no_holder(self, bench: LabBench) -> None:
        session, [_, waits] = await open_session(bench, asked(), "a.efi", "b.efi")
        wire = await bench.wire("127.0.0.1")
        head = f"GET /api/v1/sessions/{session}/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
        await wire.send(f"{head}\r\n")
        assert (await wire.head()).status == 200
        await bench.call("GET", source=A)
        told = b""
        while b"event: change" not in told:
            told += await wire.receive()
        assert not bench.lab.queue.table.is_held(session)
        await after(bench, CONNECTIONS_GONE + 1)
        assert outcome(bench, waits) == CANCELLED

    async def test_what_the_next_holder_does_not_ask_for_is_given_to_no_machine(self, bench: LabBench) -> None:
        session, [waits] = await open_session(bench, asked("ada"), "a.efi")
        await bench.api("POST", f"/sessions/{session}/lease", asked("bob"))
        await bench.call("HEAD", source=A)
        assert bench.lab.session_service.run(waits).attempt.machine == ""

    async def test_what_was_cancelled_runs_anew_if_the_next_holder_asks(self, bench: LabBench) -> None:
        session, [waits] = await open_session(bench, asked("ada"), "a.efi")
        await after(bench, CONNECTIONS_GONE + 1)
        opened = (await bench.api("POST", "/sessions", asked("ada", resume=True))).json
        assert opened == {"id": session, "resumed": True, "epoch": 2}
        [again] = await ask_for(bench, session, "a.efi", epoch=2)
        assert again != waits
        assert (outcome(bench, waits), outcome(bench, again)) == (CANCELLED, WAITS)

    async def test_what_was_cancelled_and_runs_anew_is_forgotten_with_its_session(self, bench: LabBench) -> None:
        """Until then, its machine may report on it; afterwards the journal has it."""
        session, [runs, _] = await open_session(bench, asked(), "a.efi", "b.efi")
        await bench.call("GET")
        await bench.call("POST")
        await bench.api("DELETE", f"/runs/{runs}")
        await bench.api("POST", f"/sessions/{session}/lease", asked())
        again = await ask_for(bench, session, "a.efi", "b.efi", epoch=2)
        assert runs not in again
        assert (await bench.report(title="early")).status == 200
        await after(bench, CONNECTIONS_GONE + 1)
        await after(bench, KEPT + 1)
        await until(lambda: not bench.lab.queue.runs)
        assert (await bench.report(title="late")).status == 200
        kept = await bench.journal.background.kept_run(runs)
        assert kept is not None
        assert [report.title for report in kept.run.attempts[0].reports] == ["early", "late"]

    async def test_whoever_changes_something_says_which_holder_it_is(self, bench: LabBench) -> None:
        session, [waits] = await open_session(bench, asked(), "a.efi")
        headers = {"Authorization": "Bearer the-session's-token"}
        expected = "expected the epoch of the session, as it was opened, in the header Dispatch-Epoch, got none"
        for method, path in (("DELETE", f"/sessions/{session}"), ("POST", f"/runs/{waits}/verdict")):
            reply = await bench.call(method, f"/api/v1{path}", source="127.0.0.1", headers=headers, body=b"{}")
            assert (reply.status, reply.json) == (428, {"error": expected})
        assert (await bench.call("GET", f"/api/v1/runs/{waits}", source="127.0.0.1", headers=headers)).status == 200
        assert outcome(bench, waits) == WAITS

    async def test_people_cancel_a_run_whoever_holds_its_session(self, bench: LabBench) -> None:
        """They know the run, and hold nothing; a former holder still says that it is one, and is refused."""
        session, [waits] = await open_session(bench, asked(), "a.efi")
        await bench.api("POST", f"/sessions/{session}/lease", asked())
        [waits] = await ask_for(bench, session, "a.efi", epoch=2)
        path, token = f"/api/v1/runs/{waits}", {"Authorization": "Bearer the-session's-token"}
        former = {**token, "Dispatch-Epoch": "1"}
        assert (await bench.call("DELETE", path, source="127.0.0.1", headers=former)).status == 409
        assert outcome(bench, waits) == WAITS
        assert (await bench.call("DELETE", path, source="127.0.0.1", headers=token)).status == 204
        assert outcome(bench, waits) == CANCELLED

    @pytest.mark.parametrize("given", ["one", "-1", "1.0", ""])
    async def test_an_epoch_that_is_none_is_refused(self, bench: LabBench, given: str) -> None:
        session, _ = await open_session(bench, asked())
        reply = await bench.api("GET", f"/sessions/{session}", **{"Dispatch-Epoch": given})
        assert reply.status == 400
        assert reply.json == {"error": f"header Dispatch-Epoch: expected a whole number, got {given!r}"}

    async def test_an_epoch_grows_across_labs(self, tmp_path: Path) -> None:
        for epoch in (1, 2, 3):
            async with running_lab(tmp_path, private=False) as bench:
                opened = (await bench.api("POST", "/sessions", asked(resume=True))).json
                assert (opened["resumed"], opened["epoch"]) == (epoch > 1, epoch)
                await ask_for(bench, opened["id"], "a.efi", epoch=epoch)

    async def test_a_chain_that_was_cut_goes_on_for_the_next_holder(self, bench: LabBench) -> None:
        session = (await bench.api("POST", "/sessions", asked("ada"))).json["id"]
        wanted = [RunRequest(key=name, workload=bench.workload(f"{name}.efi", chain="c")) for name in "abc"]
        await bench.api("POST", f"/sessions/{session}/runs", wanted)
        await after(bench, CONNECTIONS_GONE + 1)
        assert (await bench.api("POST", "/sessions", asked("ada", resume=True))).json["id"] == session
        views = (await bench.api("POST", f"/sessions/{session}/runs", wanted)).json
        runs = [bench.lab.session_service.run(view["run"]["id"]) for view in views]
        assert [run.outcome for run in runs] == [None] * 3
        await until(lambda: all(run.id in bench.boot.assets for run in runs))
        for _ in wanted:
            await bench.call("GET", source=A)
            await bench.call("POST", source=A)
            await bench.report(source=A)
        await bench.call("HEAD", source=A)
        assert [outcome(bench, run.id) for run in runs] == [("passed", False)] * 3


class TestOnlyItsOwn:
    async def test_a_session_sees_drains_and_cancels_only_its_own(self, bench: LabBench) -> None:
        ada, [first] = await open_session(bench, asked("ada"), "a.efi")
        bob, [second] = await open_session(bench, asked("bob"), "b.efi")
        for source in (A, B):
            await bench.call("GET", source=source)
            await bench.call("POST", source=source)
        for session, machine, name in ((ada, A, "a.efi"), (bob, B, "b.efi")):
            [seen] = await machines_of(bench, session)
            assert (seen["name"], seen["ran"], seen["awaited"]) == (machine, [name], True)
            assert (seen["state"], seen["reason"]) == ("running", name)
        await bench.api("DELETE", f"/sessions/{ada}")
        assert (outcome(bench, first), outcome(bench, second)) == (CANCELLED, WAITS)
        assert [seen["awaited"] for seen in await machines_of(bench, ada)] == [False]
        assert [seen["awaited"] for seen in await machines_of(bench, bob)] == [True]

    async def test_nobody_resumes_what_somebody_else_left_or_holds(self, bench: LabBench) -> None:
        session, _ = await open_session(bench, asked("ada"), "a.efi")
        wire = await stream(bench, session)
        for owner in ("bob", "ada"):  # ada's is held by her other pytest
            opened = (await bench.api("POST", "/sessions", asked(owner, resume=True))).json
            assert not opened["resumed"]
            await ask_for(bench, opened["id"], "a.efi")
        wire.reset()

    async def test_a_machine_that_two_sessions_used_tells_each_of_its_own(self, bench: LabBench) -> None:
        ada, _ = await open_session(bench, asked("ada"), "a.efi")
        bob, _ = await open_session(bench, asked("bob"), "b.efi")
        for _ in range(2):
            await bench.call("GET", source=A)
            await bench.call("POST", source=A)
            await bench.report(source=A)
        await bench.call("HEAD", source=A)
        assert [seen["ran"] for seen in await machines_of(bench, ada)] == [["a.efi"]]
        [seen] = await machines_of(bench, bob)
        assert (seen["ran"], seen["state"], seen["awaited"]) == (["b.efi"], "idle", False)


async def machines_of(bench: LabBench, session: str) -> list[dict[str, Any]]:
    machines: list[dict[str, Any]] = (await bench.api("GET", f"/sessions/{session}")).json["machines"]
    return machines


def _all_of_a_session(bench: LabBench, session: str, run: str) -> list[tuple[str, str, object]]:
    wanted = [RunRequest(key="c", workload=bench.workload("c.efi"))]
    return [
        ("GET", f"/sessions/{session}", None),
        ("DELETE", f"/sessions/{session}", None),
        ("POST", f"/sessions/{session}/runs", wanted),
        ("GET", f"/sessions/{session}/runs", None),
        ("GET", f"/sessions/{session}/events", None),
        ("GET", f"/runs/{run}", None),
        ("DELETE", f"/runs/{run}", None),
        ("POST", f"/runs/{run}/verdict", {"outcome": "passed"}),
        ("POST", f"/runs/{run}/issues", {"issues": {}}),
    ]


async def come_back(bench: LabBench, session: str, epoch: int, owner: str = "ada") -> tuple[int, dict[str, Any]]:
    reply = await bench.api("POST", f"/sessions/{session}/lease?epoch={epoch}", asked(owner))
    return reply.status, reply.json


class TestWhoComesBack:
    async def test_whoever_is_still_the_holder_changes_nothing(self, bench: LabBench) -> None:
        session, [waits] = await open_session(bench, asked(), "a.efi")
        assert await come_back(bench, session, 1) == (200, {"id": session, "resumed": False, "epoch": 1})
        assert (await bench.api("GET", f"/runs/{waits}", **{"Dispatch-Epoch": "1"})).status == 200

    async def test_whose_lease_has_ended_asks_again_for_what_was_cancelled(self, bench: LabBench) -> None:
        session, [runs, waits] = await open_session(bench, asked(), "a.efi", "b.efi")
        await bench.call("GET", source=A)
        await after(bench, CONNECTIONS_GONE + 1)
        reply = await bench.api("GET", f"/sessions/{session}", **{"Dispatch-Epoch": "1"})
        assert (reply.status, reply.headers["dispatch-epoch"]) == (409, "stale")
        assert await come_back(bench, session, 1) == (200, {"id": session, "resumed": True, "epoch": 2})
        again = await ask_for(bench, session, "a.efi", "b.efi", epoch=2)
        assert again[0] == runs
        assert again[1] != waits
        assert outcome(bench, again[1]) == WAITS

    async def test_whose_session_another_has_is_refused(self, bench: LabBench) -> None:
        session, _ = await open_session(bench, asked(), "a.efi")
        await bench.api("POST", f"/sessions/{session}/lease", asked("bob"))
        status, said = await come_back(bench, session, 1)
        assert (status, said["error"][:38]) == (409, "this session was taken over by bob: ex")

    async def test_whose_answer_was_lost_is_known_by_name_while_nobody_holds_it(self, bench: LabBench) -> None:
        session, _ = await open_session(bench, asked(), "a.efi")
        await after(bench, CONNECTIONS_GONE + 1)
        assert (await come_back(bench, session, 1))[1]["epoch"] == 2
        assert (await come_back(bench, session, 1))[1]["epoch"] == 3
        await stream(bench, session, 3)
        assert (await come_back(bench, session, 2))[0] == 409  # somebody of that name is there

    async def test_whoever_leaves_cancels_what_has_not_begun(self, bench: LabBench) -> None:
        session, [runs, waits] = await open_session(bench, asked(), "a.efi", "b.efi")
        await bench.call("GET", source=A)
        assert (await bench.api("DELETE", f"/sessions/{session}?left=1")).status == 204
        assert (outcome(bench, runs), outcome(bench, waits)) == (WAITS, CANCELLED)
        opened = (await bench.api("POST", "/sessions", asked(resume=True))).json
        assert opened == {"id": session, "resumed": True, "epoch": 2}

"""A queue that people steer: the whole lab held, pages over all groups, an order, runs again, runs that go on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from databases import Place
from labs import LabBench, running_lab, workload
from service_bench import service
from waiting import until

from pytest_dispatch.core.groups import LAB, Group
from pytest_dispatch.core.leases import Lease, LeaseKind
from pytest_dispatch.core.model import Outcome, Policy, Run
from pytest_dispatch.core.requeueing import BACKOFF
from pytest_dispatch.core.templates import Template
from pytest_dispatch.lab.session_feed import IssueRule
from pytest_dispatch.server.auth.roles import Role
from pytest_dispatch.sources.asset_fetcher import Asset
from pytest_dispatch.store.journal import Journal

pytestmark = pytest.mark.anyio

DETACHED = Lease(kind=LeaseKind.DETACHED, owner="ada")
RACK, GPU = Group(id="rack"), Group(id="gpu", labels={"gpu": ""})


@asynccontextmanager
async def a_lab(
    folder: Path, *groups: Group, where: str = "", requeue: int = 0, **more: Any
) -> AsyncIterator[LabBench]:
    """A shared lab with these groups, each with a template that is called as the group."""
    journal = (lambda _: Journal(where)) if where else Journal
    templates = [
        Template(
            id=f"{group.id}-check",
            group=group.id,
            workload=workload(folder / f"{group.id}.efi", location=f"folder:w/{group.id}.efi"),
            requeue=requeue,
        )
        for group in groups
    ]
    async with running_lab(folder, private=False, journal=journal, groups=groups, templates=templates, **more) as bench:
        yield bench


async def ask(bench: LabBench, method: str, path: str, body: object = None, *, status: int = 200) -> Any:
    """Ask as somebody who holds no session."""
    headers = {"Authorization": "Bearer the-session's-token"}
    content = b"" if body is None else json.dumps(body).encode()
    reply = await bench.call(method, f"/api/v1{path}", source="127.0.0.1", headers=headers, body=content)
    assert reply.status == status, reply.text
    return reply.json if reply.body else None


async def add(bench: LabBench, group: str = "rack", *, status: int = 201, **more: Any) -> Any:
    return await ask(bench, "POST", f"/groups/{group}/queue", {"template": f"{group}-check", **more}, status=status)


async def waits(bench: LabBench, query: str = "") -> list[str]:
    return [run["id"] for run in (await ask(bench, "GET", f"/queue{query}"))["runs"]]


async def passes(bench: LabBench, run: str, source: str = "127.0.0.2") -> Run:
    """A machine gets this run, which reports that it passed; returns it once it is over."""
    await until(lambda: run in bench.boot.assets)
    assert (await bench.call("GET", source=source)).status == 200
    await until(lambda: bench.lab.queue.runs[run].attempt.state == "downloaded")
    await bench.call("POST", source=source)
    await bench.report(source, result="passed")
    bench.clock.ahead += 61.0
    await until(lambda: bench.lab.queue.runs[run].outcome is not None)
    return bench.lab.queue.runs[run]


def follower(bench: LabBench, run: str) -> Run:
    """The run that repeats this one."""
    (found,) = [each for each in bench.lab.queue.runs.values() if each.again == run]
    return found


# The whole lab


async def test_a_held_lab_begins_nothing_and_says_why_also_after_a_restart(tmp_path: Path, where: Place) -> None:
    async with a_lab(tmp_path, RACK, GPU, where=where.where) as bench:
        await add(bench)
        body = {"reason": "the air conditioning", "owner": "ada", "until": bench.clock.now() + 5000.0}
        held = await ask(bench, "POST", "/hold", body)
        assert {key: held["hold"][key] for key in body} == body
        assert "dispatch-workload" not in (await bench.call("HEAD")).headers
    async with a_lab(tmp_path, RACK, GPU, where=where.where) as bench:
        assert await ask(bench, "GET", "/hold") == held
        await until(lambda: len(bench.boot.assets) == 1)
        assert "dispatch-workload" not in (await bench.call("HEAD")).headers
        assert (await ask(bench, "GET", "/groups/rack"))["paused"] is None
        assert await ask(bench, "DELETE", "/hold") == {"hold": None}
        assert (await bench.call("HEAD", source="127.0.0.3")).headers["dispatch-workload"] == "rack.efi"


async def test_a_lab_is_held_until_its_time_has_come(tmp_path: Path) -> None:
    async with a_lab(tmp_path, RACK) as bench:
        await ask(bench, "POST", "/hold", {"reason": "tea", "until": bench.clock.now() + 30.0})
        told = (await ask(bench, "POST", "/hold", {"reason": " "}, status=400))["error"]
        assert told == "reason: expected some words for other people, got none"
        bench.clock.ahead += 31.0
        await until(lambda: bench.lab.queue.groups.lab_hold is None)
        assert await ask(bench, "GET", "/hold") == {"hold": None}


async def test_a_token_for_some_groups_does_not_hold_the_lab(tmp_path: Path) -> None:
    async with service(tmp_path) as running:
        await running.added("ada", Role.OPERATOR)
        confined = await running.token("ada", groups=("lab",))
        reply = await running.ask("POST", "/hold", {"reason": "mine"}, token=confined)
        assert (reply.status, reply.json) == (403, {"error": "expected a token for the whole lab, got one for lab"})


async def test_a_session_is_told_what_keeps_it_waiting(tmp_path: Path) -> None:
    async with a_lab(tmp_path, RACK) as bench:
        run = (await bench.submit(bench.workload("a.efi", group="rack"), lease=DETACHED))[0]
        await ask(bench, "POST", "/hold", {"reason": "the air conditioning", "owner": "ada"})
        await ask(bench, "POST", "/groups/rack/hold", {"reason": "new fans"})
        await ask(bench, "POST", f"/runs/{run.id}/hold", {"reason": "not yet"})
        wire = await bench.wire("127.0.0.1")
        head = "Host: 127.0.0.1\r\nAuthorization: Bearer the-session's-token"
        await wire.send(f"GET /api/v1/sessions/{run.session}/events HTTP/1.1\r\n{head}\r\n\r\n")
        said = b""
        while b"event: held" not in said or b"\n\n" not in said.partition(b"event: held")[2]:
            said += await wire.receive()
        data = said.partition(b"event: held\ndata: ")[2].partition(b"\n\n")[0]
        holds = [(each["what"], each["name"], each["hold"]["reason"]) for each in json.loads(data)["holds"]]
        assert holds == [
            ("lab", "", "the air conditioning"),
            ("group", "rack", "new fans"),
            ("run", "a.efi", "not yet"),
        ]


# Pages, order, bulk


async def test_a_page_over_all_groups(tmp_path: Path) -> None:
    async with a_lab(tmp_path, RACK, GPU) as bench:
        runs = [(await add(bench, group))["id"] for group in ("gpu", "rack", "gpu", "rack")]
        session = (await bench.submit(bench.workload("a.efi", group="gpu"), lease=DETACHED))[0]
        rack, gpu = [runs[1], runs[3]], [runs[0], session.id, runs[2]]
        whole = await ask(bench, "GET", "/queue")
        assert (whole["total"], whole["first"], [run["id"] for run in whole["runs"]]) == (5, 0, rack + gpu)
        assert [run["place"] for run in whole["runs"]] == [1, 2, 1, 2, 3]
        for first in range(6):
            assert await waits(bench, f"?first={first}&most=2") == (rack + gpu)[first : first + 2]
        assert await waits(bench, "?group=gpu&first=1") == gpu[1:]
        mine = await ask(bench, "GET", f"/queue?session={session.session}")
        assert (mine["total"], [(run["id"], run["place"]) for run in mine["runs"]]) == (1, [(session.id, 2)])
        refused = await ask(bench, "GET", "/queue?group=gpo", status=404)
        assert refused == {"error": "the lab has no group 'gpo': did you mean gpu?"}


async def test_who_may_use_some_groups_sees_their_queues(tmp_path: Path) -> None:
    async with service(tmp_path) as running:
        await running.bench.lab.group_service.configure([RACK, GPU])
        await running.added("ada", Role.OPERATOR)
        token = await running.token("ada", groups=("gpu",))
        for group in ("rack", "gpu"):
            await running.bench.submit(running.bench.workload(f"{group}.efi", group=group), lease=DETACHED)
        page = (await running.ask("GET", "/queue", token=token)).json
        assert [run["name"] for run in page["runs"]] == ["gpu.efi"]
        assert (await running.ask("GET", "/queue?group=rack", token=token)).status == 403


async def test_many_runs_are_queued_at_once_or_none(tmp_path: Path) -> None:
    async with a_lab(tmp_path, RACK) as bench:
        bodies = [{"template": "rack-check", "owner": "ada", "priority": n % 3} for n in range(30)]
        queued = await ask(bench, "POST", "/groups/rack/queue/bulk", bodies, status=201)
        assert sorted(run["place"] for run in queued) == list(range(1, 31))
        assert await waits(bench) == [run["id"] for run in sorted(queued, key=lambda run: run["place"])]
        assert len({run["session"] for run in queued}) == 1
        for wrong, status, told in (
            (
                [*bodies, {"template": "rak"}],
                400,
                "owner: expected one for all runs, got ada and lab; ask once for each",
            ),
            ([bodies[0], {"template": "rak", "owner": "ada"}], 404, "group rack has no template 'rak'"),
            ([], 400, "expected 1 to 10000 runs at once, got 0"),
        ):
            refused = await ask(bench, "POST", "/groups/rack/queue/bulk", wrong, status=status)
            assert told in refused["error"]
        assert len(await waits(bench)) == 30


async def test_runs_are_put_into_an_order_or_none_is(tmp_path: Path) -> None:
    async with a_lab(tmp_path, RACK) as bench:
        runs = [(await add(bench))["id"] for _ in range(4)]
        await ask(bench, "POST", "/groups/rack/order", [runs[3], runs[1]], status=204)
        assert await waits(bench) == [runs[3], runs[1], runs[0], runs[2]]
        refused = await ask(bench, "POST", "/groups/rack/order", [runs[0], "x.9"], status=409)
        assert refused["error"] == "expected a run that waits in a queue, got x.9, which is unknown or over"
        empty = await ask(bench, "POST", "/groups/rack/order", [], status=400)
        assert empty["error"] == "expected the ids of the runs that are to go first, got none"
        assert await waits(bench) == [runs[3], runs[1], runs[0], runs[2]]


async def test_one_place_up_or_down_and_another_priority(tmp_path: Path) -> None:
    async with a_lab(tmp_path, RACK) as bench:
        a, b, c = [(await add(bench))["id"] for _ in range(3)]
        assert (await ask(bench, "POST", f"/runs/{c}/move", {"up": True}))["place"] == 2
        assert (await ask(bench, "POST", f"/runs/{a}/move", {"down": True}))["place"] == 2
        assert await waits(bench) == [c, a, b]
        urgent = await ask(bench, "PATCH", f"/runs/{b}", {"priority": 0})
        assert (urgent["place"], urgent["priority"]) == (1, 0)
        told = await ask(bench, "PATCH", f"/runs/{b}", {}, status=400)
        assert "expected something to change, such as a priority or a name, got nothing" in told["error"]
        await ask(bench, "DELETE", f"/runs/{b}", status=204)
        over = await ask(bench, "PATCH", f"/runs/{b}", {"priority": 0}, status=409)
        assert over["error"] == f"expected a run that is not over, got {b}, which has error"


# Again


async def test_a_run_is_run_again_on_the_same_machine_or_on_another(tmp_path: Path) -> None:
    async with a_lab(tmp_path, RACK) as bench:
        ran = await passes(bench, (await add(bench))["id"])
        await bench.call("HEAD", source="127.0.0.3")  # there is another one
        same = await ask(bench, "POST", f"/runs/{ran.id}/again", {"machine": "same", "priority": 0}, status=201)
        other = await ask(bench, "POST", f"/runs/{ran.id}/again", {"machine": "other"}, status=201)
        assert (same["again"], same["only"], same["avoids"], same["priority"]) == (ran.id, "127.0.0.2", "", 0)
        assert (other["again"], other["only"], other["avoids"]) == (ran.id, "", "127.0.0.2")
        await until(lambda: len(bench.boot.assets) == 3)
        await bench.call("HEAD", source="127.0.0.3")
        await bench.call("HEAD", source="127.0.0.2")
        taken = {run: bench.lab.queue.runs[run].attempt.machine for run in (same["id"], other["id"])}
        assert taken == {same["id"]: "127.0.0.2", other["id"]: "127.0.0.3"}


async def test_a_run_that_the_lab_has_forgotten_is_run_again(tmp_path: Path) -> None:
    async with a_lab(tmp_path, RACK) as bench:
        run = (await bench.submit(bench.workload("a.efi"), lease=DETACHED))[0]
        bench.lab.session_service.cancel(run.id)
        bench.lab.session_service.finish(run.session)
        bench.clock.ahead += 70.0
        await until(lambda: run.id not in bench.lab.queue.runs)
        again = await ask(bench, "POST", f"/runs/{run.id}/again", {"owner": "ada"}, status=201)
        assert (again["name"], again["again"], again["owner"]) == ("a.efi", run.id, "ada")
        never = await ask(bench, "POST", f"/runs/{run.id}/again", {"machine": "same"}, status=400)
        assert never["error"] == f"machine: expected a run that was on one, got {run.id}, which never was"
        unknown = await ask(bench, "POST", "/runs/none.1/again", {}, status=404)
        assert unknown["error"] == "no run 'none.1', neither in the lab nor in its history"


async def test_bytes_that_the_cache_has_no_more_are_not_run_again(tmp_path: Path) -> None:
    async with a_lab(tmp_path, RACK) as bench:
        session = await bench.lab.session_service.open("w", Policy(), IssueRule(), bench.port, DETACHED)
        digest = f"sha256:{'0' * 64}"
        bench.lab.uploads.remember(session, digest, 3000)
        wanted = bench.workload("a.efi", location=digest)
        (run,) = await bench.lab.session_service.submit(session, [("a", wanted)])
        refused = await ask(bench, "POST", f"/runs/{run.id}/again", {}, status=400)
        assert refused["error"].startswith("expected bytes of a.efi that the lab still has, got sha256:000")


# Again and again


async def test_a_run_goes_on_as_often_as_it_is_to_and_a_cancel_ends_that(tmp_path: Path) -> None:
    async with a_lab(tmp_path, RACK) as bench:
        first = await add(bench, requeue={"most": 2})
        assert first["requeue"] == {"most": 2, "done": 0, "faults": 0}
        await passes(bench, first["id"])
        second = follower(bench, first["id"])
        assert (second.requeue is not None, second.requeue and second.requeue.done) == (True, 1)
        assert second.id not in bench.lab.queue.transitions.held
        await passes(bench, second.id, "127.0.0.3")
        third = follower(bench, second.id)
        await ask(bench, "DELETE", f"/runs/{third.id}", status=204)
        assert bench.lab.queue.runs[third.id].cancelled
        assert not [run for run in bench.lab.queue.runs.values() if run.again == third.id]
        await until(lambda: bench.lab.queue.table.is_over(first["session"]))


async def test_a_fault_of_the_lab_is_waited_out_where_everybody_sees_it(tmp_path: Path) -> None:
    async with a_lab(tmp_path, RACK, requeue=5) as bench:
        run = (await add(bench))["id"]
        await until(lambda: isinstance(bench.boot.assets.get(run), Asset))  # it is read, and is not looked for any more
        (tmp_path / "rack.efi").rename(tmp_path / "away.efi")
        bench.lab.queue.transitions.lacks(run, "the file was away", bench.clock.now())
        bench.lab.lab_state.commit()
        again = follower(bench, run)
        (seen,) = (await ask(bench, "GET", "/queue"))["runs"]
        assert (seen["id"], seen["hold"]["owner"]) == (again.id, "lab")
        assert seen["hold"]["reason"].startswith("the last one ended by a fault of the lab: the file was away")
        assert bench.lab.queue.runs[again.id].outcome is None, "its bytes are not looked for yet"
        (tmp_path / "away.efi").rename(tmp_path / "rack.efi")
        bench.clock.ahead += BACKOFF + 1.0
        ended = await passes(bench, again.id)
        assert ended.outcome is Outcome.PASSED
        third = follower(bench, again.id)
        assert third.requeue is not None
        assert (third.requeue.done, third.requeue.faults) == (2, 0)


async def test_it_is_switched_on_and_off(tmp_path: Path) -> None:
    async with a_lab(tmp_path, RACK) as bench:
        run = (await add(bench))["id"]
        assert (await ask(bench, "PATCH", f"/runs/{run}", {"requeue": {"most": 3}}))["requeue"]["most"] == 3
        await until(lambda: run in bench.boot.assets)
        await bench.call("HEAD")
        assert (await ask(bench, "PATCH", f"/runs/{run}", {"requeue": {"most": 0}}))["requeue"] is None
        await passes(bench, run)
        assert len(bench.lab.queue.runs) == 1
        for most in (-1, 1001):
            told = (await add(bench, requeue={"most": most}, status=400))["error"]
            assert f"most: expected a number from 0 to 1000, got {most}" in told
        mine = (await bench.submit(bench.workload("a.efi"), lease=DETACHED))[0]
        refused = await ask(bench, "PATCH", f"/runs/{mine.id}", {"requeue": {"most": 3}}, status=400)
        what = "requeue: expected a run that a person has queued"
        assert refused["error"] == f"{what}, got {mine.id}, which a session asked for"


async def test_what_is_to_go_on_does_so_after_a_restart(tmp_path: Path) -> None:
    async with a_lab(tmp_path, RACK, requeue=1) as bench:
        run = (await add(bench))["id"]
        await ask(bench, "PATCH", f"/runs/{run}", {"requeue": {"most": 2}})
        bench.lab.queue.transitions.lacks(run, "the disk is full", bench.clock.now())
        bench.lab.lab_state.commit()
        held = (await ask(bench, "GET", "/queue"))["runs"]
    async with a_lab(tmp_path, RACK, requeue=1) as bench:
        seen = (await ask(bench, "GET", "/queue"))["runs"]
        assert seen == held
        assert seen[0]["requeue"] == {"most": 2, "done": 1, "faults": 1}
        bench.clock.ahead += BACKOFF + 1.0
        await passes(bench, seen[0]["id"])
        assert follower(bench, seen[0]["id"]).group == "rack"


async def test_what_goes_on_for_long_leaves_sessions_that_the_lab_forgets(tmp_path: Path) -> None:
    async with a_lab(tmp_path, RACK) as bench:
        service = bench.lab.queue_service
        service.most_runs = 2
        first, other = await add(bench, requeue={"most": 3}), await add(bench)
        assert first["session"] == other["session"]
        await until(lambda: first["session"] in service.former)
        third = await add(bench)
        assert third["session"] != first["session"]
        await passes(bench, first["id"])
        again = follower(bench, first["id"])
        assert (again.session, again.requeue is not None) == (third["session"], True)
        await ask(bench, "DELETE", f"/runs/{other['id']}", status=204)
        await until(lambda: bench.lab.queue.table.is_over(first["session"]))
        bench.clock.ahead += 70.0
        await until(lambda: first["session"] not in bench.lab.lab_state.live_sessions)
        assert bench.lab.queue.runs[again.id].outcome is None


async def test_a_group_that_is_gone_ends_it(tmp_path: Path) -> None:
    async with a_lab(tmp_path, RACK, requeue=5) as bench:
        run = (await add(bench))["id"]
        await until(lambda: run in bench.boot.assets)
        await bench.call("HEAD")
        await bench.lab.group_service.configure([GPU])
        ended = await passes(bench, run)
        assert (ended.outcome, [*bench.lab.queue.runs], LAB in bench.lab.queue.groups) == (Outcome.PASSED, [run], True)

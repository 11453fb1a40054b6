"""A kind whose service raises: the lab says which, in one line, and answers nothing more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from bakery.lifecycle import RULES, loaf
from labs import LabBench, Reply, running_lab

from pytest_dispatch.core.errors import LabError
from pytest_dispatch.core.leases import CONNECTIONS_GONE
from pytest_dispatch.core.model import Policy, Workload
from pytest_dispatch.lab.kind_services import Kind, Resources, Service
from pytest_dispatch.server.api.schemas import OpenSession, RunRequest

pytestmark = pytest.mark.anyio

SESSION = OpenSession(source="w", policy=Policy(), resume=True)


def broken(*methods: str) -> Kind:
    """A kind whose service cannot do these."""

    def service(resources: Resources) -> Service:
        def fails(*_: object) -> None:
            raise RuntimeError("out\nof flour")

        if "service" in methods:
            fails()
        made = Service(resources)
        for method in methods:
            setattr(made, method, fails)
        return made

    return Kind(RULES, service)


def told(what: str) -> str:
    return f"the lab is broken: {what} of the kind bake raised RuntimeError: out of flour ("


async def submit(bench: LabBench) -> Reply:
    session = (await bench.api("POST", "/sessions", SESSION)).json["id"]
    return await bench.api("POST", f"/sessions/{session}/runs", [RunRequest(key="rye", workload=loaf("rye"))])


@pytest.mark.parametrize("method", ["service", "start", "stop"])
async def test_a_lab_with_one_neither_begins_nor_ends_without_a_word(tmp_path: Path, method: str) -> None:
    with pytest.raises(LabError) as raised:
        async with running_lab(tmp_path, kinds=[broken(method)]):
            pass
    assert str(raised.value).startswith(told(method))
    assert str(raised.value).endswith("); report this to the kind's author")
    assert "\n" not in str(raised.value)


async def test_what_is_wanted_of_one_is_answered_in_a_line(tmp_path: Path) -> None:
    async with running_lab(tmp_path, kinds=[broken("wanted")]) as bench:
        reply = await submit(bench)
        assert reply.status == 503
        assert reply.json["error"].startswith(told("wanted"))


@pytest.mark.parametrize("what", ["check", "derived"])
async def test_a_payload_over_which_one_breaks_is_refused_and_the_lab_goes_on(tmp_path: Path, what: str) -> None:
    def derived(_workload: Workload, _limits: Mapping[str, float]) -> Mapping[str, float]:
        raise RuntimeError("out\nof flour")

    kind = broken("check") if what == "check" else Kind(replace(RULES, derived=derived))
    async with running_lab(tmp_path, kinds=[kind]) as bench:
        reply = await submit(bench)
        assert reply.status == 400
        why = "rye: the kind bake cannot make use of its payload: RuntimeError: out of flour ("
        assert reply.json["error"].startswith(why)
        assert bench.lab.broken is None


@pytest.mark.parametrize("method", ["recalled", "adopt"])
async def test_a_session_with_one_is_not_resumed(tmp_path: Path, method: str) -> None:
    async with running_lab(tmp_path, kinds=[broken()]) as bench:
        assert (await submit(bench)).status == 200
    async with running_lab(tmp_path, kinds=[broken(method)]) as bench:
        reply = await bench.api("POST", "/sessions", SESSION)
        assert reply.status == 503
        assert reply.json["error"].startswith(told(method))


@pytest.mark.parametrize(("method", "asks"), [("changed", "runs"), ("waiting_machines", "sessions")])
async def test_after_it_the_lab_tells_only_that(tmp_path: Path, method: str, asks: str) -> None:
    async with running_lab(tmp_path, kinds=[broken(method)]) as bench:
        run = (await submit(bench)).json[0]["run"]
        path = f"/{asks}/{run['id' if asks == 'runs' else 'session']}"
        for _ in range(2):
            reply = await bench.api("DELETE", path)
            assert reply.status == 503
            assert reply.json["error"].startswith(told(method))


async def test_a_session_of_a_kind_that_is_gone_leaves_nothing_unless_it_is_resumed(tmp_path: Path) -> None:
    async with running_lab(tmp_path, kinds=[broken()], private=False) as bench:
        session = (await bench.api("POST", "/sessions", SESSION)).json["id"]
        wanted = [RunRequest(key="a", workload=bench.workload()), RunRequest(key="rye", workload=loaf("rye"))]
        assert (await bench.api("POST", f"/sessions/{session}/runs", wanted)).status == 200
    async with running_lab(tmp_path, private=False) as bench:
        reply = await bench.api("POST", "/sessions", SESSION)
        assert (reply.status, reply.json) == (400, {"error": "kind: expected one of boot, got 'bake'"})
        bench.clock.ahead += CONNECTIONS_GONE + 1
        bench.lab.queue.expire(bench.clock.now())
        bench.lab.lab_state.commit()
        assert not bench.lab.queue.runs
        assert (await bench.api("GET", f"/sessions/{session}")).status == 404

"""Machines that nobody has named: they wait until a person approves them."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from faults import fault
from labs import LabBench, running_lab
from receivers import receiving
from waiting import until

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.groups import Group
from pytest_dispatch.core.machine import Identity, MachineState
from pytest_dispatch.core.model import KnownBy
from pytest_dispatch.core.notifications import NotificationPlan, Target
from pytest_dispatch.core.secrets import SecretUrl
from pytest_dispatch.core.unknown_machines import MOST, SILENT, UnknownMachines
from pytest_dispatch.lab.admission import Approval
from pytest_dispatch.lab.roster import Roster, RosterMachine
from pytest_dispatch.lab.state import UnknownError

pytestmark = pytest.mark.anyio

STRANGER, OTHER = "127.0.0.2", "127.0.0.3"
RACK = RosterMachine(id="rack-1", identities=(Identity(KnownBy.ADDRESS, "127.0.0.9"),), labels={"arch": "x86_64"})


@asynccontextmanager
async def a_lab(folder: Path, *, welcome: bool = False, **more: Any) -> AsyncIterator[LabBench]:
    async with running_lab(folder, private=False, welcome=welcome, roster=Roster(machines=(RACK,)), **more) as bench:
        yield bench


async def idles(bench: LabBench, source: str = STRANGER) -> str:
    """What a machine gets that asks; empty if it is a workload."""
    return (await bench.call("HEAD", source=source)).headers.get("dispatch-idle", "")


async def views(bench: LabBench) -> dict[str, dict[str, Any]]:
    return {each["id"]: each for each in (await bench.api("GET", "/machines")).json}


def rows(folder: Path, table: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "journal.db")) as db:
        return db.execute(f"SELECT * FROM {table}").fetchall()


async def test_an_unknown_machine_waits_and_is_listed(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as bench:
        run = await bench.one()
        assert await idles(bench) == "wait"
        assert (await bench.call("GET")).headers["dispatch-idle"] == "wait"
        assert bench.attempt(run).machine == ""
        view = (await views(bench))[STRANGER]
        assert view["state"] == "unapproved"
        assert view["identities"] == [{"known_by": "address", "value": STRANGER}]
        assert (view["labels"], view["groups"], view["runs"]) == ({}, [], [])
        assert view["reason"] == "nobody has named it: approve it, or remove it"
        assert view["since"] > 0
        assert (await bench.api("GET", f"/machines/{STRANGER}")).json == view
        look = await bench.call("GET", "/dispatch/look")
        assert f"{STRANGER} waits for approval and holds no workload" in look.text


async def test_its_messages_are_refused(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as bench:
        await idles(bench)
        assert (await bench.call("POST")).status == 417
        assert (await bench.report(result="passed")).status == 417


async def test_one_that_is_approved_gets_work(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as bench:
        await bench.one()
        await idles(bench)
        reply = await bench.api("POST", f"/machines/{STRANGER}/approve", {})
        assert (reply.status, reply.json["id"], reply.json["state"]) == (200, STRANGER, "idle")
        assert await idles(bench) == ""


async def test_one_gets_a_name_and_labels(tmp_path: Path) -> None:
    async with a_lab(tmp_path, groups=[]) as bench:
        await idles(bench)
        wanted = {"id": "rack-7", "labels": {"arch": "x86_64"}}
        reply = await bench.api("POST", f"/machines/{STRANGER}/approve", wanted)
        assert (reply.json["id"], reply.json["labels"]) == ("rack-7", {"arch": "x86_64"})
        await bench.one()
        assert await idles(bench) == ""
        assert bench.lab.queue.machines["rack-7"].holds
    async with a_lab(tmp_path) as bench:
        known = await views(bench)
        assert sorted(known) == ["rack-1", "rack-7"]
        assert known["rack-7"]["labels"] == {"arch": "x86_64"}
        await bench.one()
        assert await idles(bench) == ""
    assert [row[0] for row in rows(tmp_path, "dispatch_machines")] == ["rack-1", "rack-7"]


async def test_one_is_joined_to_a_known_machine_by_a_person(tmp_path: Path) -> None:
    """Also after a restart, although the configuration names the other identities of that machine."""
    async with a_lab(tmp_path) as bench:
        await idles(bench)
        reply = await bench.api("POST", f"/machines/{STRANGER}/approve", {"machine": "rack-1"})
        assert [each["value"] for each in reply.json["identities"]] == [STRANGER, "127.0.0.9"]
        again = await bench.api("POST", f"/machines/{STRANGER}/approve", {"machine": "rack-1"})
        assert again.status == 400
        assert again.json["error"].endswith("got one that is in the lab already, as rack-1")
    async with a_lab(tmp_path) as bench:
        assert sorted(await views(bench)) == ["rack-1"]
        await bench.one()
        assert await idles(bench) == ""
        assert bench.lab.queue.machines["rack-1"].holds


async def test_one_that_waits_does_so_in_the_next_lab(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as bench:
        await idles(bench)
    async with a_lab(tmp_path) as bench:
        assert (await views(bench))[STRANGER]["state"] == "unapproved"
        assert await idles(bench) == "wait"
        await bench.lab.admission.approve(STRANGER, Approval())
        await bench.one()
        assert await idles(bench) == ""
    async with a_lab(tmp_path) as bench:
        assert (await views(bench))[STRANGER]["state"] == "unknown"


async def test_one_that_waited_is_welcome_where_all_are(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as bench:
        await idles(bench)
    async with a_lab(tmp_path, welcome=True) as bench:
        assert STRANGER not in await views(bench)
        await bench.one()
        assert await idles(bench) == ""


async def test_one_that_is_removed_is_forgotten_until_it_asks_again(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as bench:
        await idles(bench)
        assert (await bench.api("DELETE", f"/machines/{STRANGER}")).status == 204
        assert STRANGER not in await views(bench)
        assert (await bench.api("DELETE", f"/machines/{STRANGER}")).status == 404
    assert rows(tmp_path, "dispatch_identities") == [("address", "127.0.0.9", "rack-1", 0)]
    async with a_lab(tmp_path) as bench:
        assert STRANGER not in await views(bench)
        await idles(bench)
        assert (await views(bench))[STRANGER]["state"] == "unapproved"


async def test_a_machine_of_the_lab_is_removed_with_all_that_is_known_of_it(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as bench:
        await idles(bench)
        await bench.lab.admission.approve(STRANGER, Approval(id="rack-7"))
        await bench.api("POST", "/machines/rack-7/hold", {"reason": "it is sold"})
        assert (await bench.api("DELETE", "/machines/rack-7")).status == 204
        assert await idles(bench) == "wait"
        assert (await views(bench))[STRANGER]["state"] == "unapproved"
    assert [row[0] for row in rows(tmp_path, "dispatch_machines")] == ["rack-1", STRANGER]
    assert rows(tmp_path, "dispatch_holds") == []


async def test_what_cannot_be_removed_stays(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as bench:
        reply = await bench.api("DELETE", "/machines/rack-1")
        assert reply.status == 400
        assert "got one of the lab's configuration; take it out there, and reload" in reply.text
        await idles(bench)
        await bench.lab.admission.approve(STRANGER, Approval())
        run = await bench.one()
        await idles(bench)
        reply = await bench.api("DELETE", f"/machines/{STRANGER}")
        assert f"expected one that holds no run, got one with {run.id}; cancel it" in reply.text


async def test_what_cannot_be_approved_waits_on(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as bench:
        await idles(bench)
        approve = bench.lab.admission.approve
        with pytest.raises(UnknownError, match="no machine 'nobody' that waits for approval; GET /api/v1/machines"):
            await approve("nobody", Approval())
        with pytest.raises(ConfigError, match="rack-1: expected one that waits for approval, got one that is in"):
            await approve("rack-1", Approval())
        with pytest.raises(ConfigError, match=r"approve it as known \(`machine`, or --known rack-1\)"):
            await approve(STRANGER, Approval(id="rack-1"))
        with pytest.raises(ConfigError, match="machine: expected a machine that the lab knows, got 'rack-2'"):
            await approve(STRANGER, Approval(machine="rack-2"))
        with pytest.raises(ConfigError, match="machine: expected it without id and labels"):
            await approve(STRANGER, Approval(machine="rack-1", id="x"))
        reply = await bench.api("POST", f"/machines/{STRANGER}/approve", {"id": "a/b"})
        assert reply.status == 400
        assert "id: expected at most 63 letters, digits and the signs . _ -, got 'a/b'" in reply.text
        assert STRANGER in bench.lab.queue.unknown


async def test_a_machine_that_the_configuration_names_does_not_wait(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as bench:
        await bench.one()
        assert await idles(bench, "127.0.0.9") == ""


@fault(
    "Machines",
    "machines that nobody has named ask from many addresses",
    outcome="64 of them are listed, and tell once; the others are told to wait, and nothing of them is kept",
    told="`unapproved` machines of `GET /api/v1/machines`",
)
def test_not_more_wait_than_a_person_can_look_through() -> None:
    unknown = UnknownMachines()
    unknown.welcome = False
    for number in range(1000):
        unknown.asks(Identity(KnownBy.ADDRESS, f"10.0.{number // 250}.{number % 250}"), 1000.0 + number)
    assert len(unknown) == len(unknown.changed) == len(unknown.listed_lately) == MOST
    assert unknown.turned_away == 1000 - MOST
    late = Identity(KnownBy.ADDRESS, "10.9.9.9")
    unknown.asks(late, 1000.0 + SILENT)
    assert "10.9.9.9" in unknown
    assert "10.0.0.0" not in unknown, "it was silent for longest"
    assert unknown["10.9.9.9"].machine.state is MachineState.UNAPPROVED


async def test_people_are_told_once(tmp_path: Path) -> None:
    with receiving() as receiver:
        ops = Target(name="ops", url=SecretUrl(receiver.url(), "ops"))
        async with a_lab(tmp_path, notifications=NotificationPlan(targets=(ops,))) as bench:
            for source in (STRANGER, STRANGER, STRANGER, OTHER):
                await idles(bench, source)
            await until(lambda: len(receiver.messages) == 2)
    told = [f"machine {each} asks to boot, and waits for approval" for each in (STRANGER, OTHER)]
    assert receiver.titles == told


async def test_groups_count_no_machine_that_waits(tmp_path: Path) -> None:
    async with a_lab(tmp_path, groups=[Group(id="all")]) as bench:
        await idles(bench)
        [*groups] = (await bench.api("GET", "/groups")).json
        assert {each["machines"] for each in groups} == {1}

"""A service is told anew which machines, groups and templates it has, while runs go on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from by_hand import ByHand
from labs import LabBench, running_lab
from rounds import PlayedRounds
from waiting import until

from pytest_dispatch.core.errors import ConfigError, MachineError
from pytest_dispatch.core.groups import Group
from pytest_dispatch.core.leases import Lease, LeaseKind
from pytest_dispatch.core.machine import Hold, Identity, MachineState
from pytest_dispatch.core.model import KnownBy, Outcome, Run, Workload
from pytest_dispatch.core.requirements import read_requirements
from pytest_dispatch.core.templates import Template
from pytest_dispatch.lab.reload import Reloads
from pytest_dispatch.lab.roster import (
    Configuration,
    Difference,
    Roster,
    RosterChange,
    RosterMachine,
    change_between,
    reloaded,
)
from pytest_dispatch.lab_program.option_values import read_spec
from pytest_dispatch.machines.base import DrivenMachine
from pytest_dispatch.store.records import KeptMachine
from pytest_dispatch.workloads.boot.lifecycle import State

pytestmark = pytest.mark.anyio

HERE = "127.0.0.31"
GONE = (MachineState.HELD, "it is not in the lab's configuration any more")


def named(name: str, *addresses: str, driver: str = "", **labels: str) -> RosterMachine:
    identities = tuple(Identity(KnownBy.ADDRESS, address) for address in addresses)
    return RosterMachine(id=name, identities=identities, labels=labels, driver=read_spec(driver) if driver else None)


@dataclass
class File:
    """What stands for a configuration file: what is read next, and the machines that are made for it."""

    bench: LabBench
    roster: Roster
    made: dict[str, ByHand] = field(default_factory=dict)
    wrong: Exception | None = None
    unfit: Exception | None = None
    keys: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    applied: tuple[str, ...] = ()

    @property
    def reloads(self) -> Reloads:
        assert self.bench.lab.reloads is not None
        return self.bench.lab.reloads

    def read(self) -> Configuration:
        if self.wrong is not None:
            raise self.wrong
        return Configuration(roster=self.roster, keys=self.keys, restart=self.restart, prepare=self.prepare)

    async def prepare(self) -> Callable[[], Awaitable[None]]:
        if self.unfit is not None:
            raise self.unfit
        return self.apply

    async def apply(self) -> None:
        self.applied += self.keys

    def make(self, machine: RosterMachine) -> DrivenMachine:
        assert machine.driver is not None
        if machine.driver.options:
            raise MachineError("the rack is locked")
        self.made[machine.id] = ByHand(machine.id)
        return replace(self.made[machine.id].driven(), labels=machine.driver.labels)

    async def reload(self, **roster: tuple[object, ...]) -> RosterChange:
        self.roster = replace(self.roster, **roster)  # type: ignore[arg-type]
        return (await self.reloads.reload("ada")).change

    def labels(self, machine: str) -> Mapping[str, str]:
        return self.bench.lab.queue.machines[machine].machine.labels

    def stands(self, machine: str) -> tuple[MachineState, str]:
        now = self.bench.lab.queue.machine(machine, self.bench.clock.now())
        return now.state, now.reason


async def begun(bench: LabBench, **roster: tuple[object, ...]) -> File:
    file = File(bench, Roster(**roster))  # type: ignore[arg-type]
    await bench.lab.configure(file.roster, file.read, file.make, PlayedRounds())
    return file


async def wanted(bench: LabBench, name: str = "a.efi", **fields: object) -> Run:
    """What nobody is there to judge."""
    lease = Lease(kind=LeaseKind.DETACHED, owner="ada")
    return (await bench.submit(bench.workload(name, **fields), lease=lease))[0]  # type: ignore[arg-type]


async def runs(bench: LabBench, run: Run, source: str) -> None:
    """A machine takes the run, and begins with it."""
    assert (await bench.call("GET", source=source)).body == bench.bytes_of(run)
    await bench.enters(run, State.DOWNLOADED)
    assert (await bench.call("POST", source=source)).status == 200


async def ends(bench: LabBench, run: Run, source: str) -> None:
    assert (await bench.call("PUT", source=source, body=b'{"title": "done", "result": "passed"}')).status == 200
    await bench.call("HEAD", source=source)  # no more of its reports are to come
    await until(lambda: bench.now(run).outcome is Outcome.PASSED)


# What is different


A, B, C = Group(id="a"), Group(id="b"), Group(id="c")


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((), (), Difference()),
        ((), (A, B), Difference(added=("a", "b"))),
        ((A, B), (B,), Difference(gone=("a",))),
        ((A, B), (C, A, B), Difference(added=("c",))),
        ((A, B), (B, A), Difference(changed=("b", "a"))),
        ((A, B), (A, replace(B, max_running=1)), Difference(changed=("b",))),
    ],
)
def test_what_is_different(before: tuple[Group, ...], after: tuple[Group, ...], expected: Difference) -> None:
    change = change_between(Roster(groups=before), Roster(groups=after))
    assert change.groups == expected
    assert bool(change) == bool(expected)


def test_a_change_in_words() -> None:
    change = change_between(Roster(groups=(A, B)), Roster(groups=(C, B), machines=(named("m"),)))
    assert str(change) == "machines: added m; groups: added c; gone a; templates: as before"


async def test_other_keys_are_applied_with_the_roster_and_told(tmp_path: Path) -> None:
    async with running_lab(tmp_path, private=False) as bench:
        file = await begun(bench, groups=(A,))
        file.keys, file.restart = ("auth.users", "retention.runs"), ("server.api",)
        change = await file.reload(groups=(A, B))
        assert file.applied == change.keys == file.keys
        assert change.restart == ("server.api",)
        said = "groups: added b; templates: as before; changed: auth.users, retention.runs; after a restart: server.api"
        assert str(change) == f"machines: as before; {said}"


async def test_keys_that_cannot_be_applied_change_nothing(tmp_path: Path) -> None:
    async with running_lab(tmp_path, private=False) as bench:
        file = await begun(bench, groups=(A,))
        file.keys, file.unfit = ("auth.users",), ConfigError("no such user")
        with pytest.raises(ConfigError, match="no such user"):
            await file.reload(groups=(B,))
        assert set(bench.lab.queue.groups) == {"a", "lab"}
        assert file.applied == ()


# Machines


async def test_a_machine_is_known_by_its_addresses_and_has_its_labels(tmp_path: Path) -> None:
    async with running_lab(tmp_path, private=False, allow=()) as bench:
        assert (await bench.call("GET", source=HERE)).status == 403
        file = await begun(bench, machines=(named("rack-1", HERE, arch="x86"),))
        run = await wanted(bench, requires=read_requirements(["arch=x86"], ""))
        await runs(bench, run, HERE)
        assert file.stands("rack-1") == (MachineState.RUNNING, run.workload.name)
        assert file.labels("rack-1") == {"arch": "x86"}
        await ends(bench, run, HERE)


async def test_labels_of_a_machine_change_while_it_runs(tmp_path: Path) -> None:
    async with running_lab(tmp_path, private=False) as bench:
        file = await begun(bench, machines=(named("rack-1", HERE),))
        run = await wanted(bench)
        await runs(bench, run, HERE)
        change = await file.reload(machines=(named("rack-1", HERE, gpu="a"), named("rack-2")))
        assert change.machines == Difference(added=("rack-2",), changed=("rack-1",))
        assert file.labels("rack-1") == {"gpu": "a"}
        await ends(bench, run, HERE)
        kept = {each.machine.id: each for each in await bench.journal.background.machines()}
        assert kept["rack-1"] == KeptMachine(machine=bench.lab.queue.machines["rack-1"].machine, hold=None)


async def test_a_machine_that_is_gone_ends_its_run_and_takes_no_other(tmp_path: Path) -> None:
    async with running_lab(tmp_path, private=False) as bench:
        file = await begun(bench, machines=(named("rack-1", HERE),))
        first, second = await wanted(bench), await wanted(bench, "b.efi")
        await runs(bench, first, HERE)
        assert (await file.reload(machines=())).machines == Difference(gone=("rack-1",))
        assert file.stands("rack-1") == (MachineState.RUNNING, first.workload.name)
        await ends(bench, first, HERE)
        assert file.stands("rack-1") == GONE
        assert (await bench.call("HEAD", source=HERE)).headers["dispatch-idle"] in ("wait", "poweroff")
        assert (await file.reload(machines=(named("rack-1", HERE),))).machines == Difference(added=("rack-1",))
        await bench.call("HEAD", source=HERE)  # it asks once more, after the minute that it waited
        await runs(bench, second, HERE)


async def test_the_hold_of_a_person_is_theirs(tmp_path: Path) -> None:
    async with running_lab(tmp_path, private=False) as bench:
        file = await begun(bench, machines=(named("rack-1", HERE),))
        await bench.lab.group_service.hold_machine("rack-1", Hold(reason="repair", owner="ada"))
        await file.reload(machines=())
        assert file.stands("rack-1") == (MachineState.HELD, "repair")
        await file.reload(machines=(named("rack-1", HERE),))
        assert file.stands("rack-1") == (MachineState.HELD, "repair")
        await file.reload(machines=())
        await bench.lab.group_service.release_machine("rack-1")
        await until(lambda: file.stands("rack-1") == GONE)


async def test_an_address_moves_to_another_machine_but_not_while_that_runs_something(tmp_path: Path) -> None:
    async with running_lab(tmp_path, private=False) as bench:
        file = await begun(bench, machines=(named("rack-1", HERE),))
        run = await wanted(bench)
        await runs(bench, run, HERE)
        with pytest.raises(ConfigError, match=f"got {HERE}, by which rack-1 is known, until its run is over; reload"):
            await file.reload(machines=(named("rack-1"), named("rack-2", HERE)))
        assert "rack-2" not in bench.lab.queue.machines
        await ends(bench, run, HERE)
        await file.reload(machines=(named("rack-1"), named("rack-2", HERE)))
        second = await wanted(bench)
        await runs(bench, second, HERE)
        assert bench.now(second).attempt.machine == "rack-2"
        assert bench.lab.queue.machines["rack-1"].machine.identities == frozenset()


# Machines with drivers


async def test_a_machine_with_a_driver_comes_runs_and_is_powered_off_when_it_is_gone(tmp_path: Path) -> None:
    async with running_lab(tmp_path, private=False) as bench:
        file = await begun(bench)
        run = await wanted(bench, requires=read_requirements(["driver=odd", "site=here"], ""))
        await file.reload(machines=(named("v1", driver="odd", site="here"),))
        machine = file.made["v1"]
        await until(lambda: machine.starts == 1)
        assert (await bench.call("GET", machine.target())).body == bench.bytes_of(run)
        await bench.enters(run, State.DOWNLOADED)
        await file.reload(machines=())
        assert machine.alive
        assert (await bench.call("POST", machine.target())).status == 200
        body = b'{"title": "done", "result": "passed"}'
        assert (await bench.call("PUT", machine.target(), body=body)).status == 200
        bench.clock.ahead += 100  # no more of its reports are to come
        await until(lambda: bench.now(run).outcome is Outcome.PASSED)
        await until(lambda: not machine.alive)
        assert file.stands("v1") == GONE
        assert await file.reload() == RosterChange()


async def test_another_driver_takes_over_when_the_run_is_over(tmp_path: Path) -> None:
    async with running_lab(tmp_path, private=False) as bench:
        file = await begun(bench)
        await file.reload(machines=(named("v1", driver="odd"),))
        first = file.made["v1"]
        run = await wanted(bench)
        await until(lambda: first.starts == 1)
        assert (await bench.call("GET", first.target())).body == bench.bytes_of(run)
        await file.reload(machines=(named("v1", driver="even"),))
        assert first.alive
        second = file.made["v1"]
        bench.lab.session_service.cancel(run.id)
        await until(lambda: file.labels("v1") == {"driver": "even"})
        other = await wanted(bench)
        await until(lambda: second.starts == 1)
        assert (await bench.call("GET", second.target())).body == bench.bytes_of(other)
        assert not first.alive


# All or nothing


async def test_nothing_changes_if_anything_is_wrong(tmp_path: Path) -> None:
    async with running_lab(tmp_path, private=False) as bench:
        before = Roster(machines=(named("rack-1", HERE),), groups=(A,))
        file = await begun(bench, machines=before.machines, groups=before.groups)
        stray = Template(id="t", group="nowhere", workload=Workload(name="t", kind="boot"))
        tries: list[tuple[type[Exception], Roster]] = [
            (MachineError, Roster(machines=(named("v1", driver="odd?x=1"),), groups=(B,))),
            (ConfigError, Roster(machines=(named("v2", driver="odd"),), groups=(B,), templates=(stray,))),
        ]
        for kind, file.roster in tries:
            with pytest.raises(kind):
                await file.reloads.reload("ada")
        file.wrong = ConfigError("lab.yaml:1:1: expected …")
        with pytest.raises(ConfigError, match=r"lab\.yaml:1:1"):
            await file.reloads.reload("ada")
        assert file.reloads.roster == before
        assert {"v1", "v2"}.isdisjoint(bench.lab.queue.machines)
        assert "a" in bench.lab.queue.groups
        assert "b" not in bench.lab.queue.groups
        file.wrong = None
        assert (await file.reload(machines=(), groups=(B,), templates=())).groups == Difference(
            added=("b",), gone=("a",)
        )


async def test_groups_and_templates_are_reloaded(tmp_path: Path) -> None:
    async with running_lab(tmp_path, private=False) as bench:
        template = Template(id="t", group="a", workload=Workload(name="t", kind="boot"))
        file = await begun(bench, groups=(A,))
        change = await file.reload(groups=(replace(A, max_running=2), B), templates=(template,))
        assert change == RosterChange(
            groups=Difference(added=("b",), changed=("a",)), templates=Difference(added=("t",))
        )
        assert bench.lab.queue.groups["a"].max_running == 2
        assert list(bench.lab.group_service.templates) == ["t"]


async def test_without_a_file_there_is_nothing_to_reload(tmp_path: Path) -> None:
    async with running_lab(tmp_path, private=False) as bench:
        await bench.lab.configure(Roster(), None, lambda _machine: DrivenMachine(), PlayedRounds())
        assert bench.lab.reloads is not None
        with pytest.raises(ConfigError, match="expected a lab with a configuration file, got one without"):
            await bench.lab.reloads.reload("ada")


# After a restart


async def test_a_later_lab_believes_its_configuration_more_than_the_journal(tmp_path: Path) -> None:
    async with running_lab(tmp_path, private=False) as bench:
        file = await begun(bench, machines=(named("rack-1", HERE, old="x"), named("rack-2")))
        await file.reload(machines=(named("rack-1", HERE, old="x"),))
    roster = Roster(machines=(named("rack-2", HERE), named("rack-1", new="y")))
    async with running_lab(tmp_path, private=False, roster=roster) as bench:
        table = bench.lab.queue.machines
        assert table.called(Identity(KnownBy.ADDRESS, HERE)) == "rack-2"
        assert (table["rack-1"].machine.identities, table["rack-1"].machine.labels) == (frozenset(), {"new": "y"})
        assert table["rack-2"].hold is None


async def test_what_was_changed_is_told_without_secrets(tmp_path: Path) -> None:
    async with running_lab(tmp_path, private=False) as bench:
        file = await begun(bench, groups=(A,), machines=(named("rack-1", HERE),))
        secret = RosterMachine(id="rack-1", driver=read_spec("odd://ada:hunter2@bmc.example/"))
        template = Template(id="t", group="a", workload=Workload(name="t", kind="boot", payload={"token": "hunter2"}))
        file.roster = replace(file.roster, groups=(replace(A, max_running=2),), templates=(template,))
        done = await file.reloads.reload("ada")
        assert done.before == {"groups": {"a": {**done.after["groups"]["a"], "max_running": None}}}
        assert done.after["groups"]["a"]["max_running"] == 2
        assert done.after["templates"]["t"]["kind"] == "boot"
        told = reloaded(file.roster, Configuration(roster=replace(file.roster, machines=(secret,))))
        assert told.before["machines"]["rack-1"]["identities"] == [f"address:{HERE}"]
        assert told.after["machines"]["rack-1"]["driver"].startswith("odd")
        assert "hunter2" not in repr((done, told.before, told.after))


async def test_a_driven_machine_that_is_gone_is_not_powered_on_for_other_work(tmp_path: Path) -> None:
    async with running_lab(tmp_path, private=False) as bench:
        file = await begun(bench)
        await file.reload(machines=(named("v1", driver="odd"),))
        machine, record = file.made["v1"], bench.lab.queue.machines["v1"]
        await until(lambda: not record.leaving)  # it has its driver
        record.leave(bench.clock.now())  # gone, and its driver not yet taken away
        await wanted(bench)
        bench.lab.machines.rouse()
        bench.lab.machines._begin_anew("another")
        await asyncio.sleep(0)
        assert machine.starts == 0
        bench.lab.queue.machines.declare("v1")
        bench.lab.machines.rouse()
        await until(lambda: machine.starts == 1)

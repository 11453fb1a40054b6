"""Machines that somebody lends to a lab: who is told that they are broken, back, and no longer needed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from by_hand import ByHand
from fleets import fleet_of
from labs import LabBench, running_lab
from libraries import Library
from waiting import until

from pytest_dispatch.core.errors import MachineError
from pytest_dispatch.core.machine import Hold
from pytest_dispatch.lab.fleet import STARTS
from pytest_dispatch.lab.lenders import AGAIN

pytestmark = pytest.mark.anyio

BROKEN = "broken: a new disk"


@pytest.fixture
def library() -> Library:
    return Library()


@asynccontextmanager
async def a_lab(folder: Path, library: Library, *faults: Exception) -> AsyncIterator[LabBench]:
    machine = ByHand("one", list(faults)).driven(lender=library)
    async with running_lab(folder, machines=[machine]) as bench:
        yield bench


def hold(bench: LabBench, owner: str) -> None:
    held = Hold(reason="a new disk", owner=owner, since=bench.clock.now())
    bench.lab.queue.machines.withhold("one", held)
    bench.lab.lab_state.commit()


async def test_one_whose_hold_a_person_ends_is_fixed(tmp_path: Path, library: Library) -> None:
    async with a_lab(tmp_path, library) as bench:
        hold(bench, "lab")
        await until(lambda: library.told == [BROKEN])
        bench.lab.queue.machines.readmit("one", bench.clock.now())
        await until(lambda: library.told == [BROKEN, "fixed"])
    assert library.told == [BROKEN, "fixed"], "it was never brought up, so it is not given back"


async def test_one_that_a_person_holds_is_not_said_to_be_broken(tmp_path: Path, library: Library) -> None:
    async with a_lab(tmp_path, library) as bench:
        hold(bench, "lab")
        await until(lambda: library.told == [BROKEN])
        hold(bench, "ada")
        await until(lambda: library.told == [BROKEN, "fixed"])


async def test_what_could_not_be_told_is_shown_and_told_later(tmp_path: Path, library: Library) -> None:
    library.faults.append("MAAS is away")
    async with a_lab(tmp_path, library) as bench:
        hold(bench, "lab")
        await until(lambda: not library.faults)
        bench.clock.ahead += AGAIN + 1
        await until(lambda: library.told == [BROKEN])


async def test_one_that_cannot_be_started_is_said_to_be_broken(tmp_path: Path, library: Library) -> None:
    async with a_lab(tmp_path, library, *(MachineError("no power") for _ in range(STARTS))) as bench:
        await bench.one()
        await until(lambda: library.told == ["broken: no power"])


async def test_one_that_was_brought_up_is_given_back(tmp_path: Path, library: Library) -> None:
    async with a_lab(tmp_path, library) as bench:
        await bench.one()
        await until(lambda: not bench.lab.machines.is_off("one"))
    assert library.told == ["released"]


async def test_what_was_not_given_back_is_shown_and_keeps_no_lab_from_its_end(library: Library) -> None:
    library.faults.append("MAAS is away")
    fleet, listener = fleet_of(ByHand("one").driven(lender=library))
    fleet.wake()
    await listener.done()
    await fleet.stop()
    assert ("one", "it was not given back: MAAS is away") in listener.seen
    assert library.told == []

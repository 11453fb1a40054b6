"""A client of a shared lab: it outlasts absences, and comes back to its session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from labs import TOKEN, LabBench, running_lab

from pytest_dispatch.client.connection import StaleError
from pytest_dispatch.client.shared_lab_client import Handed, SharedLabClient
from pytest_dispatch.client.unreachable_lab import Absence, BrokenLabError, UnreachableError
from pytest_dispatch.core.errors import LabError
from pytest_dispatch.core.leases import CONNECTIONS_GONE
from pytest_dispatch.core.model import Policy
from pytest_dispatch.server.api.schemas import LeaseWanted, OpenSession, RunRequest


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[LabBench]:
    """A lab that several sessions share."""
    async with running_lab(tmp_path, private=False) as running:
        yield running


def asked(owner: str) -> OpenSession:
    return OpenSession(source="w", policy=Policy(), lease=LeaseWanted(owner=owner))


def wanted(bench: LabBench, *names: str) -> list[RunRequest]:
    return [RunRequest(key=name, workload=bench.workload(name, limits={"assign": 1e6})) for name in names]


def end_leases(bench: LabBench) -> None:
    bench.clock.ahead += CONNECTIONS_GONE + 1
    bench.lab.queue.expire(bench.clock.now())
    bench.lab.lab_state.commit()


@pytest.mark.anyio
async def test_whose_lease_has_ended_comes_back_and_asks_again(bench: LabBench) -> None:
    client = SharedLabClient(f"http://127.0.0.1:{bench.port}", TOKEN)
    epochs: list[int] = []
    client.came_back.append(epochs.append)
    session = (await asyncio.to_thread(client.open, asked("ada"))).id
    worker = SharedLabClient(client.url, TOKEN, handed=Handed(session, lambda: client.epoch))
    first, other = await asyncio.to_thread(client.submit, session, wanted(bench, "a.efi", "b.efi"))
    await asyncio.to_thread(worker.submit, session, wanted(bench, "a.efi"))
    end_leases(bench)
    assert bench.lab.session_service.run(first.run.id).cancelled
    view = await asyncio.to_thread(client.run, first.run.id)
    assert (view.run.outcome, view.run.key, epochs) == (None, "a.efi", [2])
    assert view.run.id == client.current(first.run.id) != first.run.id
    followed = await asyncio.to_thread(worker.run, first.run.id)  # it takes the epoch of its controller
    assert followed.run.id == view.run.id
    await asyncio.to_thread(client.cancel, other.run.id)
    assert bench.lab.session_service.run(client.current(other.run.id)).cancelled
    for each in (client, worker):
        each.close()


@pytest.mark.anyio
async def test_whose_session_another_has_is_told_so(bench: LabBench) -> None:
    url = f"http://127.0.0.1:{bench.port}"
    client, thief = SharedLabClient(url, TOKEN), SharedLabClient(url, TOKEN)
    session = (await asyncio.to_thread(client.open, asked("ada"))).id
    await asyncio.to_thread(thief.take_over, session, asked("bob"))
    with pytest.raises(StaleError, match="this session was taken over by bob"):
        await asyncio.to_thread(client.submit, session, wanted(bench, "a.efi"))
    for each in (client, thief):
        each.close()


class Lab:
    """One that fails so often, and then answers."""

    def __init__(self, *errors: LabError) -> None:
        self.errors = list(errors)

    def __call__(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "here"


def test_an_absence_is_told_once_and_so_is_its_end() -> None:
    told: list[str] = []
    absence = Absence(told.append)
    assert absence.outlasted(Lab()) == "here"
    assert told == []
    lab = Lab(UnreachableError("the lab cannot be reached"), BrokenLabError("the journal cannot be written"))
    assert absence.outlasted(lab) == "here"
    away, back = told
    assert away == "the lab cannot be reached: waiting for it, at most 15m"
    assert back.startswith("the lab is back after ")


def test_an_absence_that_is_too_long_is_an_error() -> None:
    absence = Absence(longest=0.0)
    with pytest.raises(LabError, match=r"^no lab; waited for 0s$"):
        absence.outlasted(Lab(*(UnreachableError("no lab") for _ in range(9))))
    absence = Absence(broken=0.0)
    with pytest.raises(LabError, match=r"^no disk; waited for 0s$"):
        absence.outlasted(Lab(*(BrokenLabError("no disk") for _ in range(9))))


def test_nobody_waits_who_no_longer_needs_the_lab() -> None:
    absence = Absence()
    absence.end()
    with pytest.raises(UnreachableError, match=r"^no lab$"):
        absence.outlasted(Lab(*(UnreachableError("no lab") for _ in range(9))))


def test_a_refusal_is_no_absence() -> None:
    with pytest.raises(LabError, match=r"^no$"):
        Absence().outlasted(Lab(LabError("no")))

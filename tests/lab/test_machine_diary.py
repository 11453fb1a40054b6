"""What a lab knows of a machine's past: the states that it has noted, and what its journal tells."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from databases import Place
from labs import LabBench, running_lab
from waiting import until

from pytest_dispatch.core.machine import Hold, Identity, MachineState
from pytest_dispatch.core.machine_past import MachinePast
from pytest_dispatch.core.machine_record import SILENCE
from pytest_dispatch.core.model import KnownBy, Outcome
from pytest_dispatch.core.moments import DAY
from pytest_dispatch.lab.driven_machines import standing_of
from pytest_dispatch.lab.history import past_of
from pytest_dispatch.lab.machine_diary import KEPT, MachineDiary
from pytest_dispatch.store.journal import Journal

pytestmark = pytest.mark.anyio

HELD, IDLE, OFFLINE = MachineState.HELD, MachineState.IDLE, MachineState.OFFLINE


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[LabBench]:
    async with running_lab(tmp_path, private=False) as found:
        found.lab.queue.machines.declare("one", Identity(KnownBy.ADDRESS, "127.0.0.2"))
        yield found


@pytest.fixture
def diary(bench: LabBench) -> MachineDiary:
    """One that looks when a test says so."""
    return MachineDiary(bench.lab.lab_state, partial(standing_of, bench.lab.machines, bench.lab.queue))


def hold(bench: LabBench, seconds: float | None = None) -> None:
    now = bench.clock.now()
    until_then = None if seconds is None else now + seconds
    bench.lab.queue.machines.withhold("one", Hold(reason="loud", owner="ada", since=now, until=until_then))


async def test_states_are_noted_with_why_and_from_when_to_when(bench: LabBench, diary: MachineDiary) -> None:
    diary.look()
    began = bench.clock.now()
    bench.clock.ahead += 100
    hold(bench, 50.0)
    diary.look()
    bench.clock.ahead += 200
    diary.look()
    unknown, held, after = diary.of("one")
    assert (unknown.state, held.state, after.state) == (MachineState.UNKNOWN, HELD, MachineState.UNKNOWN)
    assert held.reason == "loud (ada)"
    assert unknown.ended == held.began == pytest.approx(began + 100, abs=20)
    assert held.ended == after.began
    assert after.ended is None


async def test_silence_begins_when_it_began_not_when_somebody_looked(bench: LabBench, diary: MachineDiary) -> None:
    await bench.call("HEAD")
    heard = bench.lab.queue.machines["one"].heard
    diary.look()
    bench.clock.ahead += SILENCE + 60
    diary.look()
    idle, silent = diary.of("one")
    assert (idle.state, silent.state) == (IDLE, OFFLINE)
    assert silent.began == idle.ended == pytest.approx(heard + SILENCE)


async def test_what_is_older_than_a_day_is_forgotten_and_so_is_a_machine(bench: LabBench, diary: MachineDiary) -> None:
    for _ in range(3):
        hold(bench, 10.0)
        diary.look()
        bench.clock.ahead += DAY / 2
        diary.look()
    assert len(diary.of("one")) < 6
    for _ in range(KEPT):
        hold(bench, 10.0)
        diary.look()
        bench.clock.ahead += 20
        diary.look()
    assert len(diary.of("one")) == KEPT
    bench.lab.queue.machines.remove("one")
    diary.look()
    assert diary.of("one") == []


async def test_a_service_keeps_one_by_itself(bench: LabBench) -> None:
    await until(lambda: len(bench.lab.diary.of("one")) == 1)


async def past(bench: LabBench, groups: frozenset[str] | None = None) -> MachinePast:
    now = bench.clock.now()
    return await past_of(bench.lab.history, "one", now - DAY, now - 7 * DAY, groups)


async def test_the_journal_tells_what_was_placed_on_a_machine(tmp_path: Path, where: Place) -> None:
    async with running_lab(tmp_path, private=False, journal=lambda _: Journal(where.where)) as bench:
        bench.lab.queue.machines.declare("one", Identity(KnownBy.ADDRESS, "127.0.0.2"))
        assert (await past(bench)).visits == []
        first = await bench.booted()
        [visit] = (await past(bench)).visits
        assert (visit.run, visit.name, visit.attempt, visit.ended, visit.outcome) == (first.id, "a.efi", 1, None, None)
        await bench.report(result="passed")
        await bench.call("HEAD")
        await until(lambda: bench.now(first).outcome is not None)
        found = await past(bench)
        [visit], [ended] = found.visits, found.ended
        assert visit.outcome is Outcome.PASSED
        assert visit.ended is not None
        assert visit.ended >= visit.began
        assert (ended.name, ended.outcome) == ("a.efi", Outcome.PASSED)
        assert found.whole
        for groups, count in ((frozenset({"lab"}), 1), (frozenset({"another"}), 0)):
            found = await past(bench, groups)
            assert (len(found.visits), len(found.ended)) == (count, count)
        bench.clock.ahead += 2 * DAY
        found = await past(bench)
        assert (len(found.visits), len(found.ended)) == (0, 1), "the day is over, the week is not"

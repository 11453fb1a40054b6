"""A week of a service in fast motion: its clock is scripted, all else is real. After it, nothing is left over."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from leftovers import Standing
from receivers import Receiver, receiving
from torture import QUICK, larger, seed
from waiting import PATIENCE, until
from week_lab import DAY, HOUR, STRANGERS, WeekLab, week_lab
from week_machines import Firmware
from week_people import People, Session, people_of, spread
from week_stall import Watch

from pytest_dispatch.store.row_writing import SUSPECT

pytestmark = pytest.mark.anyio

DAYS = int(os.environ.get("DISPATCH_DAYS") or larger(1, 7))
RUNS = int(os.environ.get("DISPATCH_RUNS") or (100 if QUICK else larger(300, 50_000)))
SLICE, SLOWER = 60.0, 20.0  # seconds by which the clock is moved on at once, and if it is ahead of what is done
PAUSE = 300.0  # the same while nobody works
RELEASE = 900.0  # seconds of the clock after which somebody looks at the machines that are held
UNHEARD, UNSEEN = 300.0, 30.0  # seconds of the clock within which each session is heard, and if it does not follow
UNANSWERED = 120.0  # seconds of the clock within which a machine gets its answer, so that none counts as silent
SENDING = 3.0  # seconds for which the clock waits for what is being sent
SLOW = 0.1  # seconds that who is told takes for it
GROWS = 8.0  # MiB by which memory may differ from day to day
#: Tables that do not grow with time.
KEPT = {"meta", "writer", "users", "machines", "identities", "holds", "health", "failures", "series"}
#: What is held; that a workload is suspect is remembered until it ends well, and holds nothing.
HELD = f"SELECT count(*) FROM dispatch_holds WHERE active AND what != '{SUSPECT}'"
OBJECTS = 0.02  # by how much the number of objects may, as a part


@dataclass
class Week:
    """Who moves the clock, and what is seen at the end of each day."""

    week: WeekLab
    people: People
    machines: list[Firmware]
    told: Receiver
    random: Random
    days: list[Standing] = field(default_factory=list)
    _machines: list[asyncio.Task[None]] = field(default_factory=list)
    _viewers: list[asyncio.Task[str]] = field(default_factory=list)
    _pending: list[asyncio.Future[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.watch = Watch(self.people)

    async def leave(self) -> None:
        """Have all who are still there go, wherever they stand."""
        tasks = [*self._machines, *self._viewers]
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def slice(self, seconds: float) -> None:
        """Move the clock on, once the lab has answered, also to machines, and has heard all sessions lately."""
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.week.port)
            writer.write(b"GET /healthz HTTP/1.0\r\nHost: x\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.")
            writer.close()
        clock = self.week.clock
        if not all(each.follows for each in list(self.people.sessions)):
            seconds = min(seconds, SLOWER)
        began = time.monotonic()
        while self._goes_too_far(clock.now() + seconds, time.monotonic() - began):
            await self.look()
            await asyncio.sleep(0.005)
        clock.ahead += seconds
        broken = self.week.lab.broken
        assert broken is None, broken

    def _goes_too_far(self, now: float, waited: float) -> bool:
        """Return whether somebody waits who would not have waited for so long if the computer were faster."""
        unheard = any(now - each.heard > _patience(each) for each in list(self.people.sessions))
        unanswered = any(now - each.asked > UNANSWERED for each in self.machines)
        # A machine may also have left in the middle of what it was sent, which the lab notices by the clock alone
        return unheard or unanswered or (waited < SENDING and self.week.sends_since_before(now - UNANSWERED))

    async def look(self) -> None:
        """Fail when nothing has ended for long, and say why by what the lab says itself."""
        ended = sum(len(each.ended) for each in self.people.of_hour)
        if self.watch.stands(ended + self.people.seen.total() + sum(each.done() for each in self._pending)):
            pytest.fail(await asyncio.to_thread(self.watch.told))

    async def pass_by(self, seconds: float, each: float = PAUSE) -> None:
        end = self.week.clock.now() + seconds
        while (left := end - self.week.clock.now()) > 1.0:
            await self.slice(min(each, left))

    # A day

    async def day(self, runs: int) -> None:
        """Begin a day, live it, and look at what there is when all have gone home."""
        await asyncio.to_thread(self.people.renew_token)
        self.week.issue()
        self._machines = [asyncio.create_task(each.live(), name="a machine") for each in self.machines]
        evening = asyncio.create_task(self.people.view(None, self.people.sign_in()))
        self._viewers.append(evening)
        for hour in range(24):
            await self.hour(hour, round(runs * (hour + 1) / 24) - round(runs * hour / 24))
        async with asyncio.timeout(PATIENCE):
            assert await evening == "lab", "a browser that is signed out for long still sees the lab"
        await self._goes_home()
        self.days.append(await self._settled())

    async def _settled(self) -> Standing:
        """Return what there is at the end of a day; what ends or is forgotten by itself, by real seconds, may be so."""
        standing, ends = Standing.now(), time.monotonic() + PATIENCE
        while len(self.days) > 1 and not _is_like(standing, self.days[1]) and time.monotonic() < ends:
            await asyncio.sleep(1.0)
            standing = Standing.now()
        return standing

    async def hour(self, hour: int, runs: int) -> None:
        """Have so many runs come, and what comes and goes beside them, until all is done and the hour is over."""
        begin = self.week.clock.now()
        self.people.of_hour.clear()
        self.watch.begin()
        sessions = [self.people.session(size) for size in spread(self.random, runs)]
        errands = asyncio.create_task(self._errands(hour))
        self._pending = work = [*sessions, errands]
        released = begin
        while (passed := self.week.clock.now() - begin) < HOUR or not all(each.done() for each in work):
            await self.look()
            if begin + passed - released > RELEASE:
                released = begin + passed
                await asyncio.to_thread(self.people.release_machines)
            done = sum(len(each.ended) for each in self.people.of_hour) / max(1, runs)
            slice_ = SLICE if passed < HOUR * done else SLOWER
            await self.slice(PAUSE if all(each.done() for each in work) else slice_)
        await asyncio.gather(*sessions, errands)

    async def _errands(self, hour: int) -> None:
        """What comes and goes in an hour beside sessions."""
        self._viewers = [each for each in self._viewers if not each.done()]
        for number in range(2):
            lasts = self.random.uniform(0.1, 1.0)
            self._viewers.append(asyncio.create_task(self.people.view(lasts, stalls=lasts * number)))
        await asyncio.to_thread(self.people.errands, hour)
        if hour % 6 == 3:
            await self.week.reload()
            await asyncio.to_thread(self.people.renew_token)
        if hour == 12:
            newest = f"number {self.week.issued}"
            async with asyncio.timeout(5 * PATIENCE):  # a thread looks for it, beside all others that a day needs
                while await self.people.shown() != newest:
                    self.watch.begin()  # the lab looks for it every few real seconds, however far its clock is
                    await asyncio.sleep(0.2)

    async def _goes_home(self) -> None:
        """Have all end, and the lab forget what is over."""
        for each in self.machines:
            each.stopped = True
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*self._machines, *self._viewers)
        self._machines.clear()
        for each in self.machines:
            each.stopped = False
        self.told.messages.clear()
        self.told.asked.clear()
        await self.pass_by(HOUR)
        await until(self._is_quiet)

    def _is_quiet(self) -> bool:
        said = self.people.metrics()
        waits = sum(value for name, value in said.items() if name.startswith(("dispatch_runs{", "dispatch_sessions{")))
        return waits == 0


def _patience(session: Session) -> float:
    return UNHEARD if session.follows else UNSEEN


@asynccontextmanager
async def living(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Week]:
    random = Random(seed())
    async with AsyncExitStack() as stack:
        told = stack.enter_context(receiving())
        told.slow = SLOW
        week = await stack.enter_async_context(week_lab(folder, told.url(), monkeypatch))
        people = stack.enter_context(people_of(week, random))
        machines = [Firmware(week.port, each, week.clock, Random(seed() + each)) for each in STRANGERS]
        living_lab = Week(week, people, machines, told, random)
        stack.push_async_callback(living_lab.leave)
        yield living_lab


@pytest.mark.draw(1, of="days")
async def test_a_week_leaves_nothing_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, began = Standing.now(), time.monotonic()
    async with living(tmp_path, monkeypatch) as living_lab:
        for day in range(DAYS):
            await living_lab.day(RUNS * (day + 1) // DAYS - RUNS * day // DAYS)
            _tell(living_lab, began)
            assert living_lab.week.count("SELECT count(*) FROM dispatch_runs WHERE outcome IS NULL") == 0
            print("\n".join(living_lab.people.surprises), end="")
        _check_outcomes(living_lab.people)
        _check_memory(living_lab.days)
        await _check_that_all_goes(living_lab)
    assert Standing.now().more(before) == {}
    assert living_lab.week.temporary() == []


async def test_a_week_that_stands_fails_with_what_its_lab_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with living(tmp_path, monkeypatch) as living_lab:
        people, living_lab.watch.far = living_lab.people, HOUR / 2
        await asyncio.to_thread(people.renew_token)
        await asyncio.to_thread(people.made, "POST", "/hold", {"reason": "the racks are moved"})
        with pytest.raises(pytest.fail.Exception, match="nothing ended while the lab's clock was moved on") as failed:
            await living_lab.hour(0, 4)
    said = str(failed.value)
    assert "It waits: the whole lab is held by lab: the racks are moved" in said
    assert "rack-5 is " in said
    assert "0 of " in said


async def test_a_week_whose_clock_stands_fails_with_who_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with living(tmp_path, monkeypatch) as living_lab:
        people, living_lab.watch.looks = living_lab.people, 20
        people.sessions.append(Session(living_lab.week, "", "", "who never comes", tmp_path, {}))
        with pytest.raises(pytest.fail.Exception, match="it was not moved on in 21 looks") as failed:
            await living_lab.slice(60.0)
    assert "who never comes: 0 of 0 runs ended, not heard yet, does not follow" in str(failed.value)


def _tell(living_lab: Week, began: float) -> None:
    """Print a day's figures, for whoever runs the whole week."""
    day, said = living_lab.days[-1], sum((each.said for each in living_lab.machines), start=Counter[str]())
    rows = ", ".join(f"{name} {count}" for name, count in living_lab.week.rows().items())
    print(
        f"\nday {len(living_lab.days)} after {time.monotonic() - began:.0f} s: {day.memory:.1f} MiB,"
        f" {day.objects.total()} objects, {day.files.total()} files, {day.threads.total()} threads,"
        f" {day.tasks.total()} tasks; rows: {rows}; {dict(living_lab.people.seen)}; {dict(said)}"
    )
    if len(living_lab.days) > 1:
        grown = (day.objects - living_lab.days[-2].objects).most_common(8)
        print(f"  more objects than the day before: {grown}; {day.more(living_lab.days[-2])}")


def _check_outcomes(people: People) -> None:
    """What a session saw to its end has the outcome that it was to have."""
    assert not people.surprises, "\n\n".join(people.surprises)
    assert people.outcomes.total() > 0.7 * RUNS


def _check_memory(days: list[Standing]) -> None:
    """The first day fills what is kept; from the second on, each is as the one before."""
    for standing in days[2:]:
        objects = (standing.objects - days[1].objects).most_common(8)
        assert _is_like(standing, days[1]), (standing.more(days[1]), objects, standing.memory - days[1].memory)


def _is_like(standing: Standing, second: Standing) -> bool:
    """Return whether a day has left no more than the second one did."""
    little = standing.memory < second.memory + GROWS
    return little and not standing.more(second) and standing.objects.total() < second.objects.total() * (1 + OBJECTS)


async def _check_that_all_goes(living_lab: Week) -> None:
    """Some weeks later, nothing is left of what was over, but what is counted by series, and who is known."""
    week = living_lab.week
    await asyncio.to_thread(living_lab.people.release_machines)

    def left() -> dict[str, int]:
        held = {"holds that count": week.count(HELD)}
        return {name: count for name, count in (week.rows() | held).items() if count and name not in KEPT}

    fewest, ends = math.inf, 0.0
    while still := left():
        if sum(still.values()) < fewest:  # who is slow to be told takes as long as it takes: each delivery counts
            fewest, ends = sum(still.values()), time.monotonic() + PATIENCE
        if time.monotonic() > ends:
            pytest.fail(f"left over in the store: {still}")
        await living_lab.pass_by(DAY, HOUR)
        await asyncio.sleep(0.1)

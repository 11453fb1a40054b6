"""The lab: one queue, one journal, and around them the machines, the bytes, the outbox, and those who wait.

`orders` is what sessions ask for, `gate` what machines do; both go through the one `writer`. What a workload said is on
disk before it is acknowledged; what merely happened is written behind, in order. When the journal breaks, or a task in
the background dies, so does the lab: it answers nothing more but why, because it could not keep its word.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.errors import DispatchError, LabError
from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.core.machine import Identity
from pytest_dispatch.core.model import KnownBy, Run
from pytest_dispatch.core.notices import Notices
from pytest_dispatch.core.token import PUBLIC_API
from pytest_dispatch.lab.fleet import Fleet
from pytest_dispatch.lab.orders import Orders
from pytest_dispatch.lab.outbox import Filer, Outbox, Post
from pytest_dispatch.lab.services import Kind, Resources, Service
from pytest_dispatch.lab.tail import Shown, Tail
from pytest_dispatch.lab.tokens import Bearer, Tokens, UsedError
from pytest_dispatch.lab.writer import Writer
from pytest_dispatch.machines.base import Sign
from pytest_dispatch.store.journal import Journal, Letter, console_row

if TYPE_CHECKING:
    from pytest_dispatch.core.clock import Clock
    from pytest_dispatch.core.requirements import Labels
    from pytest_dispatch.core.runs import Change
    from pytest_dispatch.machines.base import Machine
    from pytest_dispatch.sources.cache import AssetCache

TICK = 0.1  # seconds between looks at the deadlines
SHARE = 0.5  # of the time that work waits, in which a machine of ours has to ask: the rest is for one more boot
RECALLED = 100_000  # console lines of an interrupted session that are taken back

#: After these, a machine of our own is not expected to come back by itself.
_STUCK = {CoreEvent.TIMEOUT, CoreEvent.FAULT, CoreEvent.CANCEL, CoreEvent.SILENCE}

_log = logging.getLogger(__name__)


class Lab:
    """See the module's docstring. `start` before use, `stop` after; both on the event loop.

    Args:
        clock: Tells the time.
        journal: Open.
        cache: Has the bytes.
        kinds: The kinds of workloads that it runs.
        machines: Those that the lab brings up itself.
        labels: What these have, by the machine's name.
        filers: Gives the filer for a repository, or None where no issue may be filed now.
        api: Address of the API that they file at.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        journal: Journal,
        cache: AssetCache,
        kinds: Iterable[Kind],
        machines: Iterable[Machine] = (),
        labels: Mapping[str, Labels] | None = None,
        filers: Callable[[str], Filer | None] = lambda _repo: None,
        api: str = PUBLIC_API,
    ) -> None:
        machines = list(machines)
        kinds = list(kinds)
        rules = {kind.rules.name: kind.rules for kind in kinds}
        self.writer = Writer(clock, journal, rules, self._changed, self._became_due)
        self.queue = self.writer.queue
        self.orders = Orders(self.writer, self._want, self._recall, api)
        self.notices = Notices()
        resources = Resources(self.writer, cache)
        self._services = {kind.rules.name: kind.service(resources) for kind in kinds}
        self._tokens = Tokens()
        self._machine_url: Callable[[str], str] = lambda token: token
        self._fleet = Fleet(machines, self._url_of, self, clock.now, self._expected)
        self._outbox = Outbox(journal, filers, self._tried, api=api)
        self._untried: dict[str, set[str]] = {}  # markers of issues, by run
        self._tail = Tail()
        self._tasks: set[asyncio.Task[None]] = set()
        for machine in machines:
            has = (labels or {}).get(machine.name)
            self.queue.machines.declare(machine.name, Identity(KnownBy.TOKEN, machine.name), labels=has, driven=True)

    async def start(self, machine_url: Callable[[str], str], letters: list[Letter]) -> None:
        """Begin to work.

        Args:
            machine_url: Makes the boot URL for a machine's token.
            letters: Issues that earlier sessions left in the journal.
        """
        self._machine_url = machine_url
        tick = asyncio.create_task(self._tick(), name="the look at deadlines")
        working = [task for service in self._services.values() for task in service.start()]
        for task in [tick, *working, self._outbox.start(letters), *self._fleet.listen()]:
            self.watch(task)

    async def stop(self) -> None:
        """Power off our machines and let go of everything; the journal stays as it is."""
        self.writer.stop()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._write_down(self._tail.end_all())
        services = [service.stop() for service in self._services.values()]
        await asyncio.gather(self._fleet.stop(), *services, self._outbox.stop())
        self.writer.hand_over()

    @property
    def broken(self) -> DispatchError | None:
        """Why the lab answers nothing more, once that is so."""
        return self.writer.broken

    def service(self, kind: str) -> Service:
        """Return what carries the workloads of a kind out."""
        return self._services[kind]

    @property
    def kinds(self) -> set[str]:
        """Return the names of the kinds that it runs."""
        return set(self._services)

    @property
    def progress(self) -> dict[str, int]:
        """Return how far those runs are that show it, in bytes, by run."""
        return {run: done for service in self._services.values() for run, done in service.progress.items()}

    def bearer(self, token: str) -> Bearer | None:
        """Whose token this is; None if it is none of ours."""
        return self._tokens.bearer(token)

    def filing(self, run: Run) -> bool:
        """Whether issues of this run are on their way and GitHub has not yet said yes or no."""
        return run.id in self._untried

    def console(self, run: Run) -> list[tuple[float, str]]:
        """What the machine of the run's latest attempt on one showed."""
        held = [a for a in run.attempts if a.machine]
        return self._tail.of(run.id, held[-1].number) if held else []

    def notice(self, machine: str, what: str, kind: str, why: str) -> None:
        """Note what befell a machine, for whoever waits at a terminal."""
        if self.notices.note(machine, what, kind, why, self.writer.clock.now()):
            self.writer.wake()

    def post(self) -> Post:
        """How the outbox stands."""
        return self._outbox.post()

    # As the fleet's witness

    def shown(self, machine: str, sign: Sign) -> None:
        """A machine of ours showed something."""
        now = self.writer.clock.now()
        seen = self.queue.machines.get(machine)
        run = self.queue.runs.get(seen.holds) if seen else None
        if run is None:
            self._tail.before(machine, now, sign.text)
        else:
            self._write_down(self._tail.add(run.id, run.attempt.number, now, sign.text))
        if sign.fault:
            held = self.queue.scheduler.fault(machine, sign.fault, now, lab=sign.lab)
            self.writer.commit()
            if not held:
                self.notice(machine, "broke down", "fault", f"{sign.fault}; it had no workload, and boots anew")
                self._fleet.cycle(machine)

    def refused(self, bearer: Bearer, error: UsedError) -> None:
        """A machine of ours asked with a boot URL whose boot is over; once for each of them, its console tells so.

        Perhaps its driver has missed a boot: whoever waits for it is to see why.
        """
        if not (bearer.replaced or bearer.warned):
            bearer.warned = True
            self.shown(bearer.machine, Sign(text=f"refused: {error}"))

    def out_of_order(self, machine: str, why: str) -> None:
        """A machine of ours cannot be brought up."""
        self.notice(machine, "out of order", "", why)
        self.queue.scheduler.fault(machine, why, self.writer.clock.now(), lab=True)
        self.writer.commit()

    def watch(self, task: asyncio.Task[None]) -> None:
        """Break the lab if this task in the background dies: nobody would notice, and all would wait in vain."""
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _write_down(self, lines: list[Shown]) -> None:
        self.writer.write([console_row(*line) for line in lines])

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        if not isinstance(error, DispatchError):  # which says all that there is to say
            _log.error("%s ended", task.get_name(), exc_info=error)
            what = f"{task.get_name()} ended with {type(error).__name__}: {error}"
            error = LabError(f"the lab is broken: {what}; start it again, and report this with its traceback")
        self.writer.fail(error)

    # What follows from a change

    def _changed(self, change: Change) -> None:
        run = change.run
        attempt = run.attempts[change.attempt - 1]
        if change.event == CoreEvent.ASSIGN and attempt.machine:
            self._write_down(self._tail.take(attempt.machine, run.id, attempt.number))
        if attempt.ended:
            self._write_down(self._tail.end(run.id, attempt.number))
        self._services[run.workload.kind].changed(change)
        if change.event in _STUCK and attempt.ended:
            self._fleet.cycle(attempt.machine)
        if run.id in self.queue.engine.waiting:
            self._begin_anew(attempt.machine)

    def _begin_anew(self, last: str) -> None:
        """Wake machines for a run that waits once more, and better for another one than its last."""
        self._fleet.wake()
        for name in self._waiting():
            if name != last:
                self._fleet.call(name)  # it would sit the rest of its minute out

    def _became_due(self, letter: Letter) -> None:
        self._untried.setdefault(letter.run, set()).add(letter.issue.marker)
        self._outbox.put(letter)

    def _tried(self, letter: Letter) -> None:
        untried = self._untried.get(letter.run, set())
        untried.discard(letter.issue.marker)
        if not untried:
            self._untried.pop(letter.run, None)
        if letter.url and letter.session in self.writer.ledgers:
            self.writer.ledgers[letter.session].filed(letter)
        self.writer.wake()

    async def dismiss(self) -> None:
        """Power off those of our own machines that wait for work, once there is none."""
        if self.queue.engine.alive:
            return
        for name in self._waiting():
            await self._fleet.power_off(name)

    def is_off(self, machine: str) -> bool:
        """Whether the machine took the power-off program, or is ours and off anyway, or takes nothing of ours.

        One that an earlier lab brought up, and that this one has not, has gone with it. One that is held takes nothing,
        nor does one that others assign work to.
        """
        machines, now = self.queue.machines, self.writer.clock.now()
        seen = machines[machine]
        if machines.is_held(machine, now) or not (seen.machine.driven or machines.may_ask(machine, now)):
            return True
        gone = seen.machine.driven and machine not in self._fleet
        return gone or seen.off or self._fleet.is_off(machine)

    def _waiting(self) -> list[str]:
        """Return our own machines that were told to wait for work."""
        waiting = {machine for service in self._services.values() for machine in service.waiting_machines()}
        return [name for name in self._fleet if name in waiting]

    # What kinds do for their runs

    async def _want(self, runs: list[Run]) -> None:
        if any(seen.machine.driven for seen in self.queue.machines.values()):  # else others may yet come
            runs = [run for run in runs if not self._refuse(run)]
            self.writer.commit()
        for kind, service in self._services.items():
            if wanted := [run for run in runs if run.workload.kind == kind]:
                service.wanted(wanted)
        self._rouse()

    def _refuse(self, run: Run) -> bool:
        """Give a run up at once that none of our machines can ever run; tells whether that is so."""
        lacking = self.queue.scheduler.lacking(run)
        if lacking:
            self.queue.engine.lacks(run.id, f"no machine can run it: {lacking}", self.writer.clock.now())
        return bool(lacking)

    def _recall(self, session: str) -> None:
        """Take back what the journal has of a session's attempts: what they ran, and their consoles."""
        for kind, service in self._services.items():
            service.recalled(session)
            service.adopt([run for run in self.queue.sessions.under_way(session) if run.workload.kind == kind])
        for run_id, attempt, at, text in self.writer.journal.console(session, RECALLED):
            if run_id in self.queue.runs:
                self._tail.recall(run_id, attempt, at, text)

    # Machines of our own

    def _url_of(self, machine: str) -> str:
        """For its next boot, and no other."""
        return self._machine_url(self._tokens.renew(machine, self.writer.clock.now()))

    def _expected(self, machine: str) -> float:
        """Since when a machine of ours may ask any moment; it need not as long as what it fetched runs."""
        bearer, seen = self._tokens.present(machine), self.queue.machines.get(machine)
        if (bearer and bearer.got) or (seen and seen.holds):
            return math.inf
        return max(bearer.since if bearer else 0.0, seen.expected if seen else 0.0)

    def _rouse(self) -> None:
        """Bring those of our machines that do nothing to work that waits.

        If none is left and no stranger was seen, say so.
        """
        patience = SHARE * self.queue.table.patience
        late = self._fleet.late(patience)
        engine, waiting = self.queue.engine, self.queue.engine.waiting
        if not (late or self._fleet.resting) or not waiting:
            return
        self._fleet.wake()
        for name in late:
            self.notice(name, "late", "", f"it did not ask what to boot for {format_duration(patience)}")
            self._fleet.prod(name, patience)
        strangers = any(not seen.machine.driven for seen in self.queue.machines.values())
        if self._fleet.lost and not strangers:
            for run_id in list(waiting):
                engine.lacks(run_id, f"no machine is left: {self._fleet.lost}", self.writer.clock.now())
            self.writer.commit()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self.queue.expire(self.writer.clock.now())
            self.writer.commit()
            self._rouse()

"""The lab: one queue, one journal, and around them the machines, the bytes, the outbox, and those who wait.

`orders` is what sessions ask for, `gate` what machines do; both go through the one `writer`. What a workload said is on
disk before it is acknowledged; what merely happened is written behind, in order. When the journal breaks, or a task in
the background dies, so does the lab: it answers nothing more but why, because it could not keep its word.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.errors import DispatchError, LabError
from pytest_dispatch.core.model import Idle, Run, State
from pytest_dispatch.core.notices import Notices
from pytest_dispatch.core.roster import known_by_address
from pytest_dispatch.core.states import Event
from pytest_dispatch.core.token import PUBLIC_API
from pytest_dispatch.filestamp import UNKNOWN
from pytest_dispatch.lab.fleet import Fleet
from pytest_dispatch.lab.gate import Gate
from pytest_dispatch.lab.orders import Orders
from pytest_dispatch.lab.outbox import Filer, Outbox, Post
from pytest_dispatch.lab.supply import Supply
from pytest_dispatch.lab.tail import Shown, Tail
from pytest_dispatch.lab.tokens import Bearer, Tokens, UsedError
from pytest_dispatch.lab.writer import Writer
from pytest_dispatch.machines.base import Sign
from pytest_dispatch.sources.cache import Asset
from pytest_dispatch.store.journal import Journal, Letter, console_row, served_row

if TYPE_CHECKING:
    from pytest_dispatch.core.clock import Clock
    from pytest_dispatch.core.model import Workload
    from pytest_dispatch.core.queue import Change
    from pytest_dispatch.machines.base import Machine
    from pytest_dispatch.sources.cache import AssetCache

TICK = 0.1  # seconds between looks at the deadlines
SHARE = 0.5  # of the time that work waits, in which a machine of ours has to ask: the rest is for one more boot
RECALLED = 100_000  # console lines of an interrupted session that are taken back

#: After these, a machine of our own is not expected to come back by itself.
_STUCK = {Event.TIMEOUT, Event.FAULT, Event.CANCEL, Event.SILENCE}

#: An attempt in these has taken none of its bytes, or not all.
_NOTHING_TAKEN = {State.UNASSIGNED, State.ASSIGNED, State.DOWNLOADING}


_log = logging.getLogger(__name__)


class Lab:
    """See the module's docstring. `start` before use, `stop` after; both on the event loop.

    Args:
        clock: Tells the time.
        journal: Open.
        cache: Has the bytes.
        machines: Those that the lab brings up itself.
        filers: Gives the filer for a repository, or None where no issue may be filed now.
        api: Address of the API that they file at.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        journal: Journal,
        cache: AssetCache,
        machines: Iterable[Machine] = (),
        filers: Callable[[str], Filer | None] = lambda _repo: None,
        api: str = PUBLIC_API,
    ) -> None:
        machines = list(machines)
        self.writer = Writer(clock, journal, self._changed, self._became_due)
        self.queue = self.writer.queue
        self.orders = Orders(self.writer, self._want, self._recall, api)
        self.gate = Gate(self.writer)
        self.notices = Notices()
        self._tokens = Tokens()
        self._machine_url: Callable[[str], str] = lambda token: token
        self._fleet = Fleet(machines, self._url_of, self, clock.now, self._expected)
        self._supply = Supply(cache, self._fetched, self._unfetchable)
        self._outbox = Outbox(journal, filers, self._tried, api=api)
        self._untried: dict[str, set[str]] = {}  # markers of issues, by run
        self._tail = Tail()
        self._later: dict[str, Asset] = {}  # for a further attempt, while a machine runs other bytes; by run
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, machine_url: Callable[[str], str], letters: list[Letter]) -> None:
        """Begin to work.

        Args:
            machine_url: Makes the boot URL for a machine's token.
            letters: Issues that earlier sessions left in the journal.
        """
        self._machine_url = machine_url
        tick = asyncio.create_task(self._tick(), name="the look at deadlines")
        for task in [tick, *self._supply.start(), self._outbox.start(letters), *self._fleet.listen()]:
            self.watch(task)

    async def stop(self) -> None:
        """Power off our machines and let go of everything; the journal stays as it is."""
        self.writer.stop()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._write_down(self._tail.end_all())
        await asyncio.gather(self._fleet.stop(), self._supply.stop(), self._outbox.stop())
        self.writer.hand_over()

    @property
    def broken(self) -> DispatchError | None:
        """Why the lab answers nothing more, once that is so."""
        return self.writer.broken

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
            held = self.queue.fault(machine, sign.fault, now, lab=sign.lab)
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
        self.queue.fault(machine, why, self.writer.clock.now(), lab=True)
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
        self._note_what_it_is_given(change)
        if attempt.ended:
            self._write_down(self._tail.end(run.id, attempt.number))
        if change.event is Event.ASSIGN or run.outcome is not None:
            self._supply.taken(run.id)
        if change.event in _STUCK and attempt.ended:
            self._fleet.cycle(attempt.machine)
        if run.attempt.state is State.UNASSIGNED:
            self._begin_anew(run, attempt.machine)

    def _note_what_it_is_given(self, change: Change) -> None:
        """What an attempt's machine showed before it took it, and of which bytes it begins to download it."""
        run, number = change.run, change.attempt
        if change.event is Event.ASSIGN:
            self._write_down(self._tail.take(run.attempts[number - 1].machine, run.id, number))
        if change.event is Event.SEND:
            self.writer.write([served_row(run.id, number, self.writer.digest_of(run))])

    def _begin_anew(self, run: Run, last: str) -> None:
        """A run waits for a machine once more, and better for another one than its last."""
        if run.id in self._later:
            self.writer.assets[run.id] = self._later.pop(run.id)
        if self.queue.held_back(run):
            return
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
        if any(run.outcome is None and not self.queue.held_back(run) for run in self.queue.runs.values()):
            return
        for name in self._waiting():
            await self._fleet.power_off(name)

    def is_off(self, machine: str) -> bool:
        """Whether the machine took the power-off program, or is ours and off anyway.

        One that an earlier lab brought up, and that this one has not, has gone with it.
        """
        gone = not known_by_address(machine) and machine not in self._fleet
        return gone or self.queue.machines[machine].off or self._fleet.is_off(machine)

    def _waiting(self) -> list[str]:
        """Our own machines that run the wait program."""
        seen = [self.queue.machines[name] for name in self._fleet if name in self.queue.machines]
        return [machine.name for machine in seen if not machine.holds and machine.promised is Idle.WAIT]

    # Bytes

    async def _want(self, runs: list[Run]) -> None:
        for run in runs:
            self._supply.taken(run.id)  # what was fetched for it before it was asked for again does not count
        self._supply.want(runs)
        self._rouse()

    def _fetched(self, run: Run, asset: Asset) -> None:
        now = self.queue.runs[run.id]
        if not _same_bytes(run.workload, now.workload):
            return  # it was asked for again since, and others are on their way
        old = self.writer.assets.get(run.id)
        if old is None or old.digest == asset.digest or now.attempt.state in _NOTHING_TAKEN:
            self.writer.assets[run.id] = asset
        else:
            self._later[run.id] = asset
        self.queue.ready(run.id)
        if self.queue.runs[run.id].attempt.machine:  # taken back from the journal: no machine will take it once more
            self._supply.taken(run.id)
        self.writer.wake()

    def _unfetchable(self, run: Run, why: str) -> None:
        if not _same_bytes(run.workload, self.queue.runs[run.id].workload):
            return
        self.queue.unfetchable(run.id, why, self.writer.clock.now())
        self.writer.commit()

    def _recall(self, session: str) -> None:
        """Take back what the journal has of a session's attempts: the digests of what they ran, and their consoles."""
        journal, runs = self.writer.journal, self.queue.runs
        for run_id, digest in journal.served(session).items():
            if run_id in runs:
                workload = runs[run_id].workload
                path = Path(workload.location)
                self.writer.assets[run_id] = Asset(path=path, size=workload.size, digest=digest, stamp=UNKNOWN)
        for run_id, attempt, at, text in journal.console(session, RECALLED):
            if run_id in runs:
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
        patience = SHARE * max((self.queue.policy(s).limits.assign for s in self.writer.ledgers), default=math.inf)
        late = self._fleet.late(patience)
        if not (late or self._fleet.resting):
            return
        queue = self.queue
        unassigned = [run for run in queue.runs.values() if not run.outcome and run.attempt.state is State.UNASSIGNED]
        waiting = [run for run in unassigned if not queue.held_back(run)]
        if not waiting:
            return
        self._fleet.wake()
        for name in late:
            self.notice(name, "late", "", f"it did not ask what to boot for {format_duration(patience)}")
            self._fleet.prod(name, patience)
        if self._fleet.lost and not any(map(known_by_address, queue.machines)):
            for run in waiting:
                queue.unfetchable(run.id, f"no machine is left: {self._fleet.lost}", self.writer.clock.now())
            self.writer.commit()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self.queue.expire(self.writer.clock.now())
            self.writer.commit()
            self._rouse()


def _same_bytes(one: Workload, other: Workload) -> bool:
    """Whether two descriptions are of the same bytes."""
    return (one.location, one.size, one.digest) == (other.location, other.size, other.digest)

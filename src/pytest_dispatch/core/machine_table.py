"""The machines of a lab: their state, the runs that they hold, and when each was last heard from."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.machine import Hold, Identity, Machine, MachineState
from pytest_dispatch.core.model import KnownBy, Phase, Run
from pytest_dispatch.core.unknown_callers import UnknownCallers

LATELY = 2  # latest runs of a machine that may still send a report; a report may arrive after the next boot
SILENCE = 300.0  # a machine silent for so long may lose a run that has not booted to another machine that asks

#: Phases in which the machine of an attempt counts as running.
_RUNS = {Phase.RUNNING, Phase.SETTLING}


@dataclass(slots=True, eq=False)
class MachineRecord:
    """What the lab knows of a machine.

    Attributes:
        machine: The machine as a value.
        heard: When it was last heard from.
        expected: Since when it is expected to ask: when it last asked, or was released from a run.
        holds: Id of the run that it is busy with or reserved for.
        also: Ids of further runs that an external system placed on it; the first takes over when the held run ends.
        hold: Why it is kept out of scheduling, if it is.
        off: Whether it is known to be off.
        changed: When it last took or released a run, or was turned on or off.
        broken: Why it cannot be started; empty if no such fault is known.
        ran: Ids of the runs that it held, in order, without immediate repetitions. The latest may be runs that are only
            in the journal.
    """

    machine: Machine
    heard: float = 0.0
    expected: float = 0.0
    holds: str = ""
    also: list[str] = field(default_factory=list)
    hold: Hold | None = None
    off: bool = False
    changed: float = 0.0
    broken: str = ""
    ran: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        """Return the machine's id."""
        return self.machine.id

    def is_held(self, now: float) -> bool:
        """Return whether it is kept out of scheduling; a hold whose end has come is removed."""
        if self.hold is not None and self.hold.until is not None and self.hold.until <= now:
            self.readmit(self.hold.until)
        return self.hold is not None

    def readmit(self, now: float) -> None:
        """End its hold, if it has one."""
        if self.hold is not None:
            self.hold, self.changed = None, now

    def turns_on(self, now: float) -> None:
        """Mark the machine as on."""
        if self.off or self.broken or not self.changed:
            self.off, self.broken, self.changed = False, "", now

    @property
    def latest(self) -> list[str]:
        """Return the ids of the runs that may still send a report, the latest first."""
        return [*dict.fromkeys(reversed(self.ran[-LATELY:]))]

    def runs(self, run_id: str) -> None:
        """Record that it holds an attempt of this run."""
        if run_id not in self.ran[-1:]:
            self.ran.append(run_id)


class MachineTable(Mapping[str, MachineRecord]):
    """Every machine, with indexes by id, identity, silence and presence, so that no lookup scans all machines.

    Attributes:
        changed: Those of which something else is known, or which are kept out of scheduling or not any more, since
            whoever journals them emptied this. How they stand from moment to moment is no part of it.
        on_power_off: Told that a machine has powered itself off.
    """

    def __init__(self) -> None:
        self.on_power_off: Callable[[str], None] = lambda _machine: None
        self.unknown = UnknownCallers()
        self.changed: dict[str, None] = {}
        self._records: dict[str, MachineRecord] = {}
        self._withheld: dict[str, None] = {}
        self._by_identity: dict[Identity, str] = {}
        self._present: OrderedDict[str, None] = OrderedDict()  # not powered off; ordered by `expected`
        self._busy: set[str] = set()  # machines that ask for work and hold a run
        self._revocable: OrderedDict[str, None] = OrderedDict()  # machines that may lose their run; ordered by `heard`

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, machine: str) -> MachineRecord:
        return self._records[machine]

    def find(self, machine: str) -> MachineRecord | None:
        """Return what is known of a machine, or None; a single lookup, because it is called for each console line."""
        return self._records.get(machine)

    def declare(
        self, machine: str, *identities: Identity, labels: Mapping[str, str] | None = None, driven: bool = False
    ) -> MachineRecord:
        """Add a machine, or an identity to a known machine; what is already known stays."""
        record = self._records.get(machine)
        if record is None:
            record = self._records[machine] = MachineRecord(Machine(id=machine, labels=labels or {}, driven=driven))
            self.changed[machine] = None
        if new := frozenset(identities) - record.machine.identities:
            record.machine = replace(record.machine, identities=record.machine.identities | new)
            self._by_identity.update(dict.fromkeys(new, machine))
            self.changed[machine] = None
        return record

    def called(self, identity: Identity) -> str:
        """Return the id of the machine with this identity; for an unknown machine, the id that it would get."""
        return self._by_identity.get(identity, identity.value)

    def remember(self, machine: str, known_by: KnownBy, ran: Iterable[str], now: float) -> None:
        """Record the runs that a machine held under an earlier lab, in order; an unknown machine is added as off."""
        record = self._records.get(machine)
        if record is None:
            identity = Identity(known_by, machine)
            record = self.declare(machine, identity, driven=known_by is KnownBy.TOKEN)
            record.heard, record.off, record.changed = now, True, now
        record.ran[:0] = [run for run in ran if run not in record.ran]

    # What machines do

    def asks(self, machine: str, known_by: KnownBy, now: float) -> MachineRecord:
        """Record that a machine asks for work, and so is on; an unknown machine is added."""
        record = self._records.get(machine) or self.declare(machine, Identity(known_by, machine))
        record.turns_on(now)
        self._present[machine] = None
        self._hear(record, now)
        self._expect(record, now)
        return record

    def speaks(self, machine: str, now: float) -> MachineRecord | None:
        """Record a sign of life, and return None if the machine is unknown."""
        record = self._records.get(machine)
        if record is not None:
            self._hear(record, now)
        return record

    def speaks_as(self, machine: str, known_by: KnownBy, now: float) -> MachineRecord:
        """Record a sign of life of a machine that an external system assigns; an unknown machine is added."""
        record = self._records.get(machine) or self.declare(machine, Identity(known_by, machine))
        record.turns_on(now)
        self._hear(record, now)
        return record

    def powered_off(self, machine: str, now: float) -> None:
        """Mark the machine as powered off."""
        record = self._records[machine]
        record.off, record.changed = True, now
        self._present.pop(machine, None)
        self.on_power_off(machine)

    def broke(self, machine: str, why: str, now: float) -> None:
        """Mark the machine as broken until it asks for work again."""
        record = self._records[machine]
        record.broken, record.changed = why, now
        self._present.pop(machine, None)

    # What machines hold

    def hold(self, machine: str, run_id: str, now: float, *, revocable: bool) -> None:
        """Mark the machine as busy with a run; with `revocable`, silence may cost it the run."""
        record = self._records[machine]
        if record.holds not in ("", run_id):
            if run_id not in record.also:
                record.also.append(run_id)
                record.runs(run_id)
            return
        if record.holds != run_id:
            record.holds, record.changed = run_id, now
            record.runs(run_id)
        if machine in self._present:
            self._busy.add(machine)
        if revocable:
            self._revocable[machine] = None
            self._revocable.move_to_end(machine)
        else:
            self._revocable.pop(machine, None)

    def release(self, machine: str, run_id: str, now: float) -> None:
        """Free the machine from a run, if it holds that run."""
        record = self._records[machine]
        if run_id in record.also:
            record.also.remove(run_id)
        elif record.holds == run_id:
            record.holds, record.changed = record.also.pop(0) if record.also else "", now
            self._revocable.pop(machine, None)
            self._expect(record, now)
            if not record.holds:
                self._busy.discard(machine)

    def silent(self, now: float) -> MachineRecord | None:
        """Return the machine that has been silent for longest, if that is too long and it may lose its run."""
        for machine in self._revocable:
            record = self._records[machine]
            return record if now - record.heard >= SILENCE else None
        return None

    def another(self, machine: str, now: float) -> bool:
        """Return whether there is another machine: one that is busy, or one that is expected to ask soon.

        A machine that sends other messages but does not ask takes no work, and so does not count.
        """
        if self._busy:
            return True
        others = (name for name in reversed(self._present) if name != machine and not self.is_held(name, now))
        latest = next(others, None)
        return latest is not None and now - self._records[latest].expected < SILENCE

    # Machines kept out of scheduling

    def withhold(self, machine: str, hold: Hold) -> None:
        """Keep a machine out of scheduling; the run that it holds goes on."""
        self._records[machine].hold = hold
        self._withheld[machine] = self.changed[machine] = None

    def readmit(self, machine: str, now: float) -> None:
        """End a machine's hold, if it has one, from this time on."""
        record = self._records[machine]
        record.readmit(now)
        self._withheld.pop(machine, None)
        self.changed[machine] = None

    def end_holds(self, now: float) -> None:
        """End the holds whose end has come."""
        for machine in [name for name in self._withheld if not self.is_held(name, now)]:
            self.readmit(machine, now)

    def is_held(self, machine: str, now: float) -> bool:
        """Return whether a machine is kept out of scheduling."""
        record = self._records.get(machine)
        return record is not None and record.is_held(now)

    def may_ask(self, machine: str, now: float) -> bool:
        """Return whether a machine is on, asks the lab for work, and may get some."""
        return machine in self._present and not self.is_held(machine, now)

    def forget(self, remembered: Container[str]) -> None:
        """Forget the runs that machines held, except those in `remembered` and the latest, which may still report."""
        for record in self._records.values():
            earlier = [run for run in record.ran[:-LATELY] if run in remembered]
            record.ran = [*earlier, *record.ran[-LATELY:]]

    # The state of machines

    def _hear(self, record: MachineRecord, now: float) -> None:
        if not record.holds and now >= record.heard + SILENCE:
            record.changed = now  # it was offline until now
        record.heard = now
        if record.id in self._revocable:
            self._revocable.move_to_end(record.id)

    def _expect(self, record: MachineRecord, now: float) -> None:
        record.expected = now
        if record.id in self._present:
            self._present.move_to_end(record.id)


def recall(machines: MachineTable, machine: Machine, hold: Hold | None, now: float) -> None:
    """Add a machine as an earlier lab knew it, with its hold; what is already known of it stays."""
    known = machine.id in machines
    machines.declare(machine.id, *machine.identities, labels=machine.labels, driven=machine.driven)
    if hold is not None:
        machines.withhold(machine.id, replace(hold, since=min(hold.since, now)))
    elif not known:
        del machines.changed[machine.id]  # it is in the journal already


def as_of(record: MachineRecord, run: Run | None, now: float) -> Machine:
    """Return a machine with its state.

    Args:
        record: The machine's record.
        run: The run whose attempt it holds, if any.
        now: The time.
    """
    record.is_held(now)  # removes a hold whose end has come
    state, reason, since = _standing(record, run, now)
    return replace(record.machine, state=state, reason=reason, since=since)


def _standing(record: MachineRecord, run: Run | None, now: float) -> tuple[MachineState, str, float]:
    """Return a machine's state, the reason, and since when."""
    hold, changed, silent = record.hold, record.changed, record.heard + SILENCE
    began = run.attempt.began if run is not None and run.attempt.phase in _RUNS else math.inf
    name = run.workload.name if run is not None else ""
    unheard = f"not heard of for {format_duration(SILENCE)}"
    rows = (
        (hold is not None, MachineState.HELD, hold.reason if hold else "", hold.since if hold else 0.0),
        (began < math.inf, MachineState.RUNNING, name, max(began, changed)),
        (run is not None, MachineState.RESERVED, name, changed),
        (bool(record.broken), MachineState.BROKEN, record.broken, changed),
        (record.off, MachineState.OFF, "", changed),
        (not record.heard, MachineState.UNKNOWN, "", 0.0),
        (now >= silent, MachineState.OFFLINE, unheard, silent),
        (True, MachineState.IDLE, "", changed),
    )
    return next((state, reason, since) for holds, state, reason, since in rows if holds)

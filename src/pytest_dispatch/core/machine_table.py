"""The machines of a lab: how each stands, which run it holds, and which were heard of lately."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.machine import Hold, Identity, Machine, MachineState
from pytest_dispatch.core.model import KnownBy, Phase, Run
from pytest_dispatch.core.unknown_callers import UnknownCallers

LATELY = 2  # runs of a machine of which a report may yet come: it crosses one boot
SILENCE = 300.0  # a machine not heard of for so long may lose what it has not yet begun to run to another that asks

#: Of an attempt whose machine is said to run.
_RUNS = {Phase.RUNNING, Phase.SETTLING}


@dataclass(slots=True, eq=False)
class MachineRecord:
    """What the lab knows of a machine.

    Attributes:
        machine: As a value.
        heard: When it was last heard of.
        expected: Since when it may ask any moment: then it last asked, or was done with what it held.
        holds: Id of the run whose attempt it is busy with, or reserved for.
        also: Ids of other runs that were seen there since, as others assigned them; the first is next when that ends.
        hold: Why it is kept out of scheduling, if it is.
        off: It is known to be off.
        changed: When it last took something up, let go of it, or went on or off.
        broken: Why it cannot be brought up; empty if it can, as far as is known.
        ran: Ids of runs whose attempts it held, in order; once for several attempts in a row. The latest may be of runs
            that only the journal has.
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
        """Tell whether it is kept out of scheduling; a hold whose time has come ends with that."""
        if self.hold is not None and self.hold.until is not None and self.hold.until <= now:
            self.readmit(self.hold.until)
        return self.hold is not None

    def readmit(self, now: float) -> None:
        """Let it be used again, if it is kept out."""
        if self.hold is not None:
            self.hold, self.changed = None, now

    def turns_on(self, now: float) -> None:
        """Note that it is on."""
        if self.off or self.broken or not self.changed:
            self.off, self.broken, self.changed = False, "", now

    @property
    def latest(self) -> list[str]:
        """Return the ids of the runs of which a report may yet come, the last one first."""
        return [*dict.fromkeys(reversed(self.ran[-LATELY:]))]

    def runs(self, run_id: str) -> None:
        """Note that it holds an attempt of this run."""
        if run_id not in self.ran[-1:]:
            self.ran.append(run_id)


class MachineTable(Mapping[str, MachineRecord]):
    """Every machine, found by id, by identity, by silence, or by being there at all; never by looking at all.

    Attributes:
        changed: Those of which something else is known, or which are kept out of scheduling or not any more, since
            whoever journals them emptied this. How they stand from moment to moment is no part of it.
    """

    def __init__(self) -> None:
        self.unknown = UnknownCallers()
        self.changed: dict[str, None] = {}
        self._records: dict[str, MachineRecord] = {}
        self._withheld: dict[str, None] = {}
        self._present: OrderedDict[str, None] = OrderedDict()  # not powered off; last expected last
        self._busy: set[str] = set()  # hold something, of those that ask for work
        self._revocable: OrderedDict[str, None] = OrderedDict()  # may lose what they hold; last heard of last

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, machine: str) -> MachineRecord:
        return self._records[machine]

    def find(self, machine: str) -> MachineRecord | None:
        """Return what is known of a machine; None if nothing is. In one look, as it is asked for each console line."""
        return self._records.get(machine)

    def declare(
        self, machine: str, *identities: Identity, labels: Mapping[str, str] | None = None, driven: bool = False
    ) -> MachineRecord:
        """Let a machine be known, or by one more identity; what is known of it already stays."""
        record = self._records.get(machine)
        if record is None:
            record = self._records[machine] = MachineRecord(Machine(id=machine, labels=labels or {}, driven=driven))
            self.changed[machine] = None
        if new := frozenset(identities) - record.machine.identities:
            record.machine = replace(record.machine, identities=record.machine.identities | new)
            self.changed[machine] = None
        return record

    def remember(self, machine: str, known_by: KnownBy, ran: Iterable[str], now: float) -> None:
        """Note which runs it held in an earlier life of the lab, in order; as far as is known it is off."""
        record = self._records.get(machine)
        if record is None:
            identity = Identity(known_by, machine)
            record = self.declare(machine, identity, driven=known_by is KnownBy.TOKEN)
            record.heard, record.off, record.changed = now, True, now
        record.ran[:0] = [run for run in ran if run not in record.ran]

    # What they do

    def asks(self, machine: str, known_by: KnownBy, now: float) -> MachineRecord:
        """Note that it asks for work, and so is on; one that nobody knew is known from now on."""
        record = self._records.get(machine) or self.declare(machine, Identity(known_by, machine))
        record.turns_on(now)
        self._present[machine] = None
        self._hear(record, now)
        self._expect(record, now)
        return record

    def speaks(self, machine: str, now: float) -> MachineRecord | None:
        """Note a sign of life; returns None if it is of a machine that never asked for work."""
        record = self._records.get(machine)
        if record is not None:
            self._hear(record, now)
        return record

    def speaks_as(self, machine: str, known_by: KnownBy, now: float) -> MachineRecord:
        """Note a sign of life of a machine that others assign work to; one that nobody knew is known from now on."""
        record = self._records.get(machine) or self.declare(machine, Identity(known_by, machine))
        record.turns_on(now)
        self._hear(record, now)
        return record

    def powered_off(self, machine: str, now: float) -> None:
        """Mark the machine as powered off."""
        record = self._records[machine]
        record.off, record.changed = True, now
        self._present.pop(machine, None)

    def broke(self, machine: str, why: str, now: float) -> None:
        """Note that it cannot be brought up, until it asks after all."""
        record = self._records[machine]
        record.broken, record.changed = why, now
        self._present.pop(machine, None)

    # What they hold

    def hold(self, machine: str, run_id: str, now: float, *, revocable: bool) -> None:
        """Let it be busy with this run, which it may lose by silence if `revocable`."""
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
        """Let it be free, if this run is what it holds."""
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
        """Return the one that was silent for longest, and too long, with what it may lose."""
        for machine in self._revocable:
            record = self._records[machine]
            return record if now - record.heard >= SILENCE else None
        return None

    def another(self, machine: str, now: float) -> bool:
        """Tell whether there is another machine than this one: a busy one, or one that is to ask soon.

        One that merely speaks takes no work, and so keeps none from this one.
        """
        if self._busy:
            return True
        others = (name for name in reversed(self._present) if name != machine and not self.is_held(name, now))
        latest = next(others, None)
        return latest is not None and now - self._records[latest].expected < SILENCE

    # Which are kept out

    def withhold(self, machine: str, hold: Hold) -> None:
        """Keep a machine out of scheduling; what it holds already goes on."""
        self._records[machine].hold = hold
        self._withheld[machine] = self.changed[machine] = None

    def readmit(self, machine: str, now: float) -> None:
        """Let a machine be used again from this time on, if it is kept out."""
        record = self._records[machine]
        record.readmit(now)
        self._withheld.pop(machine, None)
        self.changed[machine] = None

    def end_holds(self, now: float) -> None:
        """Let machines be used again that are kept out until now."""
        for machine in [name for name in self._withheld if not self.is_held(name, now)]:
            self.readmit(machine, now)

    def is_held(self, machine: str, now: float) -> bool:
        """Tell whether a machine is kept out of scheduling."""
        record = self._records.get(machine)
        return record is not None and record.is_held(now)

    def may_ask(self, machine: str, now: float) -> bool:
        """Tell whether a machine is on that asks us for work, and may get some; others wait for nothing of ours."""
        return machine in self._present and not self.is_held(machine, now)

    def forget(self, remembered: Container[str]) -> None:
        """Forget which runs they held, but for these, and for the latest: of those a machine may yet speak."""
        for record in self._records.values():
            earlier = [run for run in record.ran[:-LATELY] if run in remembered]
            record.ran = [*earlier, *record.ran[-LATELY:]]

    # How they stand

    def _hear(self, record: MachineRecord, now: float) -> None:
        if not record.holds and now >= record.heard + SILENCE:
            record.changed = now  # it was offline
        record.heard = now
        if record.id in self._revocable:
            self._revocable.move_to_end(record.id)

    def _expect(self, record: MachineRecord, now: float) -> None:
        record.expected = now
        if record.id in self._present:
            self._present.move_to_end(record.id)


def recall(machines: MachineTable, machine: Machine, hold: Hold | None, now: float) -> None:
    """Let a machine be known as an earlier lab knew it, and be kept out of scheduling if it was.

    What is known of it already stays.
    """
    known = machine.id in machines
    machines.declare(machine.id, *machine.identities, labels=machine.labels, driven=machine.driven)
    if hold is not None:
        machines.withhold(machine.id, replace(hold, since=min(hold.since, now)))
    elif not known:
        del machines.changed[machine.id]  # the journal has it


def as_of(record: MachineRecord, run: Run | None, now: float) -> Machine:
    """Return a machine with its state.

    Args:
        record: Of the machine.
        run: Whose attempt it holds, if it holds one.
        now: The time.
    """
    record.is_held(now)  # else its hold has ended
    state, reason, since = _standing(record, run, now)
    return replace(record.machine, state=state, reason=reason, since=since)


def _standing(record: MachineRecord, run: Run | None, now: float) -> tuple[MachineState, str, float]:
    """Return how a machine stands, why, and since when."""
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

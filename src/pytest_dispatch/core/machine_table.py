"""The machines of a lab: which there are, who is recognised as which, what they hold, and who is silent or held."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import replace

from pytest_dispatch.core.machine import Hold, Identity, Machine, MachineState
from pytest_dispatch.core.machine_record import LATELY, SILENCE, MachineRecord
from pytest_dispatch.core.model import KnownBy
from pytest_dispatch.core.table import Table
from pytest_dispatch.core.unknown_callers import UnknownCallers


class MachineTable(Table[MachineRecord]):
    """Every machine, with indexes by id, identity, silence and presence, so that no lookup scans all machines.

    Attributes:
        changed: Those of which something else is known, or which are kept out of scheduling or not any more, since
            whoever journals them emptied this. How they stand from moment to moment is no part of it.
        broke_lately: Those that broke since whoever tells of them emptied this.
        held_lately: The same of those that are kept out of scheduling.
        on_power_off: Told that a machine has powered itself off.
    """

    def __init__(self) -> None:
        super().__init__()
        self.on_power_off: Callable[[str], None] = lambda _machine: None
        self.unknown = UnknownCallers()
        self.changed: dict[str, None] = {}
        self.broke_lately: dict[str, None] = {}
        self.held_lately: dict[str, None] = {}
        self._withheld: dict[str, None] = {}
        self._by_identity: dict[Identity, str] = {}
        self._present: OrderedDict[str, None] = OrderedDict()  # not powered off; ordered by `expected`
        self._busy: set[str] = set()  # machines that ask for work and hold a run
        self._revocable: OrderedDict[str, None] = OrderedDict()  # machines that may lose their run; ordered by `heard`

    def find(self, machine: str) -> MachineRecord | None:
        """Return what is known of a machine, or None; a single lookup, because it is called for each console line."""
        return self._rows.get(machine)

    def declare(
        self, machine: str, *identities: Identity, labels: Mapping[str, str] | None = None, driven: bool = False
    ) -> MachineRecord:
        """Add a machine, or an identity to a known machine; what is already known stays, also whose an identity is."""
        record = self._rows.get(machine)
        if record is None:
            record = self._rows[machine] = MachineRecord(Machine(id=machine, labels=labels or {}, driven=driven))
            self.changed[machine] = None
        record.leaving = False
        own = {each for each in identities if self._by_identity.get(each, machine) == machine}
        if new := own - record.machine.identities:
            record.machine = replace(record.machine, identities=record.machine.identities | new)
            self._by_identity.update(dict.fromkeys(new, machine))
            self.changed[machine] = None
        return record

    def redefine(self, machine: Machine) -> None:
        """Replace what is known of a machine: its labels, who starts it, and its identities.

        Its boot token stays, and so do identities that a person has joined. One that another machine has becomes its.
        """
        record = self._rows[machine.id]
        before = record.machine.identities
        now = machine.identities | record.joined | {each for each in before if each.known_by is KnownBy.TOKEN}
        for each in before - now:
            if self._by_identity.get(each) == machine.id:
                del self._by_identity[each]
        for each in now:
            other = self._rows[self._by_identity.get(each, machine.id)]
            if other is not record:
                other.machine = replace(other.machine, identities=other.machine.identities - {each})
                other.joined -= {each}
                self.changed[other.id] = None
        self._by_identity.update(dict.fromkeys(now, machine.id))
        record.machine = replace(record.machine, identities=now, labels=machine.labels, driven=machine.driven)
        self.changed[machine.id] = None

    def remove(self, machine: str) -> None:
        """Forget a machine, which holds no run."""
        record = self._rows.pop(machine)
        for identity in record.machine.identities:
            self._by_identity.pop(identity, None)
        for names in (self._withheld, self._present, self._revocable, self.changed):
            names.pop(machine, None)
        self.broke_lately.pop(machine, None)
        self.held_lately.pop(machine, None)

    def called(self, identity: Identity) -> str:
        """Return the id of the machine with this identity; for an unknown machine, the id that it would get."""
        return self._by_identity.get(identity, identity.value)

    def remember(self, machine: str, known_by: KnownBy, ran: Iterable[str], now: float) -> None:
        """Record the runs that a machine held under an earlier lab, in order; an unknown machine is added as off."""
        record = self._rows.get(machine)
        if record is None:
            identity = Identity(known_by, machine)
            record = self.declare(machine, identity, driven=known_by is KnownBy.TOKEN)
            record.heard, record.off, record.changed = now, True, now
        record.ran[:0] = [run for run in ran if run not in record.ran]

    # What machines do

    def asks(self, machine: str, known_by: KnownBy, now: float) -> MachineRecord:
        """Record that a machine asks for work, and so is on; an unknown machine is added."""
        record = self._rows.get(machine) or self.declare(machine, Identity(known_by, machine))
        record.turns_on(now)
        self._present[machine] = None
        self._present.move_to_end(machine)
        self._hear(record, now)
        record.expected = now
        return record

    def speaks(self, machine: str, now: float) -> MachineRecord | None:
        """Record a sign of life, and return None if the machine is unknown."""
        record = self._rows.get(machine)
        if record is not None:
            self._hear(record, now)
        return record

    def speaks_as(self, machine: str, known_by: KnownBy, now: float) -> MachineRecord:
        """Record a sign of life of a machine that an external system assigns; an unknown machine is added."""
        record = self._rows.get(machine) or self.declare(machine, Identity(known_by, machine))
        record.turns_on(now)
        record.outside = None
        self._hear(record, now)
        return record

    def powered_off(self, machine: str, now: float) -> None:
        """Mark the machine as powered off."""
        record = self._rows.get(machine)
        if record is None:
            return  # it was removed while it took the program that powers it off
        record.off, record.changed = True, now
        self._present.pop(machine, None)
        self.on_power_off(machine)

    def broke(self, machine: str, why: str, now: float) -> None:
        """Mark the machine as broken until it asks for work again."""
        record = self._rows[machine]
        if not record.broken:
            self.broke_lately[machine] = None
        record.broken, record.changed = why, now
        self._present.pop(machine, None)

    # What machines hold

    def hold(self, machine: str, run_id: str, now: float, *, revocable: bool) -> None:
        """Mark the machine as busy with a run; with `revocable`, silence may cost it the run."""
        record = self._rows[machine]
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
        """Free the machine from a run, if it holds that run; it may have been removed since."""
        record = self._rows.get(machine)
        if record is None:
            return
        if run_id in record.also:
            record.also.remove(run_id)
        elif record.holds == run_id:
            record.holds, record.changed = record.also.pop(0) if record.also else "", now
            self._revocable.pop(machine, None)
            record.expected = now
            if machine in self._present:
                self._present.move_to_end(machine)
            if not record.holds:
                self._busy.discard(machine)

    def silent(self, now: float) -> MachineRecord | None:
        """Return the machine that has been silent for longest, if that is too long and it may lose its run."""
        for machine in self._revocable:
            record = self._rows[machine]
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
        return latest is not None and now - self._rows[latest].expected < SILENCE

    # Machines kept out of scheduling

    def withhold(self, machine: str, hold: Hold, *, told: bool = True) -> None:
        """Keep a machine out of scheduling; the run that it holds goes on. Without `told`, nobody is told of it."""
        self._rows[machine].hold = hold
        self._withheld[machine] = self.changed[machine] = None
        if told:
            self.held_lately[machine] = None

    def readmit(self, machine: str, now: float) -> None:
        """End a machine's hold, if it has one, from this time on."""
        record = self._rows[machine]
        record.readmit(now)
        self._withheld.pop(machine, None)
        self.changed[machine] = None

    def end_holds(self, now: float) -> None:
        """End the holds whose end has come."""
        for machine in [name for name in self._withheld if self._rows[name].hold_is_over(now)]:
            self.readmit(machine, now)

    def is_held(self, machine: str, now: float) -> bool:
        """Return whether a machine is kept out of scheduling."""
        record = self._rows.get(machine)
        return record is not None and record.is_held(now)

    def may_ask(self, machine: str, now: float) -> bool:
        """Return whether a machine is on, asks the lab for work, and may get some."""
        return machine in self._present and not self.is_held(machine, now)

    # The state of machines

    def _hear(self, record: MachineRecord, now: float) -> None:
        if not record.holds and now >= record.heard + SILENCE:
            record.changed = now  # it was offline until now
        record.heard = now
        if record.id in self._revocable:
            self._revocable.move_to_end(record.id)


def forget_runs(machines: MachineTable, remembered: Container[str]) -> None:
    """Forget the runs that machines held, except those in `remembered` and the latest, which may still report."""
    for record in machines.values():
        earlier = [run for run in record.ran[:-LATELY] if run in remembered]
        record.ran = [*earlier, *record.ran[-LATELY:]]


def stands_as(machines: MachineTable, machine: str, state: MachineState, reason: str, now: float) -> None:
    """Record what an external system says of a machine that it cannot give to the lab now."""
    record = machines[machine]
    if record.outside != (state, reason):
        record.outside, record.changed = (state, reason), now


def join(machines: MachineTable, machine: str, identities: frozenset[Identity]) -> None:
    """Recognise a machine by these identities too, because a person says that they are its."""
    record = machines.declare(machine, *identities)
    record.joined |= identities & record.machine.identities
    machines.changed[machine] = None


def recall(
    machines: MachineTable,
    machine: Machine,
    hold: Hold | None,
    now: float,
    joined: frozenset[Identity] = frozenset(),
) -> None:
    """Add a machine as an earlier lab knew it, with its hold; what is already known of it stays.

    Args:
        machines: All machines.
        machine: The machine.
        hold: Why it is kept out of scheduling, if it is.
        now: The time.
        joined: Those of its identities that a person has joined.
    """
    known = machine.id in machines
    machines.declare(machine.id, *machine.identities, labels=machine.labels, driven=machine.driven)
    if joined:
        join(machines, machine.id, joined)
    if hold is not None:
        machines.withhold(machine.id, replace(hold, since=min(hold.since, now)), told=False)  # people were told then
    elif not known or joined:
        del machines.changed[machine.id]  # it is in the journal already

"""A queue, a clock and a few machines, spoken to in the words of the protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from boots import boots

from pytest_dispatch.core.machine_table import MachineTable
from pytest_dispatch.core.media import BOOT
from pytest_dispatch.core.model import Attempt, Idle, Outcome, Policy, Report, Run, Workload
from pytest_dispatch.core.queue import Queue as CoreQueue
from pytest_dispatch.core.runs import Change
from pytest_dispatch.workloads.boot.lifecycle import Expect
from pytest_dispatch.workloads.boot.protocol import Answer, BootProtocol, Taken
from pytest_dispatch.workloads.boot.rules import RULES

KINDS = {BOOT: RULES}
LIMITS = {"assign": 1800.0, "boot": 900.0, "report": 3600.0}


def policy(
    *,
    retries: int = 1,
    retry_failures: int = 0,
    idle: Idle = Idle.WAIT,
    judged: bool = False,
    expect: Expect = Expect.REPORT,
    limits: Mapping[str, float] = LIMITS,
) -> Policy:
    return Policy(
        limits=limits, expect=expect, retries=retries, retry_failures=retry_failures, idle=idle, judged=judged
    )


def workload(
    name: str, expect: Expect | None = None, *, size: int = 2**30, limits: Mapping[str, float] | None = None
) -> Workload:
    return boots(name, location=f"/workloads/{name}", size=size, expect=expect, limits=limits or {})


class Queue(BootProtocol):
    """A queue with boot workloads alone, all that may be asked of it in one place."""

    def __init__(self) -> None:
        self.core = CoreQueue(KINDS)
        super().__init__(self.core)
        sessions, transitions, verdicts = self.core.sessions, self.core.transitions, self.core.verdicts
        self.open, self.policy, self.of_session = self.core.table.open, self.core.table.policy, sessions.runs_of
        self.submit, self.close, self.is_lining_up = sessions.submit, sessions.close, sessions.is_lining_up
        self.unfetchable, self.take_changes = transitions.lacks, transitions.take_changes
        self.cancel, self.decide, self.expire = verdicts.cancel, verdicts.amend, self.core.expire
        self.fault, self.powered_off = self.core.scheduler.fault, self.core.machines.powered_off

    def ready(self, run_id: str) -> None:
        self.core.transitions.has_what_it_needs(run_id, 0.0)

    def hold_back(self, session: str) -> None:
        self.core.sessions.hold_back(session, 0.0)

    @property
    def runs(self) -> Mapping[str, Run]:
        return self.core.runs

    @property
    def machines(self) -> MachineTable:
        return self.core.machines

    @property
    def unasked(self) -> set[str]:
        return {record.run.id for record in self.core.transitions.runs.records() if record.awaits_resubmit}

    def held_back(self, run: Run) -> bool:
        return self.core.transitions.runs.record(run.id).is_held_back

    def restore(self, session: str, policy: Policy, runs: Iterable[Run], now: float) -> None:
        self.core.sessions.restore(session, policy, runs, now)

    def expects_a_session(self, *, expecting: bool) -> None:
        self.core.sessions.expecting = expecting


class QueueBench:
    """One session `s` whose workloads are ready at second 1000; methods are named after what machines do."""

    def __init__(self, *names: str, policy: Policy | None = None, ready: bool = True) -> None:
        self.queue = Queue()
        self.now = 1000.0
        self.policy = policy or Policy(limits=LIMITS)
        self.queue.open("s", self.policy)
        self.ids: dict[str, str] = {}
        for name in names:
            self.submit(workload(name), ready=ready)
        self.queue.expire(self.now)

    def submit(self, wanted: Workload, *, ready: bool = True, session: str = "s") -> Run:
        run = self.queue.submit(session, f"dir::{wanted.name}", wanted, self.now)
        self.ids[wanted.name] = run.id
        if ready:
            self.queue.ready(run.id)
        return run

    def after(self, seconds: float) -> None:
        """Let so much time pass, looking at the deadlines every minute as a lab does more often."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.now + 60.0, end)
            self.queue.expire(self.now)

    def jump(self, seconds: float) -> None:
        """Let so much time pass without a look at the deadlines."""
        self.now += seconds

    # What machines and workloads do; the answer is a workload's name, else `wait` or `poweroff`

    def head(self, machine: str) -> str:
        return said(self.queue.ask(machine, self.now))

    def get(self, machine: str) -> str:
        return said(self.queue.send(machine, self.now))

    def progress(self, machine: str) -> None:
        self.queue.heard(machine, self.now)

    def sent(self, machine: str) -> None:
        self.queue.sent(machine, self.held(machine), self.now)

    def broke(self, machine: str) -> None:
        self.queue.broke(machine, self.held(machine), self.now)

    def download(self, machine: str) -> str:
        """HEAD, GET, and every byte taken."""
        announced = self.head(machine)
        assert self.get(machine) == announced
        if announced in self.ids:
            self.sent(machine)
        return announced

    def boot(self, machine: str) -> str:
        """Download what there is and say that it runs."""
        name = self.download(machine)
        assert self.post(machine) is Taken.NEW
        return name

    def post(self, machine: str) -> Taken:
        return self.queue.boot(machine, self.now)

    def put(self, machine: str, title: str = "done", result: Outcome | None = None, body: str = "") -> Taken:
        return self.queue.report(machine, Report(title=title, result=result, body=body), self.now)[0]

    def fault(self, machine: str, *, lab: bool = False) -> bool:
        return self.queue.fault(machine, "the kernel panicked", self.now, lab=lab)

    def fail_before_boot(self, machine: str) -> str:
        """Take a workload, and break."""
        name = self.head(machine)
        assert self.fault(machine)
        return name

    # How things stand

    def held(self, machine: str) -> str:
        return self.queue.machines[machine].holds

    def run(self, name: str) -> Run:
        return self.queue.runs[self.ids[name]]

    def attempt(self, name: str) -> Attempt:
        return self.run(name).attempt

    def state(self, name: str) -> str:
        return self.attempt(name).state

    def ends(self, name: str) -> list[Outcome | None]:
        """Outcomes of its attempts."""
        return [attempt.outcome for attempt in self.run(name).attempts]

    def machines(self, name: str) -> list[str]:
        return [attempt.machine for attempt in self.run(name).attempts]

    def changes(self) -> list[str]:
        """What was noted since the last call: event, attempt, and the attempt's state."""
        return [told(change) for change in self.queue.take_changes()]

    def cancel(self, name: str, by: str = "") -> None:
        self.queue.cancel(self.ids[name], self.now, by)

    def decide(self, name: str, outcome: Outcome | None = None, reason: str = "") -> bool:
        return self.queue.decide(self.ids[name], outcome, reason, self.now)

    def restarted(self, *, idle: Idle | None = None) -> QueueBench:
        """Another lab that has read all of this one's runs from the journal."""
        policy = self.policy if idle is None else replace(self.policy, idle=idle)
        other = QueueBench(policy=policy)
        other.now, other.ids = self.now, dict(self.ids)
        other.queue.restore("s", policy, reversed(self.queue.of_session("s")), self.now)
        return other

    def fetched(self) -> None:
        """All bytes are there, after a restart."""
        for run_id in self.ids.values():
            self.queue.ready(run_id)


def said(answer: Answer) -> str:
    return answer.run.workload.name if answer.run is not None else answer.idle.value


def told(change: Change) -> str:
    return f"{change.event} {change.attempt} {change.run.attempts[change.attempt - 1].state}"

"""What the queue is to do, told once more in the plainest way: lists, searches and ifs, nothing of `core.queue`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_dispatch.core.model import Idle, Outcome, Policy
from pytest_dispatch.workloads.boot.lifecycle import Expect

ENDED = ("finished", "failed", "cancelled")
SIZE = 10 * 2**20  # bytes of each workload: 160 s at the least speed
WORST = (Outcome.FAILED, Outcome.ERROR, Outcome.PASSED, Outcome.SKIPPED)


@dataclass
class Try:
    """An attempt."""

    since: float
    machine: str = ""
    state: str = "unassigned"
    booted: bool = False
    downloads: int = 0
    breaks: int = 0
    reports: list[tuple[str, Outcome | None, bool]] = field(default_factory=list)  # title, result, late
    said_at: float = 0.0
    outcome: Outcome | None = None
    proposed: Outcome | None = None
    unheard: bool = False  # it ran when the lab was restarted


@dataclass
class Work:
    """A run."""

    key: str
    expect: Expect
    tries: list[Try]
    limits: Mapping[str, float]
    fetching: bool = True
    lost: bool = False
    unasked: bool = False  # taken back from the journal by a resumed session, which has not asked for it again
    cancelled: bool = False
    outcome: Outcome | None = None

    @property
    def last(self) -> Try:
        return self.tries[-1]

    @property
    def held_back(self) -> bool:
        """Nothing happens to it until it is asked for again."""
        return self.unasked and self.last.state == "unassigned" and self.outcome is None


@dataclass
class Box:
    """A machine."""

    heard: float = 0.0
    expected: float = 0.0  # when it last asked, or was done with what it held
    touched: int = 0
    took: float = 0.0
    off: bool = False
    promised: Idle | None = None
    promised_at: float = 0.0
    holds: Work | None = None
    ran: list[Work] = field(default_factory=list)


class Reference:
    """The queue, plainly."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.works: list[Work] = []
        self.boxes: dict[str, Box] = {}
        self.active = 0.0
        self.begin = 0.0
        self.arrived = False
        self.count = 0

    # Machines

    def ask(self, name: str, now: float) -> str:
        box = self._on(name, now)
        if box.holds is not None and not self._keeps(box.holds, now):
            assert box.holds is None
        if box.holds is None:
            work = self._choose(name, now)
            if work is not None:
                self._assign(work, name, now)
        if box.holds is not None and not box.holds.fetching:
            box.promised = None
            return box.holds.key
        box.promised = Idle.WAIT if self._someone_fetches() or self._hope() else Idle.POWEROFF
        box.promised_at = now
        return box.promised.value

    def send(self, name: str, now: float) -> str:
        box = self._on(name, now)
        if box.promised is not None and now - box.promised_at < 60:
            return box.promised.value
        fresh = box.holds is not None and box.holds.last.state in ("assigned", "downloading")
        if box.holds is None or not fresh or box.holds.fetching:
            answer = self.ask(name, now)
            box.promised = None
            if answer in (Idle.WAIT, Idle.POWEROFF):
                return answer
        assert box.holds is not None
        box.took = now
        if box.holds.last.state == "assigned":
            self._enter(box.holds, "downloading", now)
        return box.holds.key

    def heard(self, name: str, now: float) -> None:
        if name in self.boxes:
            self._touch(name, now)
            self.boxes[name].took = now

    def sent(self, name: str, work: Work, now: float) -> None:
        if self._speaks_of(name, work, now) and work.last.state in ("downloading", "downloaded"):
            work.last.downloads += 1
            self._enter(work, "downloaded", now)

    def broke(self, name: str, work: Work, now: float) -> None:
        if self._speaks_of(name, work, now) and work.last.state in ("downloading", "downloaded"):
            work.last.breaks += 1
            if work.last.breaks >= 10:
                self._fail(work, Outcome.ERROR, now)

    def powered_off(self, name: str) -> None:
        self.boxes[name].off = True

    def boot(self, name: str, now: float) -> str:
        if name not in self.boxes:
            return "refused"
        self._touch(name, now)
        box = self.boxes[name]
        if box.holds is None:
            mine = [t for work in box.ran[-1:] for t in work.tries if t.machine == name and t.booted]
            return "repeated" if mine else "refused"
        work = box.holds
        if work.last.state in ("booting", "reported"):
            return "repeated"
        if work.last.state == "assigned":
            return "refused"
        work.last.booted = True
        self._enter(work, "booting", now)
        if work.expect is Expect.BOOT:
            self._finish(work, now)
        return "new"

    def report(self, name: str, title: str, result: Outcome | None, now: float) -> str:
        if name not in self.boxes:
            return "refused"
        self._touch(name, now)
        box = self.boxes[name]
        if box.holds is not None and box.holds.last.booted:
            return self._put(box.holds, box.holds.last, title, result, now)
        for work in dict.fromkeys(map(id, reversed(box.ran[-2:]))):
            found = next(w for w in box.ran if id(w) == work)
            booted = [t for t in found.tries if t.machine == name and t.booted]
            if booted and any(report[:2] == (title, result) for report in booted[-1].reports):
                return "repeated"
            if booted and (box.holds is None or box.holds.last.state == "assigned"):
                return self._put(found, booted[-1], title, result, now)
        return "refused"

    def fault(self, name: str, now: float, *, lab: bool) -> bool:
        work = self.boxes[name].holds if name in self.boxes else None
        if work is None:
            return False
        if work.last.state == "reported":
            self._finish(work, now)
        else:
            self._fail(work, Outcome.FAILED if work.last.booted and not lab else Outcome.ERROR, now)
        return True

    # Sessions

    def submit(self, key: str, expect: Expect, now: float) -> None:
        self.works.append(Work(key, expect, [Try(now)], self.policy.limits))

    def submit_again(self, work: Work, expect: Expect, limits: Mapping[str, float], now: float) -> None:
        """Only what a resumed session had not asked for is changed by it."""
        if not work.unasked:
            return
        if work.held_back:
            work.fetching, self.active = True, now
        work.unasked = False
        if work.outcome is None:
            work.expect, work.limits = expect, limits
            if expect is Expect.BOOT and work.last.state == "booting":
                self._finish(work, now)

    def ready(self, work: Work) -> None:
        if work.fetching and work.outcome is None:
            work.fetching, self.arrived = False, True

    def unfetchable(self, work: Work, now: float) -> None:
        if work.unasked:
            return
        work.lost, work.fetching = True, False
        if not work.last.booted and work.last.state not in ENDED:
            self._fail(work, Outcome.ERROR, now)

    def cancel(self, work: Work, now: float) -> None:
        if work.outcome is not None or work.held_back:
            return
        if work.last.state == "reported":
            self._release(work, now)
            work.last.state = "finished"
            self._settle(work, self._judge(work), now, again=False)
        elif work.last.state in ENDED:
            proposed = work.last.proposed
            assert proposed is not None
            work.cancelled = work.last.state == "failed" and self._budget(work, proposed, silence=False)
            self._settle(work, proposed, now, again=False)
        else:
            work.cancelled = True
            self._release(work, now)
            work.last.state = "cancelled"
            self._settle(work, Outcome.ERROR, now, again=False)

    def decide(self, work: Work, outcome: Outcome | None, now: float) -> bool:
        if work.last.proposed is None or work.last.outcome is not None:
            return False
        self._settle(work, outcome or work.last.proposed, now)
        return True

    def restarted(self, now: float) -> Reference:
        """What another lab makes of the journal."""
        other = Reference(self.policy)
        other.begin = now
        other.works = [work for work in self.works if not work.cancelled]
        for name, box in self.boxes.items():
            ran = [work for work in box.ran if not work.cancelled]
            held = box.holds is not None
            if ran:
                other.boxes[name] = Box(heard=now, expected=now, off=not held, ran=ran, holds=box.holds)
        for work in other.works:
            work.unasked = False  # as long as it has not been told to hold anything back
            if work.outcome is None:
                work.fetching, work.lost = True, False
                if work.last.machine and work.last.state not in ENDED:
                    other._touch(work.last.machine, now)
                work.last.unheard = work.last.state == "booting"
        return other

    def hold_back(self) -> None:
        """What was taken back waits to be asked for again, but for what machines hold."""
        for work in self.works:
            work.unasked = work.outcome is None
            work.fetching = work.fetching and not work.held_back

    # Time

    def expire(self, now: float) -> None:
        if self.arrived or any(box.holds for box in self.boxes.values()):
            self.active, self.arrived = now, False
        waiting = [work for work in self.works if work.outcome is None and not work.held_back]
        due = [work for work in waiting if self.due(work) <= now]
        for work in due:
            if work.last.state == "reported":
                self._finish(work, now, Outcome.FAILED if now < work.last.said_at + 60 else None)
            elif work.last.state in ENDED:
                self._settle(work, Outcome.ERROR, now, again=False)
            else:
                self._fail(work, Outcome.FAILED if work.last.state == "booting" else Outcome.ERROR, now)

    def due(self, work: Work) -> float:
        last, limits = work.last, work.limits
        since = max(last.since, self.begin)
        back = limits["report"] if work.expect is Expect.RETURN else 0
        taken = self.boxes[last.machine].took if last.machine else 0
        return {
            "unassigned": max(since, self.active) + limits["assign"],
            "assigned": since + limits["assign"],
            "downloading": since + limits["assign"] + min(max(0, taken - since), SIZE / 65536),
            "downloaded": since + limits["boot"] + back,
            "booting": since + limits["report"],
            "reported": min(max(since, last.said_at) + 60, since + max(3600, limits["report"])),
            "finished": since + 300,
            "failed": since + 300,
        }[last.state]

    # Inside

    def _on(self, name: str, now: float) -> Box:
        box = self.boxes.setdefault(name, Box())
        box.off, box.expected = False, now
        self._touch(name, now)
        return box

    def _touch(self, name: str, now: float) -> None:
        self.count += 1
        box = self.boxes[name]
        box.heard, box.touched = now, self.count

    def _speaks_of(self, name: str, work: Work, now: float) -> bool:
        if name not in self.boxes:
            return False
        self._touch(name, now)
        return self.boxes[name].holds is work

    def _keeps(self, work: Work, now: float) -> bool:
        last = work.last
        came_back = work.expect is Expect.RETURN and last.state in ("downloaded", "booting")
        if came_back or last.state == "reported":
            self._finish(work, now)
        elif last.state == "booting":
            self._fail(work, Outcome.FAILED, now)
        elif last.downloads >= 3:
            self._fail(work, Outcome.ERROR, now)
        else:
            return True
        return False

    def _choose(self, name: str, now: float) -> Work | None:
        def waiting(*, shun: bool) -> list[Work]:
            open_ = [w for w in self.works if w.outcome is None and not w.held_back]
            free = [w for w in open_ if w.last.state == "unassigned" and not w.fetching]
            return [w for w in free if (len(w.tries) > 1 and w.tries[-2].machine == name) is shun]

        suits = waiting(shun=False)
        if not suits:
            holders = [b for b in self.boxes.values() if b.holds and b.holds.last.state in ("assigned", "downloading")]
            for box in sorted(holders, key=lambda b: b.touched):
                if now - box.heard < 300:
                    break
                work = box.holds
                assert work is not None
                self._fail(work, Outcome.ERROR, now, silence=True)
                if work.last.state == "unassigned":
                    break
            suits = waiting(shun=False)
        if not suits and not any(self._there(other, now) for other in self.boxes if other != name):
            suits = waiting(shun=True)
        return suits[0] if suits else None

    def _there(self, name: str, now: float) -> bool:
        box = self.boxes[name]
        return box.holds is not None or (not box.off and now - box.expected < 300)

    def _someone_fetches(self) -> bool:
        return any(work.fetching and work.outcome is None for work in self.works)

    def _hope(self) -> bool:
        return self.policy.idle is Idle.WAIT and any(
            self._hopeful(w) for w in self.works if w.outcome is None and not w.held_back
        )

    def _hopeful(self, work: Work) -> bool:
        if work.last.state == "unassigned":
            return len(work.tries) > 1
        taking = work.last.state in ("assigned", "downloading")
        return any(self._budget(work, end, silence=taking) for end in (Outcome.ERROR, Outcome.FAILED))

    def _budget(self, work: Work, outcome: Outcome, *, silence: bool) -> bool:
        allowed = {Outcome.ERROR: self.policy.retries, Outcome.FAILED: self.policy.retry_failures}.get(outcome, 0)
        if silence and outcome is Outcome.ERROR:
            allowed = max(allowed, 1)
        spent = len([t for t in work.tries[:-1] if t.outcome is outcome])
        return spent < allowed and work.last.machine != "" and not work.lost

    def _enter(self, work: Work, state: str, now: float) -> None:
        work.last.state, work.last.since = state, now
        self.count += 1
        self.boxes[work.last.machine].touched = self.count

    def _assign(self, work: Work, name: str, now: float) -> None:
        work.last.machine = name
        box = self.boxes[name]
        box.holds = work
        if box.ran[-1:] != [work]:
            box.ran.append(work)
        self._enter(work, "assigned", now)

    def _release(self, work: Work, now: float) -> None:
        if work.last.machine:
            box = self.boxes[work.last.machine]
            box.holds, box.expected = None, now
            self.active = now

    def _put(self, work: Work, attempt: Try, title: str, result: Outcome | None, now: float) -> str:
        if any(report[:2] == (title, result) for report in attempt.reports):
            return "repeated"
        late = attempt.state in ENDED
        attempt.reports.append((title, result, late))
        if late:
            return "late"
        attempt.said_at = now
        if attempt.state != "reported":
            self._enter(work, "reported", now)
        return "new"

    def _judge(self, work: Work) -> Outcome:
        said = [result or Outcome.PASSED for _, result, late in work.last.reports if not late]
        return next((outcome for outcome in WORST if outcome in said), Outcome.PASSED)

    def _finish(self, work: Work, now: float, outcome: Outcome | None = None) -> None:
        self._release(work, now)
        work.last.state, work.last.since = "finished", now
        self._end(work, outcome or self._judge(work), now, silence=False)

    def _fail(self, work: Work, outcome: Outcome, now: float, *, silence: bool = False) -> None:
        self._release(work, now)
        if work.last.unheard and work.last.state == "booting":
            outcome = Outcome.ERROR
        work.last.state, work.last.since = "failed", now
        self._end(work, outcome, now, silence=silence)

    def _end(self, work: Work, outcome: Outcome, now: float, *, silence: bool) -> None:
        if self.policy.judged and work.last.reports:
            work.last.proposed = outcome
        else:
            self._settle(work, outcome, now, silence=silence)

    def _settle(self, work: Work, outcome: Outcome, now: float, *, silence: bool = False, again: bool = True) -> None:
        again = again and self._budget(work, outcome, silence=silence)
        work.last.outcome = outcome
        if again:
            work.tries.append(Try(now))
            work.fetching = work.fetching and not work.held_back
        else:
            work.outcome, work.fetching = outcome, False

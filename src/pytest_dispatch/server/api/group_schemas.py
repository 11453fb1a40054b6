"""The types of requests and answers about groups, queues, templates and machines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_dispatch.core.machine import Hold, Identity, MachineState
from pytest_dispatch.core.model import Outcome, Priority, Workload
from pytest_dispatch.core.moments import check_until
from pytest_dispatch.core.requirements import read_requirements
from pytest_dispatch.core.run_edit import RunEdit
from pytest_dispatch.core.run_options import MachineChoice, Requeue

SHORTEST_LIMIT = 1.0  # seconds
LONGEST_LIMIT = 10.0 * 365 * 24 * 3600  # seconds
LONGEST_TEXT = 1000  # characters of a hold's reason, and of an owner's name

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupView:
    """A group.

    Attributes:
        labels: Labels that its machines have.
        max_running: The most of its runs that are under way at once; null for any number.
        machines: Number of its machines.
        queued: Number of its runs that wait.
        running: Number of its runs that are under way.
        paused: Why no more of its runs begin; null if it is not paused.
        leaving: Whether it is gone from the configuration, and waits for its last runs.
    """

    id: str
    name: str = ""
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    max_running: int | None = None
    machines: int = 0
    queued: int = 0
    running: int = 0
    paused: Hold | None = None
    leaving: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LabHold:
    """Why no run begins in the whole lab; null if runs do."""

    hold: Hold | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldWanted:
    """A request to hold the lab, a run or a machine, or to pause a group.

    Attributes:
        reason: Why, for other people.
        owner: Who wants it.
        until: Time at which it ends by itself, in seconds since 1970; null if it does not.
    """

    reason: str
    owner: str = ""
    until: float | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: There is no reason, a text is too long, or the time too late.
        """
        if not self.reason.strip():
            raise ValueError("reason: expected some words for other people, got none")
        _check_length("reason", self.reason)
        _check_length("owner", self.owner)
        if self.until is not None:
            check_until("until", self.until)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedRun:
    """A run in the queue of its group.

    Attributes:
        place: Its place in the queue, from 1; 0 if it does not wait.
        session: Id of its session.
        owner: Name of the session's holder.
        source: Source of the session's workloads.
        name: Name of its workload.
        since: Time since which it has waited, in seconds since 1970.
        requires: What a machine must have, including the labels of the group.
        moved: Whether a person has put it where it is.
        hold: Why it is kept from machines; null if it is not.
        needs: What the lab still lacks for it, such as its bytes; empty if nothing.
        waits_its_turn: Whether others of its chain come first.
        only: Id of the machine that alone may have it; empty for any that suits.
        avoids: Id of the machine that has it only if there is no other.
        again: Id of the run that it repeats; empty if it repeats none.
        requeue: How often it is queued again once it is over; null for not at all.
        template: Id of the template of which a person queued it; empty for none.
        differs: What that template has, by what of the run is different: `name`, `group`, `requires`, `labels`,
            `priority`, `requeue`, `limits.NAME`, `payload.NAME`; null for what the template does not have.
        why: Why it waits, in a few words; in a page of a queue alone, and there of the first 100 that differ.
    """

    id: str
    group: str
    place: int
    session: str
    owner: str
    source: str
    name: str
    kind: str
    priority: Priority
    since: float
    requires: tuple[str, ...] = ()
    moved: bool = False
    hold: Hold | None = None
    needs: str = ""
    waits_its_turn: bool = False
    only: str = ""
    avoids: str = ""
    again: str = ""
    requeue: Requeue | None = None
    template: str = ""
    differs: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """A page of a queue, in the order in which machines that suit all runs would get them.

    Attributes:
        total: Number of runs in the whole queue; of a session, of those that wait.
        first: Number of runs before this page.
    """

    total: int
    first: int
    runs: tuple[QueuedRun, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RequeueWanted:
    """How often a run is queued again once it is over, whatever its outcome.

    Attributes:
        most: How many times at most, counted with those that were; 0 for not at all.
    """

    most: int

    def __post_init__(self) -> None:
        """Check the number.

        Raises:
            ValueError: It is out of range.
        """
        Requeue(most=self.most)

    def as_requeue(self) -> Requeue:
        """Return it as the core has it."""
        return Requeue(most=self.most)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueWanted:
    """A request to queue a run in a group, for a person.

    Attributes:
        template: Id of a template of the group.
        workload: The workload to run, in place of a template.
        payload: Values that replace those of the template's payload.
        priority: Priority in place of that of the template.
        owner: Who wants it; runs of the same owner belong to one session.
        requeue: How often it is queued again, in place of what the template says.
    """

    template: str = ""
    workload: Workload | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)
    priority: Priority | None = None
    owner: str = ""
    requeue: RequeueWanted | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: There is neither a template nor a workload, or both.
        """
        if bool(self.template) == (self.workload is not None):
            raise ValueError(f"expected a template or a workload, got {'both' if self.template else 'neither'}")
        _check_length("owner", self.owner)


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveWanted:
    """A request to move a run within the queue of its group; it takes the priority of where it is put.

    Attributes:
        before: Id of the run directly before which it goes.
        after: Id of the run directly after which it goes.
        up: Whether it goes one place up: directly before the run before it.
        down: Whether it goes one place down: directly after the run after it.
        top: Whether it goes before all others.
        bottom: Whether it goes after all others.
    """

    before: str = ""
    after: str = ""
    up: bool = False
    down: bool = False
    top: bool = False
    bottom: bool = False

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: Not exactly one of them is given.
        """
        given = [name for name in ("before", "after", "up", "down", "top", "bottom") if getattr(self, name)]
        if len(given) != 1:
            got = ", ".join(given) or "none"
            raise ValueError(f"expected one of before, after, up, down, top and bottom, got {got}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunChanged:
    """A request to change a run that is not over; all but `requeue` only while it waits.

    What it runs can be changed of a run that a person has queued, until a machine has it.

    Attributes:
        priority: Its priority; it goes into its session's line, as it was submitted.
        requeue: How often it is queued again; `most` 0 switches that off.
        name: Name of its workload.
        group: Id of the group in which it is to wait.
        requires: What a machine must have, such as `arch=x86_64`, beside what its group and its payload require.
        labels: Labels of its workload, for finding it.
        limits: Limits in seconds by name, which replace those of these names; null for the usual one.
        payload: Values of its payload by name, which replace those of these names; null for none. The kind says which
            may be changed.
        reset: What is set back to what its template has, before the others are set: `all`, or names as in `differs`,
            also their beginnings, such as `payload`.
    """

    priority: Priority | None = None
    requeue: RequeueWanted | None = None
    name: str | None = None
    group: str | None = None
    requires: tuple[str, ...] | None = None
    labels: tuple[str, ...] | None = None
    limits: Mapping[str, float | None] = field(default_factory=dict)
    payload: Mapping[str, Any] = field(default_factory=dict)
    reset: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that something is to be changed, and the numbers and lengths.

        Raises:
            ValueError: Nothing is, or one of them cannot be.
        """
        if all(getattr(self, name) in (None, {}, ()) for name in _CHANGES) and self.requires is self.labels is None:
            raise ValueError("expected something to change, such as a priority or a name, got nothing")
        for name, seconds in self.limits.items():
            if seconds is not None and not SHORTEST_LIMIT <= seconds <= LONGEST_LIMIT:
                bounds = f"{SHORTEST_LIMIT:.0f} to {LONGEST_LIMIT:.0f} seconds"
                raise ValueError(f"limits: {name[:80]}: expected {bounds}, got {seconds:g}")
        for label in self.labels or ():
            _check_length("labels", label)

    @property
    def edit(self) -> RunEdit:
        """Return what is to be different of what it runs.

        Raises:
            ConfigError: A requirement cannot be read.
        """
        requires = None if self.requires is None else read_requirements(self.requires, "requires")
        return RunEdit(
            name=self.name,
            group=self.group,
            requires=requires,
            labels=self.labels,
            limits=self.limits,
            payload=self.payload,
        )


_CHANGES = ("priority", "requeue", "name", "group", "requires", "labels", "limits", "payload", "reset")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainWanted:
    """A request to run the workload of a run once more.

    Attributes:
        machine: On which machine: the `same` as the last attempt, an `other` one if there is one that suits, or any.
        priority: Its priority, in place of the workload's.
        owner: Who wants it; runs of the same owner belong to one session.
        failed: Whether only what has failed of it is run: of a run of GitHub Actions, the failed jobs.
    """

    machine: MachineChoice = MachineChoice.ANY
    priority: Priority | None = None
    owner: str = ""
    failed: bool = False

    def __post_init__(self) -> None:
        """Check the length of the name.

        Raises:
            ValueError: It is too long.
        """
        _check_length("owner", self.owner)


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateView:
    """A stored workload, which people can queue.

    Attributes:
        requeue: How often each run of it is queued again.
        source: The file or the URL in which it stands; empty for the lab's configuration itself.
    """

    id: str
    group: str
    workload: Workload
    description: str = ""
    requeue: int = 0
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultView:
    """A fault of the lab that speaks against a machine."""

    run: str
    workload: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthView:
    """The health of a machine.

    Attributes:
        faults: Faults of the lab on different workloads in a row, the oldest first.
        held: Whether the lab holds the machine because of its health.
        group: Id of the group that says how it is checked; empty if none does.
        template: Id of its health workload.
        run: Id of the check that waits or runs; empty for none.
        due: When it is to be checked next, in seconds since 1970; null if that is not planned.
        tries: Checks in a row that it has failed.
        checked: When the last check ended, in seconds since 1970; 0 for never.
        last: Id of the last check's run.
        outcome: How the last check ended; null if there was none.
        why: Why it ended so, or why none could begin.
    """

    faults: tuple[FaultView, ...] = ()
    held: bool = False
    group: str = ""
    template: str = ""
    run: str = ""
    due: float | None = None
    tries: int = 0
    checked: float = 0.0
    last: str = ""
    outcome: Outcome | None = None
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproveWanted:
    """A request to take a machine into the lab that waits for approval.

    Attributes:
        id: Its name from now on; empty for the one under which it waits.
        machine: Id of the known machine that it is, in place of a machine of its own.
        labels: What it has.
    """

    id: str = ""
    machine: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: The id can stand in no URL, or a text is too long.
        """
        if self.id and not _NAME.fullmatch(self.id):
            raise ValueError(f"id: expected at most 63 letters, digits and the signs . _ -, got {self.id[:80]!r}")
        for text in (self.machine, *self.labels, *self.labels.values()):
            _check_length("labels", text)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabMachine:
    """A machine of the lab.

    Attributes:
        identities: How it is recognised.
        driven: Whether the lab starts it itself.
        state: Its state.
        reason: Reason for its state, in words; empty if the state says it all.
        since: Time at which the state began, in seconds since 1970; 0 if unknown.
        heard: Time of its last request, in seconds since 1970; 0 if never.
        hold: Why it is kept out of scheduling; null if it is not.
        runs: Ids of the runs that it holds; the first is the one it is busy with.
        groups: Ids of the groups that it is in.
        leaving: Whether it is gone from the configuration, and waits for its last run.
        health: Its health.
    """

    id: str
    identities: tuple[Identity, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    driven: bool = False
    state: MachineState = MachineState.UNKNOWN
    reason: str = ""
    since: float = 0.0
    heard: float = 0.0
    hold: Hold | None = None
    runs: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    leaving: bool = False
    health: HealthView = field(default_factory=HealthView)


def _check_length(name: str, text: str) -> None:
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"{name}: expected at most {LONGEST_TEXT} characters, got {len(text)}")

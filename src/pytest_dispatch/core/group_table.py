"""The groups of a lab: which one a run is in, how many of its runs are under way, and whether it may begin another."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.groups import LAB, Group, no_group
from pytest_dispatch.core.holds import Holds
from pytest_dispatch.core.machine import Hold
from pytest_dispatch.core.model import Workload
from pytest_dispatch.core.requirements import Requirements, suits
from pytest_dispatch.core.table import Table

EVERY = "*"  # in place of a group: all of them, which is the whole lab


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupChange:
    """Ids of the groups that a new configuration added, changed and no longer has."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()


class GroupTable(Table[Group]):
    """The groups that a lab is configured to have, in that order; `lab` is the last one if it is not among them.

    A group is *closed* while it or the whole lab is paused, or as many of its runs are under way as may be. A group
    that is gone from the configuration only keeps count of its runs that are under way.

    Args:
        opens: Called with a group that opens.
        closes: Called with a group that closes.

    Attributes:
        pauses: The holds of groups, and under `EVERY` that of the whole lab. One of a group which is not configured
            applies once it is.
    """

    def __init__(self, opens: Callable[[str], None], closes: Callable[[str], None]) -> None:
        super().__init__()
        self.pauses = Holds()
        self._opens = opens
        self._closes = closes
        self._rows = {LAB: Group(id=LAB)}
        self._required: dict[str, Requirements] = {LAB: ()}
        self._under_way: dict[str, str] = {}  # the group of each run
        self._running: Counter[str] = Counter()
        self._closed: set[str] = set()
        self._opened: dict[str, float] = {}

    def set(self, groups: Iterable[Group], now: float) -> GroupChange:
        """Replace the configured groups; what is under way in a group that is gone stays counted.

        Raises:
            ConfigError: Two have the same id; nothing is changed.
        """
        wanted: dict[str, Group] = {}
        for group in groups:
            if group.id in wanted:
                raise ConfigError(f"groups: expected each id once, got {group.id!r} twice")
            wanted[group.id] = group
        wanted.setdefault(LAB, Group(id=LAB))
        before, self._rows = self._rows, wanted
        self._required = {name: group.requires for name, group in wanted.items()}
        for name in {*before, *wanted}:
            self._regard(name, now)
        return GroupChange(
            added=tuple(name for name in wanted if name not in before),
            changed=tuple(name for name in wanted if name in before and before[name] != wanted[name]),
            gone=tuple(name for name in before if name not in wanted),
        )

    # Which group

    def choose(self, workload: Workload, requires: Requirements) -> str:
        """Return the group of a run: the one it names, else the first whose labels suit it, else `lab`.

        Args:
            workload: The run's workload.
            requires: What the run requires of a machine, without what a group requires.

        Raises:
            ConfigError: The workload names a group that there is not.
        """
        self.check(workload)
        if workload.group:
            return workload.group
        return next((name for name, group in self._rows.items() if suits(requires, group.labels)), LAB)

    def check(self, workload: Workload) -> None:
        """Refuse a workload that names a group that there is not.

        Raises:
            ConfigError: It names the nearest one.
        """
        if workload.group and workload.group not in self._rows:
            error = no_group(workload.group, self._rows)
            raise ConfigError(f"{workload.name}: {error}")

    def requires(self, group: str) -> Requirements:
        """Return what the machines of a group have; nothing for a group that is gone."""
        return self._required.get(group, ())

    # How many are under way

    def began(self, run: str, group: str) -> None:
        """Count a run as under way, or the machine that its chain keeps."""
        if run not in self._under_way:
            self._under_way[run] = group
            self._running[group] += 1
            self._regard(group, 0.0)

    def ended(self, run: str, now: float) -> None:
        """Count a run as under way no longer."""
        group = self._under_way.pop(run, None)
        if group is not None:
            self._running[group] -= 1
            if not self._running[group]:
                del self._running[group]
            self._regard(group, now)

    def running(self, group: str) -> int:
        """Return how many runs of a group are under way."""
        return self._running[group]

    @property
    def leaving(self) -> tuple[str, ...]:
        """Return the groups that are not configured any more, and have runs under way."""
        return tuple(group for group in self._running if group not in self._rows)

    # Whether it may begin another

    def pause(self, group: str, hold: Hold, now: float) -> None:
        """Begin no more runs of a group; those that are under way go on."""
        self.pauses.set(group, hold)
        self._regard(group, now)

    def recall(self, group: str, hold: Hold) -> None:
        """Pause a group as an earlier lab did."""
        self.pauses.recall(group, hold)
        self._regard(group, 0.0)

    def resume(self, group: str, now: float) -> bool:
        """Begin runs of a group again, and return whether it was paused."""
        ended = self.pauses.end(group)
        self._regard(group, now)
        return ended

    @property
    def lab_hold(self) -> Hold | None:
        """Return why no run begins in the whole lab; None if runs do."""
        return self.pauses.get(EVERY)

    def end_pauses(self, now: float) -> None:
        """End the pauses whose end has come."""
        for group in self.pauses.past(now):
            self.resume(group, now)

    def is_closed(self, group: str) -> bool:
        """Return whether no run of a group may begin now."""
        return group in self._closed

    def open_since(self, group: str) -> float:
        """Return since when runs of a group may begin; infinity while they may not."""
        return math.inf if group in self._closed else self._opened.get(group, 0.0)

    def _regard(self, name: str, now: float) -> None:
        for each in {*self._rows, *self._running, *self._closed} if name == EVERY else (name,):
            self._open_or_close(each, now)

    def _open_or_close(self, name: str, now: float) -> None:
        group = self._rows.get(name)
        full = group is not None and group.max_running is not None and self._running[name] >= group.max_running
        closed = full or name in self.pauses or EVERY in self.pauses
        if closed == (name in self._closed):
            return
        if closed:
            self._closed.add(name)
            self._closes(name)
        else:
            self._closed.discard(name)
            self._opened[name] = now
            self._opens(name)

"""The self-hosted runners of organisations and repositories, as machines of the lab that GitHub assigns."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.machine import Identity, MachineState
from pytest_dispatch.core.machine_table import stands_as
from pytest_dispatch.core.model import KnownBy
from pytest_dispatch.core.requirements import read_labels
from pytest_dispatch.github.api import GitHubError, Trouble
from pytest_dispatch.workloads.actions.payload import serves
from pytest_dispatch.workloads.actions.shapes import Runner, RunnerGroups, Runners

if TYPE_CHECKING:
    from pytest_dispatch.github.polling_api import PollingApi, PollingApis
    from pytest_dispatch.lab.state import LabState
    from pytest_dispatch.workloads.actions.payload import ActionsPayload

LATE = 10.0  # seconds by which `busy` may be late after a job of ours has ended
FRESH = 2.5  # looks after which nothing is sent on what was seen; two of them may fail
GROUPS = 300.0  # seconds between looks at which groups serve which repository
FORGET = 120.0  # seconds until a runner that came for one job is forgotten: the end of that job is seen before
AGAIN = 600.0  # seconds until an owner without runners of its own is asked again

_OFFLINE = "GitHub says that it is offline"
_GONE = "it is not registered at GitHub any more"
_FOREIGN = "a job that is not this lab's"

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Place:
    """Where runners are registered: an organisation, or a repository as OWNER/REPO; in lower case.

    Attributes:
        looked: When its runners were last seen.
        due: When they are looked at next.
        apart: Seconds from the last look that did not fail to the next one, as it was planned.
        failed: Why the last look failed; empty if it did not.
        repositories: The repositories that the lab has work for, and the groups that serve each; None for all groups.
    """

    name: str
    looked: float = -math.inf
    due: float = 0.0
    apart: float = 0.0
    failed: str = ""
    repositories: dict[str, frozenset[int] | None] = field(default_factory=dict)
    groups_due: float = 0.0

    @property
    def owner(self) -> str:
        """Return the organisation, or the owner of the repository."""
        return self.name.partition("/")[0]

    @property
    def path(self) -> str:
        """Return where the API has its runners."""
        return f"/repos/{self.name}/actions/runners" if "/" in self.name else f"/orgs/{self.name}/actions/runners"

    def is_fresh(self, now: float) -> bool:
        """Return whether what was seen is recent enough to send something on it."""
        return now - self.looked <= FRESH * self.apart


@dataclass(slots=True, eq=False)
class Seen:
    """A runner as it was last seen.

    Attributes:
        machine: Id of its machine.
        at: When it was asked for.
        freed: When a job of ours on it ended.
        away_since: Since when it is offline or gone; None if it is there.
        gone: Whether it is not registered any more.
    """

    runner: Runner
    place: Place
    machine: str
    at: float
    freed: float = -math.inf
    away_since: float | None = None
    gone: bool = False

    @property
    def labels(self) -> frozenset[str]:
        """Return its labels in lower case, as GitHub compares them."""
        return frozenset(each.name.lower() for each in self.runner.labels)

    @property
    def is_idle(self) -> bool:
        """Return whether it would take a job, as far as GitHub says; after the end of a job of ours, we know better."""
        late = self.at < self.freed + LATE
        used_up = self.runner.ephemeral and self.freed > -math.inf
        return self.away_since is None and not used_up and (not self.runner.busy or late)


class RunnerTable:
    """Looks at runners, and keeps them as machines.

    Args:
        lab_state: The lab's.
        apis: The clients.
        interval: Returns the seconds between two looks at a place.

    Attributes:
        forget: Seconds after which a runner that came for one job and is gone is forgotten.
    """

    def __init__(self, lab_state: LabState, apis: PollingApis, interval: Callable[[], float]) -> None:
        self._lab_state = lab_state
        self._machines = lab_state.queue.machines
        self._apis = apis
        self._interval = interval
        self._paced = interval()  # the interval at the last look
        self._places: dict[str, Place] = {}
        self._seen: dict[tuple[str, int], Seen] = {}
        self._keys: set[str] = set()
        self.forget = FORGET

    # What is looked at

    def watch(self, payloads: Iterable[ActionsPayload], keys: Iterable[str]) -> None:
        """Look at the runners that could run these.

        Args:
            payloads: What is to be run.
            keys: The keys of labels that anything requires of runners.
        """
        new = {key for key in keys if key not in self._keys}
        self._keys |= new
        for payload in payloads:
            for name in (payload.owner.lower(), payload.repository):
                place = self._places.setdefault(name, Place(name, apart=self._interval()))
                if payload.repository not in place.repositories:
                    place.repositories[payload.repository] = None
                    place.groups_due = 0.0
                    place.due = min(place.due, self._now())
        for place in self._places.values() if new else ():
            place.due = min(place.due, self._now())

    def hurry(self, owner: str) -> None:
        """Look at the runners of an owner as soon as possible."""
        for place in self._places.values():
            if place.owner == owner.lower() and place.looked > -math.inf:
                place.due = self._now()

    def hurry_all(self) -> None:
        """Look at all runners as soon as possible."""
        for place in self._places.values():
            place.due = place.groups_due = self._now()

    def due(self) -> list[Place]:
        """Return the places to be looked at now; a new interval counts at once."""
        now, interval = self._now(), self._interval()
        if interval != self._paced:
            self._paced = interval
            for place in self._places.values():
                place.due = min(place.due, now + interval)
        return [each for each in self._places.values() if each.due <= now and self._apis.of(each.owner).is_open]

    async def look(self, place: Place) -> None:
        """Look at a place, and update its machines."""
        api, began = self._apis.of(place.owner), self._now()
        apart = api.interval(self._interval())
        place.due = began + apart
        if api.spare == 0:
            place.failed, place.due = "what is left of the hourly limit is kept for runs", api.hourly.resets
            return
        try:
            await self._look_at_groups(api, place)
            pages = await api.pages(place.path, Runners)
        except GitHubError as error:
            place.failed = str(error)
            if error.trouble in (Trouble.MISSING, Trouble.FORBIDDEN, Trouble.GONE):
                place.due = began + AGAIN
                self._update(place, (), began)
            return
        place.failed, place.looked, place.apart = "", began, apart
        self._update(place, (runner for page in pages for runner in page.runners), began)

    async def _look_at_groups(self, api: PollingApi, place: Place) -> None:
        """Find out which groups of an organisation's runners serve which repository; all, if GitHub does not tell."""
        if "/" in place.name or place.groups_due > self._now():
            return
        place.groups_due = self._now() + GROUPS
        for repository in list(place.repositories):
            path, name = f"/orgs/{place.name}/actions/runner-groups", repository.partition("/")[2]
            try:
                pages = await api.pages(path, RunnerGroups, visible_to_repository=name)
            except GitHubError as error:
                if error.trouble not in (Trouble.MISSING, Trouble.FORBIDDEN, Trouble.GONE, Trouble.REFUSED):
                    raise
                continue
            place.repositories[repository] = frozenset(group.id for page in pages for group in page.runner_groups)

    # Machines

    def _update(self, place: Place, runners: Iterable[Runner], at: float) -> None:
        there = set()
        for runner in runners:
            there.add(runner.id)
            known = self._seen.get((place.name, runner.id))
            if known is None:
                known = Seen(runner, place, self._machine_id(place, runner), at)
                self._seen[place.name, runner.id] = known
            known.runner, known.at, known.gone = runner, at, False
            self._show(known, at)
        for (name, runner_id), known in list(self._seen.items()):
            if name == place.name and runner_id not in there:
                self._lose(known, at)
        self._lab_state.commit()

    def _machine_id(self, place: Place, runner: Runner) -> str:
        """Return the id of a runner's machine: the one that is configured to have it, else one made of its names."""
        name = f"{runner.name}@{place.name.replace('/', ':')}"
        for value in (f"{place.name}/{runner.name}", name):
            machine = self._machines.called(Identity(KnownBy.AGENT, value))
            if machine != value:
                return machine
        return name

    def _show(self, known: Seen, at: float) -> None:
        """Have the machine stand as its runner does."""
        machine = known.machine
        if machine not in self._machines:
            self._machines.declare(machine, Identity(KnownBy.AGENT, machine), labels=self._labels(known))
        record, own = self._machines[machine], machine.endswith(f"@{known.place.name.replace('/', ':')}")
        labels = {**({} if own else record.machine.labels), **self._labels(known)}
        if record.machine.labels != labels:
            self._machines.redefine(replace(record.machine, labels=labels))
        if known.runner.status != "online":
            known.away_since = at if known.away_since is None else known.away_since
            stands_as(self._machines, machine, MachineState.OFFLINE, _OFFLINE, at)
            return
        known.away_since = None
        self._machines.speaks_as(machine, KnownBy.AGENT, at)
        if not known.is_idle and not record.holds:
            stands_as(self._machines, machine, MachineState.RUNNING, _FOREIGN, at)

    def _labels(self, known: Seen) -> dict[str, str]:
        """Return what a machine has: its runner's labels, as required in any spelling, and the repositories served."""
        labels: dict[str, str] = {}
        for each in known.runner.labels:
            try:
                labels |= read_labels([each.name], "")
            except ConfigError:
                labels[each.name] = ""
        lower = {key.lower(): value for key, value in labels.items()}
        labels |= {key: lower[key.lower()] for key in self._keys if key.lower() in lower}
        group = known.runner.runner_group_id
        for repository, groups in known.place.repositories.items():
            if groups is None or group is None or group in groups:
                labels[serves(repository)] = ""
        return labels

    def _lose(self, known: Seen, at: float) -> None:
        """Have a runner gone; one that came for one job is forgotten once the end of that has been seen."""
        known.gone = True
        known.away_since = at if known.away_since is None else known.away_since
        record = self._machines.find(known.machine)
        if record is None or (known.runner.ephemeral and not record.holds and at - known.away_since >= self.forget):
            del self._seen[known.place.name, known.runner.id]
            if record is not None:
                from pytest_dispatch.store.expiry import machine_gone  # not loaded where no runner goes

                self._machines.remove(known.machine)
                self._lab_state.write(machine_gone(known.machine))
        else:
            stands_as(self._machines, known.machine, MachineState.OFFLINE, _GONE, at)

    # What is known

    def __iter__(self) -> Iterator[Seen]:
        return iter(self._seen.values())

    def of_job(self, payload: ActionsPayload, runner_id: int) -> Seen | None:
        """Return the runner that has a job of a repository; None if it was not seen yet."""
        return self._seen.get((payload.repository, runner_id)) or self._seen.get((payload.owner.lower(), runner_id))

    def serving(self, repository: str) -> list[Seen]:
        """Return the runners that serve a repository, wherever they are registered."""
        key = serves(repository)
        return [
            each
            for each in self._seen.values()
            if not each.gone and each.machine in self._machines and key in self._machines[each.machine].machine.labels
        ]

    def idle(self) -> dict[str, Seen]:
        """Return the runners that could be sent something, by machine."""
        now = self._now()
        return {
            each.machine: each
            for each in self._seen.values()
            if each.is_idle and each.place.is_fresh(now) and self._is_free(each.machine, now)
        }

    def _is_free(self, machine: str, now: float) -> bool:
        record = self._machines.find(machine)
        return record is not None and not record.holds and not record.is_held(now)

    def api_of(self, place: Place) -> PollingApi:
        """Return the client for the owner of a place."""
        return self._apis.of(place.owner)

    def places_of(self, payload: ActionsPayload) -> list[Place]:
        """Return where runners may be registered that serve a repository."""
        names = (payload.owner.lower(), payload.repository)
        return [self._places[name] for name in names if name in self._places]

    def labels_of(self, machine: str) -> Mapping[str, str]:
        """Return the labels of a machine."""
        return self._machines[machine].machine.labels

    def _now(self) -> float:
        return self._lab_state.clock.now()

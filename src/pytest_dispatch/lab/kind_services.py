"""Services of kinds: each carries out the workloads of its kind, between the queue and whatever runs them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from pytest_dispatch.core.errors import ConfigError, DispatchError, LabError
from pytest_dispatch.core.kinds import KindRules, Kinds, reading
from pytest_dispatch.core.plain_text import what_was_raised
from pytest_dispatch.core.secrets import PUBLIC_API, Token

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Run, Workload
    from pytest_dispatch.core.runs import Change
    from pytest_dispatch.core.templates import Template
    from pytest_dispatch.github.polling_api import GitHubStanding
    from pytest_dispatch.lab.state import LabState
    from pytest_dispatch.sources.asset_fetcher import AssetFetcher
    from pytest_dispatch.sources.locations import Locations
    from pytest_dispatch.testflinger.api import Account


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class GitHubWatch:
    """How a lab learns what changes at GitHub.

    Attributes:
        polls: Whether runners are looked at at all.
        interval: Seconds between two looks.
        webhook_secret: What webhooks are signed with; None if none are taken.
    """

    polls: bool = True
    interval: float = 10.0
    webhook_secret: Token | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GitHubUse:
    """How a lab's kinds speak to GitHub.

    Attributes:
        api_url: Base URL of its API.
        token_for: Returns the token for what belongs to an owner; None if there is none.
        watch: Returns how they learn what changes there, which a reload may change.
    """

    api_url: str = PUBLIC_API
    token_for: Callable[[str], Token | None] = lambda _owner: None
    watch: Callable[[], GitHubWatch] = GitHubWatch


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookDoor:
    """Where another system reaches the lab with webhooks.

    Attributes:
        url: The lab's address, without a slash at its end.
        secret: What proves that the lab has made an address.
    """

    url: str
    secret: Token


@dataclass(frozen=True, slots=True, kw_only=True)
class TestflingerUse:
    """How a lab's kinds speak to Testflinger.

    Attributes:
        url: Address of the server; empty if there is none.
        account: Who asks; None for anybody.
        interval: Seconds between two looks at agents, and at a job.
        door: Where it reaches the lab with webhooks; None if it does not.
    """

    __test__ = False  # no tests, whatever its name begins with

    url: str = ""
    account: Account | None = None
    interval: float = 10.0
    door: WebhookDoor | None = None


def _nowhere(_machine: str, _line: str) -> None:
    """Show a line to nobody."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What a lab provides to the services of its kinds.

    Attributes:
        lab_state: The lab's, with queue and journal.
        cache: Fetches and keeps the bytes of assets.
        locations: The places from which bytes may be read.
        github: How they speak to GitHub.
        templates: Returns the workloads that people can queue.
        testflinger: How they speak to Testflinger.
        show: Shows a line on the console of a machine.
    """

    lab_state: LabState
    cache: AssetFetcher
    locations: Locations
    github: GitHubUse = GitHubUse()
    templates: Callable[[], Iterable[Template]] = tuple
    testflinger: TestflingerUse = TestflingerUse()
    show: Callable[[str, str], None] = _nowhere


class Service:
    """Carries out the workloads of one kind. Everything here runs on the lab's event loop.

    A service takes runs by `queue.scheduler.take`, moves them by `queue.transitions.move`, records their machines by
    `queue.transitions.bind`, and calls `lab_state.commit` after it has changed something. Before it sends anything to
    an external system, it waits until the intent is on disk (`lab_state.on_disk`) under a key of its own, and it
    records the name that the other system gives by `queue.transitions.sent_as`. So a later lab finds it again, and
    sends nothing twice.

    Attributes:
        progress: Bytes done by run, for runs whose progress is known; their payload has the total as `size`.
    """

    progress: Mapping[str, int]

    def __init__(self, resources: Resources) -> None:
        self.progress = {}
        self.lab_state = resources.lab_state

    @property
    def at_github(self) -> list[GitHubStanding]:
        """Return how things stand with GitHub, for each of its tokens."""
        return []

    def start(self) -> list[asyncio.Task[None]]:
        """Start the service, and return tasks that must not die unnoticed."""
        return []

    async def stop(self) -> None:
        """Stop all work in progress."""

    def check(self, session: str, workload: Workload) -> None:
        """Refuse a client's workload that names something it may not have.

        Raises:
            ConfigError: Names what was expected and what came.
        """

    async def inherit(self, session: str, workload: Workload) -> None:
        """Let a session run a workload that another one has run, with all that this one alone might have.

        Raises:
            ConfigError: What it needs is not there any more.
        """

    async def log(self, _run: Run, _case: str) -> str | None:
        """Return the end of what a run has written, as the system keeps it that carries it out; None if none does.

        Args:
            _run: The run.
            _case: The case of which it is wanted; empty for all of them.

        Raises:
            ConfigError: The run has no such case.
            DispatchError: The system cannot be asked now.
        """
        return None

    def failed_part(self, run: Run) -> Workload:
        """Return the workload that repeats only what has failed of a run.

        Raises:
            ConfigError: Nothing has, or workloads of this kind cannot be repeated in part.
        """
        raise ConfigError(f"failed: expected a run whose failed part can be run alone, got one of {run.workload.kind}")

    def wanted(self, runs: list[Run]) -> None:
        """Prepare what these submitted runs need."""

    def changed(self, change: Change) -> None:
        """React to a change of a run of this kind; the change has already been handed to the journal."""

    def recalled(self, session: str, served: Mapping[str, str]) -> None:
        """Restore what a resumed session was served: the digest of the last bytes, by run."""

    def adopt(self, runs: list[Run]) -> None:
        """Go on with runs of a resumed session that an earlier lab assigned or sent out."""

    def forget(self, runs: list[str]) -> None:
        """Drop what is kept of these runs, which are over and no longer needed."""

    def waiting_machines(self) -> set[str]:
        """Return the machines that are on and were told to wait for work."""
        return set()


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of workload: its rules, and its service.

    An installed package adds one by an entry point in the group `pytest_dispatch.kinds` whose object is a `Kind`.

    Attributes:
        service: Creates its service, on the lab's event loop.
        on_demand: A lab of one pytest creates it with the first workload of the kind: it does nothing before that.
    """

    rules: KindRules
    service: Callable[[Resources], Service] = Service
    on_demand: bool = False


class KindTable(Mapping[str, Kind]):
    """Kinds by their names, in order; one that a lab can begin without is loaded when it is first asked for.

    Args:
        kinds: Each kind, or what loads it; one that is loaded later is one that is created on demand.
    """

    def __init__(self, kinds: Mapping[str, Kind | Callable[[], Kind]]) -> None:
        self._kinds = dict(kinds)

    def __getitem__(self, name: str) -> Kind:
        found = self._kinds[name]
        if not isinstance(found, Kind):
            found = self._kinds[name] = found()
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)

    def __contains__(self, name: object) -> bool:
        return name in self._kinds

    def is_on_demand(self, name: str) -> bool:
        """Return whether a kind does nothing before there is a workload of it."""
        found = self._kinds[name]
        return not isinstance(found, Kind) or found.on_demand

    @property
    def rules(self) -> Kinds:
        """Return the rules of all kinds, each loaded when it is first asked for."""
        return _Rules(self)


class _Rules(Mapping[str, KindRules]):
    def __init__(self, kinds: KindTable) -> None:
        self._kinds = kinds

    def __getitem__(self, name: str) -> KindRules:
        return self._kinds[name].rules

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)

    def __contains__(self, name: object) -> bool:
        return name in self._kinds


class Services:
    """The services of all kinds; each call goes to the service of the run's kind.

    Args:
        kinds: All kinds.
        resources: What the lab provides to their services.
        private: The lab is of one pytest, which may have no workloads of some kinds.
    """

    def __init__(self, kinds: KindTable, resources: Resources, *, private: bool = False) -> None:
        self._fail = resources.lab_state.fail
        self._resources = resources
        self._kinds = kinds
        self._services: dict[str, Service] = {}  # those that were created
        self._watch: Callable[[asyncio.Task[None]], None] | None = None
        for name in kinds:
            if not (private and kinds.is_on_demand(name)):
                self._create(name)

    def __getitem__(self, kind: str) -> Service:
        return self._services.get(kind) or self._create(kind)

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def _create(self, kind: str) -> Service:
        create = self._kinds[kind].service
        with self._blamed(kind, "service"):
            service = self._services[kind] = create(self._resources)
        self._start(kind, service)
        return service

    def _start(self, kind: str, service: Service) -> None:
        if self._watch is not None:
            with self._blamed(kind, "start"):
                for task in service.start():
                    self._watch(task)

    @property
    def progress(self) -> dict[str, int]:
        """Return the bytes done by run, for runs whose progress is known."""
        return {run: done for service in self._services.values() for run, done in service.progress.items()}

    @property
    def at_github(self) -> list[GitHubStanding]:
        """Return how things stand with GitHub, for each token of theirs."""
        return [each for service in self._services.values() for each in service.at_github]

    def start(self, watch: Callable[[asyncio.Task[None]], None]) -> None:
        """Start all services, and those that are created later with their creation.

        Args:
            watch: Is given each of their tasks, which must not die unnoticed.
        """
        self._watch = watch
        for kind, service in self._services.items():
            self._start(kind, service)

    async def stop(self) -> None:
        """Stop all services."""
        await asyncio.gather(*(self._stop(kind, service) for kind, service in self._services.items()))

    async def _stop(self, kind: str, service: Service) -> None:
        with self._blamed(kind, "stop"):
            await service.stop()

    @contextmanager
    def _blamed(self, kind: str, doing: str) -> Iterator[None]:
        """Mark the lab as broken if a service raises an error, because its state is then unknown.

        Raises:
            LabError: A service failed; the text names its kind in one line.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001 - `_blame` raises
            self._blame(kind, doing, error)

    def _blame(self, kind: str, doing: str, error: Exception) -> NoReturn:
        if isinstance(error, DispatchError):
            self._fail(error)
            raise error
        _log.error("%s of the kind %s", doing, kind, exc_info=error)
        said = what_was_raised(error)
        broken = LabError(
            f"the lab is broken: {doing} of the kind {kind} raised {said}; report this to the kind's author"
        )
        self._fail(broken)
        raise broken from error

    def check(self, session: str, workload: Workload) -> None:
        """Refuse a client's workload that names something it may not have; unknown kinds are refused elsewhere.

        Raises:
            ConfigError: Names what was expected and what came.
        """
        kind = workload.kind
        if kind not in self._kinds:
            return
        service = self[kind]
        with reading(workload):
            service.check(session, workload)

    async def inherit(self, session: str, workload: Workload) -> None:
        """Let a session run a workload that another one has run; unknown kinds are refused elsewhere.

        Raises:
            ConfigError: What it needs is not there any more.
        """
        if workload.kind in self._kinds:
            with self._blamed(workload.kind, "inherit"):
                await self[workload.kind].inherit(session, workload)

    def failed_part(self, run: Run) -> Workload:
        """Return the workload that repeats only what has failed of a run.

        Raises:
            ConfigError: Nothing has, or workloads of its kind cannot be repeated in part.
        """
        if run.workload.kind not in self._kinds:
            raise ConfigError(f"failed: expected a run of a kind that the lab has, got one of {run.workload.kind}")
        with reading(run.workload):
            return self[run.workload.kind].failed_part(run)

    def wanted(self, runs: list[Run]) -> None:
        """Prepare what these runs need."""
        for kind in self._kinds:
            if wanted := [run for run in runs if run.workload.kind == kind]:
                with self._blamed(kind, "wanted"):
                    self[kind].wanted(wanted)

    def changed(self, change: Change) -> None:
        """Pass a change to the service of the run's kind."""
        kind = change.run.workload.kind
        try:  # without a context manager, because it is called for each change
            self[kind].changed(change)
        except Exception as error:  # noqa: BLE001 - `_blame` raises
            self._blame(kind, "changed", error)

    def recalled(self, session: str, served: Mapping[str, str], under_way: list[Run]) -> None:
        """Restore what a resumed session was served, and go on with its runs that are under way."""
        for kind in self._kinds:
            adopted = [run for run in under_way if run.workload.kind == kind]
            if not adopted and kind not in self._services:
                continue
            with self._blamed(kind, "recalled"):
                self[kind].recalled(session, served)
            with self._blamed(kind, "adopt"):
                self[kind].adopt(adopted)

    def forget(self, runs: list[str]) -> None:
        """Drop what is kept of these runs."""
        for kind, service in self._services.items():
            with self._blamed(kind, "forget"):
                service.forget(runs)

    def waiting_machines(self) -> set[str]:
        """Return the machines that are on and were told to wait for work."""
        waiting: set[str] = set()
        for kind, service in self._services.items():
            with self._blamed(kind, "waiting_machines"):
                waiting |= service.waiting_machines()
        return waiting

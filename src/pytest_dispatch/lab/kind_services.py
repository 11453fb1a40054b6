"""Kinds, and their services: each carries out the workloads of its kind, between the queue and whatever runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.kinds import KindRules
from pytest_dispatch.lab.external_systems import GitHubUse, TestflingerUse

if TYPE_CHECKING:
    import asyncio

    from pytest_dispatch.core.model import Run, Workload
    from pytest_dispatch.core.runs import Change
    from pytest_dispatch.core.templates import Template
    from pytest_dispatch.github.polling_api import GitHubStanding
    from pytest_dispatch.lab.external_systems import Connection
    from pytest_dispatch.lab.state import LabState
    from pytest_dispatch.sources.asset_fetcher import AssetFetcher
    from pytest_dispatch.sources.locations import Locations


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
    github: GitHubUse = field(default_factory=GitHubUse)
    templates: Callable[[], Iterable[Template]] = tuple
    testflinger: TestflingerUse = field(default_factory=TestflingerUse)
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

    @property
    def connections(self) -> list[Connection]:
        """Return how things stand with other systems than GitHub that it depends on."""
        return []

    def look_now(self) -> None:
        """Ask the systems that it depends on at once, whatever pause a failure has caused."""

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

"""The services of all kinds: each call goes to that of the run's kind, and an error of one is told by its name."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from pytest_dispatch.core.errors import ConfigError, DispatchError, LabError
from pytest_dispatch.core.kinds import reading
from pytest_dispatch.core.plain_text import what_was_raised

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Run, Workload
    from pytest_dispatch.core.runs import Change
    from pytest_dispatch.github.polling_api import GitHubStanding
    from pytest_dispatch.lab.external_systems import Connection
    from pytest_dispatch.lab.kind_services import Resources, Service
    from pytest_dispatch.lab.kind_table import KindTable

_log = logging.getLogger(__name__)


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

    @property
    def connections(self) -> list[Connection]:
        """Return how things stand with other systems than GitHub."""
        return [each for service in self._services.values() for each in service.connections]

    def look_now(self) -> None:
        """Have each service ask the systems that it depends on at once."""
        for kind, service in self._services.items():
            with self._blamed(kind, "look"):
                service.look_now()

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

"""The lab's half of a kind: what carries its workloads out, between the queue and whatever runs them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError, DispatchError, LabError
from pytest_dispatch.core.kinds import KindRules, unusable
from pytest_dispatch.core.plain_text import what_was_raised

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Run, Workload
    from pytest_dispatch.core.runs import Change
    from pytest_dispatch.lab.writer import Writer
    from pytest_dispatch.sources.asset_cache import AssetCache
    from pytest_dispatch.sources.locations import Places


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Resources:
    """What a lab has for the services of its kinds.

    Attributes:
        writer: Queue, journal, and those who wait for news.
        cache: Has the bytes of assets, or gets them.
        places: Where they may be.
    """

    writer: Writer
    cache: AssetCache
    places: Places


class Service:
    """Carries the workloads of one kind out. Everything here runs on the lab's event loop.

    A service takes runs by `queue.scheduler.take`, moves them by `queue.engine.move`, says where they run by
    `queue.engine.bind`, and calls `writer.commit` when it has changed something. What it sends to others it has on disk
    before (`writer.on_disk`), under a key of its own making, and notes what they call it by `queue.engine.sent_as`: so
    that a later lab finds it again, and sends nothing twice.

    Attributes:
        progress: How far those runs are that show it, in bytes, by run; of those that their payload names as `size`.
    """

    progress: Mapping[str, int]

    def __init__(self, resources: Resources) -> None:
        self.progress = {}
        self.writer = resources.writer

    def start(self) -> list[asyncio.Task[None]]:
        """Begin to work; returns tasks that must not die unnoticed."""
        return []

    async def stop(self) -> None:
        """Give up what is being done."""

    def check(self, session: str, workload: Workload) -> None:
        """Refuse a workload of a client that names what it may not have.

        Raises:
            ConfigError: Says what was expected, and what came.
        """

    def wanted(self, runs: list[Run]) -> None:
        """Get ready what these runs need, which were asked for."""

    def changed(self, change: Change) -> None:
        """Do what follows from a change of a run of this kind; it is handed to the journal already."""

    def recalled(self, session: str, served: Mapping[str, str]) -> None:
        """Take back what a session that is resumed was served: the digest of the last bytes, by run."""

    def adopt(self, runs: list[Run]) -> None:
        """Go on with these runs of a session that is resumed: an earlier lab had them taken or sent."""

    def forget(self, runs: list[str]) -> None:
        """Drop what is kept of these runs, which are over: nobody asks for them any more."""

    def waiting_machines(self) -> set[str]:
        """Return the machines that are on, and were told to wait for work."""
        return set()


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of workloads: the rules by which they live, and what carries them out.

    An installed package adds one by an entry point in the group `pytest_dispatch.kinds` whose object is a `Kind`.
    """

    rules: KindRules
    service: Callable[[Resources], Service] = Service


class Services:
    """Those of all kinds: each run is its own kind's.

    Args:
        kinds: All of them.
        resources: What the lab has for their services.
    """

    def __init__(self, kinds: Iterable[Kind], resources: Resources) -> None:
        self._fail = resources.writer.fail
        self._services: dict[str, Service] = {}
        for kind in kinds:
            with self._blamed(kind.rules.name, "service"):
                self._services[kind.rules.name] = kind.service(resources)

    def __getitem__(self, kind: str) -> Service:
        return self._services[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self._services)

    @property
    def progress(self) -> dict[str, int]:
        """Return how far those runs are that show it, in bytes, by run."""
        return {run: done for service in self._services.values() for run, done in service.progress.items()}

    def start(self) -> list[asyncio.Task[None]]:
        """Begin to work; returns tasks that must not die unnoticed."""
        tasks = []
        for kind, service in self._services.items():
            with self._blamed(kind, "start"):
                tasks += service.start()
        return tasks

    async def stop(self) -> None:
        """Give up what is being done."""
        await asyncio.gather(*(self._stop(kind, service) for kind, service in self._services.items()))

    async def _stop(self, kind: str, service: Service) -> None:
        with self._blamed(kind, "stop"):
            await service.stop()

    @contextmanager
    def _blamed(self, kind: str, doing: str) -> Iterator[None]:
        """Break the lab if a kind's service does: nobody knows what it has left undone.

        Raises:
            LabError: It did, in one line that says which.
        """
        try:
            yield
        except DispatchError as error:
            self._fail(error)
            raise
        except Exception as error:
            _log.exception("%s of the kind %s", doing, kind)
            said = what_was_raised(error)
            broken = LabError(
                f"the lab is broken: {doing} of the kind {kind} raised {said}; report this to who made it"
            )
            self._fail(broken)
            raise broken from error

    def check(self, session: str, workload: Workload) -> None:
        """Refuse a workload of a client that names what it may not have; one of a kind that there is not, others do.

        Raises:
            ConfigError: Says what was expected, and what came.
        """
        kind = workload.kind
        if kind not in self._services:
            return
        try:
            self._services[kind].check(session, workload)
        except ConfigError:
            raise
        except Exception as error:  # whoever brings the kind may raise anything about a payload
            raise unusable(workload, error) from error

    def wanted(self, runs: list[Run]) -> None:
        """Get ready what these runs need."""
        for kind, service in self._services.items():
            if wanted := [run for run in runs if run.workload.kind == kind]:
                with self._blamed(kind, "wanted"):
                    service.wanted(wanted)

    def changed(self, change: Change) -> None:
        """Have the run's kind do what follows from a change."""
        kind = change.run.workload.kind
        with self._blamed(kind, "changed"):
            self._services[kind].changed(change)

    def recalled(self, session: str, served: Mapping[str, str], under_way: list[Run]) -> None:
        """Take back what a session that is resumed was served, and go on with its runs that are under way."""
        for kind, service in self._services.items():
            with self._blamed(kind, "recalled"):
                service.recalled(session, served)
            with self._blamed(kind, "adopt"):
                service.adopt([run for run in under_way if run.workload.kind == kind])

    def forget(self, runs: list[str]) -> None:
        """Drop what is kept of these runs."""
        for kind, service in self._services.items():
            with self._blamed(kind, "forget"):
                service.forget(runs)

    def waiting_machines(self) -> set[str]:
        """Return the machines that are on, and were told to wait for work."""
        waiting: set[str] = set()
        for kind, service in self._services.items():
            with self._blamed(kind, "waiting_machines"):
                waiting |= service.waiting_machines()
        return waiting

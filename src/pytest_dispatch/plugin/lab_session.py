"""The running session as items and fixtures use it: the lab's client, the workloads, and the submitted runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from pytest_dispatch.core.errors import ConfigError, DispatchError, LabError
from pytest_dispatch.core.model import Outcome
from pytest_dispatch.core.plain_text import node_name, plain_line
from pytest_dispatch.plugin.outcomes import LabFault

if TYPE_CHECKING:
    from pytest_dispatch.client.lab_client import LabClient
    from pytest_dispatch.client.run_cache import RunCache
    from pytest_dispatch.core.model import Report, Run, Workload
    from pytest_dispatch.server.api.schemas import RunRequest, RunView
    from pytest_dispatch.sources.base import Listing

LOOK = 20.0  # seconds without news in the event stream after which the lab is asked
POLL = 0.2  # seconds between checks whether issues are filed
PATIENCE = 10.0  # seconds that all items together wait for links of issues when GitHub is slow


def _tell_nobody(_runs: Sequence[Run]) -> None:
    """Do nothing; used where there is no display."""


@dataclass(kw_only=True)
class LabSession:
    """The state of a session in a pytest process that collects; each such process has one.

    Attributes:
        listing: The source and its workloads.
        wanted: Names after the source in the node ids of the command line: workload names, plain or as in node ids,
            perhaps with parameters; None for all.
        client: None before the lab starts (always with --collect-only) and after it has stopped.
        session: Id of the session in the lab.
        waiting: Context manager entered while the main thread waits for a machine; draws the live table.
        submitted: Called with the runs that were submitted.
        run_cache: Receives changes of runs; None where the lab has to be polled (in pytest-xdist's workers).
        runs: Run ids by node id, once submitted.
        patience: Seconds left of `PATIENCE`.
        awaited: Id of the run that is being waited for; empty if there is none.
        gone: Whether an error has already been raised because the lab cannot be reached any more.
    """

    listing: Listing
    wanted: frozenset[str] | None = None
    client: LabClient | None = None
    session: str = ""
    waiting: Callable[[], AbstractContextManager[object]] = nullcontext
    submitted: Callable[[Sequence[Run]], None] = _tell_nobody
    run_cache: RunCache | None = None
    runs: dict[str, str] = field(default_factory=dict)
    patience: float = PATIENCE
    awaited: str = ""
    gone: bool = False
    _latest: dict[str, RunView] = field(default_factory=dict)

    @property
    def lab(self) -> LabClient:
        """Return the lab's client.

        Raises:
            LabError: The lab is not running.
        """
        if self.client is None:
            raise LabError("the lab is not running")
        return self.client

    def close(self) -> None:
        """Close the lab's client; may be called again."""
        client, self.client = self.client, None
        if client is not None:
            client.close()

    def workload(self, name: str) -> Workload | None:
        """Return the workload of that name; None if there is none."""
        return next((w for w in self.listing.workloads if w.name == name), None)

    def wants(self, workload: Workload) -> bool:
        """Return whether the command line may select an item of this workload."""
        return self.wanted is None or any(names(given, workload) for given in self.wanted)

    @property
    def asked(self) -> set[str]:
        """Return the names of the workloads that this process has submitted."""
        return {view.run.workload.name for view in self._latest.values()}

    @property
    def known(self) -> str:
        """Return the names of all workloads, for messages."""
        return plain_line(", ".join(workload.name for workload in self.listing.workloads))

    def submit(self, wanted: Sequence[RunRequest]) -> None:
        """Submit runs to the lab.

        Raises:
            DispatchError: The lab cannot be reached, or refuses.
        """
        views = self.lab.submit(self.session, wanted)
        self.runs.update({view.run.key: view.run.id for view in views})
        self._latest.update({view.run.key: view for view in views})
        self.submitted([view.run for view in views])

    def wait(self, key: str, until: Callable[[RunView], bool]) -> RunView:
        """Wait until the condition `until` holds for the run, and return the run.

        Every state in the lab has a deadline, so this wait ends. If the last known state already fulfils the condition,
        the lab is not asked. Long texts of reports and the console may be left out.

        Raises:
            LabFault: The lab cannot be reached.
        """
        seen = self._latest.get(key)
        if seen is not None and until(seen):
            return seen
        self.awaited = self.runs.get(key, "")
        try:
            with self.faults(), self.waiting():
                views = self._views(self.runs[key], seen)
                return self._note(key, next(view for view in views if until(view)))
        except KeyboardInterrupt:
            # pytest reads the source of every frame of a traceback: leave out those of the HTTP library
            raise KeyboardInterrupt from None
        finally:
            self.awaited = ""

    def _views(self, run_id: str, seen: RunView | None) -> Iterator[RunView]:
        """Yield the run after each change since it was `seen`, and from time to time without one."""
        after = seen.version if seen else -1
        while self.run_cache is not None:
            view = self.run_cache.next(run_id, after, LOOK) or self.lab.run(run_id)
            yield view
            run_id, after = view.run.id, view.version  # in a shared lab, it may go on as another run
        yield from self.lab.follow(run_id, seen)

    def look(self, key: str) -> RunView:
        """Return the run's current state from the lab.

        Raises:
            LabFault: The lab cannot be reached.
        """
        with self.faults():
            return self._note(key, self.lab.run(self.runs[key]))

    def settled(self, key: str) -> RunView:
        """Wait for the run's outcome and return the run.

        It has the links of its issues if GitHub takes them within `patience`, and all texts unless it passed.

        Raises:
            LabFault: The lab cannot be reached.
        """
        view = self.wait(key, _is_over)
        if not view.whole and (view.filing or view.run.outcome is not Outcome.PASSED):
            view = self.look(key)
        with self.faults():
            while view.filing and self.patience > 0:
                view = self._note(key, self.lab.run(view.run.id, view.version, POLL, view))
                self.patience -= POLL * view.filing
        return view

    def _note(self, key: str, view: RunView) -> RunView:
        self._latest[key] = view
        return view

    def leave(self, key: str) -> RunView | None:
        """Finish with a run: if it has reported, wait for its outcome; else cancel it.

        Returns:
            The finished run; None if the lab was stopped, or cannot be reached and an earlier error said so.

        Raises:
            LabFault: The lab cannot be reached, and no earlier error said so.
        """
        if self.client is None or key not in self.runs:
            return None
        known = self.gone
        try:
            seen = self._latest.get(key)
            view = seen if seen is not None and _is_over(seen) else self.look(key)
            if has_reported(view) or view.run.attempt.ended:
                return self.settled(key)
            with self.faults():
                self.lab.cancel(view.run.id)
            return self.look(key)
        except LabFault:
            if known:
                return None
            raise

    @contextmanager
    def faults(self) -> Iterator[None]:
        """Turn errors of the lab inside the block into lab faults: they are not the workload's fault.

        Raises:
            LabFault: In place of every DispatchError.
        """
        try:
            yield
        except DispatchError as error:
            self.gone = self.gone or not isinstance(error, ConfigError)
            raise LabFault(str(error)) from None


def names(given: str, workload: Workload) -> bool:
    """Return whether a name after the source in a node id means this workload, or one of its parameter sets."""
    name = node_name(workload.name)
    return given in (workload.name, name) or given.startswith(f"{name}[")


def _is_over(view: RunView) -> bool:
    return view.run.outcome is not None


def has_booted(view: RunView) -> bool:
    """Return whether the workload runs, has run, or never will."""
    return view.run.outcome is not None or view.run.attempt.ran


def has_reported(view: RunView) -> bool:
    """Return whether the latest attempt has reported, or the run is over."""
    return view.run.outcome is not None or first_report(view) is not None


def first_report(view: RunView) -> Report | None:
    """Return the first report of the latest attempt that came before the attempt ended; None if there is none."""
    return next((report for report in view.run.attempt.reports if not report.late), None)


LAB_SESSION: pytest.StashKey[LabSession] = pytest.StashKey()

"""What items and fixtures need of a session that is on: the lab's client, the workloads, the runs asked for."""

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
    from pytest_dispatch.client.run_cache import Mirror
    from pytest_dispatch.core.model import Report, Run, Workload
    from pytest_dispatch.server.api.schemas import RunView, Wanted
    from pytest_dispatch.sources.base import Listing

LOOK = 20.0  # seconds without a word of the mirror after which the lab is asked
POLL = 0.2  # seconds between looks at whether issues were filed
PATIENCE = 10.0  # seconds that all items together wait for links of issues that GitHub is slow to take


def _tell_nobody(_runs: Sequence[Run]) -> None:
    """Where there is no display."""


@dataclass(kw_only=True)
class Desk:
    """One per pytest process that collects.

    Attributes:
        wanted: What the command line gave behind the source in node ids: names of workloads, as they are or as node ids
            have them, perhaps with parameters; None for all.
        client: None before the lab is started (never with --collect-only) and after it has stopped.
        waiting: Entered while the main thread waits for a machine; draws the live table.
        submitted: Told of the runs that were asked for.
        mirror: Tells how runs move; None where the lab has to be asked (pytest-xdist's workers).
        runs: Run ids by node id, once submitted.
        patience: Seconds that are left of it.
        gone: Somebody has been told that the lab cannot be asked any more.
    """

    listing: Listing
    wanted: frozenset[str] | None = None
    client: LabClient | None = None
    session: str = ""
    waiting: Callable[[], AbstractContextManager[object]] = nullcontext
    submitted: Callable[[Sequence[Run]], None] = _tell_nobody
    mirror: Mirror | None = None
    runs: dict[str, str] = field(default_factory=dict)
    patience: float = PATIENCE
    gone: bool = False
    _latest: dict[str, RunView] = field(default_factory=dict)

    @property
    def lab(self) -> LabClient:
        """The lab's client.

        Raises:
            LabError: The lab is not running.
        """
        if self.client is None:
            raise LabError("the lab is not running")
        return self.client

    def close(self) -> None:
        """Let go of the lab; may be called again."""
        client, self.client = self.client, None
        if client is not None:
            client.close()

    def workload(self, name: str) -> Workload | None:
        """The workload of that name."""
        return next((w for w in self.listing.workloads if w.name == name), None)

    def wants(self, workload: Workload) -> bool:
        """Say whether any item of a workload may be among those that the command line names."""
        return self.wanted is None or any(names(given, workload) for given in self.wanted)

    @property
    def asked(self) -> set[str]:
        """The names of the workloads that this process has asked for."""
        return {view.run.workload.name for view in self._latest.values()}

    @property
    def known(self) -> str:
        """The names of all workloads, for messages."""
        return plain_line(", ".join(workload.name for workload in self.listing.workloads))

    def submit(self, wanted: Sequence[Wanted]) -> None:
        """Ask the lab for these.

        Raises:
            DispatchError: The lab cannot be asked.
        """
        views = self.lab.submit(self.session, wanted)
        self.runs.update({view.run.key: view.run.id for view in views})
        self._latest.update({view.run.key: view for view in views})
        self.submitted([view.run for view in views])

    def wait(self, key: str, until: Callable[[RunView], bool]) -> RunView:
        """The run once `until` holds of it; every wait in the lab has a deadline, so this one ends.

        What was seen of the run before is not asked again. Long texts of reports and the console may be left out.

        Raises:
            LabFault: The lab is gone.
        """
        seen = self._latest.get(key)
        if seen is not None and until(seen):
            return seen
        try:
            with self.faults(), self.waiting():
                views = self._views(self.runs[key], seen)
                return self._note(key, next(view for view in views if until(view)))
        except KeyboardInterrupt:
            # pytest reads the source of every frame on the way: let there be none of an HTTP library's
            raise KeyboardInterrupt from None

    def _views(self, run_id: str, seen: RunView | None) -> Iterator[RunView]:
        """The run whenever it has moved since it was `seen`, and now and then when it has not."""
        after = seen.version if seen else -1
        while self.mirror is not None:
            view = self.mirror.next(run_id, after, LOOK) or self.lab.run(run_id)
            yield view
            after = view.version
        yield from self.lab.follow(run_id, seen)

    def look(self, key: str) -> RunView:
        """The run as it stands.

        Raises:
            LabFault: The lab is gone.
        """
        with self.faults():
            return self._note(key, self.lab.run(self.runs[key]))

    def settled(self, key: str) -> RunView:
        """The run with its outcome, with the links of its issues if GitHub is quick, and whole unless it passed.

        Raises:
            LabFault: The lab is gone.
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
        """Be done with a run: wait for the end of one that has reported, give up any other.

        Returns:
            How it ended; None where the lab has been stopped, or is gone and somebody has been told.

        Raises:
            LabFault: The lab is gone, and nobody has been told.
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
        """What goes wrong with the lab inside, or cannot be asked of it, is no fault of the workload's.

        Raises:
            LabFault: In place of every DispatchError.
        """
        try:
            yield
        except DispatchError as error:
            self.gone = self.gone or not isinstance(error, ConfigError)
            raise LabFault(str(error)) from None


def names(given: str, workload: Workload) -> bool:
    """Say whether what stands behind the source in a node id means a workload, or some parameters of it."""
    name = node_name(workload.name)
    return given in (workload.name, name) or given.startswith(f"{name}[")


def _is_over(view: RunView) -> bool:
    return view.run.outcome is not None


def has_booted(view: RunView) -> bool:
    """Whether the workload runs, or has run, or never will."""
    return view.run.outcome is not None or view.run.attempt.ran


def has_reported(view: RunView) -> bool:
    """Whether the latest attempt has reported, or the run is over."""
    return view.run.outcome is not None or first_report(view) is not None


def first_report(view: RunView) -> Report | None:
    """The first report of the latest attempt, but for those that came when it had ended."""
    return next((report for report in view.run.attempt.reports if not report.late), None)


DESK: pytest.StashKey[Desk] = pytest.StashKey()

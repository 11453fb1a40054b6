"""The objects that the fixtures return to Python tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_dispatch.client.run_log import fetch_log
from pytest_dispatch.core.model import Outcome
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.plugin.lab_session import LabSession, first_report, has_reported
from pytest_dispatch.plugin.outcomes import WorkloadFailed, raise_outcome, told

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Case, Moment, Report, Run
    from pytest_dispatch.server.api.schemas import RunView
    from pytest_dispatch.server.api.session_schemas import MachineView


@dataclass(frozen=True, repr=False)
class DispatchLab:
    """The lab that this session uses."""

    _lab_session: LabSession

    def __repr__(self) -> str:
        """Return a short text: pytest shows it in tracebacks."""
        client = self._lab_session.client
        return f"<DispatchLab {client.url if client is not None else 'stopped'}>"

    @property
    def url(self) -> str:
        """Return `http://HOST:PORT` of the lab, as seen from this computer."""
        return self._lab_session.lab.url

    @property
    def machines(self) -> list[MachineView]:
        """Return the machines seen so far."""
        with self._lab_session.faults():
            return list(self._lab_session.lab.session(self._lab_session.session).machines)

    @property
    def workloads(self) -> list[str]:
        """Return the names of the source's workloads."""
        return [workload.name for workload in self._lab_session.listing.workloads]


@dataclass(frozen=True, repr=False)
class DispatchWorkload:
    """A workload that runs for a test, or has run."""

    name: str
    _lab_session: LabSession
    _key: str

    def __repr__(self) -> str:
        """Return a short text from the last known state: pytest shows it in tracebacks, also when the lab is gone."""
        run = self._lab_session.wait(self._key, lambda _seen: True).run
        stands = run.outcome or run.attempt.outcome or run.attempt.state
        where = f" on {run.attempt.where}" if run.attempt.where else ""
        return f"<DispatchWorkload {plain_line(f'{self.name}: {stands}{where}')}>"

    @property
    def run(self) -> Run:
        """Return the complete run: its attempts, reports and states."""
        return self._view.run

    @property
    def machine(self) -> str:
        """Return the name of the machine that it runs on, the first of several; empty while unknown."""
        return self.run.attempt.machine

    @property
    def link(self) -> str:
        """Return its address, or its name, in the system that carries it out; empty if machines of the lab boot it."""
        return self.run.attempt.outside

    @property
    def cases(self) -> tuple[Case, ...]:
        """Return the cases of its reports so far; those of a workflow are its jobs."""
        return tuple(case for report in self.reports for case in report.cases)

    @property
    def reports(self) -> tuple[Report, ...]:
        """Return its reports so far."""
        return self.run.attempt.reports

    @property
    def timeline(self) -> tuple[Moment, ...]:
        """Return the states that its latest attempt has entered, each with its time."""
        return self.run.attempt.history

    @property
    def console(self) -> list[str]:
        """Return its machine's console output so far; empty for machines that the lab did not start itself."""
        return [line.text for line in self._view.console]

    def report(self) -> Report:
        """Wait for its first report and return it.

        Raises:
            WorkloadFailed: It ended without a report.
            LabFault: The lab failed before the report came.
        """
        view = self._lab_session.wait(self._key, has_reported)
        if first_report(view) is None:
            raise_outcome(self._lab_session.settled(self._key))
            silent = f"{self.name} ended without a report, as expect={view.run.expect} allows"
            raise WorkloadFailed(told(self._view, silent), pytrace=False)
        whole = self._view.run.attempts[view.run.attempt.number - 1]
        return next(report for report in whole.reports if not report.late)

    def outcome(self) -> Outcome:
        """Wait until it is over and return its outcome.

        Raises:
            LabFault: The lab failed before.
        """
        outcome = self._lab_session.settled(self._key).run.outcome
        return Outcome.ERROR if outcome is None else outcome

    def log(self, case: str = "") -> str:
        """Return the end of what it has written: of a workflow, its jobs' logs; if it boots, its machine's console.

        Args:
            case: Name of the job of which it is wanted; empty for all of them.

        Raises:
            LabFault: There is no such job, or GitHub cannot be asked now.
        """
        with self._lab_session.faults():
            return fetch_log(self._lab_session.lab.connection, self.run.id, case)

    @property
    def _view(self) -> RunView:
        return self._lab_session.look(self._key)

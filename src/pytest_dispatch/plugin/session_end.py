"""The end of a session: powers machines off, files the last issues, and writes the summary."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from pytest_dispatch.core.duration import format_duration
from pytest_dispatch.core.model import Outcome, Refusal, Run
from pytest_dispatch.core.plain_text import plain_line
from pytest_dispatch.core.verdict import told_refusal
from pytest_dispatch.results.timeline import late_reports

if TYPE_CHECKING:
    from pytest_dispatch.client.lab_client import LabClient
    from pytest_dispatch.core.notifications import TargetStatus
    from pytest_dispatch.plugin.event_listener import EventListener
    from pytest_dispatch.plugin.issue_filing import IssueFiling
    from pytest_dispatch.plugin.terminal.progress import TerminalDisplay
    from pytest_dispatch.server.api.schemas import RunView
    from pytest_dispatch.server.api.session_schemas import SessionView

FIRST_POLL = 0.02  # seconds before the second check; each further pause is twice as long
LONGEST_POLL = 0.2  # seconds
SHOWN = 20  # maximum number of refused reports that the summary names
NOTIFY = 30.0  # seconds in which those who are told of the session's end may take it
FLUSH = 90.0  # seconds to file the last issues: GitHub makes clients that exceed its rate limit wait for 60


class Ending:
    """Ends one session in the lab.

    Args:
        stays: Whether the session stays for its owner, who closes it.

    Attributes:
        facts: Lines for the summary.
        troubles: Lines about problems, shown also with `-q`.
        runs: All runs of the session, without their reports; set once all waits are over.
    """

    def __init__(
        self,
        client: LabClient,
        session: str,
        display: TerminalDisplay,
        watcher: EventListener,
        issue_filing: IssueFiling | None = None,
        *,
        stays: bool = False,
    ) -> None:
        self._client = client
        self._session = session
        self._display = display
        self._watcher = watcher
        self._issue_filing = issue_filing
        self._stays = stays
        self.facts: list[str] = []
        self.troubles: list[str] = []
        self.runs: list[Run] = []

    def wind_up(self, drain: float) -> None:
        """End the session.

        Args:
            drain: Longest wait for machines to take the power-off program, in seconds.

        Raises:
            LabError: The lab cannot be reached.
        """
        client = self._client
        if not client.outlasts or any(run.outcome is None for run in self._display.runs()):
            client.end(self._session, kept=True)  # a shared lab's machines need no word that nothing more comes
        if drain:
            self._wait("to power off", "machine", drain, _awaited)
        self._wait("to be filed", "issue", FLUSH, self._pending)
        views = client.runs(self._session)
        self.runs = [view.run for view in views]
        self._watcher.catch_up({view.run.id: view.version for view in views})
        session = client.session(self._session)
        for notice in session.notices:
            self._display.noticed(notice)
        self.troubles += [f"… and {session.more_notices} more such notices"] * bool(session.more_notices)
        self.facts += [plain_line(line, 400) for line in summary_lines(views, session, self._display.runs())]
        unfiled = [*session.unfiled, *(self._issue_filing.status.unfiled if self._issue_filing else ())]
        told = (line if line.startswith("unfiled: ") else f"not filed, {line}" for line in unfiled)
        self.troubles += [plain_line(line, 400) for line in told]
        if self._stays:
            return
        client.end(self._session)  # late: a session killed before this can be resumed without running anything again
        if session.notifications:
            self._wait("to be sent", "notification", NOTIFY, lambda view: range(_unsent(view.notifications)))
            self.troubles += map(_not_told, filter(_failed, client.session(self._session).notifications))

    def _pending(self, view: SessionView) -> range:
        """Return as many as there are issues on their way; a shared lab may leave some to us."""
        if self._issue_filing is None:
            return range(view.issues_pending)
        self._issue_filing.claim()
        return range(max(view.issues_pending, self._issue_filing.status.pending))

    def _wait(self, for_what: str, of: str, longest: float, left: Callable[[SessionView], Collection[object]]) -> None:
        """Wait until `left` returns nothing, at most `longest` seconds, and show how much is left."""
        give_up, pause = time.monotonic() + longest, FIRST_POLL
        with self._display.progress() as show:
            while names := left(self._client.session(self._session)):
                count = f"{len(names)} {of}{'s' * (len(names) != 1)}"
                seconds = give_up - time.monotonic()
                if seconds <= 0:
                    which = f" ({', '.join(map(str, names))})" if isinstance(names, list) else ""
                    gone = f"gave up waiting for {count} {for_what} after {format_duration(longest)}{which}"
                    self.troubles.append(gone)
                    break
                show(f"waiting for {count} {for_what}, at most {format_duration(seconds)} (Ctrl-C stops waiting)")
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_POLL)


def _unsent(targets: Iterable[TargetStatus]) -> int:
    """Return how many notifications are on their way, and have not failed yet."""
    return sum(target.waiting for target in targets if not target.failed)


def _failed(target: TargetStatus) -> bool:
    return bool(target.waiting)


def _not_told(target: TargetStatus) -> str:
    why = target.failed or "no answer yet"
    return plain_line(
        f"not told, {target.name.partition(' of ')[0]}: {why}; tried again while this lab runs, and by the next one",
        400,
    )


def _awaited(view: SessionView) -> list[str]:
    return [machine.name for machine in view.machines if machine.awaited]


def summary_lines(views: Sequence[RunView], session: SessionView, runs: Sequence[Run]) -> list[str]:
    """Return the lines of the summary: flaky runs, issues, machines; empty if there are none.

    Args:
        views: All runs of the session, without their reports.
        session: The current state of the session.
        runs: The session's runs from the event stream, with their reports.
    """
    flaky = [view.run for view in views if view.run.flaky]
    lines = [f"flaky: {run.workload.name} passed on attempt {run.attempt.number} ({_before(run)})" for run in flaky]
    lines += [f"unreviewed: {_unreviewed(view.run)}" for view in views if view.run.unreviewed]
    lines += [f"late report: {run.workload.name}: {late}" for run in runs for late in late_reports(run)]
    lines += [f"issue: {view.run.workload.name}: {url}" for view in views for url in view.issues]
    lines += [f"refused: a report of {run.workload.name}: {told_refusal(told)}" for run, told in _refused(views)]
    for machine in session.machines:
        ran = plain_line(", ".join(machine.ran), 120) or "nothing"
        lines.append(f"machine {machine.name}: {len(machine.ran)} ({ran})")
    return lines


def _refused(views: Sequence[RunView]) -> list[tuple[Run, Refusal]]:
    """Return refused reports of runs that did not fail: a failed run shows its refused reports itself."""
    runs = [view.run for view in views if view.run.outcome is not Outcome.FAILED]
    return [(run, refusal) for run in runs for attempt in run.attempts for refusal in attempt.refused][:SHOWN]


def _unreviewed(run: Run) -> str:
    return f"{run.workload.name} {run.outcome}, as the lab proposed: nobody was there for pytest_dispatch_verdict"


def _before(run: Run) -> str:
    first = run.attempts[0]
    side = "the lab's fault" if first.outcome is Outcome.ERROR else "a failure"
    return f"{side} before: {first.reason}"

"""A synchronous client of the lab's API, for test items, xdist workers and hooks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_dispatch.client.connection import ConflictError, LabConnection, StaleError
from pytest_dispatch.client.uploading import Uploader
from pytest_dispatch.core.model import Issue, Outcome, Report, Run
from pytest_dispatch.core.notices import Notice
from pytest_dispatch.server.api.schemas import (
    HeldView,
    Opened,
    OpenSession,
    RunChange,
    RunReport,
    RunRequest,
    RunView,
    joined,
)
from pytest_dispatch.sources.locations import Locations
from pytest_dispatch.support.codec import decode

if TYPE_CHECKING:
    from pytest_dispatch.core.outlook import Outlook
    from pytest_dispatch.server.api.session_schemas import LabView, SessionView

WAIT = 20.0  # seconds that one long poll lasts


class LabClient:
    """A client of one lab. Every method raises `LabError` if the lab cannot be reached, or refuses the request.

    Args:
        url: `http://HOST:PORT` of the lab.
        token: Bearer token of its API.
        epoch: Epoch of the session's lease; `open` sets it.
        locations: Folders that the lab reads itself; files elsewhere are uploaded.
        connection: Connections that do more than send requests; None for usual ones.

    Attributes:
        outlasts: Whether it waits for a lab that is away.
        connection: Its connections.
        uploader: Its uploads.
    """

    outlasts = False

    def __init__(
        self,
        url: str,
        token: str,
        epoch: int = 1,
        locations: Locations | None = None,
        connection: LabConnection | None = None,
    ) -> None:
        self.connection = connection or LabConnection(url, token, epoch)
        self.url = url
        self.uploader = Uploader(self.connection, locations or Locations())

    @property
    def epoch(self) -> int:
        """Return the epoch of the session's lease."""
        return self.connection.epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self.connection.epoch = epoch

    def close(self) -> None:
        """Close the connections."""
        self.connection.close()

    def lab(self) -> LabView:
        """Return what the lab is, and what it speaks."""
        from pytest_dispatch.server.api.session_schemas import LabView

        return self.connection.ask(LabView, "GET", "/lab")

    def open(self, request: OpenSession) -> Opened:
        """Open a session, or resume one."""
        opened = self.connection.ask(Opened, "POST", "/sessions", request)
        self.epoch = opened.epoch
        return opened

    def take_over(self, session: str, request: OpenSession, epoch: int = 0) -> Opened:
        """Become the session's holder; the lab refuses the previous holder from now on.

        Args:
            session: Id of the session.
            request: What the session is from now on.
            epoch: If above 0, take it over only as its latest holder, who had this epoch and was away meanwhile.
        """
        query = {"epoch": str(epoch)} if epoch else None
        opened = self.connection.ask(Opened, "POST", f"/sessions/{session}/lease", request, query)
        self.epoch = opened.epoch
        return opened

    def submit(self, session: str, wanted: Sequence[RunRequest]) -> list[RunView]:
        """Submit workloads with their keys, and upload files that the lab does not read itself."""
        named = self.uploader.named(session, wanted)
        return self.connection.ask(list[RunView], "POST", f"/sessions/{session}/runs", named)

    def upload(self, session: str, file: Path) -> tuple[str, int]:
        """Upload a file for workloads of the session, unless the session has already uploaded it.

        Returns:
            The file's digest, and its size in bytes.
        """
        return self.uploader.upload(session, file)

    def outlook(self, session: str, wanted: Iterable[tuple[tuple[str, ...], str]]) -> Outlook:
        """Return what a session may expect whose workloads have these requirements, and name these groups."""
        from pytest_dispatch.core.outlook import Outlook
        from pytest_dispatch.server.api.session_schemas import OutlookWanted

        both = tuple(dict.fromkeys(wanted))
        asked = OutlookWanted(requires=tuple(each for each, _ in both), groups=tuple(group for _, group in both))
        return self.connection.ask(Outlook, "POST", f"/sessions/{session}/outlook", asked)

    def session(self, session: str) -> SessionView:
        """Return the state of a session."""
        from pytest_dispatch.server.api.session_schemas import SessionView

        return self.connection.ask(SessionView, "GET", f"/sessions/{session}")

    def end(self, session: str, *, kept: bool = False) -> None:
        """Close the session and cancel its unfinished runs; if `kept`, the session can still be resumed."""
        self.connection.call("DELETE", f"/sessions/{session}", query={"kept": str(int(kept))})

    def leave(self, session: str) -> None:
        """Leave the session to whoever resumes it: what has not begun is cancelled, what runs goes on."""
        self.connection.call("DELETE", f"/sessions/{session}", query={"left": "1"})

    def current(self, run_id: str) -> str:
        """Return the id that a run has now."""
        return run_id

    def run(self, run_id: str, after: int = -1, wait: float = 0.0, seen: RunView | None = None) -> RunView:
        """Return a run; with `wait`, once it has changed past version `after`, or after `wait` seconds.

        The reports in `seen`, an earlier view of the run, are taken from there and not sent again.
        """
        known = [str(len(attempt.reports)) for attempt in seen.run.attempts] if seen is not None else []
        query: dict[str, str | list[str]] = {"after": str(after), "wait": str(wait), "known": known}
        view = self.connection.ask(RunView, "GET", f"/runs/{run_id}", query=query, wait=wait)
        return view if seen is None else replace(view, run=joined(view.run, seen.run), whole=seen.whole)

    def runs(self, session: str) -> list[RunView]:
        """Return all runs of a session, without their reports and consoles."""
        return self.connection.ask(list[RunView], "GET", f"/sessions/{session}/runs")

    def follow(self, run_id: str, seen: RunView | None = None) -> Iterator[RunView]:
        """Yield the run after each change since it was `seen`, and every `WAIT` seconds without one."""
        while True:
            seen = self.run(run_id) if seen is None else self.run(run_id, seen.version, WAIT, seen)
            yield seen

    def cancel(self, run_id: str) -> None:
        """Cancel a run, unless it is over."""
        try:
            self.connection.call("DELETE", f"/runs/{run_id}")
        except StaleError:
            raise
        except ConflictError:  # it has ended meanwhile, which is all that its session wants
            return

    def decide(self, run_id: str, outcome: Outcome | None, reason: str, *, final: bool = False) -> None:
        """Send the session's own verdict on the latest attempt; if `final`, there is no further attempt."""
        from pytest_dispatch.server.api.session_schemas import Verdict

        self.connection.call("POST", f"/runs/{run_id}/verdict", Verdict(outcome=outcome, reason=reason, final=final))

    def review(self, run_id: str, issues: Mapping[str, Issue | None]) -> bool:
        """Replace proposed issues, by marker, None to file none; return whether the answer came in time."""
        from pytest_dispatch.server.api.session_schemas import Review, Reviewed

        return self.connection.ask(Reviewed, "POST", f"/runs/{run_id}/issues", Review(issues=issues)).in_time

    def changes(self, session: str, after: int) -> Iterator[tuple[int, RunChange | Notice | HeldView | dict[str, int]]]:
        """Yield changes as they come, each with its number; a dict is the download progress in bytes by run.

        The reports of a change's run are without their long texts. Every notice comes once, beginning with the first.
        Events of a newer lab that are not known here are left out.
        """
        reports: dict[tuple[str, int], tuple[Report, ...]] = {}
        with self.connection.events(f"/sessions/{session}/events", after) as stream:
            for event in stream:
                if event.name == "report":
                    said = decode(event.data, RunReport)
                    before = reports.get((said.run, said.attempt), ())
                    reports[said.run, said.attempt] = (*before[: said.number - 1], said.report)
                elif event.name == "change":
                    after = int(event.id)
                    change = decode(event.data, RunChange)
                    yield after, replace(change, run=_with_reports(change.run, reports))
                elif event.name == "notice":
                    yield after, decode(event.data, Notice)
                elif event.name == "held":
                    yield after, decode(event.data, HeldView)
                elif event.name == "progress":
                    yield after, decode(event.data, dict[str, int])


def _with_reports(run: Run, told: dict[tuple[str, int], tuple[Report, ...]]) -> Run:
    """Return the run with its reports from earlier events."""
    attempts = tuple(replace(a, reports=told.get((run.id, a.number), ())) for a in run.attempts)
    return replace(run, attempts=attempts)

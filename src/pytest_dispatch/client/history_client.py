"""A client of what a lab knows of its runs, also of those that ended long ago."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from pytest_dispatch.client.request_values import asked_for
from pytest_dispatch.core.annotations import Note
from pytest_dispatch.core.ended_runs import EndedRun, HistoryPage
from pytest_dispatch.core.known_issues import IssueLink
from pytest_dispatch.server.api.history_schemas import (
    ConsoleView,
    NoteWanted,
    OverrideWanted,
    SeriesView,
    TrendsView,
)
from pytest_dispatch.server.api.session_schemas import LinkWanted

if TYPE_CHECKING:
    from pytest_dispatch.client.connection import LabConnection
    from pytest_dispatch.core.model import Outcome


class HistoryClient:
    """The history of one lab. Every method raises `LabError` if the lab refuses, or is not there.

    Args:
        connection: Connections to the lab.
    """

    def __init__(self, connection: LabConnection) -> None:
        self._lab = connection

    def search(self, words: str, most: int, before: int | None = None) -> HistoryPage:
        """Return a page of the runs that a search finds, newest first."""
        query = {"q": words, "most": str(most)} | ({} if before is None else {"before": str(before)})
        return self._lab.ask(HistoryPage, "GET", "/history", query=query)

    def series(self, name: str, most: int) -> list[SeriesView]:
        """Return statistics of workloads by machine; of all of them if the name is empty."""
        query = {"most": str(most)} | ({"name": name} if name else {})
        return self._lab.ask(list[SeriesView], "GET", "/history/series", query=query)

    def trends(self, over: str) -> TrendsView:
        """Return the numbers of the charts over a time: `1h`, `24h`, `7d` or `30d`."""
        return self._lab.ask(TrendsView, "GET", "/history/trends", query={"over": over})

    def console(self, run: str, attempt: int, after: int = 0, wait: float = 0.0) -> ConsoleView:
        """Return a part of the console of an attempt, 0 for the last one; with `wait`, once there is one."""
        query = {"attempt": str(attempt), "after": str(after), "wait": f"{wait:g}"}
        return self._lab.ask(ConsoleView, "GET", f"{_path(run)}/console", query=query, wait=wait)

    def junit(self, run: str) -> str:
        """Return a run that has ended as the text of a JUnit file."""
        return self._lab.call("GET", f"{_path(run)}/junit").decode()

    def override(self, run: str, outcome: Outcome, reason: str) -> EndedRun:
        """Give a run that has ended another outcome."""
        wanted = asked_for(OverrideWanted, outcome=outcome, reason=reason)
        return self._lab.ask(EndedRun, "POST", f"{_path(run)}/override", wanted)

    def withdraw(self, run: str) -> EndedRun:
        """Give a run back the outcome that it ended with."""
        return self._lab.ask(EndedRun, "DELETE", f"{_path(run)}/override")

    def note(self, run: str, text: str) -> Note:
        """Add a note to a run that has ended."""
        return self._lab.ask(Note, "POST", f"{_path(run)}/notes", asked_for(NoteWanted, text=text))

    def link(self, run: str, url: str) -> list[IssueLink]:
        """Link a run to an issue; returns all its links."""
        return self._lab.ask(list[IssueLink], "POST", f"{_path(run)}/links", asked_for(LinkWanted, url=url))

    def unlink(self, run: str, url: str) -> list[IssueLink]:
        """Take the link to an issue from a run; returns the links that are left."""
        return self._lab.ask(list[IssueLink], "DELETE", f"{_path(run)}/links", query={"url": url})

    def delete_note(self, run: str, note: str) -> None:
        """Delete a note of a run."""
        self._lab.call("DELETE", f"{_path(run)}/notes/{quote(note, '')}")


def _path(run: str) -> str:
    return f"/runs/{quote(run, '')}"

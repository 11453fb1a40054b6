"""A client of a lab that others use too: it outlasts the lab's absences and restarts, and goes on where it was."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pytest_dispatch.client.connection import LabConnection, MissingError, StaleError
from pytest_dispatch.client.lab_client import LabClient
from pytest_dispatch.client.unreachable_lab import Absence, tell_nobody
from pytest_dispatch.server.api.schemas import Opened, OpenSession, RunRequest, RunView

FOLLOWS = 30.0  # seconds that a worker waits for its controller to come back to the session
LOOK = 0.1  # seconds between two looks


@dataclass(frozen=True, slots=True)
class Handed:
    """What a process has of a session that another process opened.

    Attributes:
        session: Id of the session.
        epoch: Returns the epoch that the other process has now.
    """

    session: str
    epoch: Callable[[], int]


class _OutlastingConnection(LabConnection):
    """Connections that ask again while the lab is away, and after a return to the session.

    Attributes:
        as_now: Returns the path as it is to be asked for now; empty before a session is open, when nothing is
            outlasted.
        come_back: Returns whether the session goes on under another epoch than the given one.
    """

    def __init__(self, url: str, token: str, epoch: int, absence: Absence) -> None:
        super().__init__(url, token, epoch)
        self._absence = absence
        self.as_now: Callable[[str], str] = lambda _path: ""
        self.come_back: Callable[[int], bool] = lambda _epoch: False

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        query: Mapping[str, str | list[str]] | None = None,
        wait: float = 0.0,
    ) -> bytes:
        """Send a request as `LabConnection` does, again and again if need be."""
        if not self.as_now(path):
            return super().call(method, path, body, query, wait)
        ask, epoch = super().call, self.epoch
        try:
            return self._absence.outlasted(lambda: ask(method, self.as_now(path), body, query, wait))
        except (StaleError, MissingError):
            if path.endswith("/lease") or not self.come_back(epoch):
                raise
        return self._absence.outlasted(lambda: ask(method, self.as_now(path), body, query, wait))


class SharedLabClient(LabClient):
    """A client of a lab that is not the caller's own.

    If the lab was restarted, or has ended the session because it heard nothing for too long, the client comes back to
    the session, and asks again for what it had asked for. Runs that were cancelled meanwhile have new ids then; the old
    ones go on to work here.

    Args:
        url: `http://HOST:PORT` of the lab.
        token: Bearer token of its API.
        told: Called with a line for people when the lab is away, and when it is back.
        handed: The session, if another process opened it.

    Attributes:
        came_back: Called with the epoch after each return to the session.
    """

    outlasts = True

    def __init__(
        self, url: str, token: str, told: Callable[[str], None] = tell_nobody, handed: Handed | None = None
    ) -> None:
        self._absence = Absence(told)
        connection = _OutlastingConnection(url, token, handed.epoch() if handed else 1, self._absence)
        super().__init__(url, token, connection=connection)
        connection.as_now, connection.come_back = self._as_now, self._come_back
        self._handed = handed
        self._session = handed.session if handed else ""
        self._opened: OpenSession | None = None
        self._asked: dict[str, RunRequest] = {}  # by key
        self._runs: dict[str, str] = {}  # ids of the runs now, by key
        self._moved: dict[str, str] = {}  # ids of the runs now, by an earlier id
        self._returning = threading.RLock()
        self.came_back: list[Callable[[int], None]] = []

    @property
    def session_id(self) -> str:
        """Return the id of the session; empty if none was opened."""
        return self._session

    def leave(self, session: str) -> None:
        """Leave the session to whoever resumes it; does not wait for a lab that is away."""
        self._absence.end()
        super().leave(session)

    def close(self) -> None:
        """Close the connections, and have every wait for the lab give up."""
        self._absence.end()
        super().close()

    def open(self, request: OpenSession) -> Opened:
        """Open a session, or resume one; a lab that is away now is an error."""
        opened = super().open(request)
        self._session, self._opened = opened.id, request
        return opened

    def submit(self, session: str, wanted: Sequence[RunRequest]) -> list[RunView]:
        """Submit workloads with their keys, and upload the files that the lab lacks."""
        views = super().submit(session, wanted)
        self._asked.update((each.key, each) for each in wanted)
        for view in views:
            before = self._runs.get(view.run.key, view.run.id)
            self._runs[view.run.key] = view.run.id
            if before != view.run.id:
                self._moved = {old: view.run.id if new == before else new for old, new in self._moved.items()}
                self._moved[before] = view.run.id
        return views

    def current(self, run_id: str) -> str:
        """Return the id that a run has now."""
        return self._moved.get(run_id, run_id)

    def _as_now(self, path: str) -> str:
        """Return a path with the id that its run has now; empty before a session is open."""
        if not self._session:
            return ""
        parts = path.split("/")
        return "/".join([*parts[:2], self.current(parts[2]), *parts[3:]]) if parts[1] == "runs" else path

    def _come_back(self, epoch: int) -> bool:
        """Return whether the session goes on under another epoch than this one, and have it go on if need be.

        Raises:
            LabError: Another holder has the session, or it was closed.
        """
        with self._returning:
            if self.epoch != epoch:
                return True  # another thread was here first
            now = self._follow(self._handed) if self._handed else self._take_back()
            if now == epoch:
                return False
            self.epoch = now
            if self._asked:
                self.submit(self._session, list(self._asked.values()))
            for each in self.came_back:
                each(now)
            return True

    def _take_back(self) -> int:
        if self._opened is None:
            return self.epoch
        before = self.epoch
        taken = self.take_over(self._session, self._opened, before)
        self.epoch = before  # until the caller sets it
        return taken.epoch

    def _follow(self, handed: Handed) -> int:
        """Return the controller's epoch once it is another one, or after `FOLLOWS`."""
        give_up = time.monotonic() + FOLLOWS
        while (epoch := handed.epoch()) == self.epoch and time.monotonic() < give_up:
            time.sleep(LOOK)
        return epoch

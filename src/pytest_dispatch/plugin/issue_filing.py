"""Files the issues that a shared lab has no token for, with pytest's own token, which never leaves this process."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from pytest_dispatch.client.holder_issues import claim_issues, issue_tried
from pytest_dispatch.core.errors import LabError
from pytest_dispatch.lab.outbox import Outbox
from pytest_dispatch.support.daemon_thread import in_daemon
from pytest_dispatch.support.event_loop import LoopThread

if TYPE_CHECKING:
    from pytest_dispatch.client.lab_client import LabClient
    from pytest_dispatch.core.secrets import Token
    from pytest_dispatch.github.issue_filer import GitHubFiler
    from pytest_dispatch.lab.outbox import OutboxStatus
    from pytest_dispatch.store.journal import PendingIssue

ANSWER = 5.0  # seconds for an answer of our own loop


class IssueFiling:
    """Claims pending issues from the lab and files them. Call `start` before use, and `stop` after.

    Args:
        client: The client of the lab.
        session: Id of the session.
        repo: The repository.
        token: For that repository.
        api_url: Address of the GitHub API.
    """

    def __init__(self, client: LabClient, session: str, repo: str, token: Token, api_url: str) -> None:
        self._client = client
        self._session = session
        self._where = repo, token, api_url
        self._filer: GitHubFiler | None = None
        self._outbox = Outbox(self._kept, self._open, lambda _pending: None, api=api_url)
        self._loop = LoopThread()
        self._due = threading.Event()
        self._stopping = False
        self._claiming = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="dispatch-issue-filing", daemon=True)
        self._known: set[str] = set()  # markers of claimed issues

    def start(self) -> None:
        """Start, with what earlier sessions left."""
        self._due.set()
        self._thread.start()

    def due(self) -> None:
        """Note that the lab may have pending issues."""
        self._due.set()

    def claim(self) -> None:
        """Take over what the lab has, and file it.

        Raises:
            LabError: The lab cannot be reached, or refuses.
        """
        with self._claiming:
            for pending in claim_issues(self._client.connection, self._session):
                if pending.issue.marker not in self._known:
                    if not self._known:
                        self._loop.start()
                        self._loop.call(self._begin, ANSWER)
                    self._known.add(pending.issue.marker)
                    self._loop.call(partial(self._put, pending), ANSWER)

    @property
    def status(self) -> OutboxStatus:
        """Return how the claimed issues stand."""
        return self._loop.call(self._standing, ANSWER) if self._known else self._outbox.status()

    def stop(self) -> None:
        """Stop at once; what is not filed stays in the lab's journal."""
        if self._stopping:
            return
        self._stopping = True
        self._due.set()
        if self._thread.is_alive():
            self._thread.join(ANSWER)
        if self._known:
            with suppress(LabError):  # GitHub is slow: its thread is a daemon
                self._loop.call(self._outbox.stop, ANSWER)
            with suppress(LabError):
                self._loop.stop()
        if self._filer is not None:
            self._filer.close()

    def _work(self) -> None:
        while True:
            self._due.wait()
            self._due.clear()
            if self._stopping:
                return
            with suppress(LabError):  # the session's end claims once more, and tells
                self.claim()

    async def _standing(self) -> OutboxStatus:
        return self._outbox.status()

    async def _begin(self) -> None:
        self._outbox.start([])

    async def _put(self, pending: PendingIssue) -> None:
        self._outbox.put(pending)

    def _kept(self, pending: PendingIssue) -> Future[None]:
        return in_daemon(lambda: issue_tried(self._client.connection, self._session, pending), "dispatch-issue-tried")

    def _open(self, _repo: str) -> GitHubFiler:
        if self._filer is None:
            from pytest_dispatch.github.issue_filer import GitHubFiler

            self._filer = GitHubFiler(*self._where)
        return self._filer

"""Files issues from the journal: retries when GitHub fails, never files twice, and keeps what cannot be filed.

The start of each try is on disk before the request is sent. So before an issue with an earlier try is filed, even in
the next session, GitHub is asked whether the issue exists already. One that cannot be filed now does not hold up
others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from textwrap import shorten

from pytest_dispatch.github.filer_interface import Filed, Filer, FilingError
from pytest_dispatch.store.journal import Journal, PendingIssue, issue_row
from pytest_dispatch.support.daemon_thread import in_daemon

__all__ = ["Filed", "Filer", "FilingError", "Outbox", "OutboxStatus"]

FIRST_PAUSE = 1.0  # seconds until the next try after a failure; doubled for each further failure in a row
LONGEST_PAUSE = 300.0
LONG = 60.0  # seconds; nobody waits for issues whose next try is further away
NAMED = 3  # most titles in a line
WITHDRAWN = "its session wants it not to be filed"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxStatus:
    """The state of the outbox."""

    pending: int  # may be filed at any time
    filed: int
    unfiled: tuple[str, ...] = ()  # a line for each reason why some issues, or parts of them, are not filed


class Outbox:
    """Files issues one after the other, in the order in which they were added.

    Args:
        keep: Keeps the state of an issue; the future is done when it is on disk.
        filers: Returns the filer for a repository, or None if no issue may be filed now.
        on_tried: Called after each try, with the issue as it then is.
        pause: Waits for a number of seconds.
        api: Address of the API at which these filers file. Issues for another API stay in the journal, so that a
            report from a company's own server is never filed in public.
    """

    def __init__(
        self,
        keep: Callable[[PendingIssue], Future[None]],
        filers: Callable[[str], Filer | None],
        on_tried: Callable[[PendingIssue], None],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        api: str = "",
    ) -> None:
        self._keep_in = keep
        self._filers = filers
        self._on_tried = on_tried
        self._pause = pause
        self._api = api
        self._pending: deque[PendingIssue] = deque()
        self._elsewhere: list[PendingIssue] = []  # issues for another API
        self._done: list[PendingIssue] = []
        self._dropped: list[tuple[str, PendingIssue]] = []  # filed without some parts: the reason, and the issue
        self._backed_off = 0.0  # seconds of the latest pause; 0 after a success
        self._held = ""  # why no issue is tried for a long time
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self, pending_issues: list[PendingIssue]) -> asyncio.Task[None]:
        """Start with the issues of earlier sessions; return the filing task, which fails only with a JournalError."""
        for pending in pending_issues:
            if self._filers(pending.repo) is not None:
                self.put(pending)
        self._task = asyncio.create_task(self._work(), name="the outbox")
        return self._task

    async def stop(self) -> None:
        """Stop at once; issues not known to be filed stay in the journal."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def put(self, pending: PendingIssue) -> None:
        """Add a pending issue that is already in the journal."""
        (self._pending if pending.api == self._api else self._elsewhere).append(pending)
        self._wake.set()

    def status(self, session: str = "") -> OutboxStatus:
        """Return the state of the outbox, for one session if one is given."""
        lines: dict[str, list[str]] = {}
        for why, pending in self._dropped:
            if session in ("", pending.session):
                lines.setdefault(why, []).append(pending.issue.title)
        done, pending_issues, elsewhere = (
            [pending for pending in some if session in ("", pending.session)]
            for some in (self._done, self._pending, self._elsewhere)
        )
        for pending in (*done, *pending_issues):
            if why := pending.failed or (self._held if not pending.url else ""):
                fate = "given up" if pending.given_up else "kept for the next session"
                lines.setdefault(f"{fate}: {{}}: {why}", []).append(pending.issue.title)
        for pending in elsewhere:
            lines.setdefault(f"kept for a session with {_options(pending)}: {{}}", []).append(pending.issue.title)
        return OutboxStatus(
            pending=0 if self._held else len(pending_issues),
            filed=sum(bool(pending.url) for pending in done),
            unfiled=tuple(line.replace("{}", named(titles), 1) for line, titles in lines.items()),
        )

    def forget(self, session: str) -> None:
        """Drop the results of a session's issues, all of which are done."""
        self._done = [pending for pending in self._done if pending.session != session]
        self._dropped = [each for each in self._dropped if each[1].session != session]

    async def _work(self) -> None:
        while True:
            self._wake.clear()
            while self._pending:
                await self._try_first()
            await self._wake.wait()

    async def _try_first(self) -> None:
        pending = self._pending[0]
        filer = self._filers(pending.repo)
        if filer is None:
            self._finish(replace(pending, failed="there is no GitHub token"))
            return
        begun = replace(pending, tries=pending.tries + 1)
        await self._keep(begun)
        try:
            # a daemon thread, since GitHub may be slow when the lab must stop at once
            filing = in_daemon(lambda: _written(filer, pending), "dispatch-outbox")
            done = await asyncio.wrap_future(filing)
        except FilingError as error:
            await self._failed(replace(begun, failed=str(error), given_up=error.refused), error)
        else:
            self._backed_off = 0.0
            if done.lacks:
                self._dropped.append((f"{', '.join(done.lacks)} of {{}}: {done.why}", pending))
            if done.left:
                self._dropped.append((f"{{}}: {done.left}", pending))
            filed = replace(begun, url=done.url, failed="")
            await self._keep(filed)
            self._finish(filed)

    async def _failed(self, pending: PendingIssue, error: FilingError) -> None:
        await self._keep(pending)
        if error.permanent:
            self._finish(pending)
            return
        self._pending.rotate(-1)  # try the others first: GitHub may fail for this issue alone
        self._backed_off = min(2.0 * self._backed_off, LONGEST_PAUSE) if self._backed_off else FIRST_PAUSE
        pause = self._backed_off if error.retry_after is None else error.retry_after
        self._held = str(error) if pause > LONG else ""
        self._on_tried(pending)
        await self._pause(pause)
        self._held = ""

    async def _keep(self, pending: PendingIssue) -> None:
        self._pending[0] = pending
        await asyncio.wrap_future(self._keep_in(pending))

    def _finish(self, pending: PendingIssue) -> None:
        self._pending.popleft()
        self._done.append(pending)
        self._on_tried(pending)


def _written(filer: Filer, pending: PendingIssue) -> Filed:
    """File an issue of its own, or write to the one that is kept for its failure."""
    if pending.tracking is None:
        return filer.file(pending.issue, pending.tries > 0)
    return filer.update(pending.issue, pending.tracking, pending.tries > 0)


def _options(pending: PendingIssue) -> str:
    """Return the options with which it would be filed."""
    return f"--dispatch-api-url {pending.api}" if pending.api else f"--dispatch-issues-repo {pending.repo}"


def kept_in(journal: Journal) -> Callable[[PendingIssue], Future[None]]:
    """Return what keeps pending issues in a journal."""
    return lambda pending: journal.write([issue_row(pending)])


def named(titles: list[str]) -> str:
    """Return the first titles, and how many more there are."""
    more = f" and {len(titles) - NAMED} more" if len(titles) > NAMED else ""
    return ", ".join(shorten(title, 60, placeholder="…") for title in titles[:NAMED]) + more

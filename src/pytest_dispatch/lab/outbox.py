"""Files issues from the journal: retries when GitHub fails, never files twice, and keeps what cannot be filed.

The start of each try is on disk before the request is sent. So before a letter with an earlier try is filed, even in
the next session, GitHub is asked whether the issue exists already. A letter that cannot be filed now does not hold up
others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from textwrap import shorten

from pytest_dispatch.github.filing import Filed, Filer, FilingError
from pytest_dispatch.store.journal import Journal, Letter, letter_row
from pytest_dispatch.support.daemon_thread import in_daemon

__all__ = ["Filed", "Filer", "FilingError", "Outbox", "OutboxStatus"]

FIRST_PAUSE = 1.0  # seconds until the next try after a failure; doubled for each further failure in a row
LONGEST_PAUSE = 300.0
LONG = 60.0  # seconds; nobody waits for letters whose next try is further away
NAMED = 3  # most titles in a line


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxStatus:
    """The state of the outbox."""

    pending: int  # may be filed at any time
    filed: int
    unfiled: tuple[str, ...] = ()  # a line for each reason why some issues, or parts of them, are not filed


class Outbox:
    """Files letters one after the other, in the order in which they were added.

    Args:
        journal: Where letters are kept.
        filers: Returns the filer for a repository, or None if no issue may be filed now.
        on_tried: Called after each try, with the letter as it then is.
        pause: Waits for a number of seconds.
        api: Address of the API at which these filers file. Letters for another API stay in the journal, so that a
            report from a company's own server is never filed in public.
    """

    def __init__(
        self,
        journal: Journal,
        filers: Callable[[str], Filer | None],
        on_tried: Callable[[Letter], None],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        api: str = "",
    ) -> None:
        self._journal = journal
        self._filers = filers
        self._on_tried = on_tried
        self._pause = pause
        self._api = api
        self._letters: deque[Letter] = deque()
        self._elsewhere: list[Letter] = []  # letters for another API
        self._done: list[Letter] = []
        self._dropped: list[tuple[str, Letter]] = []  # filed without some parts: the reason, and the letter
        self._backed_off = 0.0  # seconds of the latest pause; 0 after a success
        self._held = ""  # why no letter is tried for a long time
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self, letters: list[Letter]) -> asyncio.Task[None]:
        """Start with the letters of earlier sessions; return the filing task, which fails only with a JournalError."""
        for letter in letters:
            if self._filers(letter.repo) is not None:
                self.put(letter)
        self._task = asyncio.create_task(self._work(), name="the outbox")
        return self._task

    async def stop(self) -> None:
        """Stop at once; letters not known to be filed stay in the journal."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def put(self, letter: Letter) -> None:
        """Add a letter that is already in the journal."""
        (self._letters if letter.api == self._api else self._elsewhere).append(letter)
        self._wake.set()

    def status(self, session: str = "") -> OutboxStatus:
        """Return the state of the outbox, for one session if one is given."""
        lines: dict[str, list[str]] = {}
        for why, letter in self._dropped:
            if session in ("", letter.session):
                lines.setdefault(why, []).append(letter.issue.title)
        done, letters, elsewhere = (
            [letter for letter in some if session in ("", letter.session)]
            for some in (self._done, self._letters, self._elsewhere)
        )
        for letter in (*done, *letters):
            if why := letter.failed or (self._held if not letter.url else ""):
                fate = "given up" if letter.given_up else "kept for the next session"
                lines.setdefault(f"{fate}: {{}}: {why}", []).append(letter.issue.title)
        for letter in elsewhere:
            lines.setdefault(f"kept for a session with {_options(letter)}: {{}}", []).append(letter.issue.title)
        return OutboxStatus(
            pending=0 if self._held else len(letters),
            filed=sum(bool(letter.url) for letter in done),
            unfiled=tuple(line.replace("{}", _named(titles), 1) for line, titles in lines.items()),
        )

    def forget(self, session: str) -> None:
        """Drop the results of a session's letters, all of which are done."""
        self._done = [letter for letter in self._done if letter.session != session]
        self._dropped = [each for each in self._dropped if each[1].session != session]

    async def _work(self) -> None:
        while True:
            self._wake.clear()
            while self._letters:
                await self._try_first()
            await self._wake.wait()

    async def _try_first(self) -> None:
        letter = self._letters[0]
        filer = self._filers(letter.repo)
        if filer is None:
            self._finish(replace(letter, failed="there is no GitHub token"))
            return
        begun = replace(letter, tries=letter.tries + 1)
        await self._keep(begun)
        try:
            # a daemon thread, since GitHub may be slow when the lab must stop at once
            filing = in_daemon(lambda: filer.file(letter.issue, letter.tries > 0), "dispatch-outbox")
            done = await asyncio.wrap_future(filing)
        except FilingError as error:
            await self._failed(replace(begun, failed=str(error), given_up=error.refused), error)
        else:
            self._backed_off = 0.0
            if done.lacks:
                self._dropped.append((f"{', '.join(done.lacks)} of {{}}: {done.why}", letter))
            filed = replace(begun, url=done.url, failed="")
            await self._keep(filed)
            self._finish(filed)

    async def _failed(self, letter: Letter, error: FilingError) -> None:
        await self._keep(letter)
        if error.permanent:
            self._finish(letter)
            return
        self._letters.rotate(-1)  # try the others first: GitHub may fail for this letter alone
        self._backed_off = min(2.0 * self._backed_off, LONGEST_PAUSE) if self._backed_off else FIRST_PAUSE
        pause = self._backed_off if error.retry_after is None else error.retry_after
        self._held = str(error) if pause > LONG else ""
        self._on_tried(letter)
        await self._pause(pause)
        self._held = ""

    async def _keep(self, letter: Letter) -> None:
        self._letters[0] = letter
        await asyncio.wrap_future(self._journal.write([letter_row(letter)]))

    def _finish(self, letter: Letter) -> None:
        self._letters.popleft()
        self._done.append(letter)
        self._on_tried(letter)


def _options(letter: Letter) -> str:
    """Return the options with which it would be filed."""
    return f"--dispatch-api-url {letter.api}" if letter.api else f"--dispatch-issues-repo {letter.repo}"


def _named(titles: list[str]) -> str:
    more = f" and {len(titles) - NAMED} more" if len(titles) > NAMED else ""
    return ", ".join(shorten(title, 60, placeholder="…") for title in titles[:NAMED]) + more

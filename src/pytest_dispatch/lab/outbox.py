"""Files issues from the journal: tried again when GitHub stumbles, never filed twice, kept when all fails.

That a try begins is on disk before it does; so whoever finds a letter with a try behind it, be it the next session,
asks for what may exist already. A letter that cannot be filed now does not hold up the others.
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

FIRST_PAUSE = 1.0  # seconds before the next try after one that failed; doubled for each further failure in a row
LONGEST_PAUSE = 300.0
LONG = 60.0  # seconds; nobody waits for letters that are not tried again before
NAMED = 3  # titles in a line


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxStatus:
    """How the outbox stands."""

    pending: int  # may be filed any moment
    filed: int
    unfiled: tuple[str, ...] = ()  # a line for each reason for which some, or parts of them, are not filed


class Outbox:
    """Files letters one after the other, in the order in which they were put in.

    Args:
        journal: Where letters are kept.
        filers: Gives the filer for a repository, or None where no issue may be filed now.
        on_tried: Told after each try, with the letter as it then is.
        pause: Waits so many seconds.
        api: Address of the API that these filers file at. Letters for another one are none of theirs: a report from
            within a company is not for the whole world to read.
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
        self._elsewhere: list[Letter] = []  # for another GitHub
        self._done: list[Letter] = []
        self._dropped: list[tuple[str, Letter]] = []  # filed without a part: which one, and why
        self._backed_off = 0.0  # seconds of the latest pause; 0 after a success
        self._held = ""  # why nothing is tried for long
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self, letters: list[Letter]) -> asyncio.Task[None]:
        """Begin with what earlier sessions left; returns the task that does it, which ends by a JournalError alone."""
        for letter in letters:
            if self._filers(letter.repo) is not None:
                self.put(letter)
        self._task = asyncio.create_task(self._work(), name="the outbox")
        return self._task

    async def stop(self) -> None:
        """Stop where it stands; what is not known to be filed stays in the journal."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def put(self, letter: Letter) -> None:
        """File this too; it is in the journal already."""
        (self._letters if letter.api == self._api else self._elsewhere).append(letter)
        self._wake.set()

    def status(self, session: str = "") -> OutboxStatus:
        """Return how it stands, for one session alone if one is given."""
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
        """Drop what became of a session's letters, of which none is left."""
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
            # when all is to stop at once, GitHub may be slow
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
        self._letters.rotate(-1)  # the others first: it may be this letter alone that GitHub stumbles over
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
    """With which options it would be filed."""
    return f"--dispatch-api-url {letter.api}" if letter.api else f"--dispatch-issues-repo {letter.repo}"


def _named(titles: list[str]) -> str:
    more = f" and {len(titles) - NAMED} more" if len(titles) > NAMED else ""
    return ", ".join(shorten(title, 60, placeholder="…") for title in titles[:NAMED]) + more

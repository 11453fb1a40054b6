"""Issues on their way to GitHub: reviewed by the session's holder, filed, and recorded for their runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pytest_dispatch.core.deadlines import JUDGING
from pytest_dispatch.lab.outbox import Filer, Outbox, OutboxStatus
from pytest_dispatch.store.journal import letter_row

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Issue, Run
    from pytest_dispatch.lab.writer import Writer
    from pytest_dispatch.store.journal import Letter

WITHDRAWN = "its session wants it not to be filed"
UNREVIEWED = "Filed as the lab proposed it: nobody answered for `pytest_dispatch_issue`."


@dataclass(slots=True, eq=False)
class _Review:
    """The issues of one run that the session's holder is to review.

    Attributes:
        session: The session's id.
        letters: The letters under review, by marker.
        until: When each is filed as the lab proposed it, by marker.
    """

    session: str
    letters: dict[str, Letter] = field(default_factory=dict)
    until: dict[str, float] = field(default_factory=dict)


class PendingIssues:
    """Has due issues reviewed and filed, and records the results for their runs.

    Args:
        writer: The lab's writer.
        filers: Returns the filer for a repository, or None if no issue may be filed now.
        api: Address of the API at which they file.
        private: Whether the lab has one session only, so that nobody reviews what earlier sessions left.
    """

    def __init__(self, writer: Writer, filers: Callable[[str], Filer | None], api: str, *, private: bool) -> None:
        self._writer = writer
        self._filers = filers
        self._api = api
        self._private = private
        self._outbox = Outbox(writer.journal, filers, self._tried, api=api)
        self._untried: dict[str, set[str]] = {}  # markers of issues, by run
        self._reviews: dict[str, _Review] = {}  # by run

    def start(self, letters: list[Letter]) -> asyncio.Task[None]:
        """Start with the letters of earlier sessions, and return the filing task."""
        unreviewed = [each for each in letters if each.review and each.api == self._api and self._filers(each.repo)]
        for letter in unreviewed:
            self.issue_due(letter)
        return self._outbox.start([letter for letter in letters if letter not in unreviewed])

    async def stop(self) -> None:
        """Stop at once; letters not known to be filed stay in the journal."""
        await self._outbox.stop()

    def issue_due(self, letter: Letter) -> None:
        """Have a due issue reviewed if the session reviews, else file it."""
        if letter.api == self._api:
            self._untried.setdefault(letter.run, set()).add(letter.issue.marker)
        if letter.review:
            review = self._reviews.setdefault(letter.run, _Review(letter.session))
            review.letters[letter.issue.marker] = letter
            review.until[letter.issue.marker] = self._writer.clock.now() + JUDGING
        else:
            self._outbox.put(letter)

    def filing(self, run: Run) -> bool:
        """Return whether issues of this run are on their way, without an answer from GitHub yet."""
        return run.id in self._untried

    def status(self, session: str = "") -> OutboxStatus:
        """Return the state of the outbox, for one session if one is given."""
        status = self._outbox.status(session)
        reviewed = [len(each.letters) for each in self._reviews.values() if session in ("", each.session)]
        return replace(status, pending=status.pending + sum(reviewed))

    def forget(self, session: str) -> None:
        """Drop the results of a session's issues, all of which are done."""
        self._outbox.forget(session)

    # Reviews

    def drafts(self, run: Run) -> tuple[Issue, ...]:
        """Return the issues of a run that the session's holder is to review."""
        review = self._reviews.get(run.id)
        return tuple(letter.issue for letter in review.letters.values()) if review is not None else ()

    def amend(self, run_id: str, wanted: Mapping[str, Issue | None]) -> bool:
        """Apply the holder's review of proposed issues, by marker: an issue in its place, or None to file none.

        Returns:
            Whether all of them were still under review.
        """
        review = self._reviews.get(run_id)
        letters = {} if review is None else {mark: review.letters.pop(mark, None) for mark in wanted}
        amended = [_amended(letter, wanted[mark]) for mark, letter in letters.items() if letter is not None]
        if review is not None and not review.letters:
            del self._reviews[run_id]
        self._reviewed(amended)
        return len(amended) == len(wanted)

    def expire(self, now: float) -> None:
        """File issues as proposed if nobody can review them, or if the time for review is over."""
        for run_id, review in list(self._reviews.items()):
            alone = not self._may_be_reviewed(review.session)
            over = [review.letters.pop(mark) for mark in [*review.letters] if alone or now >= review.until[mark]]
            if not review.letters:
                del self._reviews[run_id]
            self._reviewed(map(_unreviewed, over))

    def _may_be_reviewed(self, session: str) -> bool:
        known = self._writer.ledgers
        return self._writer.queue.table.is_attended(session) if session in known else not (self._private and known)

    def _reviewed(self, letters: Iterable[Letter]) -> None:
        for letter in letters:
            self._writer.write([letter_row(letter)])
            self._writer.hand_over()  # so that the outbox's own rows come after this one
            if letter.given_up:
                self._tried(letter)
            else:
                self._outbox.put(letter)

    def _tried(self, letter: Letter) -> None:
        untried = self._untried.get(letter.run, set())
        untried.discard(letter.issue.marker)
        if not untried:
            self._untried.pop(letter.run, None)
        if letter.session not in self._writer.ledgers:
            self._forget_late(letter.session)
        elif letter.url:
            self._writer.ledgers[letter.session].filed(letter)
        self._writer.wake()

    def _forget_late(self, session: str) -> None:
        """Drop the results of a session that is not in memory; a private lab keeps them for pytest's summary."""
        if not self._private:
            self._outbox.forget(session)


def _amended(letter: Letter, issue: Issue | None) -> Letter:
    if issue is None:
        return replace(letter, review=False, given_up=True, failed=WITHDRAWN)
    return replace(letter, review=False, issue=replace(issue, marker=letter.issue.marker))


def _unreviewed(letter: Letter) -> Letter:
    issue = replace(letter.issue, comments=(*letter.issue.comments, UNREVIEWED))
    return replace(letter, review=False, issue=issue)

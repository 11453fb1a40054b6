"""What people do with the links of runs to issues, whether the lab still has the run in memory or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_dispatch.core.errors import ConfigError
from pytest_dispatch.core.known_issues import MOST_LINKS, IssueLink
from pytest_dispatch.lab.state import UnknownError

if TYPE_CHECKING:
    from pytest_dispatch.lab.state import LabState


class IssueLinks:
    """The links of runs. Each method may raise a JournalError; what was changed is on disk when it returns.

    Args:
        lab_state: The lab's.
    """

    def __init__(self, lab_state: LabState) -> None:
        self._lab_state = lab_state

    async def add(self, run: str, url: str, who: str) -> tuple[IssueLink, ...]:
        """Link a run to an issue, and return its links; linking it again changes nothing.

        Raises:
            ConfigError: It has as many links as a run may have.
        """
        tracker = self._lab_state.tracker
        has = await self._taken_up(run)
        if all(link.url != url for link in has):
            if len(has) == MOST_LINKS:
                raise ConfigError(f"{run}: expected at most {MOST_LINKS} links of a run, got another; remove one")
            tracker.link(run, IssueLink(url=url, since=self._lab_state.clock.now(), by=who))
        return await self._kept(run)

    async def remove(self, run: str, url: str) -> tuple[IssueLink, ...]:
        """Take a link from a run, so that it is not carried over either, and return those that are left.

        Raises:
            UnknownError: It has no such link.
        """
        if all(link.url != url for link in await self._taken_up(run)):
            raise UnknownError(f"no link of {run} to {url[:200]!r}; the run's `links` are what there is")
        self._lab_state.tracker.unlink(run, url)
        return await self._kept(run)

    async def _taken_up(self, run: str) -> tuple[IssueLink, ...]:
        """Return the links that a run has, which the tracker knows from now on."""
        tracker = self._lab_state.tracker
        if run not in self._lab_state.queue.runs:
            self._lab_state.hand_over()
            await self._lab_state.on_disk()
            found = await self._lab_state.journal.background.of_issues(lambda reader: reader.links_of(run))
            tracker.recall_links({run: found})
        return tracker.links_of(run)

    async def _kept(self, run: str) -> tuple[IssueLink, ...]:
        """Return the links of a run once they are on disk."""
        tracker = self._lab_state.tracker
        links = tracker.links_of(run)
        self._lab_state.write(tracker.rows())
        if run not in self._lab_state.queue.runs:
            tracker.forget([run])
        self._lab_state.wake()
        await self._lab_state.on_disk()
        return links

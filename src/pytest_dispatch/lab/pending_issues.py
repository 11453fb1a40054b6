"""Issues on their way to GitHub: which runs still wait for them, and what their sessions learn of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_dispatch.lab.outbox import Filer, Outbox, OutboxStatus

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Run
    from pytest_dispatch.lab.writer import Writer
    from pytest_dispatch.store.journal import Letter


class PendingIssues:
    """Has due issues filed, and notes for their runs what came of it.

    Args:
        writer: The lab's.
        filers: Gives the filer for a repository, or None where no issue may be filed now.
        api: Address of the API that they file at.
    """

    def __init__(self, writer: Writer, filers: Callable[[str], Filer | None], api: str) -> None:
        self._writer = writer
        self._outbox = Outbox(writer.journal, filers, self._tried, api=api)
        self._untried: dict[str, set[str]] = {}  # markers of issues, by run

    def start(self, letters: list[Letter]) -> asyncio.Task[None]:
        """Begin with what earlier sessions left; returns the task that files."""
        return self._outbox.start(letters)

    async def stop(self) -> None:
        """Stop where it stands; what is not known to be filed stays in the journal."""
        await self._outbox.stop()

    def issue_due(self, letter: Letter) -> None:
        """File this too."""
        self._untried.setdefault(letter.run, set()).add(letter.issue.marker)
        self._outbox.put(letter)

    def filing(self, run: Run) -> bool:
        """Tell whether issues of this run are on their way and GitHub has not yet said yes or no."""
        return run.id in self._untried

    def status(self, session: str = "") -> OutboxStatus:
        """Return how the outbox stands, for one session alone if one is given."""
        return self._outbox.status(session)

    def _tried(self, letter: Letter) -> None:
        untried = self._untried.get(letter.run, set())
        untried.discard(letter.issue.marker)
        if not untried:
            self._untried.pop(letter.run, None)
        if letter.url and letter.session in self._writer.ledgers:
            self._writer.ledgers[letter.session].filed(letter)
        self._writer.wake()

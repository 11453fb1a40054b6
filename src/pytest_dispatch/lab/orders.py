"""What sessions ask of a lab: to open, to submit runs and follow them, to judge, to cancel, to close."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from pytest_dispatch.lab.ledger import IssueRule, Ledger
from pytest_dispatch.lab.writer import UnknownError, Writer, known_by_address
from pytest_dispatch.store.journal import SessionRecord, run_row, session_row

if TYPE_CHECKING:
    from pytest_dispatch.core.model import Issue, Outcome, Policy, Run, Workload
    from pytest_dispatch.core.queue import Change

HEARTBEAT = 1.0  # seconds without a change after which `changes` gives a sign of life


class Orders:
    """Sessions and their runs.

    Args:
        writer: The lab's.
        want: Has the bytes of these runs fetched.
    """

    def __init__(self, writer: Writer, want: Callable[[list[Run]], Awaitable[None]]) -> None:
        self._writer = writer
        self._queue = writer.queue
        self._want = want

    async def open(self, source: str, policy: Policy, issues: IssueRule, port: int) -> str:
        """Let a session submit runs; returns its id."""
        record = SessionRecord(id=secrets.token_hex(6), source=source, opened=self._now(), policy=policy, port=port)
        self._queue.open(record.id, policy)
        self._writer.ledgers[record.id] = Ledger(record, issues)
        await self._writer.on_disk(self._writer.write([session_row(record)]))
        return record.id

    async def resume(self, source: str, policy: Policy, issues: IssueRule) -> str | None:
        """Take up the newest session of this source that was interrupted; None where there is none.

        Attempts on machines that the earlier lab had brought up are faults of the lab: they ended with it.
        """
        journal = self._writer.journal
        record = journal.last_unfinished(source)
        if record is None or record.id in self._writer.ledgers:
            return None
        self._queue.restore(record.id, policy, journal.runs(record.id), self._now())
        self._writer.ledgers[record.id] = Ledger(record, issues, journal.filed(record.id))
        for name in list(self._queue.machines):
            if not known_by_address(name):
                self._queue.fault(name, "the lab was restarted", self._now(), lab=True)
        self._writer.commit()
        await self._want([run for run in self.runs(record.id) if run.outcome is None])
        return record.id

    async def submit(self, session: str, wanted: Iterable[tuple[str, Workload]]) -> list[Run]:
        """Ask for workloads by key; what was asked for before stays as it is.

        Raises:
            UnknownError: There is no such session.
            JournalError: It cannot be written.
        """
        self._writer.ledger(session)
        now, known = self._now(), set(self._queue.runs)
        runs = [self._queue.submit(session, key, workload, now) for key, workload in wanted]
        fresh = [run for run in runs if run.id not in known]
        await self._writer.on_disk(self._writer.write([run_row(run) for run in fresh]))
        await self._want(fresh)
        self._writer.wake()
        return runs

    async def close(self, session: str) -> None:
        """Cancel what the session still waits for; it is closed for good if nothing was.

        Raises:
            UnknownError: There is no such session.
        """
        unfinished = [run for run in self.runs(session) if run.outcome is None]
        self._queue.close(session, self._now())
        self._writer.commit()
        if not unfinished:
            closed = session_row(self._writer.ledger(session).record, self._now())
            await self._writer.on_disk(self._writer.write([closed]))

    def runs(self, session: str) -> list[Run]:
        """The session's runs.

        Raises:
            UnknownError: There is no such session.
        """
        self._writer.ledger(session)
        return self._queue.of_session(session)

    def run(self, run_id: str) -> Run:
        """One run as it stands.

        Raises:
            UnknownError: There is none of that id.
        """
        if run_id not in self._queue.runs:
            raise UnknownError(f"no run {run_id!r}; submit it first")
        return self._queue.runs[run_id]

    def cancel(self, run_id: str) -> None:
        """Nobody waits for this run any more.

        Raises:
            UnknownError: There is none of that id.
        """
        self._queue.cancel(self.run(run_id).id, self._now())
        self._writer.commit()

    def decide(self, run_id: str, outcome: Outcome | None, reason: str, drafts: list[Issue] | None) -> None:
        """The session's own verdict, and the issues that it wants filed (None: the usual ones).

        Raises:
            UnknownError: There is no such run.
        """
        run = self.run(run_id)
        if drafts is not None:
            self._writer.ledger(run.session).draft(run_id, drafts)
        self._queue.decide(run_id, outcome, reason, self._now())
        self._writer.commit()

    async def changes(self, session: str, after: int) -> AsyncGenerator[tuple[int, Change] | None, None]:
        """The session's changes with numbers above `after`, as they come; now and then None, also when nothing does.

        Ends when the lab stops or breaks.

        Raises:
            UnknownError: There is no such session.
        """
        ledger = self._writer.ledger(session)
        while not (self._writer.stopping or self._writer.broken):
            news = self._writer.news  # looked at first, so that nothing that comes meanwhile is missed
            for number, change in ledger.after(after):
                after = number
                yield number, change
            yield None
            await self._writer.moved(HEARTBEAT, news)

    def _now(self) -> float:
        return self._writer.clock.now()

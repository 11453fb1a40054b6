"""Follows a session's event stream in a thread; calls the users' hooks and updates the terminal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from pytest_dispatch.core.errors import LabError
from pytest_dispatch.core.model import Issue, Outcome, Run
from pytest_dispatch.core.notices import Notice
from pytest_dispatch.core.plain_text import plain_line, what_was_raised
from pytest_dispatch.server.api.schemas import HeldView

if TYPE_CHECKING:
    import pluggy

    from pytest_dispatch.client.lab_client import LabClient
    from pytest_dispatch.client.run_cache import RunCache
    from pytest_dispatch.server.api.schemas import RunChange

PAUSE = 0.5  # seconds before a reconnect to a broken stream
TROUBLE = 600  # longest text about an exception of a hook, in characters, with its file and line
TROUBLES = 20  # maximum number of such texts in the summary
CATCH_UP = 10.0  # seconds at the end of the session for hooks to handle all remaining events


class Display(Protocol):
    """Shows events to the user."""

    def changed(self, change: RunChange) -> None:
        """Show that a run has changed."""
        ...

    def noticed(self, notice: Notice) -> None:
        """Show a notice about a machine."""
        ...

    def progressed(self, sent: dict[str, int]) -> None:
        """Show the progress of current downloads: bytes sent so far, by run."""
        ...

    def held(self, view: HeldView) -> None:
        """Show what keeps runs waiting."""
        ...

    def runs(self) -> Sequence[Run]:
        """Return all known runs."""
        ...

    def restored(self, runs: Sequence[Run]) -> None:
        """Replace runs by what they are now."""
        ...


class EventListener:
    """Follows one session. Call `start` once the session is open, and `stop` when no more events can come.

    Attributes:
        filing: Called when issues of a run are due.
    """

    def __init__(
        self,
        config: pytest.Config,
        client: LabClient,
        opened: str,
        display: Display,
        run_cache: RunCache,
        *,
        judges: bool,
    ) -> None:
        """Create a watcher.

        Args:
            config: The pytest configuration with the hooks to call.
            client: The client of the lab.
            opened: Id of the session.
            judges: Whether the session decides outcomes itself, so that the lab waits for the watcher's verdicts.
            display: Gets each event before the hooks.
            run_cache: Gets each event before the hooks.
        """
        self._config = config
        self._client = client
        self._session = opened
        self._judges = judges
        self._reviewed: set[str] = set()  # markers of issues
        self._display = display
        self._run_cache = run_cache
        self._stopping = threading.Event()
        self._after = 0
        self._told = 0
        self._epoch = client.epoch
        self.filing: Callable[[], None] = lambda: None
        self._seen: dict[str, int] = {}
        self._moved = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="dispatch-watcher", daemon=True)
        self._troubles: dict[str, None] = {}

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float = 1.5) -> None:
        """Stop following; may be called again. The stream ends when the lab stops, or by our hanging up.

        If a user's hook takes longer than `timeout` seconds, its thread is left running. Only the first call waits.
        """
        waited = self._stopping.is_set()
        self._stopping.set()
        if self._client.outlasts:
            self._client.connection.hang_up()
        if not waited and self._thread.is_alive():
            self._thread.join(timeout)

    def submitted(self, runs: Iterable[Run]) -> None:
        """Note submitted runs; events up to their current versions are not waited for."""
        with self._moved:
            for run in runs:
                self._seen.setdefault(run.id, run.version)

    def catch_up(self, versions: dict[str, int], timeout: float = CATCH_UP) -> None:
        """Wait until the hooks have seen these runs up to these versions, at most `timeout` seconds."""
        with self._moved:
            self._moved.wait_for(
                lambda: all(self._seen.get(run, version) >= version for run, version in versions.items()), timeout
            )

    @property
    def troubles(self) -> list[str]:
        """Return the exceptions and invalid results of hooks, without duplicates."""
        troubles = list(self._troubles)
        more = len(troubles) - TROUBLES
        return troubles if more <= 0 else [*troubles[:TROUBLES], f"… and {more} more of hooks"]

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except LabError:
                self._run_cache.lost()
                self._stopping.wait(PAUSE)
                self._reach()

    def _reach(self) -> None:
        """Wait for the lab, if it is one that others use too and is away: its client comes back to the session."""
        if self._stopping.is_set() or not self._client.outlasts:
            return
        try:
            self._client.session(self._session)
        except LabError as error:
            if not self._stopping.is_set():
                self._note(str(error))
        else:
            self._run_cache.found()

    def _begin_anew(self) -> None:
        """Look at all runs: the session has gone on under another epoch, and its changes are counted anew."""
        self._epoch, self._after, self._told = self._client.epoch, 0, 0
        known = {run.id: run.version for run in self._display.runs()}
        for view in self._client.runs(self._session):
            if known.get(view.run.id) != view.version:
                run = self._client.run(view.run.id).run
                self._display.restored([run])
                with self._moved:
                    self._seen[run.id] = run.version
                    self._moved.notify_all()

    def _follow(self) -> None:
        if self._client.epoch != self._epoch:
            self._begin_anew()
        for number, news in self._client.changes(self._session, self._after):
            if number > self._after + 1 and self._config.hook.pytest_dispatch_event.get_hookimpls():
                self._note("pytest_dispatch_event fell far behind: for some runs it got only the latest change")
            if isinstance(news, dict):
                self._display.progressed(news)
            elif isinstance(news, Notice):
                self._display.noticed(news)
            elif isinstance(news, HeldView):
                self._display.held(news)
            else:
                self._take(number, news)
            self._after = number  # set last: if answering fails, the stream repeats this event after a reconnect
            if self._stopping.is_set():
                break

    def _take(self, number: int, change: RunChange) -> None:
        if number > self._told:
            self._told = number
            self._tell(change)
        attempt = change.run.attempt
        if self._judges and attempt.proposed is not None and attempt.outcome is None:
            self._judge(change.run.id)
        drafts = [draft for draft in change.drafts if draft.marker not in self._reviewed]
        if drafts:
            self._review(change.run.id, drafts)
        with self._moved:
            self._seen[change.run.id] = change.run.version
            self._moved.notify_all()

    def _tell(self, change: RunChange) -> None:
        self._run_cache.changed(change)
        self._display.changed(change)
        if change.filing:
            self.filing()
        hook = self._config.hook.pytest_dispatch_event
        self._asked(hook, run=change.run, event=change.event, attempt=change.attempt)

    def _judge(self, run_id: str) -> None:
        outcome, reason, broke = self._verdict(self._client.run(run_id).run)
        self._client.decide(run_id, outcome, reason, final=broke)

    def _review(self, run_id: str, drafts: list[Issue]) -> None:
        run = self._client.run(run_id).run
        in_time = self._client.review(run_id, {draft.marker: self._issue(run, draft) for draft in drafts})
        self._reviewed |= {draft.marker for draft in drafts}
        if not in_time:
            self._note("pytest_dispatch_issue answered too late: an issue was filed as the lab proposed it")

    def _verdict(self, run: Run) -> tuple[Outcome | None, str, bool]:
        """Return the verdict of the users' hook, the reason, and whether the hook failed.

        A verdict after a failure is final: after another boot, the hook would fail again.
        """
        hook = self._config.hook.pytest_dispatch_verdict
        said, trouble = self._asked(hook, run=run)
        if said is not None and said not in list(Outcome):
            trouble = f"pytest_dispatch_verdict: expected one of {', '.join(Outcome)}, got {said!r}"
        if trouble:
            return Outcome.ERROR, plain_line(trouble, TROUBLE), True
        if said is None:
            return None, "", False
        return Outcome(said), "" if said == run.attempt.proposed else f"the verdict hook says {said}", False

    def _issue(self, run: Run, draft: Issue) -> Issue | None:
        hook = self._config.hook.pytest_dispatch_issue
        said, trouble = self._asked(hook, run=run, issue=draft)
        if trouble or said is None or said is True:
            return draft
        if said is False:
            return None
        if not isinstance(said, Issue):
            self._note(f"pytest_dispatch_issue: expected an Issue, False or None, got {said!r}")
            return draft
        return replace(said, marker=draft.marker)

    def _note(self, trouble: str) -> None:
        self._troubles[plain_line(trouble, TROUBLE)] = None

    def _asked(self, hook: pluggy.HookCaller, **given: object) -> tuple[Any, str]:
        """Return the result of a user's hook and an error text; an exception is noted and never stops the session."""
        try:
            return hook(**given), ""
        except BaseException as error:  # noqa: BLE001 - the user's code may raise anything, pytest.fail included
            trouble = what_hook_raised(hook, error)
            self._note(trouble)
            return None, trouble


def what_hook_raised(hook: pluggy.HookCaller, error: BaseException) -> str:
    """Return the hook's name, the exception, and its line in the file that implements the hook."""
    codes = [getattr(impl.function, "__code__", None) for impl in hook.get_hookimpls()]
    return f"{hook.name} raised {what_was_raised(error, [code.co_filename for code in codes if code])}"

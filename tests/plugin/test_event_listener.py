"""What follows a session's event stream, when the stream has left something out."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import cast

import pytest
from told_runs import attempt, report, run

from pytest_dispatch.client.lab_client import LabClient
from pytest_dispatch.client.run_cache import RunCache
from pytest_dispatch.core.errors import LabError
from pytest_dispatch.core.lifecycle import CoreEvent
from pytest_dispatch.core.model import Outcome, Run
from pytest_dispatch.core.notices import Notice
from pytest_dispatch.plugin.event_listener import EventListener
from pytest_dispatch.server.api.schemas import HeldView, RunChange, RunView
from pytest_dispatch.workloads.boot.lifecycle import Event

RUNS = [run(attempt(1, *(report(f"{n}") for n in range(count)), outcome=Outcome.PASSED)) for count in (1, 4)]


class Stream:
    """A lab's client whose stream has these numbers, and then nothing more."""

    epoch = 1
    outlasts = False

    def __init__(self, *numbers: int) -> None:
        self._numbers = numbers
        self.over = threading.Event()

    def changes(self, _session: str, _after: int) -> Iterator[tuple[int, RunChange]]:
        for number, moved in zip(self._numbers, RUNS, strict=True):
            yield number, RunChange(event=Event.REPORT, attempt=1, at=0.0, run=moved)
        self.over.wait(60)


class Quiet:
    """Shows nothing."""

    def changed(self, change: RunChange) -> None:
        """A run moved."""

    def progressed(self, sent: dict[str, int]) -> None:
        """Bytes were sent."""

    def noticed(self, notice: Notice) -> None:
        """Something befell a machine."""

    def held(self, view: HeldView) -> None:
        """Something keeps runs waiting."""

    def runs(self) -> Sequence[Run]:
        return ()

    def restored(self, runs: Sequence[Run]) -> None:
        """Changes were missed."""


class Hooks:
    """A user's."""

    def __init__(self) -> None:
        self.told: list[Run] = []

    def pytest_dispatch_event(self, run: Run) -> None:
        self.told.append(run)


BEHIND = "pytest_dispatch_event fell far behind: for some runs it got only the latest change"


@pytest.mark.parametrize(
    ("numbers", "hooks", "troubles"),
    [((1, 2), Hooks(), []), ((1, 9), Hooks(), [BEHIND]), ((4, 9), Hooks(), [BEHIND]), ((4, 9), object(), [])],
    ids=["all", "some left out", "the first left out", "nobody to tell"],
)
def test_a_hook_that_is_far_behind_is_told_so(
    pytestconfig: pytest.Config, numbers: tuple[int, ...], hooks: object, troubles: list[str]
) -> None:
    client, run_cache = Stream(*numbers), RunCache()
    watcher = EventListener(
        pytestconfig,
        cast("LabClient", client),
        "s",
        Quiet(),
        run_cache,
        judges=False,
    )
    pytestconfig.pluginmanager.register(hooks)
    try:
        watcher.submitted([RUNS[0]])
        watcher.start()
        watcher.catch_up({RUNS[1].id: RUNS[1].version}, timeout=60)
    finally:
        client.over.set()
        watcher.stop(60)
        pytestconfig.pluginmanager.unregister(hooks)
    assert watcher.troubles == troubles
    if isinstance(hooks, Hooks):
        assert hooks.told == RUNS
    view = run_cache.next(RUNS[1].id, -1, 0)
    assert view is not None
    assert view.run == RUNS[1]


class Flaky(Stream):
    """A lab that does not answer the first question about a run, and so breaks the stream; then it goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.afters: list[int] = []
        self.decided: list[Outcome | None] = []

    def changes(self, _session: str, after: int) -> Iterator[tuple[int, RunChange]]:
        self.afters.append(after)
        proposed = replace(RUNS[0], attempts=(replace(RUNS[0].attempt, outcome=None, proposed=Outcome.PASSED),))
        yield 1, RunChange(event=CoreEvent.COMPLETE, attempt=1, at=0.0, run=proposed)
        self.over.wait(60)

    def run(self, _run: str) -> RunView:
        if len(self.afters) == 1:
            raise LabError("it does not answer")
        return RunView(run=RUNS[0], version=1)

    def decide(self, _run: str, outcome: Outcome | None, _reason: str, *, final: bool) -> None:
        assert not final
        self.decided.append(outcome)


def test_what_the_lab_asked_is_answered_though_it_broke_off_meanwhile(pytestconfig: pytest.Config) -> None:
    client, hooks = Flaky(), Hooks()
    watcher = EventListener(pytestconfig, cast("LabClient", client), "s", Quiet(), RunCache(), judges=True)
    pytestconfig.pluginmanager.register(hooks)
    try:
        watcher.submitted([replace(RUNS[0], attempts=())])
        watcher.start()
        watcher.catch_up({RUNS[0].id: RUNS[0].version}, timeout=60)
    finally:
        client.over.set()
        watcher.stop(60)
        pytestconfig.pluginmanager.unregister(hooks)
    assert (client.afters[:2], client.decided) == ([0, 0], [None])
    assert len(hooks.told) == 1

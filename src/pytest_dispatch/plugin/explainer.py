"""Asks the lab from time to time why workloads wait, and shows it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from pytest_dispatch.core.attempts import waits
from pytest_dispatch.core.errors import LabError
from pytest_dispatch.core.model import Phase, Run

if TYPE_CHECKING:
    from pytest_dispatch.client.lab_client import LabClient
    from pytest_dispatch.core.explanation import Explanation

LOOK = 2.0  # seconds between looks; what begins sooner is not asked about
MOST = 16  # waiting workloads that are asked about in one look: those that are first


class Told(Protocol):
    """Shows explanations to the user."""

    @property
    def shows_explanations(self) -> bool:
        """Return whether there is a place for those of all."""
        ...

    def explained(self, explanation: Explanation) -> None:
        """Keep the latest explanation of a run."""
        ...

    def say(self, text: str, least: int = 1) -> None:
        """Write a line."""
        ...


def stands(explanation: Explanation, runs: Iterable[Run]) -> bool:
    """Return whether an external system keeps a run waiting while nothing of its session is under way.

    That may last, and a wrong label or token looks no different from a runner that is busy: so it is said unasked.
    """
    from pytest_dispatch.core.explanation import ObstacleKind

    outside = any(each.kind is ObstacleKind.OUTSIDE for each in explanation.obstacles)
    return outside and all(waits(run) or run.outcome is not None for run in runs)


class Explainer:
    """A thread that looks at the runs of a session that wait. Call `start` once the session is open.

    Args:
        client: The client of the lab.
        runs: Returns the runs of the session, in order.
        told: Shows what is found.
        awaited: Returns the id of the run that pytest waits for; empty if it waits for none.
        each: Whether to say of each workload why it waits, not only of the one that pytest waits for.
    """

    def __init__(
        self,
        client: LabClient,
        runs: Callable[[], Sequence[Run]],
        told: Told,
        awaited: Callable[[], str],
        *,
        each: bool,
    ) -> None:
        self._client = client
        self._runs = runs
        self._told = told
        self._awaited = awaited
        self._each = each
        self._said: dict[str, object] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="dispatch-explainer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking, and wait for a look under way; may be called again. Only the first call waits."""
        waited = self._stopping.is_set()
        self._stopping.set()
        if not waited and self._thread.is_alive():
            self._thread.join(1.0)

    def _work(self) -> None:
        while not self._stopping.wait(LOOK):
            try:
                self._look()
            except LabError:
                continue  # whoever waits for the lab says that it is away

    def _look(self) -> None:
        from pytest_dispatch.core.explanation import Explanation

        runs, awaited = self._runs(), self._awaited()
        every = self._each or self._told.shows_explanations
        for run in [each for each in runs if waits(each) and (every or each.id == awaited)][:MOST]:
            if self._stopping.is_set():
                return
            explanation = self._client.connection.ask(
                Explanation, "GET", f"/runs/{self._client.current(run.id)}/explanation"
            )
            self._told.explained(explanation)
            if explanation.phase is Phase.QUEUED and (self._each or run.id == awaited):
                self._say(explanation, least=0 if self._each or stands(explanation, runs) else 1)

    def _say(self, explanation: Explanation, least: int) -> None:
        """Write why a run waits, if that is news: other runs that come and go, ahead of it or on machines, are none."""
        from pytest_dispatch.core.explanation import told_why

        why = {(each.kind, "" if each.runs else each.name) for each in explanation.obstacles}
        if self._said.get(explanation.run) == (why, least):
            return
        self._said[explanation.run] = (why, least)
        self._told.say(f"⏳ {told_why(explanation, time.time())}", least)
